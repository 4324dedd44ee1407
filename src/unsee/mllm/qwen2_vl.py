"""Qwen2-VL: a tower with rotary positions over the image grid, a merger as projector, Qwen2 with multimodal positions.

The family reads images of any size; here all are of one, so that they stack: pixels are [B, 3, H, W] as elsewhere, and
are cut into patches where the tower begins.
"""

from collections.abc import Sequence
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.vision_utils import get_vision_cu_seqlens, get_vision_position_ids

from unsee.errors import UserError
from unsee.mllm.families import Mllm


class Qwen2Vl(Mllm):
    """Qwen2-VL; one image size, the largest square that its image processor allows."""

    model_class = Qwen2VLForConditionalGeneration
    image_processor_class = Qwen2VLImageProcessorPil

    @cached_property
    def side(self) -> int:
        """Patches along each side of an image: `longest_edge` of the image processor's size is an area in pixels."""
        pixels, merge = isqrt(self.image_processor.size["longest_edge"]), self.image_processor.merge_size
        return pixels // (merge * self.image_processor.patch_size) * merge

    @property
    def image_tokens(self) -> int:
        return (self.side // self.image_processor.merge_size) ** 2

    def save_processor(self, directory: Path) -> None:
        self.tokenizer.save_pretrained(directory)
        self.image_processor.save_pretrained(directory)

    @property
    def language_model(self) -> PreTrainedModel:
        return self.model.model.language_model

    @property
    def tower(self) -> PreTrainedModel:
        return self.model.model.visual

    @property
    def projector(self) -> nn.Module:
        return self.tower.merger

    @property
    def tower_layers(self) -> Sequence[Any]:
        return list(self.tower.blocks)

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Preprocessed pixels, float32 [B, 3, H, W].

        Raises:
            UserError: an image's size gives it another grid of patches.
        """
        given = self.image_processor(images=list(images), return_tensors="pt")
        merge, patch = self.image_processor.merge_size, self.image_processor.patch_size
        for image, (_, height, width) in zip(images, given["image_grid_thw"].tolist(), strict=True):
            if (height, width) != (self.side, self.side):
                area = (self.side * patch) ** 2
                raise UserError(
                    f"an image of {image.width} x {image.height} pixels has {width} x {height} patches where all must "
                    f"have {self.side} x {self.side}; crop the images to squares, and set size.shortest_edge to "
                    f"{area - 1} and size.longest_edge to {area + 1} in the model's preprocessor_config.json"
                )
        groups = (len(images), self.side // merge, self.side // merge, merge, merge)
        frames = given["pixel_values"].view(*groups, 3, -1, patch, patch)
        rows = frames[..., 0, :, :].permute(0, 5, 1, 3, 6, 2, 4, 7)
        return rows.reshape(len(images), 3, self.side * patch, self.side * patch)

    def patched(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] as the image processor cuts them, [B * patches, 3 * frames * patch * patch]: patches
        that are merged later stand together, and a picture is a film of equal frames."""
        vision = self.model.config.vision_config
        merge, patch, frames = vision.spatial_merge_size, vision.patch_size, vision.temporal_patch_size
        rows = pixels.unflatten(3, (-1, merge, patch)).unflatten(2, (-1, merge, patch))
        cut = rows.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        return cut.expand(*cut.shape[:6], frames, patch, patch).flatten(5).flatten(0, 4)

    def grid(self, images: int) -> Tensor:
        """Frames, rows and columns of patches of each image, int64 [images, 3]."""
        return torch.tensor([[1, self.side, self.side]]).expand(images, -1)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.tower.patch_embed(self.patched(pixels)).unflatten(0, (len(pixels), -1))

    def run_layers(self, hidden: Tensor, start: int, stop: int | None = None) -> Tensor:
        """Each block as it stands in transformers, except that its MLP sees which tokens are one image's."""
        grid = self.grid(len(hidden))
        bounds = get_vision_cu_seqlens(grid)
        rotary = self.tower.rotary_pos_emb(hidden, get_vision_position_ids(grid, self.tower.spatial_merge_size))
        for block in self.tower_layers[start:stop]:
            attended = block.attn(block.norm1(hidden).flatten(0, 1), cu_seqlens=bounds, position_embeddings=rotary)
            hidden = hidden + attended.view_as(hidden)
            hidden = hidden + block.mlp(block.norm2(hidden))
        return hidden

    def project(self, hidden: Tensor) -> Tensor:
        merger = self.tower.merger
        return merger.mlp(merger.ln_q(hidden).unflatten(1, (self.image_tokens, -1)).flatten(2))

    def image_inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": self.patched(pixels), "image_grid_thw": self.grid(len(pixels))}

    def model_inputs(self, ids: Tensor, pixels: Tensor | None) -> dict[str, Tensor]:
        return {**super().model_inputs(ids, pixels), "mm_token_type_ids": (ids == self.image_token_id).int()}

    def positions(self, prefix: Tensor) -> Tensor:
        """[3, P]: frame, row and column inside an image; text has all three alike."""
        shown = (prefix == self.image_token_id).int()
        return self.model.model.get_rope_index(prefix[None], shown[None], self.grid(1))[0][:, 0]
