"""Every family: packed rows equal the model's own forward, one row per question, in float64 to 1e-8."""

from copy import copy
from functools import partial
from statistics import fmean

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from unsee.evaluation.asking import Asked, Examiner
from unsee.mllm.lora import Lessons, additions, attach
from unsee.mllm.packing import answer_logits, option_scores, pack_options, pack_training
from unsee.mllm.rows import Portraits, alike, mean_loss, rendered
from unsee.sections import LoraSettings

EXACT = {"rtol": 1e-8, "atol": 1e-8}


@pytest.fixture
def groups(bank, faces):
    """Portraits of one frame each: two and two."""
    found = [group[:2] for group in alike(faces, bank.frame)]
    assert {len(group) for group in found} == {2}
    return found


def pixels_of(bank, images):
    return bank.pixels(images).double()


def texts(benchmark, image, count):
    """Questions about an image, of unequal lengths, and about others by name."""
    own = [q for q in benchmark.questions if q.image == image and q.options]
    named = [q for q in benchmark.select(role="eval", modality="qa") if q.options]
    return (own + named)[:count]


def own_logits(mllm, rendered, answer, pixels):
    """At every token of one answer [T, V], from transformers' own forward with its eager attention."""
    prompt = len(rendered.prompt)
    inputs = mllm.model_inputs(torch.tensor([rendered.prompt + answer]), pixels, torch.tensor([prompt]))
    mllm.language_model.set_attn_implementation("eager")
    logits = mllm.model(**inputs, use_cache=False).logits[0, prompt - 1 : -1]
    mllm.language_model.set_attn_implementation("unsee_packed")
    return logits


def own_features(mllm, pixels):
    """[B, N, D] as transformers has them, what enters later layers of the LLM in the last axis too."""
    seen = mllm.model.get_image_features(**mllm.image_inputs(pixels))
    parts = [seen.pooler_output, *(seen.deepstack_features if "deepstack_features" in seen else [])]
    joined = [part if isinstance(part, torch.Tensor) else torch.cat(list(part)) for part in parts]
    return torch.cat([part.reshape(len(pixels), -1, part.shape[-1]) for part in joined], dim=-1)


def test_features_are_transformers_own_at_every_frame(mllm64, bank, groups):
    for images in groups:
        mllm, pixels = mllm64.at(bank.frame(images[0])), pixels_of(bank, images)
        with torch.no_grad():
            features, expected = mllm.features(pixels), own_features(mllm, pixels)
        torch.testing.assert_close(features, expected, **EXACT)
        assert features.shape[1] == mllm.image_tokens
        assert not torch.allclose(features[0], features[1], rtol=1e-2)


def test_packed_logits_equal_the_model_s_own_forward_per_question(mllm64, bank, groups, two_shapes):
    for images in groups:
        mllm, pixels = mllm64.at(bank.frame(images[0])), pixels_of(bank, images)
        rows = [
            [mllm.prompter.trained(q.prompt, q.answer, image=True) for q in texts(two_shapes, image, 3 + n)]
            for n, image in enumerate(images)
        ]
        packed = pack_training(rows, mllm.pad)
        with torch.no_grad():
            found = answer_logits(mllm.head, mllm.hidden(packed, mllm.features(pixels)))
            expected = [
                own_logits(mllm, rendered, rendered.answers[0], shown[None])
                for row, shown in zip(rows, pixels, strict=True)
                for rendered in row
            ]
        torch.testing.assert_close(found, torch.cat(expected), **EXACT)


def test_packed_logits_by_name_equal_the_model_s_own_forward(mllm64, two_shapes):
    asked = two_shapes.select(role="train", modality="qa")[:4]
    row = [mllm64.prompter.trained(q.prompt, q.answer, image=False) for q in asked]
    with torch.no_grad():
        found = answer_logits(mllm64.head, mllm64.hidden(pack_training([row], mllm64.pad), None))
        expected = [own_logits(mllm64, rendered, rendered.answers[0], None) for rendered in row]
    torch.testing.assert_close(found, torch.cat(expected), **EXACT)


def test_option_trees_score_as_one_row_per_option(mllm64, bank, groups, two_shapes):
    images = groups[-1]
    mllm, pixels = mllm64.at(bank.frame(images[0])), pixels_of(bank, images)
    rows = [
        [mllm.prompter.scored(q.prompt, q.options, image=True) for q in texts(two_shapes, image, 1 + n)]
        for n, image in enumerate(images)
    ]
    packed = pack_options(rows, mllm.pad)
    with torch.no_grad():
        found = option_scores(mllm.head, mllm.hidden(packed, mllm.features(pixels)), packed)
        for b, row in enumerate(rows):
            for q, rendered in enumerate(row):
                for o, ids in enumerate(rendered.answers):
                    logs = own_logits(mllm, rendered, ids, pixels[b : b + 1]).log_softmax(dim=-1)
                    expected = logs.gather(1, torch.tensor(ids)[:, None]).mean()
                    torch.testing.assert_close(found[b, q, o], expected, **EXACT)


