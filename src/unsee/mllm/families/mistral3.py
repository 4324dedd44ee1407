"""Mistral 3: a Pixtral tower for images of any size, a projector that merges squares of patches, Mistral."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import Mistral3ForConditionalGeneration
from transformers.models.pixtral.image_processing_pil_pixtral import (
    PixtralImageProcessorPil,
    get_resize_output_image_size,
)

from unsee.mllm.families.base import Frame, Mllm
from unsee.mllm.families.parts import feeding


class Mistral3(Mllm):
    """Mistral 3; a token ends every row of merged patches. A frame is rows and columns of those."""

    model_class = Mistral3ForConditionalGeneration
    image_processor_class = PixtralImageProcessorPil
    layers_name = "transformer.layers"
    incoming_names = ("feed_forward.gate_proj", "feed_forward.up_proj")
    outgoing_name = "feed_forward.down_proj"

    @property
    def merged(self) -> int:
        """Pixels along what becomes one token."""
        return self.model.config.vision_config.patch_size * self.model.config.spatial_merge_size

    @property
    def usual_frame(self) -> Frame:
        """The largest square."""
        side = self.image_processor.size["longest_edge"] // self.merged
        return side, side

    def frame_of(self, width: int, height: int) -> Frame:
        largest = self.image_processor.size["longest_edge"]
        height, width = get_resize_output_image_size(np.zeros((height, width, 3)), largest, self.merged)
        return height // self.merged, width // self.merged

    @property
    def image_tokens(self) -> int:
        rows, columns = self.frame
        return rows * columns

    @property
    def image_text(self) -> str:
        rows, columns = self.frame
        lines = [self.placeholder * columns] * rows
        return "[IMG_BREAK]".join(lines) + "[IMG_END]"

    @property
    def processor_facts(self) -> dict[str, Any]:
        merge = self.model.config.spatial_merge_size
        return {
            "processor_class": "PixtralProcessor",
            "patch_size": self.merged // merge,
            "spatial_merge_size": merge,
        }

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        return self.image_processor(images=list(images), patch_size=self.merged, return_tensors="pt")["pixel_values"]

    @property
    def tower_layers(self) -> Sequence[Any]:
        return feeding(super().tower_layers, self.model.config.vision_feature_layer)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.tower.ln_pre(self.tower.patch_conv(pixels).flatten(2).transpose(1, 2))

    def through(self, layer: Any, hidden: Tensor) -> Tensor:
        rows, columns = (side * self.model.config.spatial_merge_size for side in self.frame)
        places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        turns = self.tower.patch_positional_embedding(hidden, places.to(hidden.device))
        return layer(hidden, attention_mask=None, position_embeddings=turns)

    def sizes(self, images: int) -> Tensor:
        """Height and width of each image in pixels, int64 [images, 2]."""
        return torch.tensor([self.frame]).expand(images, -1) * self.merged

    def project(self, hidden: Tensor) -> Tensor:
        projected = self.projector(hidden.flatten(0, 1), self.sizes(len(hidden)).tolist())
        return projected.unflatten(0, (len(hidden), -1))

    def image_inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": pixels, "image_sizes": self.sizes(len(pixels))}
