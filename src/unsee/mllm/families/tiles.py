"""Families that show an image as several views of one size: tiles, in rows and columns, and the whole picture.

Pixels of an image are its views, one below the other: [3, views * side, side].
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unsee.mllm.families.base import Frame, Mllm


class Tiled(Mllm):
    """The tower looks at each view alone; hidden states are [B, views, tokens, width]. A frame is rows and columns of
    tiles, unless a family says otherwise."""

    whole_first = False

    @property
    def usual_frame(self) -> Frame:
        return 0, 0

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles; (0, 0): there is the whole picture only."""
        rows, columns = self.frame
        return rows, columns

    @property
    def side(self) -> int:
        """Pixels along a view."""
        return self.model.config.vision_config.image_size

    @property
    def views(self) -> int:
        """How many views an image has."""
        rows, columns = self.tiles
        return rows * columns + 1

    def cut(self, pixels: Tensor) -> Tensor:
        """[B * views, 3, side, side] from pixels."""
        return pixels.unflatten(2, (self.views, self.side)).transpose(1, 2).flatten(0, 1)

    def stacked(self, views: Tensor) -> Tensor:
        """Pixels from [B * views, 3, side, side]."""
        return views.unflatten(0, (-1, self.views)).transpose(1, 2).flatten(2, 3)

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        return self.stacked(super().pixels(images).flatten(0, -4))

    def on_pictures(self, pixels: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Changes what the tiles make up, and the whole picture."""
        rows, columns = self.tiles
        views = self.cut(pixels).unflatten(0, (-1, self.views))
        whole, tiles = (views[:, :1], views[:, 1:]) if self.whole_first else (views[:, -1:], views[:, :-1])
        whole = change(whole[:, 0])[:, None]
        if rows:
            joined = tiles.unflatten(1, self.tiles).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
            parts = change(joined).unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
            tiles = parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        return self.stacked(torch.cat([whole, tiles] if self.whole_first else [tiles, whole], dim=1).flatten(0, 1))

    def embed(self, pixels: Tensor) -> Tensor:
        return super().embed(self.cut(pixels)).unflatten(0, (-1, self.views))

    def run_layers(self, hidden: Tensor, start: int, stop: int | None = None) -> Tensor:
        return super().run_layers(hidden.flatten(0, 1), start, stop).unflatten(0, (-1, self.views))

    def image_inputs(self, pixels: Tensor) -> dict[str, Any]:
        return {"pixel_values": self.cut(pixels)}
