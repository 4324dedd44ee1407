"""What the Job runs, and the notes tell people to type, is what the command line takes."""

import re

import pytest
import yaml
from rendered import CHART, NAMESPACE, SCENARIOS, containers, job
from typer.main import get_command

from unsee.cli import app
from unsee_pipelines.arguments import parse, require_cron
from unsee_pipelines.compile import COMPILED

JOBS = [scenario for scenario in SCENARIOS if scenario != "servers-only"]


def taken(words: list[str]) -> dict:
    """The options of a call of unsee, parsed to the end without being run; raises what it would be refused with."""
    command, rest = get_command(app), words[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    options = command.make_context(command.name, rest).params
    if "parameters" in options:
        specification = next(yaml.safe_load_all((COMPILED / f"{options['name']}.yaml").read_text()))
        options["parameters"] = parse(options["name"], specification, options["parameters"] or ())
    return options


@pytest.mark.parametrize("scenario", JOBS)
def test_the_job_s_calls_are_taken(render, scenario):
    _, upload, schedule = containers(job(render(scenario)))
    assert taken(upload["command"])["image"] == upload["image"]
    options = taken(schedule["command"])
    assert options["name"] == "continual"
    if "cron" in options:
        require_cron(options["cron"])


def test_parameters_reach_the_schedule_as_they_are_in_the_values(render):
    *_, schedule = containers(job(render("multi-user")))
    values = yaml.safe_load((CHART / "ci" / "multi-user-values.yaml").read_text())
    assert taken(schedule["command"])["parameters"] == values["kfp"]["schedule"]["parameters"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_notes_calls_are_taken_in_their_order(helm, scenario):
    values = ["--values", CHART / "ci" / f"{scenario}-values.yaml"]
    done = helm("install", "unsee", CHART, "--namespace", NAMESPACE, "--dry-run=client", *values)
    calls = [call.split() for call in re.findall(r"unsee pipeline .*", done.stdout.partition("NOTES:")[2])]
    for call in calls:
        assert taken(call)["namespace"] == ("team-a" if scenario == "multi-user" else None)
    verbs = ["submit"] if scenario in JOBS else ["upload", "submit"]
    assert [call[2] for call in calls] == verbs + ["unschedule"] * (scenario not in ("no-schedule", "servers-only"))