def test_gradients_of_the_tunable_tensors_equal_the_plain_ones(mllm64, bank, groups, two_shapes):
    images = groups[0]
    mllm, pixels = mllm64.at(bank.frame(images[0])), pixels_of(bank, images)
    rows = [[mllm.prompter.trained(q.prompt, q.answer, image=True) for q in texts(two_shapes, i, 2)] for i in images]
    tuned = list(mllm.visual_parameters(None).values())
    packed = pack_training(rows, mllm.pad)
    weights = torch.randn(mllm.head(torch.zeros(1, 32).double()).shape[-1], dtype=torch.float64)
    found = (answer_logits(mllm.head, mllm.hidden(packed, mllm.features(pixels))) @ weights).sum()
    expected = torch.stack(
        [
            (own_logits(mllm, rendered, rendered.answers[0], shown[None]) @ weights).sum()
            for row, shown in zip(rows, pixels, strict=True)
            for rendered in row
        ]
    ).sum()
    for one, other in zip(torch.autograd.grad(found, tuned), torch.autograd.grad(expected, tuned), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8 * float(other.abs().max()))
        assert other.any()


def test_a_batch_of_several_frames_has_the_mean_loss_of_its_portraits(mllm64, bank, two_shapes):
    bank.pixels = partial(pixels_of, copy(bank))
    portraits = Portraits(mllm64, bank, two_shapes, two_shapes.entities)
    chunks = portraits.chunks(portraits.keys, 3)
    assert sorted(key for chunk in chunks for key in chunk) == sorted(portraits.keys)
    assert all(len({bank.frame(key) for key in chunk}) == 1 and len(chunk) <= 3 for chunk in chunks)
    with torch.no_grad():
        found = sum(len(chunk) * mean_loss(portraits.forward(chunk)) for chunk in chunks)
        expected = sum(mean_loss(portraits.forward([key])) for key in portraits.keys)
    torch.testing.assert_close(found, expected, **EXACT)


def test_lora_s_step_has_the_mean_loss_of_its_questions_in_the_merged_model(mllm, bank, faces, two_shapes):
    settings = LoraSettings(
        base="", rank=1, alpha=1, dropout=0, epochs=1, warmup_epochs=0, batch_questions=8, micro_batch_questions=8,
        by_name=True, learning_rate=1e-3, weight_decay=0, compute={"threads": 1}, seed=0,
    )  # fmt: skip
    lessons, by_id = Lessons(mllm, two_shapes, settings), {q.question_id: q for q in two_shapes.questions}
    asked = [by_id[key] for key in lessons.batch(0)]
    assert {bank.frame(q.image) for q in asked if q.image} == {bank.frame(image) for image in faces}
    adapted = attach(mllm.language_model, settings.rank, settings.alpha, seed=0)
    for name, addition in additions(mllm).items():
        nn.init.normal_(addition, std=0.3 if ".lora_B." in name else 1)
    found = lessons.backward(0)
    adapted.merge_and_unload()
    expected = []
    for question in asked:
        at = mllm if question.image is None else mllm.at(bank.frame(question.image))
        row = rendered(at, question)
        logits = own_logits(at, row, row.answers[0], bank.pixels([question.image]) if question.image else None)
        expected.append(cross_entropy(logits, torch.tensor(row.answers[0])).item())
    assert found == pytest.approx(fmean(expected), rel=1e-4)


def test_greedy_answers_are_transformers_own(mllm64, bank, groups, two_shapes):
    images = [image for group in groups for image in group[:1]]
    asked = [Asked(q, "vqa", image) for image in images for q in texts(two_shapes, image, 2)]
    asked += [Asked(q, "qa", None) for q in two_shapes.select(role="eval", modality="qa")[:2]]
    found = Examiner(mllm64, lambda paths: pixels_of(bank, paths), 4, frame=bank.frame).answers(asked)
    for item, text in zip(asked, found, strict=True):
        mllm = mllm64 if item.image is None else mllm64.at(bank.frame(item.image))
        prompt = mllm.prompter.asked(item.question.prompt, image=item.image is not None)
        inputs = mllm.model_inputs(
            torch.tensor([prompt]), None if item.image is None else pixels_of(bank, [item.image])
        )
        with torch.no_grad():
            mllm.language_model.set_attn_implementation("eager")
            written = mllm.model.generate(
                **inputs, attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
                max_new_tokens=12, pad_token_id=mllm.pad, eos_token_id=mllm.tokenizer.eos_token_id,
            )  # fmt: skip
            mllm.language_model.set_attn_implementation("unsee_packed")
        expected = mllm.tokenizer.decode(written[0, len(prompt) :], skip_special_tokens=True).strip()
        assert text[: len(expected)] == expected[: len(text)]
        assert text
