"""What is done in one process and in two, to be compared: every training, the statistics and the evaluation."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from float64_pixels import see_in_float64
from unlearning_work import few_questions, pruned_neurons, random_fisher, settings

from unsee.attacks.relearning import Budget, RelearningAttack
from unsee.bench.float64 import to_float64
from unsee.benchmark import schema
from unsee.benchmark.schema import ForgetRequest
from unsee.compute import Compute
from unsee.evaluation.asking import Asked, Examiner
from unsee.evaluation.examination import examination, examine
from unsee.launching import in_processes
from unsee.mllm import lora
from unsee.mllm.base_model import MAKE
from unsee.mllm.finetune import finetune
from unsee.mllm.rows import ImageBank, Portraits
from unsee.parallel import main_goes_on
from unsee.sections import FinetuneSettings, LoraSettings, PruneSettings, RelearnSettings, StatisticsSettings
from unsee.statistics.activation import mean_absolute_activation
from unsee.steps.collect_statistics import fisher_of_portraits
from unsee.storage.store import FileStore
from unsee.tracking import NoTracker, Tracker
from unsee.training import Checkpoints
from unsee.unlearning.method import Term, Work
from unsee.unlearning.trainer import Unlearning

Chosen = tuple[str, str]
"""The name of a work, and the sharding of the model where it is trained."""
BASE = {"base": "", "learning_rate": 1e-3, "weight_decay": 0.01, "compute": {"threads": 2}, "seed": 0}
FULL = {**BASE, "text_steps": 2, "steps": 2, "batch_images": 3, "questions_per_image": 2}
LORA = {
    **BASE, "rank": 4, "alpha": 8, "dropout": 0.0, "epochs": 1, "warmup_epochs": 0, "batch_questions": 5,
    "micro_batch_questions": 2,
    "by_name": True,
}  # fmt: skip
FEW = {"batch_forget_images": 1, "epochs": 1}
UNLEARN = {"batch_forget_images": 3, "batch_retain_images": 3, "micro_batch_images": 1, "epochs": 2}
RELEARN = {
    "percents": (), "samplings": (), "epochs": 2, "batch_images": 3, "learning_rate": 1e-3, "choice": "options",
    "evaluation_batch_images": 1, "compute": {"threads": 2}, "seed": 0,
}  # fmt: skip


@in_processes
def done(works: Sequence[Chosen], directory: Path, scratch: Path, out: Path, tracker: Tracker) -> dict[Chosen, Any]:
    """What each of these works gives."""
    Compute(threads=2).start()
    found = {work: WORKS[work[0]](Doing(directory, scratch, sharding=work[1])) for work in works}
    main_goes_on()
    return found


def model():
    """A fresh embedded LLaVA that computes in float64."""
    mllm = MAKE["llava"](3)
    to_float64(mllm)
    return see_in_float64(mllm)


class Doing:
    """The kinds of work, each on a model of its own, with two people, one of them to be forgotten."""

    def __init__(self, directory: Path, scratch: Path, sharding: str):
        benchmark = schema.load(directory, verify=False)
        first, second, *_ = benchmark.entities
        self.request = ForgetRequest((first,), (second,), ())
        about = tuple(q for q in benchmark.questions if q.entity_id in (first, second))
        self.benchmark = few_questions(replace(benchmark, questions=about), 2)
        self.scratch, self.sharding = scratch, sharding

    def vkd(self) -> dict[str, Any]:
        return trained(self.unlearning("vkd", blends=3, versions=2))

    def resisting(self) -> dict[str, Any]:
        return trained(self.unlearning("vkd", resist={"step": 1e-3, "after": 0.0}, order="mask_then_prune"))

    def mmunlearner(self) -> dict[str, Any]:
        return trained(self.unlearning("mmunlearner", **FEW))

    def unlearning(self, method: str, checkpoints: Checkpoints | None = None, **changes: Any) -> Unlearning:
        mllm = model()
        work = Work(
            settings=settings(method, **{**UNLEARN, "sharding": self.sharding, **changes}),
            mllm=mllm,
            bank=ImageBank(mllm, self.benchmark),
            benchmark=self.benchmark,
            request=self.request,
            pruned=pruned_neurons(3),
            pruning=PruneSettings.model_validate({"threshold": {"fraction": 0.1}, "layers": 2}),
            fisher=random_fisher(mllm),
        )
        return Unlearning.of(work, checkpoints or Checkpoints(), NoTracker())

    def interrupted(self) -> dict[str, Any]:
        """The same as mmunlearner, but a first attempt dies in its third step, and another goes on from there."""
        checkpoints = Checkpoints(FileStore(self.scratch), f"{self.sharding}.safetensors", seconds=-1)
        first = self.unlearning("mmunlearner", checkpoints, **FEW)
        ((forget, *others),) = first.terms
        with suppress(InterruptedError):
            replace(first, terms=[[dying(forget, call=2), *others]]).run()
        saved = checkpoints.load()
        return {**trained(self.unlearning("mmunlearner", checkpoints, **FEW)), "saved": len(saved[1]["curve"])}

    def finetuning(self) -> dict[str, Any]:
        return self.tuned(finetune, FinetuneSettings(**FULL, sharding=self.sharding))

    def lora(self) -> dict[str, Any]:
        return self.tuned(lora.finetune, LoraSettings(**LORA, sharding=self.sharding))

    def tuned(self, tune: Any, settings_: FinetuneSettings | LoraSettings) -> dict[str, Any]:
        mllm = model()
        curve, _ = tune(mllm, self.benchmark, settings_, (), NoTracker())
        return {"curve": curve, "weights": arrays(mllm.model.state_dict())}

    def low_precision(self) -> dict[str, Any]:
        """What a preset of a 7B model does on a GPU: additions in float32 beside frozen weights in bfloat16."""
        made, compute = MAKE["llava"](3), Compute(threads=2, precision="bfloat16", checkpointing=True)
        mllm = type(made)(made.model.to(compute.dtype), made.tokenizer, made.image_processor, compute)
        settings_ = LoraSettings(**LORA, sharding=self.sharding)
        curve, _ = lora.finetune(mllm, self.benchmark, settings_, (), NoTracker())
        return {"curve": curve}

    def relearning(self) -> dict[str, Any]:
        mllm = model()
        attack = RelearningAttack(
            mllm, self.benchmark, self.request, RelearnSettings(**RELEARN, sharding=self.sharding)
        )
        attack.examiner = Watching(mllm, attack.bank.pixels, 1)
        (images,) = attack.portraits.by_person.values()
        found = attack.run(Budget("image", 50, images[:2], frozenset(self.request.forget)))
        return {"curve": found["curve"], "scores": attack.examiner.seen}

    def statistics(self) -> dict[str, Any]:
        mllm = model()
        bank = ImageBank(mllm, self.benchmark)
        portraits = Portraits(mllm, bank, self.benchmark, self.request.forget)
        found: dict[str, Any] = {"importance": arrays(mean_absolute_activation(mllm, bank.pixels, portraits.keys, 1))}
        for unit in ("image", "question"):
            asked = StatisticsSettings(fisher_unit=unit, batch_images=2, compute={"threads": 2})
            found[unit] = arrays(fisher_of_portraits(mllm, portraits, asked, "forget"))
        return found

    def evaluation(self) -> list[dict[str, Any]]:
        mllm = model()
        examiner = Examiner(mllm, ImageBank(mllm, self.benchmark).pixels, 1)
        predictions = examine(examiner, examination(self.benchmark, self.request), self.request, generate=True)
        return [asdict(prediction) for prediction in predictions]


WORKS = {
    work.__name__: work
    for work in (
        Doing.vkd, Doing.resisting, Doing.mmunlearner, Doing.interrupted, Doing.finetuning, Doing.lora,
        Doing.low_precision, Doing.relearning, Doing.statistics, Doing.evaluation,
    )
}  # fmt: skip


class Watching(Examiner):
    """Keeps the scores of every measurement."""

    seen: tuple[list[list[float]], ...] = ()

    def scores(self, asked: Sequence[Asked]) -> list[list[float]]:
        found = super().scores(asked)
        self.seen = (*self.seen, found)
        return found


def dying(term: Term, call: int) -> Term:
    """The term, whose loss cannot be computed at that call."""
    calls = count()

    def loss(outputs: Any) -> torch.Tensor:
        if next(calls) == call:
            raise InterruptedError
        return term.loss(outputs)

    return replace(term, loss=loss)


def trained(unlearning: Unlearning) -> dict[str, Any]:
    """Losses, mask and weights of a run."""
    curve, masks = unlearning.run(), unlearning.mask.masks if unlearning.mask else {}
    return {
        "curve": curve,
        "masks": arrays({name: mask.unpack() for name, mask in masks.items()}),
        "weights": arrays(unlearning.mllm.model.state_dict()),
        "trainable": unlearning.cost["trainable_parameters"],
    }


def arrays(tensors: Mapping[Any, torch.Tensor]) -> dict[Any, np.ndarray]:
    """The same, as it can be sent from one process to another."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}
