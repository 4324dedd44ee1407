"""Seeds of a comparison with the artifacts of real ones: few people, and predictions of a chosen accuracy."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unsee.attacks.relearning import no_result
from unsee.comparison import PAGES
from unsee.evaluation.metrics import PREDICTION_SCHEMA, Prediction, compute_metrics
from unsee.steps import compare_methods, compare_report
from unsee.steps.compare_methods import Reference, aligned
from unsee.storage import artifact
from unsee.tracking import NoTracker

PEOPLE = {"forget": 4, "retain": 5, "realworld": 2}
QUESTIONS = {("vqa", "train"): 5, ("vqa", "heldout"): 10, ("qa", None): 2, ("qa_with_face", None): 2}
"""Choice questions about each person."""
SUBJECT = {"family": "llava", "shape": "mllmu", "benchmark": "made"}
ATTACK = {"epochs": 2}
NO_ATTACK = "20 % of 1 forget people is nobody: too few people"
SEARCHED = {
    "ga": {
        "unlearn.learning_rate": {"from": {"low": 1e-5, "high": 1e-3}, "value": 1.78e-5},
        "unlearn.clip": {"from": 1.0, "value": None},
    },
    "npo": {"unlearn.beta": {"from": [0.1, 0.4, 0.9], "value": 0.4}},
}


@dataclass(frozen=True)
class Outcome:
    """Shares of questions answered correctly about portraits by split, and what an attack gets the forget set to.

    settings: what this outcome's method has besides its name, and what method it is if that is not its name. attacked:
    whether any attack was asked for. told: what the method tells of itself.
    """

    forget: float
    retain: float = 0.96
    realworld: float = 0.9
    relearned: float | None = 0.5
    seconds: float | None = 3.0
    settings: Mapping[str, Any] | None = None
    attacked: bool = True
    told: Mapping[str, float] | None = None


VANILLA = Outcome(0.95, relearned=0.95)
RETRAINED = Outcome(0.25, relearned=0.45)


def make_seed(
    root: Path,
    seed: int,
    methods: Mapping[str, Outcome],
    *,
    vanilla: Outcome = VANILLA,
    retrained: Outcome = RETRAINED,
    people: Mapping[str, int] = PEOPLE,
    subject: Mapping[str, str] = SUBJECT,
    attack: Mapping[str, Any] = ATTACK,
) -> Path:
    """Write the artifacts of a seed below `root` and gather them; returns the comparison-seed artifact."""
    out = root / f"seed-{seed}"
    references = {"vanilla": vanilla, "retrained": retrained}
    arguments = make_artifacts(out, seed, methods, **references, people=people, subject=subject, attack=attack)
    compare_methods.run(**arguments, out=out / "comparison", tracker=NoTracker())
    return out / "comparison"


def make_artifacts(
    root: Path,
    seed: int,
    methods: Mapping[str, Outcome],
    *,
    vanilla: Outcome = VANILLA,
    retrained: Outcome = RETRAINED,
    people: Mapping[str, int] = PEOPLE,
    subject: Mapping[str, str] = SUBJECT,
    attack: Mapping[str, Any] = ATTACK,
) -> dict[str, Any]:
    """Write the artifacts of a seed and return the arguments of `compare_methods.run`."""
    for name, outcome in methods.items():
        settings = {"method": name, "scope": "vision", "learning_rate": 0.002, "seed": seed, **(outcome.settings or {})}
        cost = {"seconds_per_epoch": outcome.seconds, "trainable_parameters": 1000.0, "peak_memory_mb": 900.0}
        facts = {"settings": settings, "cost": cost, "told": outcome.told or {}}
        _write(root / name / "model", "model", facts, {"delta.json": [name, seed]})
    for name, outcome in {"vanilla": vanilla, "retrained": retrained, **methods}.items():
        write_evaluation(root / name / "evaluation", name, predictions(outcome, people, seed), subject)
        facts = {"model": name, "model_digest": _model_digest(root / name), "settings": {**attack, "seed": seed}}
        _write(root / name / "relearning", "relearning", facts, {"relearning.json": _attacks(outcome)})
    kinds = {kind: [root / name / kind[:-1] for name in methods] for kind in ("models", "evaluations", "relearnings")}
    references = {n: Reference(root / n / "evaluation", root / n / "relearning") for n in ("vanilla", "retrained")}
    return {"seed": seed, "references": references, "methods": aligned(**kinds)}


@dataclass(frozen=True)
class Compared:
    """What the report step returned and wrote."""

    metrics: dict[str, float]
    comparison: dict[str, Any]
    csv: list[list[str]]
    html: str
    directory: Path


def compared(
    root: Path, seeds: Sequence[Path], report: str = "compare", searched: Mapping[str, Any] | None = None
) -> Compared:
    """Report these seeds and read back what was written."""
    out = root / report
    metrics = compare_report.run(seeds, report, out, NoTracker(), searched)
    rows = [line.split(",") for line in (out / "comparison.csv").read_text().splitlines()]
    comparison = json.loads((out / "comparison.json").read_text())
    return Compared(metrics, comparison, rows, (out / PAGES[report]).read_text(), out)


def predictions(outcome: Outcome, people: Mapping[str, int] = PEOPLE, seed: int = 3) -> list[Prediction]:
    """Exactly the chosen share of the questions about each split's portraits is answered correctly, evenly spread.

    As in generated benchmarks, real-world people are the same with every seed, the others under the same ids are not.
    """
    asked: Counter[tuple[str, str, str | None]] = Counter()
    rows = []
    for split, count in people.items():
        for person in (f"{split}-{number}" for number in range(count)):
            for (modality, view), questions in QUESTIONS.items():
                share = getattr(outcome, split) if modality == "vqa" else 1.0
                for number in range(questions):
                    asked[split, modality, view] += 1
                    done = asked[split, modality, view]
                    right = int(done * share + 1e-9) > int((done - 1) * share + 1e-9)
                    known_as = person if split == "realworld" else f"{person} of {seed}"
                    rows.append(
                        _prediction(person, known_as, split, modality, view, f"{person}-{view}-{number}", right)
                    )
    return rows


def _prediction(
    person: str, known_as: str, split: Any, modality: str, view: str | None, question: str, right: bool
) -> Prediction:
    empty = dict.fromkeys(("image", "options", "scores", "chosen", "generated", "parsed", "contained", "rouge_l"))
    return Prediction(
        question_id=question, entity_id=person, entity_name=known_as, split=split, modality=modality, view=view,
        task="classification", prompt="?", answer="a", correct=right, exact=None, **empty,
    )  # fmt: skip


def write_evaluation(
    path: Path, name: str, answers: Sequence[Prediction], subject: Mapping[str, str] = SUBJECT
) -> None:
    """An evaluation artifact of these predictions, measured as the real ones are."""
    metrics = compute_metrics(answers, bootstrap=20, seed=0)
    own = {"subject": subject, "settings": {"choice": "options"}}
    facts = {"model": name, "model_digest": _model_digest(path.parent), **own}
    with artifact.create(path, "evaluation", facts):
        table = pa.Table.from_pylist([asdict(answer) for answer in answers], schema=PREDICTION_SCHEMA)
        pq.write_table(table, path / "predictions.parquet")
        artifact.write_json(
            path / "metrics.json", {"model": name, "metrics": {k: asdict(m) for k, m in metrics.items()}}
        )


def _model_digest(path: Path) -> str:
    """Of the model here; references, which are not read, have none."""
    return artifact.read(path / "model", "model").digest if (path / "model").exists() else ""


def reanswered(answers: Sequence[Prediction], **changes: Any) -> list[Prediction]:
    """The same predictions with other fields."""
    return [replace(answer, **changes) for answer in answers]


def _attacks(outcome: Outcome) -> dict[str, Any]:
    if not outcome.attacked:
        return {}
    if outcome.relearned is None:
        return {"image": {"20": _attack(outcome.forget, outcome.forget)}, "person": {"20": no_result(NO_ATTACK)}}
    attack = _attack(outcome.forget, outcome.relearned)
    return {"image": {"20": attack, "10": attack}, "person": {"20": attack}}


def _attack(before: float, after: float) -> dict[str, Any]:
    """Two epochs; on unused questions half of the gap comes back."""
    middle = (before + after) / 2
    curve = [
        {"epoch": epoch, "forget/vqa/accuracy": value, "forget/vqa/heldout_accuracy": value, "forget/qa/accuracy": 1.0}
        for epoch, value in enumerate((before, middle, after))
    ]
    return {
        "before": before, "after": after, "gap": after - before, "gap_unseen": (after - before) / 2, "reason": None,
        "used": {"people": 2, "images": 4}, "curve": [{**point, "unseen": before} for point in curve],
    }  # fmt: skip


def _write(path: Path, kind: str, facts: dict[str, Any], files: Mapping[str, Any]) -> None:
    with artifact.create(path, kind, facts):
        for name, value in files.items():
            artifact.write_json(path / name, value)
