"""What cannot change is computed once, and equals the live forward; portraits bring their own questions only."""

import gc

import numpy as np
import pytest
import torch
from float64_pixels import see_in_float64

from unsee.bench import plain
from unsee.benchmark.schema import Benchmark
from unsee.mllm.augmentation import augmented, blended, own_share
from unsee.mllm.packing import answer_tokens
from unsee.mllm.rows import FrozenPrefix, ImageBank, Portraits
from unsee.unlearning.references import reference_features


@pytest.fixture
def mllm(mllm64):
    return see_in_float64(mllm64)


@pytest.fixture
def people(small_benchmark):
    return list(small_benchmark.entities)[:2]


@pytest.fixture
def portraits(mllm, small_benchmark, people):
    return Portraits(mllm, ImageBank(mllm, small_benchmark), small_benchmark, people)


def relative(found, expected):
    return float(((found - expected).norm() / expected.norm()).detach())


def test_pixels_that_no_longer_fit_are_decoded_again(llava, small_benchmark, monkeypatch):
    first, second, third = (f"images/P001/{number:02}.png" for number in range(3))
    decode, decoded = Benchmark.image, []
    monkeypatch.setattr(Benchmark, "image", lambda self, q: decoded.append(q.image) or decode(self, q))
    bank = ImageBank(llava, small_benchmark, kept=2 * 3 * 64 * 64 * 4)
    frames = [bank.frame(image) for image in (first, second, third)]
    before = bank.pixels([first, second])
    decoded.clear()
    bank.pixels([third, second])
    assert torch.equal(bank.pixels([second, first]), before.flip(0))
    assert decoded == [third, first]
    assert [bank.frame(image) for image in (first, second, third)] == frames
    assert decoded == [third, first]


@pytest.mark.parametrize("start", [0, 2, 4])
def test_features_through_cached_layers_equal_the_live_forward(mllm, portraits, start):
    source = FrozenPrefix(mllm, portraits.bank.pixels, start)
    images = portraits.keys
    source.fill(images, batch=4)
    expected = mllm.features(portraits.bank.pixels(images[1:3]))
    assert relative(source.features(images[1:3]), expected) <= 1e-12


def test_features_follow_the_layers_that_are_tuned(mllm, portraits):
    source = FrozenPrefix(mllm, portraits.bank.pixels, 2)
    source.fill(portraits.keys, batch=4)
    before = source.features(portraits.keys[:1])
    with torch.no_grad():
        mllm.tower_mlps()[2].outgoing.weight.mul_(1.5)
    after = source.features(portraits.keys[:1])
    assert relative(after, mllm.features(portraits.bank.pixels(portraits.keys[:1]))) <= 1e-12
    assert relative(after, before) > 1e-3


def test_the_teacher_s_features_are_the_model_s_at_that_time_and_stay(mllm, portraits):
    live = mllm.features(portraits.bank.pixels(portraits.keys)).detach()
    teacher = reference_features(portraits)
    with torch.no_grad():
        mllm.tower_mlps()[3].outgoing.weight.zero_()
    assert list(teacher) == portraits.keys
    assert relative(torch.stack(list(teacher.values())), live) <= 1e-12
    assert not any(features.requires_grad for features in teacher.values())


def test_frozen_layers_see_each_image_once(mllm, portraits):
    seen = []

    def pixels(images):
        seen.extend(images)
        return portraits.bank.pixels(images)

    source = FrozenPrefix(mllm, pixels, 2)
    source.fill(portraits.keys, batch=4)
    assert torch.equal(source.features(portraits.keys[:2]), source.features(portraits.keys[:2]))
    assert seen == portraits.keys


def test_portraits_are_the_people_s_training_images_with_all_their_training_questions(
    portraits, small_benchmark, people
):
    expected = [q for q in small_benchmark.select(role="train", modality="vqa") if q.entity_id in people]
    assert portraits.keys == list(dict.fromkeys(q.image for q in expected))
    assert len(portraits.keys) == 6
    assert sum(len(rows) for rows in portraits.rows.values()) == len(expected)
    heldout = {q.image for q in small_benchmark.select(view="heldout")}
    assert not heldout & set(portraits.keys)


