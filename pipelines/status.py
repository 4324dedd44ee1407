"""What `unsee pipeline status` prints: what is uploaded and scheduled, and how the last runs went."""

from collections.abc import Sequence
from datetime import datetime

from kfp_server_api import V2beta1RecurringRun
from tabulate import tabulate

from unsee_pipelines.cluster import ENABLED, State

NOTHING = "–"


def tables(states: Sequence[State]) -> str:
    """A table of the pipelines, and one of their runs, the newest of each first; times are UTC."""
    if not states:
        return "no pipeline is uploaded; run unsee pipeline upload"
    pipelines = [
        (state.name, state.version.display_name, _time(state.version.created_at), _schedule(state.schedule))
        for state in states
    ]
    runs = [
        (run.display_name, run.state or NOTHING, _time(run.created_at), _time(run.finished_at))
        for state in states
        for run in state.runs
    ]
    told = [tabulate(pipelines, ("pipeline", "version", "uploaded (UTC)", "schedule"), tablefmt="plain")]
    if runs:
        told.append(tabulate(runs, ("run", "state", "started (UTC)", "finished (UTC)"), tablefmt="plain"))
    return "\n\n".join(told)


def _schedule(run: V2beta1RecurringRun | None) -> str:
    if run is None:
        return NOTHING
    cron = run.trigger.cron_schedule.cron
    return cron if run.status == ENABLED else f"{cron}, switched off"


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time and time.year > 1970 else NOTHING
