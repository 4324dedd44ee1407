"""A certificate: what was measured for the people of a request, as JSON for programs and a page for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from unsee.report.checks import Check, chance
from unsee.report.inputs import RunInputs
from unsee.report.page import environment, packaged
from unsee.report.people import VIEWS, answers
from unsee.report.wording import counted
from unsee.requests.inbox import DeletionRequest
from unsee.requests.requirements import ABOUT_THEM, SHOWN
from unsee.requests.turn import CERTIFICATE
from unsee.storage import artifact

SCHEMA_VERSION = 1
HEADLINES = {"honoured": "no longer recognised in photographs", "not_honoured": "not known to be forgotten"}

Certificate = dict[str, Any]


def people_measured(run: RunInputs, people: Sequence[str]) -> list[dict[str, Any]]:
    """Of each of these people, by view of their photographs, how many questions were asked and each model's accuracy.

    A model that was not built or not asked has None.
    """
    found = {
        view: {model: answers(evaluation.predictions, view) for model, evaluation in run.evaluations.items()}
        for view in VIEWS
    }
    return [
        {
            "id": person,
            "name": run.benchmark.entities[person],
            "views": {
                view: {
                    "questions": by_model["unlearned"][person].questions,
                    **{
                        model: by_model[model][person].accuracy if person in by_model.get(model, {}) else None
                        for model in ("vanilla", "unlearned", "retrained")
                    },
                }
                for view, by_model in found.items()
                if person in by_model["unlearned"]
            },
        }
        for person in people
    ]


def certify(
    run: RunInputs,
    common: Mapping[str, Any],
    requests: Sequence[DeletionRequest],
    people: Sequence[str],
    missing: Sequence[str] = (),
) -> Certificate:
    """What is certified of these requests.

    Args:
        common: what is the same for all requests of a batch: outcome, model, method, times and so on.
        people: whom they are about. missing: what nobody was found for, in words.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "headline": _headline([run.benchmark.entities[person] for person in people], common),
        "requests": [request.model_dump(mode="json") for request in requests],
        "missing": list(missing),
        "people": people_measured(run, people),
        "reference": "retrained" in run.evaluations,
        "guessing": chance(run, "forget", "vqa"),
        **common,
    }


def _headline(names: Sequence[str], common: Mapping[str, Any]) -> str:
    who = f"{names[0]} is" if len(names) == 1 else f"{counted(len(names), 'person', 'people')} are"
    of_them = [each for each in common["requirements"] if each["name"] in ABOUT_THEM]
    open_ = common["outcome"] == "honoured" and any(each["passed"] is None for each in of_them)
    return f"{who} {HEADLINES[common['outcome']]}{', as far as was decided' if open_ else ''}"


def told(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Requirements as JSON."""
    return [{**asdict(check), "interval": check.interval} for check in checks]


def page(certificate: Certificate) -> str:
    """A certificate as HTML; needs nothing from the network and escapes everything that others wrote."""
    template = environment().get_template("certificate.html.j2")
    return template.render(style=Markup(packaged("report.css")), certificate=certificate, views=SHOWN)


def write(certificate: Certificate, directory: Path) -> None:
    """Write the artifact: certificate.json and certificate.html."""
    with artifact.create(
        directory, CERTIFICATE, {"requests": [request["request_id"] for request in certificate["requests"]]}
    ):
        artifact.write_json(directory / "certificate.json", certificate)
        artifact.write_bytes(directory / "certificate.html", page(certificate).encode())
