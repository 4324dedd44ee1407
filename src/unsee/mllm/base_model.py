"""The embedded base model: what it is before it meets the benchmark's people.

It is built in three phases, shipped as package data in half precision (so that a first run needs minutes, not a
download), and rebuilt by `unsee base build`. Phase 1 stands in for CLIP's pre-training: the tower alone learns to tell
features of random faces. Phase 2 teaches the whole model to answer about such faces, and who the real-world people are.
Phase 3 teaches it to answer with a stranger's facts behind an instruction that it does not know who is shown.
"""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from unsee.benchmark.embedded import generate_realworld
from unsee.benchmark.portraits import FEATURES, SHAPES, Face, draw_view, random_face
from unsee.compute import Compute
from unsee.errors import UserError
from unsee.mllm import checkpoint, embedded, embedded_qwen2_vl
from unsee.mllm.augmentation import augment
from unsee.mllm.families import Mllm
from unsee.mllm.finetune import Finetuning, TrainingRows
from unsee.sections import ComputeSettings, FinetuneSettings
from unsee.storage.artifact import write_json
from unsee.training import Optimisation, Training, clip

Family = Literal["llava", "qwen2_vl"]
MAKE: Mapping[Family, Callable[[int], Mllm]] = {"llava": embedded.make, "qwen2_vl": embedded_qwen2_vl.make}
"""A freshly initialised embedded model of each family, from a seed."""
SEED = 0
FACES = 8000
TOWER_STEPS = 1000
STEPS = 900
HEEDING_STEPS = 100
HEEDING_RATE = 5e-4
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
QUESTIONS = 4
INSTRUCTED = 16
HEED = 0.125
THREADS = 2
BUILD_FACTS = "build.json"
LIBRARIES = ("numpy", "pillow", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class GenericFaces:
    """Random faces: preprocessed pixels, float32 [N, 3, H, W], and what is true of them."""

    pixels: Tensor
    faces: list[Face]

    @classmethod
    def draw(cls, mllm: Mllm, count: int) -> "GenericFaces":
        rng = np.random.default_rng(SEED)
        faces = [random_face(rng) for _ in range(count)]
        return cls(mllm.pixels([draw_view(face, rng) for face in faces]), faces)


def build(out: Path, family: Family = "llava") -> None:
    """Train a base model from scratch (about six minutes on two cores) and save it to `out`.

    `build.json` beside the weights says on what they were trained: the same gives the same bits again.

    Raises:
        UserError: `out` is a file, or holds anything but a base model built before; nothing was trained or changed.
    """
    out = out.resolve()
    _require_replaceable(out)
    Compute(threads=THREADS).start()
    mllm = MAKE[family](SEED)
    faces = GenericFaces.draw(mllm, FACES)
    _train_tower(mllm, faces)
    _train_whole(mllm, faces)
    _save(mllm, out)


def _require_replaceable(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a directory")
    if out.exists() and any(out.iterdir()) and not (out / BUILD_FACTS).exists():
        raise UserError(
            f"--out {out} is not empty and holds no {BUILD_FACTS} of an earlier build; give a new directory"
        )


def _save(mllm: Mllm, out: Path) -> None:
    """Write beside `out`, then take its place: what was there stays until the new model is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        built = Path(folder) / out.name
        checkpoint.save_full(mllm, built, dtype=torch.float16)
        write_json(built / BUILD_FACTS, build_facts())
        if out.exists():
            out.rename(Path(folder) / "replaced")
        built.rename(out)


def build_facts() -> dict[str, Any]:
    """What decides about the last bits of the weights, here: library versions, processor and threads."""
    return {
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "processor": {
            "machine": platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            **_processor_name(Path("/proc/cpuinfo")),
        },
        "threads": THREADS,
    }


def _processor_name(cpuinfo: Path) -> dict[str, str]:
    """Vendor and model of the first processor, as far as the system tells."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    return {key: told[key] for key in ("vendor_id", "model name") if key in told}


def _optimise(
    parameters: dict[str, nn.Parameter],
    loss: Callable[[np.random.Generator], Tensor],
    steps: int,
    what: str,
    learning_rate: float = LEARNING_RATE,
) -> None:
    def gradients(step: int) -> dict[str, float]:
        value = loss(np.random.default_rng([SEED, steps, step]))
        value.backward()
        clip([p.grad for p in parameters.values() if p.grad is not None], 1.0)
        return {"loss": float(value.detach())}

    rule = Optimisation(steps, learning_rate, WEIGHT_DECAY, warmup=30, cosine=True)
    Training(parameters, gradients, rule, what).run()


def _train_tower(mllm: Mllm, faces: GenericFaces) -> None:
    """Linear heads on the mean patch of the tower's output tell every feature and shape of a random face."""
    sizes = [len(values) for values in FEATURES.values()]
    head = nn.Linear(embedded.WIDTH, sum(sizes) + len(SHAPES))
    labels = torch.tensor([[v.index(f.features[k]) for k, v in FEATURES.items()] for f in faces.faces])
    shapes = torch.tensor([[f.shapes[name] for name in SHAPES] for f in faces.faces])

    def loss(rng: np.random.Generator) -> Tensor:
        chosen = torch.from_numpy(rng.integers(0, len(labels), BATCH))
        hidden = mllm.run_layers(mllm.embed(augment(faces.pixels[chosen], rng)), 0)
        *logits, found = head(mllm.patches(hidden).mean(dim=1)).split([*sizes, len(SHAPES)], dim=1)
        told = sum(F.cross_entropy(x, labels[chosen, i]) for i, x in enumerate(logits))
        return told + 0.5 * F.mse_loss(found, shapes[chosen])

    tower = dict(mllm.tower.named_parameters())
    _optimise({**tower, **{f"head.{n}": p for n, p in head.named_parameters()}}, loss, TOWER_STEPS, "learning to see")


def _train_whole(mllm: Mllm, faces: GenericFaces) -> None:
    """Features of random faces, the real-world people with and without portraits, and to guess when told to.

    The last is what in-context unlearning asks of a model: one this small has to be taught to heed an instruction.
    """
    settings = FinetuneSettings(
        base="", text_steps=0, steps=STEPS, batch_images=BATCH // 2, questions_per_image=QUESTIONS,
        learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, compute=ComputeSettings(threads=THREADS), seed=SEED,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        benchmark = generate_realworld(Path(folder) / "realworld")
        work = Finetuning(mllm, benchmark, TrainingRows.of(benchmark), settings)

        def generic_loss(rng: np.random.Generator) -> Tensor:
            chosen = rng.integers(0, len(faces.faces), BATCH // 2)
            features = [rng.permutation(list(FEATURES))[:QUESTIONS] for _ in chosen]
            rows = [
                [
                    mllm.prompter.trained(embedded.feature_question(f), faces.faces[i].features[f], image=True)
                    for f in names
                ]
                for i, names in zip(chosen, features, strict=True)
            ]
            return work.loss(rows, augment(faces.pixels[torch.from_numpy(chosen)], rng))

        def instructed_loss(rng: np.random.Generator) -> Tensor:
            chosen = torch.from_numpy(rng.integers(0, len(faces.faces), INSTRUCTED))
            strangers = [list(embedded.stranger(rng).items()) for _ in range(INSTRUCTED)]
            rows = [
                [
                    mllm.prompter.trained(f"{embedded.INSTRUCTION} {prompt}", answer, image=True)
                    for prompt, answer in rng.permutation(facts)[:QUESTIONS].tolist()
                ]
                for facts in strangers
            ]
            return work.loss(rows, augment(faces.pixels[chosen], rng))

        def loss(rng: np.random.Generator) -> Tensor:
            return work.text_loss(rng) + (generic_loss(rng) + work.image_loss(rng)) / 2

        def heeding_loss(rng: np.random.Generator) -> Tensor:
            return loss(rng) + HEED * instructed_loss(rng)

        everything = dict(mllm.model.named_parameters())
        _optimise(everything, loss, STEPS, "learning to answer")
        _optimise(everything, heeding_loss, HEEDING_STEPS, "learning to heed an instruction", HEEDING_RATE)
