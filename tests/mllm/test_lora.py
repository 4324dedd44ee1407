"""LoRA fine-tuning: only the additions are trained, merging is exact, and what is left is a plain model."""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText
from unlearning_work import copy_of, few_questions

from unsee.bench import plain
from unsee.mllm import checkpoint, lora
from unsee.mllm.rows import ImageBank
from unsee.sections import LoraSettings
from unsee.storage.transfer import CHECKPOINTS
from unsee.tracking import NoTracker

FORGOTTEN = "P001"


@pytest.fixture(scope="module")
def lessons_benchmark(small_benchmark):
    """Two people, two questions or fewer about each portrait, and by name."""
    chosen = [q for q in small_benchmark.questions if q.entity_id in (FORGOTTEN, "P002") and q.role == "train"]
    return few_questions(replace(small_benchmark, questions=tuple(chosen)), 2)


def settings(**changes):
    values = {
        "base": "", "rank": 4, "alpha": 8, "dropout": 0.1, "epochs": 1, "warmup_epochs": 0, "batch_questions": 6,
        "micro_batch_questions": 6,
        "by_name": True, "learning_rate": 1e-2, "weight_decay": 0.0, "compute": {"threads": 1}, "seed": 0,
    }  # fmt: skip
    return LoraSettings(**{**values, **changes})


def forward(mllm, benchmark):
    """Losses of a few questions with and without an image, by transformers' own forward, one row each."""
    shown = benchmark.select(role="train", modality="vqa")[:2]
    named = benchmark.select(role="train", modality="qa")[:2]
    pixels = ImageBank(mllm, benchmark).pixels([shown[0].image])
    seen = [mllm.prompter.trained(q.prompt, q.answer, image=True) for q in shown]
    told = [mllm.prompter.trained(q.prompt, q.answer, image=False) for q in named]
    with torch.no_grad():
        losses = [plain.question_losses(mllm, seen, pixels[0].to(mllm.head.weight.dtype))]
        return torch.cat([*losses, plain.question_losses(mllm, told, None)])


@pytest.fixture
def trained(mllm, lessons_benchmark, monkeypatch):
    """A model as it was, and after four epochs."""
    monkeypatch.delenv(CHECKPOINTS, raising=False)
    before = copy.deepcopy(mllm.model.state_dict())
    curve, _ = lora.finetune(mllm, lessons_benchmark, settings(epochs=4), ("key",), NoTracker())
    return mllm, before, curve


def test_only_the_llm_s_linear_layers_change_and_all_of_them_do(trained):
    mllm, before, curve = trained
    after = mllm.model.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    names = {module: name for name, module in mllm.model.named_modules()}
    linear = {f"{names[m]}.weight" for m in mllm.language_model.modules() if isinstance(m, nn.Linear)}
    assert changed == linear
    assert len(linear) == 7 * len(mllm.language_model.layers)
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_a_change_is_of_the_rank_that_was_asked_for(trained):
    mllm, before, _ = trained
    name = next(n for n in before if n.endswith("language_model.layers.0.mlp.down_proj.weight"))
    singular = torch.linalg.svdvals((mllm.model.state_dict()[name] - before[name]).double())
    assert singular[3] > 1e-4 * singular[0] > 100 * singular[4]


def test_nothing_but_the_additions_gets_a_gradient(mllm, lessons_benchmark):
    asked = settings()
    lessons = lora.Lessons(mllm, lessons_benchmark, asked)
    lora.attach(mllm.language_model, asked.rank, asked.alpha, asked.seed, asked.dropout)
    additions = lora.additions(mllm)
    lora.only_tunable(mllm.model, additions)
    lessons.backward(0)
    assert {name for name, p in mllm.model.named_parameters() if p.grad is not None} == additions.keys()
    assert len(additions) == 2 * 7 * len(mllm.language_model.layers)
    moving = [p.grad.abs().max() > 0 for name, p in additions.items() if ".lora_B." in name]
    assert all(moving), "B is zero at first, so that its gradient alone is not"


