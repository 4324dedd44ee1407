"""Run a DAG on this machine by KFP's own local engine, with its cache."""

import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from kfp import local
from kfp.dsl.graph_component import GraphComponent
from kfp.local.pipeline_orchestrator import run_local_pipeline
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from unsee.comparison import PAGES
from unsee.environment import environment
from unsee.errors import UserError
from unsee.explain import USER
from unsee.progress import TERMINAL
from unsee.steps.component import STOPPED
from unsee.storage import artifact
from unsee.storage.store import FileStore, open_store
from unsee.storage.transfer import CHECKPOINTS, STORE, preflight
from unsee.tracking.mlflow import finish_parent, start_parent
from unsee_pipelines.cache import drop_damaged
from unsee_pipelines.engine import for_local_engine, step_names
from unsee_pipelines.outputs import is_complete
from unsee_pipelines.runners import Processes, Runner
from unsee_pipelines.transcript import Transcript, everything_into

RESULTS = (
    "summary.json",
    "registration.json",
    "answers.json",
    "answers.html",
    "comparison.json",
    "comparison.csv",
    "search.json",
    "chosen.yaml",
    *PAGES.values(),
)

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""An interrupt, too: a terminal sends it to the steps of that moment, and to no containers."""
SECONDS_BETWEEN_STOPS = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A DAG with its arguments, as `unsee` runs it.

    parameters: what its runs are told apart by in MLflow. published: which artifacts a person wants in the output
    directory, if the run makes them: their kind by the end of their path. steps: how many will run, where the DAG has
    loops. reads: directories that steps read and that are not the run's own.
    """

    name: str
    dag: GraphComponent
    arguments: Mapping[str, Any]
    parameters: Mapping[str, Any]
    published: Mapping[str, str]
    steps: int | None = None
    reads: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a finished run left: results in `out`, the MLflow run, and the seconds of each step (0: cached).

    peak_memory: bytes that the largest step held, None if nobody knows.
    """

    out: Path
    mlflow_uri: str
    mlflow_run: str
    seconds: dict[str, float]
    cached: frozenset[str]
    peak_memory: int | None


class StepError(Exception):
    """A step failed for a reason that is not the user's."""


@dataclass(frozen=True)
class Workplace:
    """Where a run works: `.unsee` beside its output directory, so that neighbouring runs share the cache."""

    out: Path

    @property
    def shared(self) -> Path:
        """What neighbouring runs share."""
        return self.out.parent / ".unsee"

    @property
    def cache(self) -> Path:
        """KFP's cache."""
        return self.shared / "cache"

    @property
    def checkpoints(self) -> str:
        """Address of the store in which trainings save themselves."""
        return os.environ.get(CHECKPOINTS) or (self.shared / "checkpoints").as_uri()

    def writes(self) -> list[Path]:
        """Where steps write beside their artifacts, if that is on this machine."""
        store = open_store(self.checkpoints)
        return [store.directory] if isinstance(store, FileStore) else []

    @property
    def log(self) -> Path:
        """Everything that KFP and the steps print."""
        return self.out / "log.txt"

    @property
    def tracking_uri(self) -> str:
        """MLflow's: of the environment, else a database beside the output directory."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.out.parent / 'mlflow.db'}"

    def new_root(self) -> Path:
        """Make a directory for the artifacts of one run."""
        root = self.shared / "artifacts" / time.strftime(f"%Y%m%d-%H%M%S-{os.getpid()}")
        root.mkdir(parents=True)
        return root


def run(job: Job, out: Path, runner: Callable[[], Runner] = Processes) -> Outcome:
    """Run the DAG and leave its published files and log.txt in `out`.

    Args:
        runner: where its steps run, made once the servers are known.

    Raises:
        UserError: something the user can mend, told by a step, or a store that cannot be used.
        StepError: a step failed for another reason.
    """
    place, chosen = Workplace(out.resolve()), runner()
    for root in filter(None, map(os.environ.get, (STORE, CHECKPOINTS))):
        preflight(root)
    _make_room(place)
    ours = {"MLFLOW_TRACKING_URI": place.tracking_uri, CHECKPOINTS: place.checkpoints}
    with environment({**ours, **_terminal()}):
        os.environ.pop(STOPPED, None)
        return _tracked_run(_identified(job, chosen), place, chosen)


def _identified(job: Job, runner: Runner) -> Job:
    digest = {"code_digest": runner.code_digest(job.arguments["code_digest"])}
    return replace(job, arguments={**job.arguments, **digest}, parameters={**job.parameters, **digest})


def _make_room(place: Workplace) -> None:
    """Create the directories, and remove an earlier run's results: what is there after a failure must not look new."""
    if place.out.exists() and not place.out.is_dir():
        raise UserError(f"--out {place.out} is a file; give a directory")
    for directory in (place.out, place.cache):
        directory.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:
        (place.out / name).unlink(missing_ok=True)


