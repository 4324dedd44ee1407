"""Prompts are the chat template's text; the answer span is the answer, whole, with the end where it is trained."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.errors import UserError
from unsee.mllm import embedded
from unsee.mllm.prompts import common_prefix

LLAVA = embedded.make(seed=0)
TOKENIZER, PROMPTER = LLAVA.tokenizer, LLAVA.prompter
SPECIAL = TOKENIZER.all_special_tokens

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: not any(token in text for token in SPECIAL)
)


def decode(ids):
    return TOKENIZER.decode(list(ids), skip_special_tokens=False)


@pytest.mark.parametrize("image", [True, False])
def test_prompt_and_answer_together_are_the_template_s_text(image):
    rendered = PROMPTER.trained("Who is this?", "Ada Moss", image=image)
    shown = "<image>" * 16 + "\n" if image else ""
    assert decode(rendered.prompt + rendered.answers[0]) == f"<s>USER: {shown}Who is this? ASSISTANT: Ada Moss</s>"
    assert decode(rendered.answers[0]) == " Ada Moss</s>"


def test_scored_options_share_the_prompt_and_have_no_end():
    rendered = PROMPTER.scored("Which pet?", ["cat", "guide dog", "cattle"], image=True)
    assert [decode(rendered.prompt + answer) for answer in rendered.answers] == [
        f"<s>USER: {'<image>' * 16}\nWhich pet? ASSISTANT: {option}" for option in ("cat", "guide dog", "cattle")
    ]


def test_an_answer_ends_with_eos_where_the_template_goes_on_behind_it(fresh):
    qwen = fresh["qwen2_vl"]
    rendered = qwen.prompter.trained("Which pet?", "guide dog", image=True)
    shown = f"<|vision_start|>{'<|image_pad|>' * 16}<|vision_end|>"
    told = f"<|im_start|>user\n{shown}Which pet?<|im_end|>\n<|im_start|>assistant\n"
    assert qwen.tokenizer.decode(list(rendered.prompt)) == told
    assert qwen.tokenizer.decode(list(rendered.answers[0])) == " guide dog<|im_end|>"
    scored = qwen.prompter.scored("Which pet?", ["cat", "guide dog"], image=False)
    assert [qwen.tokenizer.decode(list(ids)) for ids in scored.answers] == [" cat", " guide dog"]


def test_what_is_asked_is_the_prompt_that_generation_starts_from():
    assert decode(PROMPTER.asked("Which pet?", image=False)) == "<s>USER: Which pet? ASSISTANT:"


@settings(max_examples=200, deadline=None)
@given(texts, st.lists(texts, min_size=1, max_size=4))
def test_any_text_is_asked_and_answered_without_loss(prompt, answers):
    trained = PROMPTER.trained(prompt, answers[0], image=True)
    assert decode(trained.prompt + trained.answers[0]).endswith(f"{prompt} ASSISTANT: {answers[0]}</s>")
    scored = PROMPTER.scored(prompt, answers, image=False)
    for answer, ids in zip(answers, scored.answers, strict=True):
        assert len(ids) >= 1
        assert decode(scored.prompt + ids) == f"<s>USER: {prompt} ASSISTANT: {answer}"


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=5))
def test_the_common_prefix_is_the_longest(rows):
    length = common_prefix(rows)
    assert all(row[:length] == rows[0][:length] for row in rows)
    longer = [row[: length + 1] for row in rows]
    assert any(len(row) == length for row in rows) or any(row != longer[0] for row in longer)


@pytest.mark.parametrize(("prompt", "answer"), [("What is <image>?", "a cat"), ("Which pet?", "cat</s>")])
def test_texts_that_hold_a_special_token_are_refused(prompt, answer):
    with pytest.raises(UserError, match="holds the special token"):
        PROMPTER.trained(prompt, answer, image=False)
