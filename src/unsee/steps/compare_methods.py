"""Step compare_methods: what the steps of one seed measured, gathered for the comparison over seeds."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unsee.comparison.estimates import DISTANCE, LOSS, values_of
from unsee.comparison.seeds import ANSWER_COLUMNS, REFERENCES, Seed
from unsee.errors import UserError
from unsee.report.checks import FORGET_METRIC, RETAIN_METRIC
from unsee.storage import artifact
from unsee.tracking import Tracker

SAME_ORDER = "give the artifacts of all models in the same order"
OF_UNLEARNED = ("settings", "cost", "told")
"""Facts of an unlearned model's manifest: what `Method.told` says, too."""
_ASKED = ("question_id", "entity_id", "split", "modality", "view", "task")


@dataclass(frozen=True)
class Reference:
    """Where a model's evaluation and relearning artifacts are."""

    evaluation: Path
    relearning: Path


@dataclass(frozen=True)
class Measured(Reference):
    """The same of an unlearned model, and where its delta is."""

    model: Path


def aligned(models: Sequence[Path], evaluations: Sequence[Path], relearnings: Sequence[Path]) -> list[Measured]:
    """The methods' artifacts, collected in the same order.

    Raises:
        UserError: not as many of one kind as of the others.
    """
    if not len(models) == len(evaluations) == len(relearnings):
        raise UserError(
            f"{len(models)} models, {len(evaluations)} evaluations and {len(relearnings)} relearning attacks; "
            "give one of each for every method, in the same order"
        )
    return [Measured(*paths) for paths in zip(evaluations, relearnings, models, strict=True)]


@dataclass(frozen=True)
class _Found:
    """A model's name and digest, what it is and was asked, the settings it was measured with, its entry in seed.json
    and its answers."""

    name: str
    model_digest: str
    subject: dict[str, str]
    measured_with: dict[str, Any]
    entry: dict[str, Any]
    answers: pa.Table


def run(
    seed: int, references: Mapping[str, Reference], methods: Sequence[Measured], out: Path, tracker: Tracker
) -> dict[str, float]:
    """Write `seed.json` and `answers.parquet` to `out`. Returns each method's distance and what it cost others.

    Args:
        references: vanilla and retrained.
        methods: in any order; their names are those of the evaluations.

    Raises:
        UserError: an incomplete or damaged artifact, artifacts of different models where one is expected, a name that
            is given twice, or models that were not asked the same questions or not measured with the same settings.
    """
    known = {name: _reference(name, references[name]) for name in REFERENCES}
    found = [_method(method) for method in methods]
    _require_own_names([*known.values(), *found])
    for other in (known["retrained"], *found):
        _require_same_questions(known["vanilla"], other)
        _require_same_measures(known["vanilla"], other)
    gathered = Seed(
        seed,
        subject=known["vanilla"].subject,
        measured_with={n: value for n, value in known["vanilla"].measured_with.items() if not n.endswith(".seed")},
        references={name: each.entry for name, each in known.items()},
        methods={each.name: each.entry for each in found},
        answers=pa.concat_tables([each.answers for each in (*known.values(), *found)]),
    )
    with artifact.create(out, "comparison-seed", {"seed": seed, "methods": [each.name for each in found]}):
        told = {name: getattr(gathered, name) for name in ("seed", "subject", "measured_with", "references", "methods")}
        artifact.write_json(out / "seed.json", told)
        pq.write_table(gathered.answers, out / "answers.parquet")
    shown = _shown(gathered)
    tracker.log_params({"seed": seed, "methods": ", ".join(gathered.methods)})
    tracker.log_metrics(shown)
    tracker.log_artifact(out / "seed.json")
    return shown


def _reference(name: str, paths: Reference) -> _Found:
    found = _measured(paths)
    if found.name != name:
        raise UserError(f"{paths.evaluation} is the evaluation of {found.name}, not of {name}; give the one of {name}")
    return found


def _method(paths: Measured) -> _Found:
    model = artifact.read(paths.model, "model", verify=False)
    if missing := [fact for fact in OF_UNLEARNED if fact not in model.facts]:
        raise UserError(f"{paths.model} is no unlearned model ({missing[0]} is missing); give what unlearn wrote")
    found = _measured(paths)
    if found.model_digest != model.digest:
        raise UserError(f"{paths.evaluation} is not the evaluation of {paths.model}; {SAME_ORDER}")
    return replace(found, entry={**found.entry, **{fact: model.facts[fact] for fact in OF_UNLEARNED}})


def _measured(paths: Reference) -> _Found:
    evaluated, attacked = (
        artifact.read(path, kind).facts
        for path, kind in ((paths.evaluation, "evaluation"), (paths.relearning, "relearning"))
    )
    name, digest = evaluated["model"], evaluated["model_digest"]
    if (attacked["model"], attacked["model_digest"]) != (name, digest):
        raise UserError(
            f"{paths.relearning} is an attack on {attacked['model']}, but {paths.evaluation} beside it is the "
            f"evaluation of another model, {name}; {SAME_ORDER}"
        )
    metrics = json.loads((paths.evaluation / "metrics.json").read_text())["metrics"]
    entry = {
        "metrics": {metric: found["value"] for metric, found in metrics.items()},
        "not_measured": {metric: found["reason"] for metric, found in metrics.items() if found["value"] is None},
        "relearning": json.loads((paths.relearning / "relearning.json").read_text()),
    }
    answers = pq.read_table(paths.evaluation / "predictions.parquet", columns=list(ANSWER_COLUMNS))
    named = answers.append_column("name", pa.array([name] * len(answers), pa.string()))
    settings = {"evaluation": evaluated["settings"], "relearn": attacked["settings"]}
    told = {f"{section}.{key}": value for section, values in settings.items() for key, value in values.items()}
    return _Found(name, digest, evaluated["subject"], told, entry, named)


def _require_own_names(models: Sequence[_Found]) -> None:
    for name, count in Counter(model.name for model in models).items():
        if count > 1:
            raise UserError(f"{name} is given {count} times; give every model a name of its own")


def _require_same_questions(first: _Found, other: _Found) -> None:
    asked, others = (each.answers.select(_ASKED).sort_by([(c, "ascending") for c in _ASKED]) for each in (first, other))
    if not asked.equals(others):
        raise UserError(
            f"{other.name} was not asked the questions that {first.name} was asked; "
            "evaluate all models of a seed on the same benchmark and forget request"
        )


def _require_same_measures(first: _Found, other: _Found) -> None:
    """Scores and what an attack wins back are judged by those of the references."""
    ours, theirs = first.measured_with, other.measured_with
    if changed := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
        raise UserError(
            f"{other.name} was not evaluated and attacked with the settings of {first.name} ({', '.join(changed)}); "
            "give all models of a seed the same"
        )


def _shown(seed: Seed) -> dict[str, float]:
    shown: dict[str, float | None] = {}
    for name in seed.methods:
        values = values_of(seed, name)
        shown[f"{name}/distance"] = values.get(f"{DISTANCE}/{FORGET_METRIC}")
        shown[f"{name}/retain_loss"] = values.get(f"{LOSS}/{RETAIN_METRIC}")
    return {name: value for name, value in shown.items() if value is not None}
