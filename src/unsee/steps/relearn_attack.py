"""Attack one model: the unlearned one, or a control with the same budgets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unsee.attacks.relearning import RelearningAttack, draw_budget, no_result
from unsee.benchmark.schema import Benchmark, ForgetRequest, load
from unsee.compute import Compute
from unsee.launching import in_processes
from unsee.mllm.families import Mllm
from unsee.parallel import main_goes_on
from unsee.sections import RelearnSettings
from unsee.steps.models import open_model
from unsee.storage import artifact
from unsee.storage.artifact import write_json
from unsee.tracking import Tracker
from unsee.training import Checkpoints


@in_processes
def run(
    settings: RelearnSettings,
    benchmark: Path,
    forget: Sequence[str],
    name: str,
    model: Path,
    base: Path | None,
    out: Path,
    tracker: Tracker,
) -> dict[str, float]:
    """Write `relearning.json` to `out`. Returns the gaps. Without percentages there is no attack: no model is opened.

    Args:
        name: vanilla, retrained or unlearned. base: the vanilla model's directory if `model` is a delta.
    """
    kinds = [(benchmark, "benchmark"), (model, "model"), *([(base, "model")] if base else [])]
    digests = [artifact.read(path, kind, verify=False).digest for path, kind in kinds]
    data = load(benchmark)
    request = ForgetRequest.resolve(data, forget)
    compute = Compute.of(settings.compute).facts
    checkpoints = Checkpoints.of("relearn", settings.model_dump(), compute, request.forget, digests)
    facts: dict[str, Any] = {"model": name, "model_digest": digests[1], "settings": settings.model_dump()}
    with artifact.create(out, "relearning", facts):
        found: dict[str, Any] = {}
        if settings.percents:
            mllm = open_model(model, base, settings.compute)
            facts["compute"] = compute
            found = _attack(settings, data, request, mllm, checkpoints)
        main_goes_on()
        write_json(out / "relearning.json", found)
    tracker.log_artifact(out / "relearning.json")
    tracker.log_params({"model": name, **settings.model_dump()})
    results = {f"{s}/{p}": r for s, by_percent in found.items() for p, r in by_percent.items()}
    gaps = {f"relearning/{budget}/gap": r["gap"] for budget, r in results.items() if r["gap"] is not None}
    tracker.log_metrics(gaps)
    checkpoints.clear()
    return gaps


def _attack(
    settings: RelearnSettings, data: Benchmark, request: ForgetRequest, mllm: Mllm, checkpoints: Checkpoints
) -> dict[str, dict[str, Any]]:
    """All budgets against one model: {sampling: {percent: result}}, continued where a killed attack stopped."""
    saved = checkpoints.load()
    results: dict[str, Any] = saved[1] if saved else {}
    attack = RelearningAttack(mllm, data, request, settings)
    for sampling in settings.samplings:
        for percent in settings.percents:
            if str(percent) in results.setdefault(sampling, {}):
                continue
            budget = draw_budget(attack.portraits.by_person, sampling, percent, settings.seed)
            results[sampling][str(percent)] = no_result(budget) if isinstance(budget, str) else attack.run(budget)
            checkpoints.save({}, results)
    return results
