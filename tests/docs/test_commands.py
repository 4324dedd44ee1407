"""What pages tell people to type is what the command line takes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import ROOT, arguments, commands, inline
from typer.main import get_command

from unsee.cli import app
from unsee_pipelines.arguments import parse, require_cron
from unsee_pipelines.compile import COMPILED

CHART = ROOT / "charts" / "unsee"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", CHART / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTES = (CHART / "templates" / "NOTES.txt").read_text()
TEMPLATE = re.compile(r"{{.*?}}")


def found(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command, or group of them, that the first words name, and the rest."""
    command, rest = get_command(app), arguments
    while rest and (commands := getattr(command, "commands", None)):
        assert rest[0] in commands, f"there is no unsee {' '.join(arguments)}"
        command, rest = commands[rest[0]], rest[1:]
    return command, rest


def take(arguments: list[str]) -> None:
    """Parse a call to the end, without running it."""
    command, rest = found(arguments)
    given = command.make_context(command.name, list(rest)).params
    if arguments[:2] in (["pipeline", "submit"], ["pipeline", "schedule"]):
        specification = next(yaml.safe_load_all((COMPILED / f"{given['name']}.yaml").read_text()))
        parse(given["name"], specification, given["parameters"] or ())
        if "cron" in given:
            require_cron(given["cron"])


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSEE_STORE", "s3://unsee/artifacts")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_call_of_unsee_is_taken(page: Path) -> None:
    text = page.read_text()
    for call in commands(text, "unsee"):
        take(call)
    for call in inline(text, "unsee"):
        command, rest = found(call)
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= options, call


def test_those_of_the_notes_after_installation_too() -> None:
    calls = re.findall(r"unsee pipeline [^`\n]+", NOTES)
    assert len(calls) == 3
    for call in calls:
        take(arguments(TEMPLATE.sub("", call.replace("{{ . }}", "team-a"))))


@pytest.mark.parametrize(
    "call",
    ["requests ad", "requests add --entity P001", "run", "pipeline submit unlearn --param gpu=1"],
)
def test_what_is_not_taken_would_be_noticed(call: str) -> None:
    with pytest.raises(Exception, match=r"there is no unsee|No such option|Missing parameter|no such parameter"):
        take(call.split())


def test_a_reader_of_the_pages_meets_most_commands() -> None:
    told = {" ".join(call[:2]) for page in PAGES for call in commands(page.read_text(), "unsee")}
    assert {"requests add", "requests show", "requests verify", "requests release", "benchmark upload"} <= told
    assert {"pipeline upload", "pipeline submit", "pipeline schedule", "pipeline unschedule"} <= told
