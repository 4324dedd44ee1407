"""Answers and scores equal transformers' own: greedy generation and log-likelihood on one row per question."""

import copy

import pytest
import torch
from float64_pixels import see_in_float64
from unlearning_work import copy_of

from unsee.bench import plain
from unsee.bench.float64 import to_float64
from unsee.benchmark.schema import Question
from unsee.errors import TrainingFailure
from unsee.evaluation.asking import TEXT_ROW, Asked, Examiner, batches
from unsee.mllm import checkpoint
from unsee.mllm.rows import ImageBank
from unsee.settings import SHIPPED_BASE


@pytest.fixture(scope="module", params=["llava", "qwen2_vl"])
def base(request, fresh):
    """The shipped base model in float64, which has learnt to answer, and to stop; and a Qwen2-VL, which has not."""
    mllm = checkpoint.load_full(SHIPPED_BASE) if request.param == "llava" else copy_of(fresh[request.param])
    to_float64(mllm)
    return see_in_float64(mllm)


@pytest.fixture(scope="module")
def bank(base, small_benchmark):
    return ImageBank(base, small_benchmark)


@pytest.fixture(scope="module")
def asked(small_benchmark):
    """Questions of all tasks, about portraits and by name, of three people who are known and one who is not."""
    people = [*list(small_benchmark.realworld)[:3], "P001"]
    questions = [q for q in small_benchmark.select(role="eval") if q.entity_id in sorted(people)]
    chosen = [q for q in questions if q.view != "train"][::4]
    assert {q.task for q in chosen} == {"classification", "generation", "cloze"}
    assert {q.modality for q in chosen} == {"vqa", "qa"}
    return [Asked(q, q.modality, q.image) for q in chosen]


@torch.no_grad()
def generate(mllm, bank, item, longest):
    """transformers' generate with its own attention on one row."""
    prompt = mllm.prompter.asked(item.question.prompt, image=item.image is not None)
    ids = torch.tensor([prompt])
    inputs = mllm.model_inputs(ids, None if item.image is None else bank.pixels([item.image]))
    written = mllm.model.generate(
        **inputs, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=longest,
        pad_token_id=mllm.pad, eos_token_id=mllm.tokenizer.eos_token_id,
    )  # fmt: skip
    return mllm.tokenizer.decode(written[0, len(prompt) :], skip_special_tokens=True).strip()


@pytest.fixture(scope="module")
def stock(base):
    """The same weights in a model that never heard of packing."""
    model = base.model_class(copy.deepcopy(base.model.config)).double().eval()
    model.load_state_dict(base.model.state_dict())
    mllm = type(base)(model, base.tokenizer, base.image_processor)
    model.set_attn_implementation("sdpa")
    to_float64(mllm)
    return mllm


@pytest.mark.parametrize("batch_images", [1, 3])
def test_greedy_answers_are_transformers_own(base, bank, stock, asked, batch_images):
    found = Examiner(base, bank.pixels, batch_images).answers(asked)
    trained = [base.prompter.trained(a.question.prompt, a.question.answer, image=False) for a in asked]
    longest = max(len(rendered.answers[0]) for rendered in trained) + 4
    assert found == [generate(stock, bank, item, longest) for item in asked]
    assert len(set(found)) > 5


def choices(asked):
    return [item for item in asked if item.question.options]


@pytest.mark.parametrize("batch_images", [1, 3])
def test_option_scores_are_plain_mean_log_probabilities(base, bank, stock, asked, batch_images):
    items = choices(asked)
    found = Examiner(base, bank.pixels, batch_images).scores(items)
    for item, scores in zip(items, found, strict=True):
        rendered = stock.prompter.scored(item.question.prompt, item.question.options, image=item.image is not None)
        pixels = None if item.image is None else bank.pixels([item.image])[0]
        with torch.no_grad():
            expected = plain.option_scores(stock, [rendered], pixels)[0]
        assert scores == pytest.approx(expected, rel=1e-8)


