"""Fine-tuning by low-rank additions (LoRA) to the LLM, as MLLMU-Bench and CLEAR make their vanilla models."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from peft import LoraConfig, LoraModel
from torch import Tensor, nn

from unsee.benchmark.schema import Benchmark, Question
from unsee.mllm.families import Frame, Mllm, only_tunable
from unsee.mllm.rows import FrameOf, ImageBank, Rows, See, mean_loss, rendered, seeing, usual
from unsee.parallel import add_up, own_chunks, rank, total
from unsee.sections import LoraSettings
from unsee.sharding import gather, shard
from unsee.tracking import Tracker
from unsee.training import Checkpoints, Curve, Optimisation, Training, clip

GRADIENT_NORM = 1.0
BETAS = (0.9, 0.999)


def attach(part: nn.Module, rank: int, alpha: float, seed: int, dropout: float = 0.0) -> LoraModel:
    """Give every linear layer of a part of a model a low-rank addition, zero at first, that counts alpha / rank; its
    `merge_and_unload` adds them to the weights and leaves a plain model."""
    linear = [name for name, module in part.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=linear, init_lora_weights="gaussian"
    )
    torch.manual_seed(seed)
    return LoraModel(part, config, "default")


def additions(mllm: Mllm) -> dict[str, nn.Parameter]:
    """What is trained, by full name."""
    return {name: p for name, p in mllm.model.named_parameters() if ".lora_A." in name or ".lora_B." in name}


class Lessons:
    """A benchmark's training questions one by one, each with its image if it has one."""

    def __init__(
        self, mllm: Mllm, benchmark: Benchmark, settings: LoraSettings, without_images_of: Collection[str] = ()
    ):
        self.settings = settings
        asked = benchmark.select(role="train")
        shown = {q.question_id: q for q in asked if q.image and q.entity_id not in without_images_of}
        named = {q.question_id: q for q in asked if not q.image and settings.by_name}
        bank = ImageBank(mllm, benchmark)
        image_of = {key: str(question.image) for key, question in shown.items()}

        def pixels(keys: Sequence[str]) -> Tensor:
            return bank.pixels([image_of[key] for key in keys])

        def frame(key: str) -> Frame:
            return bank.frame(image_of[key])

        self.shown = _rows(mllm, shown, seeing(mllm, pixels, frame), frame)
        self.named = _rows(mllm, named)
        self.keys = [*shown, *named]

    @property
    def steps_per_epoch(self) -> int:
        """An epoch sees every question once."""
        return -(-len(self.keys) // self.settings.batch_questions)

    def batch(self, step: int) -> list[str]:
        """The ids of a step's questions, in an order that depends on seed and step alone."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.keys))
        size = self.settings.batch_questions
        return [self.keys[i] for i in order[index * size : (index + 1) * size]]

    def backward(self, step: int) -> float:
        """Add the gradients of this process's part of a step's loss, the mean over answer tokens, then questions.

        Returns that part, nats.
        """
        batch, summed = self.batch(step), 0.0
        for rows in (self.shown, self.named):
            asked = [key for key in batch if key in rows.rows]
            for keys, count in own_chunks(rows, asked, self.settings.micro_batch_questions):
                loss = mean_loss(rows.forward(keys)) * count / len(batch)
                loss.backward()
                summed += float(loss.detach())
        return summed


def _rows(mllm: Mllm, questions: Mapping[str, Question], see: See | None = None, frame: FrameOf = usual) -> Rows:
    """A row for each question."""
    rows = {key: [rendered(mllm.at(frame(key)), question)] for key, question in questions.items()}
    return Rows(mllm, rows, see, frame=frame)


def finetune(
    mllm: Mllm,
    benchmark: Benchmark,
    settings: LoraSettings,
    checkpoint_key: Sequence[object],
    tracker: Tracker,
    without_images_of: Collection[str] = (),
) -> tuple[Curve, list[Checkpoints]]:
    """Teach the LLM of `mllm` the benchmark's people; tower, projector and embeddings stay as they are.

    Returns the training curve, and the checkpoints to clear once the model is saved.

    Args:
        without_images_of: ids of people whose photographs are left out: the retrained model.
    """
    lessons = Lessons(mllm, benchmark, settings, without_images_of)
    adapted = attach(mllm.language_model, settings.rank, settings.alpha, settings.seed, settings.dropout)
    only_tunable(mllm.model, additions(mllm))
    shard(mllm, settings.sharding)
    parameters = additions(mllm)
    adapted.train()  # dropout

    def gradients(step: int) -> dict[str, float]:
        torch.manual_seed(settings.seed + step + (rank() << 32))  # each process drops units of its own
        loss = lessons.backward(step)
        add_up(p.grad for p in parameters.values())
        clip([p.grad for p in parameters.values() if p.grad is not None], GRADIENT_NORM)
        return total({"loss": loss})

    rule = Optimisation(
        settings.epochs * lessons.steps_per_epoch,
        settings.learning_rate,
        settings.weight_decay,
        warmup=settings.warmup_epochs * lessons.steps_per_epoch,
        decay=1 - settings.warmup_epochs / settings.epochs,
        betas=BETAS,
    )
    checkpoints = Checkpoints.of(*checkpoint_key)
    curve = Training(parameters, gradients, rule, "learning", checkpoints=checkpoints, tracker=tracker).run()
    adapted.eval()
    gather(mllm)
    adapted.merge_and_unload()
    return curve, [checkpoints]