def test_the_merged_model_answers_as_the_one_with_additions(mllm64, lessons_benchmark):
    untouched = forward(mllm64, lessons_benchmark)
    adapted = lora.attach(mllm64.language_model, 4, 8, seed=0)
    torch.testing.assert_close(forward(mllm64, lessons_benchmark), untouched, rtol=0, atol=1e-12)
    for name, parameter in lora.additions(mllm64).items():
        nn.init.normal_(parameter, std=0.1 if ".lora_B." in name else 0.3)
    adapted.eval()
    with_additions = forward(mllm64, lessons_benchmark)
    adapted.merge_and_unload()
    assert (with_additions - untouched).abs().max() > 0.01
    torch.testing.assert_close(forward(mllm64, lessons_benchmark), with_additions, rtol=0, atol=1e-10)


def test_the_saved_model_is_one_that_plain_transformers_loads(trained, lessons_benchmark, tmp_path):
    mllm, _, _ = trained
    checkpoint.save_full(mllm, tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in mllm.model.state_dict().items())
    assert not [path.name for path in tmp_path.iterdir() if "adapter" in path.name]
    assert torch.equal(forward(checkpoint.load_full(tmp_path), lessons_benchmark), forward(mllm, lessons_benchmark))


def test_training_interrupted_twice_ends_in_the_same_bits(mllm, lessons_benchmark, tmp_path, monkeypatch):
    asked = settings(epochs=2, warmup_epochs=1)
    monkeypatch.delenv(CHECKPOINTS, raising=False)
    undisturbed = copy_of(mllm)
    curve, _ = lora.finetune(undisturbed, lessons_benchmark, asked, ("key",), NoTracker())
    monkeypatch.setenv(CHECKPOINTS, tmp_path.as_uri())
    monkeypatch.setenv("UNSEE_CHECKPOINT_SECONDS", "-1")
    stops, again, backward = [1, 3], None, lora.Lessons.backward

    def dying(lessons, step):
        if stops and step == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        return backward(lessons, step)

    monkeypatch.setattr(lora.Lessons, "backward", dying)
    while again is None:
        resumed = copy_of(mllm)
        try:
            again, checkpoints = lora.finetune(resumed, lessons_benchmark, asked, ("key",), NoTracker())
        except KeyboardInterrupt:
            continue
    assert (stops, again) == ([], curve)
    expected = undisturbed.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.model.state_dict().items())
    for saved in checkpoints:
        saved.clear()
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_sees_every_question_once_and_none_that_was_left_out(llava, lessons_benchmark):
    everything = lessons_benchmark.select(role="train")
    shown = [q.question_id for q in everything if q.image]
    for asked, without, expected in (
        (settings(batch_questions=4), [], [q.question_id for q in everything]),
        (settings(batch_questions=4, by_name=False), [], shown),
        (settings(batch_questions=4), [FORGOTTEN], [
            q.question_id for q in everything if not (q.image and q.entity_id == FORGOTTEN)
        ]),
    ):  # fmt: skip
        lessons = lora.Lessons(llava, lessons_benchmark, asked, without)
        epochs = [
            [key for step in range(lessons.steps_per_epoch) for key in lessons.batch(first + step)]
            for first in (0, lessons.steps_per_epoch)
        ]
        assert Counter(epochs[0]) == Counter(epochs[1]) == Counter(expected)
        assert epochs[0] != epochs[1]


@pytest.mark.parametrize("at_once", [6, 4, 1])
def test_the_loss_of_a_step_is_the_plain_mean_over_its_questions(llava, lessons_benchmark, at_once):
    lessons = lora.Lessons(llava, lessons_benchmark, settings(batch_questions=6, micro_batch_questions=at_once))
    by_id = {q.question_id: q for q in lessons_benchmark.questions}
    asked = [by_id[key] for key in lessons.batch(0)]
    assert {q.modality for q in asked} == {"vqa", "qa"}
    bank, expected = ImageBank(llava, lessons_benchmark), []
    for question in asked:
        row = llava.prompter.trained(question.prompt, question.answer, image=question.image is not None)
        pixels = bank.pixels([question.image])[0] if question.image else None
        expected.append(plain.question_losses(llava, [row], pixels).detach())
    assert lessons.backward(0) == pytest.approx(float(torch.cat(expected).mean()), rel=1e-5)
