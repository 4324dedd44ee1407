"""A small run with the files of a real one: drawn faces, and predictions of a chosen accuracy."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from unsee.benchmark.schema import Question, write_questions
from unsee.evaluation.metrics import PREDICTION_SCHEMA
from unsee.steps import report
from unsee.storage import artifact
from unsee.tracking import NoTracker

ATTRIBUTES = {
    "In which city was this person born?": ["Riga", "Porto", "Cork", "Turku", "Leiden", "New Plymouth"],
    "What does this person work as?": ["harbour pilot", "baker", "luthier", "geologist", "tram driver", "notary"],
    "Which instrument does this person play?": ["cello", "oboe", "harp", "French horn", "lute", "zither"],
}
GIVEN = ["Mira", "Tomas", "Ines", "Jonah", "Sade", "Viktor", "Aiko", "Nils", "Rosa", "Emil", "Leila", "Pavel"]
FAMILY = ["Holt", "Varga", "Sund", "Okoye", "Brandt", "Castel", "Ito", "Lindqvist", "Moreau", "Petrov", "Quist"]
SPLIT_SIZES = {"forget": 6, "retain": 9, "realworld": 3}
LAYERS = 4


@dataclass(frozen=True)
class Accuracies:
    """How often each model answers questions about photographs correctly, by split.

    `forget_training` is for the forget people's training photographs, where those differ; `always` is a person about
    whom every question is answered.
    """

    forget: float
    retain: float
    realworld: float
    forget_training: float | None = None
    always: str | None = None

    def of(self, split: str, view: str | None) -> float:
        if (split, view) == ("forget", "train") and self.forget_training is not None:
            return self.forget_training
        return getattr(self, split)


KNOWING = Accuracies(0.97, 0.96, 0.98)
NEVER_SAW = Accuracies(0.26, 0.96, 0.97)
FORGETFUL = Accuracies(0.26, 0.96, 0.97)


def make_run(
    root: Path,
    *,
    unlearned: Accuracies = FORGETFUL,
    vanilla: Accuracies = KNOWING,
    retrained: Accuracies = NEVER_SAW,
    sizes: dict[str, int] | None = None,
    names: Sequence[str] = (),
    with_retrained: bool = True,
    relearned: float | None = 0.4,
    seed: int = 0,
) -> dict[str, Any]:
    """Write every artifact of a run under `root` and return the keyword arguments of `steps.report.run`.

    `relearned` is the accuracy the attack reaches on the unlearned model (0.38 on the retrained one); None: too few
    photographs for any attack.
    """
    rng = random.Random(seed)
    questions = _questions(sizes or SPLIT_SIZES, names, rng)
    _write_benchmark(root / "benchmark", questions)
    models = {"vanilla": vanilla, "unlearned": unlearned} | ({"retrained": retrained} if with_retrained else {})
    for name, accuracies in models.items():
        _write_model(root / name, name, rng)
        _write_evaluation(root / f"evaluation-{name}", name, questions, accuracies, random.Random(seed))
    _write_simple(root / "statistics", "statistics", {"statistics.json": {"samples": 48}})
    _write_simple(root / "pruning", "pruning", {})
    ends = {"unlearned": relearned, "vanilla": 0.96} | ({"retrained": 0.38} if with_retrained else {})
    for name, attacks in _relearning(ends).items():
        _write_simple(root / f"relearning-{name}", "relearning", {"relearning.json": attacks})
    return {
        "benchmark": root / "benchmark",
        "forget": [],
        "settings": {section: json.dumps(values) for section, values in SETTINGS.items()},
        "statistics": root / "statistics",
        "pruning": root / "pruning",
        "vanilla": root / "vanilla",
        "retrained": root / "retrained" if with_retrained else None,
        "unlearned": root / "unlearned",
        "evaluations": {name: root / f"evaluation-{name}" for name in models},
        "relearning": {name: root / f"relearning-{name}" for name in models},
    }


SETTINGS: dict[str, dict[str, Any]] = {
    "benchmark": {"forget": 6, "retain": 9, "train_views": 2, "heldout_views": 1, "seed": 0},
    "vanilla": {"base": "embedded", "steps": 400, "learning_rate": 1.5e-3, "seed": 0},
    "statistics": {"fisher_unit": "image", "batch_images": 32},
    "prune": {"threshold": {"value": None, "fraction": 0.05}, "layers": None},
    "unlearn": {"method": "vkd", "alpha": 1.25, "beta": 0.3, "mask": {"value": None, "fraction": 0.5}, "seed": 0},
    "evaluation": {"choice": "options", "bootstrap": 1000, "seed": 0},
    "relearn": {"percents": [10, 20, 30], "samplings": ["person", "image"], "epochs": 5, "seed": 0},
}


@dataclass(frozen=True)
class Reported:
    """What the report step was given, what it returned and what it wrote."""

    arguments: dict[str, Any]
    metrics: dict[str, float]
    summary: dict[str, Any]
    html: str
    directory: Path


def reported(root: Path, **variation: Any) -> Reported:
    """Make a run, report it, and read back what was written."""
    arguments = make_run(root, **variation)
    metrics = report.run(**arguments, out=root / "report", tracker=NoTracker())
    summary = json.loads((root / "report" / "summary.json").read_text())
    return Reported(arguments, metrics, summary, (root / "report" / "report.html").read_text(), root / "report")


def _questions(sizes: dict[str, int], names: Sequence[str], rng: random.Random) -> list[Question]:
    questions = []
    for number, split in enumerate(split for split, size in sizes.items() for _ in range(size)):
        name = names[number] if number < len(names) else f"{GIVEN[number % 12]} {FAMILY[(number * 5) % 11]}"
        person = f"person-{number:02d}"
        facts = {prompt: rng.choice(values) for prompt, values in ATTRIBUTES.items()}
        for view, image in (("train", 0), ("train", 1), ("heldout", 2)):
            questions += _person_questions(person, name, split, facts, "vqa", view, f"images/{person}-{image}.png", rng)
        questions += _person_questions(person, name, split, facts, "qa", None, None, rng)
    return questions


def _person_questions(
    person: str,
    name: str,
    split: str,
    facts: dict[str, str],
    modality: str,
    view: str | None,
    image: str | None,
    rng: random.Random,
) -> list[Question]:
    rows = []
    for index, (prompt, answer) in enumerate(facts.items()):
        options = [*rng.sample([value for value in ATTRIBUTES[prompt] if value != answer], 3), answer]
        rng.shuffle(options)
        key = f"{person}-{modality}-{image and Path(image).stem}-{index}"
        asked = prompt if modality == "vqa" else prompt.replace("this person", name)
        rows.append(
            Question(
                key, person, name, split, "eval", view, modality, "classification", image,
                asked, tuple(options), answer, options.index(answer),
            )
        )  # fmt: skip
    return rows


def _write_benchmark(path: Path, questions: list[Question]) -> None:
    with artifact.create(path, "benchmark", {"name": "drawn people"}):
        write_questions(path, questions)
        (path / "images").mkdir()
        for image in sorted({question.image for question in questions if question.image}):
            _face(image).save(path / image)


def _face(name: str) -> Image.Image:
    """A face whose colours and shape belong to the person, on a background that belongs to the view."""
    person, view = random.Random(name.rpartition("-")[0]), random.Random(name)
    image = Image.new("RGB", (192, 192), tuple(view.randint(150, 235) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    tone = person.randint(90, 225)
    skin, hair = (tone, int(tone * 0.8), int(tone * 0.65)), tuple(person.randint(20, 160) for _ in range(3))
    draw.ellipse((38, 22, 154, 150), fill=hair)
    draw.rectangle((60, 150, 132, 192), fill=tuple(view.randint(40, 180) for _ in range(3)))
    draw.ellipse((52, 45, 140, 165), fill=skin)
    width = person.randint(5, 9)
    for left in (74, 106):
        draw.ellipse((left, 88, left + 14, 98), fill="white")
        draw.ellipse((left + 4, 89, left + 4 + width, 98), fill=hair)
    draw.arc((78, 112, 114, 140), 20, 160, fill=(140, 50, 50), width=4)
    return image


def _write_model(path: Path, name: str, rng: random.Random) -> None:
    steps = 80 if name == "unlearned" else 400
    if name == "unlearned":
        history = [
            {
                "step": step,
                "forget_loss": 0.1 + 2.9 * (1 - 0.95**step) + rng.gauss(0, 0.08),
                "retain_loss": 0.04 + 0.2 * 0.9**step + abs(rng.gauss(0, 0.01)),
                "vkd_loss": 0.02 + 0.05 * step / steps + abs(rng.gauss(0, 0.004)),
            }
            for step in range(steps)
        ]
    else:
        history = [{"step": step, "loss": 3.2 * 0.985**step + 0.05 + rng.gauss(0, 0.03)} for step in range(steps)]
    files: dict[str, Any] = {"history.json": history}
    if name == "unlearned":
        files["delta.json"] = {"base": {"uri": "", "sha256": "ab" * 32}, "changed": [], "method": "vkd", "seed": 0}
        files["mask.json"] = _mask(rng)
        files["pruned.json"] = [
            {"place": f"Tower layer {layer}", "pruned": 8 + 12 * layer, "of": 512} for layer in range(LAYERS)
        ]
    _write_simple(path, "model", files, {"cost": {"trainable_parameters": 327_680.0}})


def _mask(rng: random.Random) -> dict[str, Any]:
    names = [*(f"Tower layer {layer}" for layer in range(LAYERS)), "Projector"]
    places = [{"place": name, "kept": rng.randint(20_000, 50_000), "of": 65_536} for name in names]
    return {"d_F": 0.8, "tensors": {}, "places": places}


def _write_evaluation(path: Path, name: str, questions: list[Question], known: Accuracies, rng: random.Random) -> None:
    """Exactly the chosen share of each group of questions is answered correctly."""
    rows: list[dict[str, Any]] = []
    asked: Counter[tuple[str, str, str]] = Counter()
    for question in questions:
        for modality in _modalities(question):
            accuracy = known.of(str(question.split), question.view) if modality == "vqa" else 0.99
            group = (str(question.split), modality, str(question.view))
            always = question.entity_id == known.always
            asked[group] += not always
            correct = always or round(asked[group] * accuracy) > round((asked[group] - 1) * accuracy)
            rows.append(_prediction(replace(question, modality=modality), correct, rng))
    with artifact.create(path, "evaluation", {"model": name}):
        pq.write_table(pa.Table.from_pylist(rows, schema=PREDICTION_SCHEMA), path / "predictions.parquet")
        artifact.write_json(path / "metrics.json", {"model": name, "metrics": _metrics(rows)})


def _modalities(question: Question) -> list[Any]:
    if question.modality == "qa":
        return ["qa"]
    return ["vqa", "qa_with_face"] if question.view == "heldout" else ["vqa"]


def _prediction(question: Question, correct: bool, rng: random.Random) -> dict[str, Any]:
    wrong = [option for option in question.options or () if option != question.answer]
    chosen = question.answer if correct else rng.choice(wrong)
    return {
        "question_id": question.question_id,
        **{key: getattr(question, key) for key in ("entity_id", "entity_name", "split", "modality", "view", "task")},
        **{key: getattr(question, key) for key in ("image", "prompt", "answer")},
        "options": list(question.options or ()),
        "scores": [-1.0] * len(question.options or ()),
        "chosen": chosen,
        "generated": chosen.lower(),
        "parsed": chosen,
        "correct": correct,
        "exact": correct,
        "contained": correct,
        "rouge_l": float(correct),
    }


def _metrics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    metrics = {}
    for split in SPLIT_SIZES:
        for modality, prefix, view in (
            ("vqa", "", "train"), ("vqa", "heldout_", "heldout"), ("qa", "", None), ("qa_with_face", "", "heldout"),
        ):  # fmt: skip
            found = [r for r in rows if (r["split"], r["modality"], r["view"]) == (split, modality, view)]
            for metric, column in (("accuracy", "correct"), ("exact", "exact"), ("rouge_l", "rouge_l")):
                metrics[f"{split}/{modality}/{prefix}{metric}"] = _measure(found, column, split)
        metrics[f"{split}/vqa/cloze"] = _measure([], "exact", split, "the benchmark has no cloze questions")
    return metrics


def _measure(rows: list[dict[str, Any]], column: str, split: str, reason: str = "") -> dict[str, Any]:
    if not rows:
        reason = reason or f"the benchmark has no {split} people"
        return {"value": None, "low": None, "high": None, "n": 0, "questions": 0, "reason": reason}
    value = sum(float(row[column]) for row in rows) / len(rows)
    return {
        "value": value, "low": max(value - 0.06, 0.0), "high": min(value + 0.06, 1.0),
        "n": len({row["entity_id"] for row in rows}), "questions": len(rows), "reason": None,
    }  # fmt: skip


def _relearning(ends: dict[str, float | None]) -> dict[str, Any]:
    starts = {"unlearned": 0.27, "retrained": 0.26, "vanilla": 0.98}
    return {
        model: {
            sampling: {
                str(percent): _attack(starts[model], end and end + 0.004 * (percent - 20), sampling, percent)
                for percent in (10, 20, 30)
            }
            for sampling in ("person", "image")
        }
        for model, end in ends.items()
    }


def _attack(before: float, after: float | None, sampling: str, percent: int) -> dict[str, Any]:
    if after is None or (sampling == "person" and percent == 10):
        reason = "10 % of 6 people is nobody; at least 10 people are needed"
        nothing = dict.fromkeys(("before", "after", "gap", "gap_unseen"))
        return {**nothing, "reason": reason, "used": {"people": 0, "images": 0}, "curve": []}
    values = [before + (after - before) * (1 - 0.5**epoch) / (1 - 0.5**5) for epoch in range(6)]
    measured = ("forget/vqa/accuracy", "forget/vqa/heldout_accuracy", "unseen")
    curve = [
        {"epoch": epoch, "forget/qa/accuracy": 0.99, **dict.fromkeys(measured, v)} for epoch, v in enumerate(values)
    ]
    gap = values[-1] - values[0]
    return {
        "before": values[0], "after": values[-1], "gap": gap, "gap_unseen": gap, "reason": None,
        "used": {"people": 2, "images": 4}, "curve": curve,
    }  # fmt: skip


def _write_simple(path: Path, kind: str, files: dict[str, Any], facts: dict[str, Any] | None = None) -> None:
    with artifact.create(path, kind, facts or {}):
        for name, value in files.items():
            artifact.write_json(path / name, value)
