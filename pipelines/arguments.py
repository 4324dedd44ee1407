"""What a person asks of a pipeline on a cluster, checked before anything is sent there."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cronsim import CronSim, CronSimError
from pydantic import TypeAdapter, ValidationError

from unsee.errors import UserError

KINDS: dict[str, tuple[type, str, str]] = {
    "NUMBER_INTEGER": (int, "a whole number", "3"),
    "NUMBER_DOUBLE": (float, "a number", "0.5"),
    "BOOLEAN": (bool, "true or false", "true"),
    "LIST": (list, "a JSON list", '["a","b"]'),
    "STRUCT": (dict, "a JSON object", '{"a":"b"}'),
}
"""Python's type of a parameter, what to call it, and an example; text is taken as it is."""
FIELDS = ("second", "minute", "hour", "day", "month", "weekday")


def parse(pipeline: str, specification: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The arguments of a run, from "name=value" each.

    Args:
        pipeline: its name. specification: of one of its versions, as the server tells it.

    Raises:
        UserError: no assignment, a parameter that the pipeline has not, one given twice, or a value of another type.
    """
    definitions = specification.get("pipeline_spec", specification)["root"]["inputDefinitions"]["parameters"]
    arguments: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--param {assignment!r} is not NAME=VALUE; write e.g. --param seed=3")
        if name not in definitions:
            raise UserError(
                f"--param {name}: pipeline {pipeline} has no such parameter; it has {', '.join(sorted(definitions))}"
            )
        if name in arguments:
            raise UserError(f"--param {name} is given twice; give it once")
        arguments[name] = _value(name, definitions[name]["parameterType"], text)
    return arguments


def require_cron(expression: str) -> None:
    """Raises UserError unless the expression has KFP's six fields: of five, it would take the first for the seconds."""
    if problem := _problem(expression.upper().split()):
        raise UserError(f"--cron {expression!r} {problem}; write {' '.join(FIELDS)}, e.g. '0 30 2 * * *'")


def _problem(fields: list[str]) -> str | None:
    if len(fields) != len(FIELDS):
        return f"has {len(fields)} fields instead of {len(FIELDS)}"
    day, weekday = fields[FIELDS.index("day")], fields[FIELDS.index("weekday")]
    if "L" in day or set("#L7") & set(weekday):
        return "has a day that KFP cannot tell: a last or an n-th one, or Sunday as 7"
    try:
        CronSim(" ".join(fields).replace("?", "*"), datetime.now(UTC))
    except CronSimError as error:
        return f"is not valid ({error})"
    return None


def _value(name: str, kind: str, text: str) -> Any:
    if kind not in KINDS:
        return text
    python, words, example = KINDS[kind]
    try:
        return TypeAdapter(python).validate_json(text, strict=True)
    except ValidationError:
        raise UserError(f"--param {name}={text}: {name} is {words}; write e.g. --param '{name}={example}'") from None