def test_in_letter_mode_options_are_listed_and_their_letters_scored(base, bank, stock, asked):
    items = choices(asked)[:3]
    examiner = Examiner(base, bank.pixels, 2, choice="letter")
    first = items[0].question
    prompt = examiner.prompt(first)
    listed = "".join(f"\n{letter}: {option}" for letter, option in zip("ABCD", first.options, strict=True))
    assert prompt == f"{first.prompt}{listed}\nJust give ONE letter representing the answer directly."
    for item, scores in zip(items, examiner.scores(items), strict=True):
        rendered = stock.prompter.scored(
            examiner.prompt(item.question), ["A", "B", "C", "D"], image=item.image is not None
        )
        pixels = None if item.image is None else bank.pixels([item.image])[0]
        with torch.no_grad():
            assert scores == pytest.approx(plain.option_scores(stock, [rendered], pixels)[0], rel=1e-8)


def test_open_questions_are_asked_as_they_stand_in_either_mode(base, bank, asked):
    (question, *_) = [item.question for item in asked if not item.question.options]
    assert Examiner(base, bank.pixels, 2, choice="letter").prompt(question) == question.prompt
    assert Examiner(base, bank.pixels, 2).prompt(question) == question.prompt


def test_a_question_is_answered_from_the_image_it_is_shown_with(base, bank, small_benchmark):
    """The same prompt with two known people's portraits, and none of it left out."""
    portraits = {q.entity_id: q for q in small_benchmark.select(role="eval", view="heldout", task="classification")}
    first, second = (portraits[i] for i in sorted(small_benchmark.realworld)[:2])
    examiner = Examiner(base, bank.pixels, 4)
    scores = examiner.scores(
        [Asked(first, "vqa", first.image), Asked(first, "vqa", second.image), Asked(first, "qa", None)]
    )
    assert len({tuple(row) for row in scores}) == 3


def test_a_model_whose_scores_are_no_numbers_is_not_taken_for_guessing(mllm, small_benchmark):
    (item, *_) = [Asked(q, q.modality, q.image) for q in small_benchmark.select(role="eval", task="classification")]
    with torch.no_grad():
        mllm.head.weight.fill_(torch.nan)
    with pytest.raises(TrainingFailure, match=rf"question {item.question.question_id} with \[nan.*weights are broken"):
        Examiner(mllm, ImageBank(mllm, small_benchmark).pixels, 1).scores([item])


def test_asking_needs_no_gradients(base, bank, asked):
    with torch.enable_grad():
        Examiner(base, bank.pixels, 2).scores(choices(asked)[:1])
    assert all(parameter.grad is None for parameter in base.model.parameters())


def question(number, image):
    return Asked(
        Question(
            question_id=str(number), entity_id="P", entity_name="P", split="forget", role="eval", view=None,
            modality="vqa" if image else "qa", task="cloze", image=image, prompt="?", options=None, answer="!",
            answer_index=None,
        ),
        "vqa" if image else "qa",
        image,
    )  # fmt: skip


def test_rows_share_one_image_and_every_question_keeps_its_place():
    images = [None, "a", "b", "a", None, "c", "b"] * 20
    items = [question(i, image) for i, image in enumerate(images)]
    rows = [row for batch in batches(items, 2) for row in batch]
    assert all(len(batch) <= 2 for batch in batches(items, 2))
    assert sorted(place for row in rows for place in row.places) == list(range(len(items)))
    for row in rows:
        assert {item.image for item in row.asked} == {row.image}
        assert [items[place] for place in row.places] == row.asked
    assert sorted(str(row.image) for row in rows if row.image) == ["a", "b", "c"]
    assert [len(row.asked) for row in rows if row.image is None] == [TEXT_ROW, 40 - TEXT_ROW]


def test_nothing_asked_is_nothing_answered(base, bank):
    examiner = Examiner(base, bank.pixels, 2)
    assert examiner.answers([]) == []
    assert examiner.scores([]) == []
