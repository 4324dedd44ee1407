"""The packed forward equals the plain one: transformers' stock forward on one row per question."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.bench import plain
from unsee.benchmark.schema import Benchmark
from unsee.mllm.families import Mllm
from unsee.mllm.packing import (
    Layout,
    image_losses,
    option_scores,
    pack_options,
    pack_training,
    question_losses,
)
from unsee.mllm.prompts import Rendered
from unsee.mllm.rows import ImageBank

TOLERANCE = 1e-8  # relative, in float64


def _rows(mllm: Mllm, benchmark: Benchmark, *, images: int) -> tuple[list[str], list[list[Rendered]]]:
    """Images with unequal numbers of questions of unequal lengths, and their training rows."""
    questions = benchmark.select(role="train", modality="vqa")
    paths = list(dict.fromkeys(q.image for q in questions))[:images]
    rows = [
        [mllm.prompter.trained(q.prompt, q.answer, image=True) for q in questions if q.image == path][: 6 + 2 * i]
        for i, path in enumerate(paths)
    ]
    return paths, rows


def _gradients(mllm: Mllm, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    mllm.model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in mllm.model.named_parameters() if p.grad is not None}


def test_packed_losses_and_all_gradients_equal_one_row_per_question(mllm64: Mllm, small_benchmark: Benchmark):
    paths, rows = _rows(mllm64, small_benchmark, images=3)
    pixels = ImageBank(mllm64, small_benchmark).pixels(paths).double()

    packed = pack_training(rows, mllm64.pad)
    losses = question_losses(mllm64.head, mllm64.hidden(packed, mllm64.features(pixels)), packed)
    packed_loss = image_losses(losses, packed.weights).mean()
    packed_gradients = _gradients(mllm64, packed_loss)

    plain_losses = [plain.question_losses(mllm64, row, image) for row, image in zip(rows, pixels, strict=True)]
    plain_loss = torch.stack([x.mean() for x in plain_losses]).mean()
    plain_gradients = _gradients(mllm64, plain_loss)

    for i, expected in enumerate(plain_losses):
        torch.testing.assert_close(losses[i, : len(expected)], expected, rtol=TOLERANCE, atol=0)
    torch.testing.assert_close(packed_loss, plain_loss, rtol=TOLERANCE, atol=0)
    assert packed_gradients.keys() == plain_gradients.keys()
    expected = torch.cat([g.flatten() for g in plain_gradients.values()])
    found = torch.cat([packed_gradients[name].flatten() for name in plain_gradients])
    assert (found - expected).norm() / expected.norm() < TOLERANCE


def test_text_rows_without_an_image_equal_one_row_per_question(mllm64: Mllm, small_benchmark: Benchmark):
    questions = small_benchmark.select(role="train", modality="qa")[:20]
    row = [mllm64.prompter.trained(q.prompt, q.answer, image=False) for q in questions]
    packed = pack_training([row], mllm64.pad)
    losses = question_losses(mllm64.head, mllm64.hidden(packed, None), packed)
    torch.testing.assert_close(losses[0], plain.question_losses(mllm64, row, None), rtol=TOLERANCE, atol=0)


def test_option_trees_score_as_one_row_per_option(mllm64: Mllm, small_benchmark: Benchmark):
    questions = small_benchmark.select(role="eval", modality="vqa", task="classification")
    paths = list(dict.fromkeys(q.image for q in questions))[:2]
    rows = [
        [mllm64.prompter.scored(q.prompt, q.options, image=True) for q in questions if q.image == path]
        for path in paths
    ]
    rows[1] = rows[1][:4]
    pixels = ImageBank(mllm64, small_benchmark).pixels(paths).double()
    with torch.no_grad():
        packed = pack_options(rows, mllm64.pad)
        scores = option_scores(mllm64.head, mllm64.hidden(packed, mllm64.features(pixels)), packed)
        for i, (row, image) in enumerate(zip(rows, pixels, strict=True)):
            expected = torch.tensor(plain.option_scores(mllm64, row, image), dtype=torch.float64)
            torch.testing.assert_close(scores[i, : len(row)], expected, rtol=TOLERANCE, atol=0)


def test_missing_options_score_minus_infinity(mllm: Mllm):
    rendered = [mllm.prompter.scored("Who?", options, image=False) for options in (["a b", "c"], ["x", "y z", "w"])]
    packed = pack_options([rendered], mllm.pad)
    with torch.no_grad():
        scores = option_scores(mllm.head, mllm.hidden(packed, None), packed)
    assert torch.isfinite(scores[0, 1]).all()
    assert torch.isneginf(scores[0, 0, 2])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=5), min_size=1, max_size=4), st.integers(1, 6))
def test_layout_places_every_token_once_and_shows_only_its_own_past(lengths: list[list[int]], prefix: int):
    blocks = max(map(len, lengths))
    layout = Layout.of(prefix, torch.tensor([row + [0] * (blocks - len(row)) for row in lengths]))
    for b, row in enumerate(lengths):
        place = 0
        for q, length in enumerate(row):
            for offset in range(length):
                assert layout.slots[b, q, offset] == place
                assert (layout.blocks[b, place], layout.offsets[b, place]) == (q, offset)
                assert layout.visible[b, q, offset].nonzero().flatten().tolist() == list(range(offset + 1))
                place += 1


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0]])
def test_the_order_of_questions_and_images_does_not_matter(mllm64: Mllm, small_benchmark: Benchmark, order: list[int]):
    paths, rows = _rows(mllm64, small_benchmark, images=3)
    pixels = ImageBank(mllm64, small_benchmark).pixels(paths).double()

    def losses(images: list[int], reverse: bool) -> list[torch.Tensor]:
        chosen = [rows[i][::-1] if reverse else rows[i] for i in images]
        packed = pack_training(chosen, mllm64.pad)
        found = question_losses(mllm64.head, mllm64.hidden(packed, mllm64.features(pixels[images])), packed)
        return [f[: len(c)].flip(0) if reverse else f[: len(c)] for f, c in zip(found, chosen, strict=True)]

    straight, turned = losses([0, 1, 2], reverse=False), losses(order, reverse=True)
    for position, image in enumerate(order):
        torch.testing.assert_close(turned[position], straight[image], rtol=TOLERANCE, atol=0)
