"""Attack the unlearned model, the vanilla model and the retrained control with the same budgets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unsee.attacks.relearning import RelearningAttack, draw_budget, no_result
from unsee.benchmark.schema import Benchmark, ForgetRequest, load
from unsee.mllm.families import Mllm
from unsee.settings import RelearnSettings
from unsee.steps.models import open_model
from unsee.storage import artifact
from unsee.storage.artifact import write_json
from unsee.tracking import Tracker
from unsee.training import Checkpoints


def run(
    settings: RelearnSettings,
    benchmark: Path,
    forget: Sequence[str],
    unlearned: Path,
    vanilla: Path,
    retrained: Path | None,
    out: Path,
    tracker: Tracker,
) -> dict[str, float]:
    """Write `relearning.json` to `out`. Returns the unlearned model's gaps."""
    data = load(benchmark)
    request = ForgetRequest.resolve(data, forget)
    models = {"unlearned": (unlearned, vanilla), "vanilla": (vanilla, None)}
    if retrained is not None:
        models["retrained"] = (retrained, None)
    checkpoints = {
        name: Checkpoints.of("relearn", settings.model_dump(), request.forget, _digests(benchmark, model, base))
        for name, (model, base) in models.items()
    }
    with artifact.create(out, "relearning", {"settings": settings.model_dump()}):
        found = {
            name: _attack(settings, data, request, open_model(model, base, settings.threads), checkpoints[name])
            for name, (model, base) in models.items()
        }
        write_json(out / "relearning.json", {"models": found})
    tracker.log_artifact(out / "relearning.json")
    tracker.log_params(settings.model_dump())
    results = {f"{s}/{p}": r for s, by_percent in found["unlearned"].items() for p, r in by_percent.items()}
    gaps = {f"relearning/{name}/gap": r["gap"] for name, r in results.items() if r["gap"] is not None}
    tracker.log_metrics(gaps)
    for saved in checkpoints.values():
        saved.clear()
    return gaps


def _digests(benchmark: Path, model: Path, base: Path | None) -> list[str]:
    kinds = [(benchmark, "benchmark"), (model, "model"), *([(base, "model")] if base else [])]
    return [artifact.read(path, kind, verify=False).digest for path, kind in kinds]


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
