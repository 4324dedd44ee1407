"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: towers with rotary positions over an image's grid of patches, mergers as
projectors, LLMs with multimodal positions.

Pixels are [B, 3, H, W] as elsewhere, and are cut into patches where the tower begins. A frame is rows and columns of
patches.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize
from transformers.vision_utils import (
    get_vision_cu_seqlens,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

from unsee.errors import UserError
from unsee.mllm.families.base import Frame, Mllm


class Qwen2Vl(Mllm):
    """Qwen2-VL."""

    model_class = Qwen2VLForConditionalGeneration
    image_processor_class = Qwen2VLImageProcessorPil
    tower_name = "model.visual"
    projector_name = "model.visual.merger"
    layers_name = "blocks"

    @property
    def usual_frame(self) -> Frame:
        """The largest square that the image processor allows: `longest_edge` of its size is an area in pixels."""
        pixels, merge = isqrt(self.image_processor.size["longest_edge"]), self.image_processor.merge_size
        side = pixels // (merge * self.image_processor.patch_size) * merge
        return side, side

    def frame_of(self, width: int, height: int) -> Frame:
        patch, size = self.image_processor.patch_size, self.image_processor.size
        factor = patch * self.image_processor.merge_size
        height, width = smart_resize(height, width, factor, size["shortest_edge"], size["longest_edge"])
        return height // patch, width // patch

    @property
    def image_tokens(self) -> int:
        rows, columns = self.frame
        return rows * columns // self.image_processor.merge_size**2

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Preprocessed pixels, float32 [B, 3, H, W].

        Raises:
            UserError: an image's size gives it another frame.
        """
        given = self.image_processor(images=list(images), return_tensors="pt")
        merge, patch = self.image_processor.merge_size, self.image_processor.patch_size
        rows, columns = self.frame
        for image, (_, *found) in zip(images, given["image_grid_thw"].tolist(), strict=True):
            if found != [rows, columns]:
                raise UserError(
                    f"an image of {image.width} x {image.height} pixels has {found[1]} x {found[0]} patches where all "
                    f"must have {columns} x {rows}; crop it, or take the model at its frame"
                )
        groups = (len(images), rows // merge, columns // merge, merge, merge)
        frames = given["pixel_values"].view(*groups, 3, -1, patch, patch)
        shown = frames[..., 0, :, :].permute(0, 5, 1, 3, 6, 2, 4, 7)
        return shown.reshape(len(images), 3, rows * patch, columns * patch)

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
        return torch.tensor([[1, *self.frame]]).expand(images, -1)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.tower.patch_embed(self.patched(pixels)).unflatten(0, (len(pixels), -1))

    def turns(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the tower's rotary positions, for images [B, patches, width]."""
        positions = get_vision_position_ids(self.grid(len(hidden)), self.tower.spatial_merge_size)
        return self.tower.rotary_pos_emb(hidden, positions.to(hidden.device))

    def run_layers(self, hidden: Tensor, start: int, stop: int | None = None) -> Tensor:
        """Each block as it stands in transformers, except that its MLP sees which tokens are one image's."""
        bounds, turns = get_vision_cu_seqlens(self.grid(len(hidden))), self.turns(hidden)
        for block in self.tower_layers[start:stop]:
            hidden = self.run(_through, block, hidden, bounds, turns)
        return hidden

    def project(self, hidden: Tensor) -> Tensor:
        merger = self.tower.merger
        return merger.mlp(merger.ln_q(hidden).unflatten(1, (self.image_tokens, -1)).flatten(2))

    def image_inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": self.patched(pixels), "image_grid_thw": self.grid(len(pixels))}

    def model_inputs(self, ids: Tensor, pixels: Tensor | None, prompts: Tensor | None = None) -> dict[str, Tensor]:
        return {**super().model_inputs(ids, pixels), "mm_token_type_ids": (ids == self.image_token_id).int()}

    def positions(self, prefix: Tensor) -> Tensor:
        """[3, P]: frame, row and column inside an image; text has all three alike."""
        shown = (prefix == self.image_token_id).int()
        return self.model.model.get_rope_index(prefix[None], shown[None], self.grid(1))[0][:, 0]


def _through(block: Any, hidden: Tensor, bounds: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """One block of the tower over images [B, patches, width]; attention stays within `bounds`."""
    attended = block.attn(block.norm1(hidden).flatten(0, 1), cu_seqlens=bounds, position_embeddings=turns)
    hidden = hidden + attended.view_as(hidden)
    return hidden + block.mlp(block.norm2(hidden))


class Qwen2_5Vl(Qwen2Vl):  # noqa: N801
    """Qwen2.5-VL: the tower has gated MLPs, and most of its blocks attend within windows of the image."""

    model_class = Qwen2_5_VLForConditionalGeneration
    incoming_names = ("mlp.gate_proj", "mlp.up_proj")
    outgoing_name = "mlp.down_proj"

    def windows_in(self, images: int) -> tuple[Tensor, Tensor]:
        """The order of merged tokens in which windows are contiguous, and where windows begin, in patches."""
        tower = self.tower
        return get_vision_window_index(self.grid(images), tower.spatial_merge_size, tower.window_size, tower.patch_size)

    def _by_window(self, patches: Tensor, order: Tensor) -> Tensor:
        """Patches [B * patches, ...] in that order."""
        return patches.unflatten(0, (len(order), -1))[order.to(patches.device)].flatten(0, 1)

    def embed(self, pixels: Tensor) -> Tensor:
        order, _ = self.windows_in(len(pixels))
        return self._by_window(super().embed(pixels).flatten(0, 1), order).unflatten(0, (len(pixels), -1))

    def run_layers(self, hidden: Tensor, start: int, stop: int | None = None) -> Tensor:
        order, windows = self.windows_in(len(hidden))
        cos, sin = self.turns(hidden)
        turns = self._by_window(cos, order), self._by_window(sin, order)
        whole = get_vision_cu_seqlens(self.grid(len(hidden)))
        for index, block in list(enumerate(self.tower_layers))[start:stop]:
            bounds = whole if index in self.tower.fullatt_block_indexes else windows
            hidden = self.run(_through, block, hidden, bounds, turns)
        return hidden

    def project(self, hidden: Tensor) -> Tensor:
        order, _ = self.windows_in(len(hidden))
        return super().project(hidden).flatten(0, 1)[order.argsort().to(hidden.device)].unflatten(0, (len(hidden), -1))


class Qwen3Vl(Qwen2Vl):
    """Qwen3-VL: what some blocks of the tower see enters the first layers of the LLM too ("deepstack").

    From such a block on, its output rides along in the last axis of the tower's hidden states; features [B, N, (1 + K)
    * D] are the merger's, then those of the K deepstack mergers. All of them are the projector.
    """

    model_class = Qwen3VLForConditionalGeneration
    incoming_names = ("mlp.linear_fc1",)
    outgoing_name = "mlp.linear_fc2"

    @property
    def mergers(self) -> list[Any]:
        """The merger, then those of what enters later layers."""
        return [self.tower.merger, *self.tower.deepstack_merger_list]

    @property
    def projector(self) -> nn.Module:
        return nn.ModuleList(self.mergers)

    def embed(self, pixels: Tensor) -> Tensor:
        tower = self.tower
        table, shares = get_vision_interpolation_indices_and_weights(
            self.grid(len(pixels)),
            tower.num_grid_per_side,
            tower.interpolation_mode,
            tower.interpolation_align_corners,
            tower.spatial_merge_size,
        )
        hidden = super().embed(pixels)
        table, shares = table.to(hidden.device), shares.to(hidden.device)
        places = (tower.pos_embed(table) * shares[:, :, None]).sum(dim=1)
        return hidden + places.to(hidden.dtype).view_as(hidden)

    def run_layers(self, hidden: Tensor, start: int, stop: int | None = None) -> Tensor:
        width = self.model.config.vision_config.hidden_size
        hidden, taken = hidden[..., :width], hidden[..., width:]
        bounds, turns = get_vision_cu_seqlens(self.grid(len(hidden))), self.turns(hidden)
        for index, block in list(enumerate(self.tower_layers))[start:stop]:
            hidden = self.run(_through, block, hidden, bounds, turns)
            if index in self.tower.deepstack_visual_indexes:
                taken = torch.cat([taken, hidden], dim=-1)
        return torch.cat([hidden, taken], dim=-1)

    def project(self, hidden: Tensor) -> Tensor:
        parts = hidden.split(self.model.config.vision_config.hidden_size, dim=-1)
        merged = [
            merger(part.flatten(0, 1).contiguous()).unflatten(0, (len(part), -1))
            for merger, part in zip(self.mergers, parts, strict=True)
        ]
        return torch.cat(merged, dim=-1)

    def deep(self, features: Tensor | None) -> Sequence[Tensor]:
        return () if features is None else features.chunk(len(self.mergers), dim=-1)[1:]

    def prefix_embeddings(self, prefix: Tensor, rows: int, features: Tensor | None) -> Tensor:
        main = None if features is None else features.chunk(len(self.mergers), dim=-1)[0]
        return super().prefix_embeddings(prefix, rows, main)

    def prefix_inputs(self, prefix: Tensor, rows: int, features: Tensor | None) -> dict[str, Any]:
        inputs = super().prefix_inputs(prefix, rows, features)
        if features is None:
            return inputs
        shown = (prefix == self.image_token_id).expand(rows, -1).to(self.device)
        joined = [part.flatten(0, 1) for part in self.deep(features)]
        return {**inputs, "visual_pos_masks": shown, "deepstack_visual_embeds": joined}