def test_losses_and_token_counts_equal_the_plain_ones(mllm, portraits):
    portraits.rows = {image: rows[: 2 + i] for i, (image, rows) in enumerate(portraits.rows.items())}
    images = portraits.keys[:2]
    with torch.no_grad():
        pixels = portraits.bank.pixels(images)
        outputs = portraits.forward(images)
        for i, image in enumerate(images):
            rows = portraits.rows[image]
            expected = plain.question_losses(mllm, rows, pixels[i])
            torch.testing.assert_close(outputs.losses[i, : len(rows)], expected, rtol=1e-8, atol=0)
            assert answer_tokens(outputs.packed)[i, : len(rows)].tolist() == [len(row.answers[0]) for row in rows]
    assert outputs.weights.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert outputs.keys == tuple(images)


def test_a_version_of_a_portrait_is_the_same_in_every_batch_and_differs_a_little_from_the_others(portraits):
    bank, images = portraits.bank, portraits.keys
    assert torch.equal(augmented(bank, 0, 0)(images), bank.pixels(images))
    first, second = augmented(bank, 0, 1), augmented(bank, 0, 2)
    together = first(images)
    assert torch.equal(together, torch.cat([first([image]) for image in images]))
    for other in (bank.pixels(images), second(images), augmented(bank, 1, 1)(images)):
        assert not torch.equal(together, other)
        assert (together.mean(dim=(2, 3)) - other.mean(dim=(2, 3))).abs().max() < 0.5


def test_a_blend_is_the_same_in_every_batch_and_lies_between_two_portraits(portraits):
    pixels, images = portraits.bank.pixels, portraits.keys
    blends = blended(pixels, images, seed=0, version=0)
    together, own = blends(images), pixels(images)
    assert torch.equal(together, torch.cat([blends([image]) for image in images]))
    for index, blend in enumerate(together):
        between = [
            (torch.minimum(own[index], o) <= blend + 1e-9) & (blend <= torch.maximum(own[index], o) + 1e-9) for o in own
        ]
        assert any(bool(inside.all()) for inside in between)


def test_blends_differ_between_seeds_versions_and_from_the_portraits(portraits):
    pixels, images = portraits.bank.pixels, portraits.keys
    found = [blended(pixels, images, seed, version)(images) for seed, version in [(0, 0), (0, 1), (1, 0)]]
    for one, other in zip(found, [*found[1:], pixels(images)], strict=True):
        assert not torch.equal(one, other)


def test_a_blend_is_laid_over_the_other_or_cut_out_of_it():
    over, above, left = (own_share(0.25, kind, 8, 12)[0] for kind in ("over", "above", "left"))
    assert torch.equal(over, torch.full((8, 12), 0.25))
    assert torch.equal(above, torch.tensor([1.0] * 2 + [0.0] * 6)[:, None].expand(8, 12))
    assert torch.equal(left, torch.tensor([1.0] * 3 + [0.0] * 9).expand(8, 12))


def test_what_a_blend_is_made_of_is_drawn_from_seed_and_version_and_no_picture_is_kept(portraits):
    bank, images = portraits.bank, portraits.keys
    own = bank.pixels(images)
    alive = sum(type(found) is torch.Tensor for found in gc.get_objects())
    blends = blended(bank.pixels, images, seed=3, version=1)
    assert sum(type(found) is torch.Tensor for found in gc.get_objects()) == alive
    rng = np.random.default_rng([3, 1, 1])
    others = rng.choice(images, len(images)).tolist()
    for image, portrait, other in zip(images, own, bank.pixels(others), strict=True):
        share, kind = rng.uniform(), rng.choice(["over", "over", "above", "left"])
        part = own_share(share, kind, *portrait.shape[-2:]).to(portrait)
        assert torch.equal(blends([image])[0], part * portrait + (1 - part) * other)
