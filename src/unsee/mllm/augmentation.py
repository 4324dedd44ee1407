"""Augmented portraits: shifted, turned and tinted, and blends of two; always the picture, never one tile of it."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from unsee.mllm.rows import ImageBank, Pixels, alike, usual

BLENDS = 1
"""Keeps their random numbers apart from those of the portraits' versions."""


def augmented_as_one(bank: ImageBank, images: Sequence[str], rng: np.random.Generator) -> Tensor:
    """Images of one frame shifted and tinted as `augment` does; the pictures of one image all alike."""
    before, drawn = deepcopy(rng), iter([rng])
    return bank.on_pictures(
        images[0], bank.pixels(images), lambda picture: augment(picture, next(drawn, None) or deepcopy(before))
    )


def augment(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift the batch by up to 2 pixels, and change every image's contrast and tint a little."""
    shift = tuple(rng.integers(-2, 3, 2).tolist())
    gain = torch.from_numpy(rng.uniform(0.95, 1.05, (len(pixels), 1, 1, 1))).float()
    tint = torch.from_numpy(rng.uniform(-0.05, 0.05, (len(pixels), 3, 1, 1))).float()
    return torch.roll(pixels, shift, dims=(2, 3)) * gain + tint


def augmented(bank: ImageBank, seed: int, version: int) -> Pixels:
    """The portraits as they are (version 0), or each a little tilted, scaled, shifted and tinted, always alike."""
    if version == 0:
        return bank.pixels

    def pixels(images: Sequence[str]) -> Tensor:
        return torch.cat([bank.on_pictures(image, bank.pixels([image]), partial(changed, image)) for image in images])

    def changed(image: str, picture: Tensor) -> Tensor:
        rng = np.random.default_rng([seed, version, crc32(image.encode())])
        return augment(turned(picture, rng), rng)

    return pixels


def blended(pixels: Pixels, images: Sequence[str], seed: int, version: int, bank: ImageBank | None = None) -> Pixels:
    """Each of `images` with a part of one drawn from those of its frame, always alike; that may be of the same person,
    or itself. bank: where the frames are known (None: all are the usual one)."""
    rng = np.random.default_rng([seed, version, BLENDS])
    groups = alike(images, bank.frame if bank else usual)
    others = {image: other for g in groups for image, other in zip(g, rng.choice(g, len(g)).tolist(), strict=True)}
    cuts = {image: (rng.uniform(), rng.choice(["over", "over", "above", "left"])) for image in images}

    def blends(chosen: Sequence[str]) -> Tensor:
        own, other = pixels(chosen), pixels([others[image] for image in chosen])
        share = torch.cat([shares(image, one[None]) for image, one in zip(chosen, own, strict=True)])
        return share * own + (1 - share) * other

    def shares(image: str, shown: Tensor) -> Tensor:
        def share(picture: Tensor) -> Tensor:
            return own_share(*cuts[image], *picture.shape[-2:]).to(picture).expand_as(picture)

        return bank.on_pictures(image, shown, share) if bank else share(shown)

    return blends


def own_share(share: float, kind: str, height: int, width: int) -> Tensor:
    """How much of each pixel of a blend is its own, [1, H, W]: alike everywhere, or all above or left of a cut."""
    shares = torch.zeros(1, height, width)
    if kind == "over":
        shares += share
    elif kind == "above":
        shares[:, : round(share * height)] = 1
    else:
        shares[..., : round(share * width)] = 1
    return shares


def turned(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """[1, 3, H, W] tilted by up to 7 degrees and scaled by up to 8 %, as another photograph would be."""
    angle, scale = np.radians(rng.uniform(-7, 7)), rng.uniform(0.92, 1.08)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    matrix = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]], dtype=pixels.dtype)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
