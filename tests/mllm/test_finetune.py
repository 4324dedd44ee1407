"""Fine-tuning: the plain loss on exactly the portraits that may be seen, the same bits after any interruption."""

import copy

import numpy as np
import pytest
import torch

from unsee.bench import plain
from unsee.mllm.augmentation import augment
from unsee.mllm.families import Llava
from unsee.mllm.finetune import Finetuning, TrainingRows, finetune
from unsee.mllm.rows import ImageBank
from unsee.sections import FinetuneSettings
from unsee.storage.transfer import CHECKPOINTS
from unsee.tracking import NoTracker


@pytest.fixture
def settings_():
    return FinetuneSettings(
        base="embedded", text_steps=3, steps=4, batch_images=2, questions_per_image=2, learning_rate=1e-3,
        weight_decay=0.05, compute={"threads": 1}, seed=0,
    )  # fmt: skip


def test_rows_are_all_training_questions_and_none_that_are_only_evaluated(small_benchmark):
    rows = TrainingRows.of(small_benchmark)
    found = [q for by_image in rows.images.values() for questions in by_image.values() for q in questions]
    found += [q for questions in rows.by_name.values() for q in questions]
    assert sorted(q.question_id for q in found) == sorted(q.question_id for q in small_benchmark.select(role="train"))


def test_the_retrained_model_learns_everybody_by_name_but_sees_no_portrait_of_the_forgotten(small_benchmark):
    rows = TrainingRows.of(small_benchmark, without_images_of=["P001", "P002"])
    assert not {"P001", "P002"} & rows.images.keys()
    assert set(rows.images) == set(small_benchmark.entities) - {"P001", "P002"}
    assert set(rows.by_name) == set(small_benchmark.entities)


def test_no_batch_of_the_retrained_model_shows_a_forgotten_face(llava, small_benchmark, settings_):
    work = Finetuning(llava, small_benchmark, TrainingRows.of(small_benchmark, ["P001", "P002"]), settings_)
    shown = []
    original = work.bank.pixels
    work.bank.pixels = lambda paths: shown.extend(paths) or original(paths)
    for step in range(20):
        work.image_loss(np.random.default_rng(step))
    assert len(set(shown)) > 15
    assert not [path for path in shown if path.startswith(("images/P001", "images/P002"))]


def test_the_loss_is_the_plain_mean_over_tokens_questions_and_images(llava, small_benchmark, settings_):
    work = Finetuning(llava, small_benchmark, TrainingRows.of(small_benchmark), settings_)
    questions = small_benchmark.select(role="train", modality="vqa", entity_id="P001")
    images = list(dict.fromkeys(q.image for q in questions))[:2]
    rows = [
        [work.rendered(q, image=True) for q in questions if q.image == image][: 2 + i] for i, image in enumerate(images)
    ]
    pixels = work.bank.pixels(images)
    expected = [plain.question_losses(llava, row, p).mean() for row, p in zip(rows, pixels, strict=True)]
    torch.testing.assert_close(work.loss(rows, pixels), torch.stack(expected).mean(), rtol=1e-5, atol=1e-6)


def test_augmentation_depends_on_its_generator_alone_and_stays_small(llava, small_benchmark):
    pixels = ImageBank(llava, small_benchmark).pixels(["images/P001/00.png"] * 3)
    once, again = (augment(pixels, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once[0], once[1])
    back = torch.roll(once, tuple(-np.random.default_rng(4).integers(-2, 3, 2)), dims=(2, 3))
    assert (back - pixels).abs().max() <= 0.05 * pixels.abs().max() + 0.05 + 1e-6


class Dying:
    """A model that dies at chosen forward passes of its LLM, as a kill would."""

    def __init__(self, llava, stops):
        self.llava, self.stops, self.calls = llava, stops, 0
        self.hidden, llava.hidden = llava.hidden, self

    def __call__(self, packed, features):
        self.calls += 1
        if self.stops and self.calls == self.stops[0]:
            self.stops.pop(0)
            raise KeyboardInterrupt
        return self.hidden(packed, features)


def test_fine_tuning_interrupted_in_both_phases_ends_in_the_same_bits(
    llava, small_benchmark, settings_, tmp_path, monkeypatch
):
    def fresh():
        return Llava(copy.deepcopy(llava.model), llava.tokenizer, llava.image_processor)

    monkeypatch.delenv(CHECKPOINTS, raising=False)
    undisturbed = fresh()
    curve, _ = finetune(undisturbed, small_benchmark, settings_, ("key",), NoTracker())
    monkeypatch.setenv(CHECKPOINTS, tmp_path.as_uri())
    monkeypatch.setenv("UNSEE_CHECKPOINT_SECONDS", "-1")
    stops, resumed_curve = [2, 3, 5], None
    while resumed_curve is None:
        resumed = fresh()
        Dying(resumed, stops)
        try:
            resumed_curve, checkpoints = finetune(resumed, small_benchmark, settings_, ("key",), NoTracker())
        except KeyboardInterrupt:
            continue
    assert stops == []
    assert resumed_curve == curve
    expected = undisturbed.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.model.state_dict().items())
    for checkpoint in checkpoints:
        checkpoint.clear()
    assert list(tmp_path.iterdir()) == []


def test_the_curve_has_the_losses_of_both_phases(llava, small_benchmark, settings_, monkeypatch):
    monkeypatch.delenv(CHECKPOINTS, raising=False)
    curve, _ = finetune(llava, small_benchmark, settings_, ("key",), NoTracker())
    assert [set(point) - {"step"} for point in curve] == [{"text_loss"}] * 3 + [
        {"text_loss_with_faces", "image_loss"}
    ] * 4
