"""Step answer_requests: judge the unlearned model, make it the champion or say why not, certify and record that.

The champion moves before anything is recorded: a crash in between leaves requests open that the champion already
honours, never a record of what is not so. The record comes last, so that what is tried again has not been answered yet.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unsee.code import code_digest
from unsee.report.inputs import RunInputs, read_inputs
from unsee.report.summary import build_summary, final_metrics
from unsee.requests import certificate
from unsee.requests.certificate import Certificate
from unsee.requests.inbox import DeletionRequest
from unsee.requests.journal import Answered, Claimed, Journal, Record
from unsee.requests.requirements import requirements, unmet
from unsee.requests.turn import CERTIFICATE, Turn, answer
from unsee.steps.register import register_models
from unsee.storage import artifact
from unsee.storage.transfer import upload
from unsee.tracking import Tracker
from unsee.tracking.mlflow import log_to_parent

CHAMPION = "champion"


def run(
    *,
    root: str,
    run_id: str,
    preset: str,
    settings: Mapping[str, str],
    batch: Path,
    benchmark: Path,
    forget: Sequence[str],
    statistics: Path,
    pruning: Path,
    models: Mapping[str, Path],
    uris: Mapping[str, str],
    evaluations: Mapping[str, Path],
    out: Path,
    tracker: Tracker,
) -> dict[str, float]:
    """Answer the requests of a batch, and write `answers.json` and `answers.html`: what is certified of all of them.

    Args:
        root: the store that holds requests, journal and certificates.
        preset: names the registered model.
        settings: section name -> JSON.
        forget: everybody who ever asked.
        models, evaluations: by name: vanilla, unlearned and, if it was built, retrained.
        uris: where MLflow reaches vanilla and unlearned, as `unsee.steps.register` takes it.

    Returns:
        The unlearned model's metrics, and how many requests were honoured.

    Raises:
        UserError: an incomplete or damaged artifact, or it is not this run's turn.
    """
    records = Journal(root).read()
    Turn.of(records).require(run_id)
    artifact.read(batch, "batch")
    asked = json.loads((batch / "batch.json").read_text())
    inputs = read_inputs(
        benchmark=benchmark,
        forget=forget,
        settings=settings,
        statistics=statistics,
        pruning=pruning,
        models=models,
        evaluations=evaluations,
        relearning={},
    )
    summary = build_summary(inputs)
    checks = requirements(inputs, summary)
    reasons = unmet(checks)
    outcome = "not_honoured" if reasons else "honoured"
    facts = {**summary, "verdict": {"status": outcome}}
    places = {name: (models[name], uri) for name, uri in uris.items()}
    common = {
        "outcome": outcome,
        "reasons": reasons,
        "requirements": certificate.told(checks),
        "models": register_models(preset, facts, places, [] if reasons else [CHAMPION]),
        **_provenance(inputs, summary),
        **_times(records, run_id),
    }
    answers = [_certified(root, inputs, common, name, each) for name, each in asked.items()]
    addresses = {each.request_id: each.certificate for each in answers}
    together = [DeletionRequest.model_validate(each["request"]) for each in asked.values()]
    overview = certificate.certify(inputs, common, together, inputs.request.forget)
    with artifact.create(out, "answers", {"outcome": outcome, "requests": list(asked)}):
        artifact.write_json(out / "answers.json", {**overview, "certificates": addresses, "metrics": summary["models"]})
        artifact.write_bytes(out / "answers.html", certificate.page(overview).encode())
    shown = {**final_metrics(summary), "honoured_requests": 0.0 if reasons else float(len(asked))}
    tracker.log_params({"outcome": outcome, "reasons": reasons})
    tracker.log_metrics(shown)
    told = {"method": summary["method"], "seed": summary["seed"], "forget_people": len(inputs.request.forget)}
    parameters = {**told, "benchmark_digest": inputs.benchmark_digest, **inputs.settings}
    log_to_parent(shown, parameters, [out / "answers.json", out / "answers.html"])
    answer(root, run_id, answers)
    return shown


def _provenance(inputs: RunInputs, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the model was made with and of."""
    return {
        "method": summary["method"],
        "seed": summary["seed"],
        "settings": {section: values for section, values in inputs.settings.items() if section != "relearn"},
        "benchmark": summary["benchmark"],
        "forgotten_people": len(inputs.request.forget),
        "code_digest": code_digest(),
        "versions": summary["versions"],
        "seconds": summary["timing"],
    }


def _times(records: Sequence[Record], run_id: str) -> dict[str, Any]:
    """When the requests were claimed and answered, and the journal's record that the answers follow."""
    claims = (r for r in reversed(records) if isinstance(r.event, Claimed) and r.event.run == run_id)
    return {
        "run": run_id,
        "claimed_at": next(claims).at.isoformat(),
        "answered_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "follows": {"sequence": records[-1].sequence, "sha256": records[-1].digest},
    }


def _certified(
    root: str, inputs: RunInputs, common: Mapping[str, Any], name: str, asked: Mapping[str, Any]
) -> Answered:
    """The answer to a request, whose certificate is in the store."""
    request, people = DeletionRequest.model_validate(asked["request"]), tuple(asked["people"])
    model = common["models"]["unlearned"]
    return Answered(
        run=common["run"],
        request_id=name,
        outcome=common["outcome"],
        reason="; ".join(common["reasons"]),
        people=people,
        model=model["uri"],
        model_sha256=model["sha256"],
        certificate=_publish(certificate.certify(inputs, common, [request], people, asked["missing"]), root),
    )


def _publish(certified: Certificate, root: str) -> str:
    """Bring a certificate to the store; returns its address there, which holds its sha256."""
    with TemporaryDirectory() as folder:
        directory = Path(folder) / CERTIFICATE
        certificate.write(certified, directory)
        return upload(directory, CERTIFICATE, root)