def _terminal() -> dict[str, str]:
    """The name of the terminal that steps may draw their bars on, if there is one."""
    return {TERMINAL: os.ttyname(sys.stderr.fileno())} if sys.stderr.isatty() else {}


def _tracked_run(job: Job, place: Workplace, runner: Runner) -> Outcome:
    root, spec = place.new_root(), job.dag.pipeline_spec
    with place.log.open("w", buffering=1) as log:
        names = step_names(spec)
        left_all = partial(is_complete, root)
        steps = job.steps or len(names)
        transcript = Transcript(names, log, sys.stdout, lambda step: runner.skip(f"{step} failed"), steps, left_all)
        with everything_into(transcript), _stoppable(runner):
            mlflow_run = start_parent(f"{job.name} {place.out.name}", job.parameters)
            os.environ["MLFLOW_RUN_ID"] = mlflow_run
            try:
                with runner.of_kfp(root, place.writes(), job.reads) as of_kfp:
                    _execute(spec, job.arguments, root, place, transcript, of_kfp)
                _publish(job.published, root, place.out)
            except BaseException:
                _close_failed(mlflow_run)
                raise
            finish_parent(mlflow_run, succeeded=True)
    cached, peak = frozenset(transcript.cached), runner.peak_memory()
    return Outcome(place.out, place.tracking_uri, mlflow_run, transcript.seconds, cached, peak)


@contextmanager
def _stoppable(runner: Runner) -> Iterator[None]:
    """SIGNALS end the steps that run, then raise SystemExit here; what nohup ignores stays ignored.

    Steps are stopped until the block is left: KFP runs loops in threads, which go on meanwhile.
    """
    left, stopping = threading.Event(), list[threading.Thread]()

    def keep_stopping() -> None:
        while not left.wait(SECONDS_BETWEEN_STOPS):
            runner.stop()

    def stop(number: int, _frame: FrameType | None) -> None:
        runner.skip("the run was stopped")
        runner.stop()
        stopping.append(threading.Thread(target=keep_stopping, daemon=True))
        stopping[-1].start()
        raise SystemExit(128 + number)

    found = {number: signal.getsignal(number) for number in SIGNALS}
    previous = {number: handler for number, handler in found.items() if handler != signal.SIG_IGN}
    for number in previous:
        signal.signal(number, stop)
    try:
        yield
    finally:
        left.set()
        for thread in stopping:
            thread.join()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _close_failed(mlflow_run: str) -> None:
    """A tracking server that fails as well must not hide why the run did."""
    try:
        finish_parent(mlflow_run, succeeded=False)
    except Exception:
        logger.exception("MLflow run %s could not be closed", mlflow_run)


def _execute(
    spec: PipelineSpec,
    arguments: Mapping[str, Any],
    root: Path,
    place: Workplace,
    transcript: Transcript,
    of_kfp: local.SubprocessRunner | local.DockerRunner,
) -> None:
    local.init(of_kfp, pipeline_root=str(root), enable_caching=True, cache_root=str(place.cache))
    error = None
    try:
        run_local_pipeline(for_local_engine(spec), dict(arguments))
    except Exception as caught:  # of several kinds where a step left no outputs
        error = caught
    if error is not None or transcript.failed_step is not None:
        drop_damaged(place.cache)
        raise _reason(transcript, place.log, error) from error


def _reason(transcript: Transcript, log: Path, error: Exception | None) -> Exception:
    """The exception that tells why the pipeline failed, with the step's traceback as a note."""
    failure = transcript.failure
    if failure is None and transcript.failed_step is None:
        return StepError(f"KFP's local engine stopped although no step failed: {error} (details in {log})")
    if failure is None:
        return StepError(f"step {transcript.failed_step} ended with {transcript.last_words!r} (details in {log})")
    sentence = failure.explanation.sentence
    if failure.explanation.code == USER:
        reason: Exception = UserError(sentence)
    else:
        reason = StepError(f"step {failure.step} failed: {sentence} (details in {log})")
    reason.add_note(failure.traceback)
    return reason


def _publish(published: Mapping[str, str], root: Path, out: Path) -> None:
    """Copy what a person wants into `out`, each file whole or not at all."""
    for end, kind in published.items():
        for directory in root.glob(f"*/{end}"):
            for name in artifact.read(directory, kind).files:
                temporary = out / f".{name}.{os.getpid()}"
                shutil.copyfile(directory / name, temporary)
                temporary.replace(out / name)
