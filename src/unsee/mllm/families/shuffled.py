"""InternVL, Idefics3 and SmolVLM: tiles, of whose patches a pixel shuffle joins squares to one before the projector.

A frame is rows and columns of tiles, (0, 0) for an image that is shown whole only.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    Idefics3ForConditionalGeneration,
    InternVLForConditionalGeneration,
    SmolVLMForConditionalGeneration,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from unsee.mllm.families.base import Frame
from unsee.mllm.families.parts import feeding
from unsee.mllm.families.tiles import Tiled


class InternVl(Tiled):
    """InternVL: an image's views stand in a row between two tokens. Images are cut into tiles, as its processor does
    whatever preprocessor_config.json says of `crop_to_patches`."""

    model_class = InternVLForConditionalGeneration
    image_processor_class = GotOcr2ImageProcessorPil
    layers_name = "encoder.layer"

    def frame_of(self, width: int, height: int) -> Frame:
        given = self.image_processor
        size = (given.size["height"], given.size["width"])
        columns, rows = get_optimal_tiled_canvas((height, width), size, given.min_patches, given.max_patches)
        return (rows, columns) if rows * columns > 1 else (0, 0)

    @property
    def side(self) -> int:
        return self.model.config.vision_config.image_size[0]

    @property
    def image_tokens(self) -> int:
        return self.model.config.image_seq_length * self.views

    @property
    def image_text(self) -> str:
        return f"{self.tokenizer.start_image_token}{self.placeholder}{self.tokenizer.end_image_token}"

    @property
    def processor_facts(self) -> dict[str, Any]:
        return {"processor_class": "InternVLProcessor", "image_seq_length": self.model.config.image_seq_length}

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        views = self.image_processor(images=list(images), crop_to_patches=True, return_tensors="pt")["pixel_values"]
        return self.stacked(views)

    @property
    def tower_layers(self) -> Sequence[Any]:
        return feeding(super().tower_layers, self.model.config.vision_feature_layer)

    def through(self, layer: Any, hidden: Tensor) -> Tensor:
        return layer(hidden)

    def patches(self, hidden: Tensor) -> Tensor:
        return hidden[:, :, 1:]

    def project(self, hidden: Tensor) -> Tensor:
        config = self.model.config
        if config.vision_feature_layer == -1:
            hidden = self.tower.layernorm(hidden)
        seen = self.patches(hidden) if config.vision_feature_select_strategy == "default" else hidden
        side = int(seen.shape[2] ** 0.5)
        grids = seen.flatten(0, 1).unflatten(1, (side, side))
        joined = self.model.model.pixel_shuffle(grids, config.downsample_ratio).flatten(1, 2)
        return self.projector(joined.unflatten(0, (len(hidden), -1)).flatten(1, 2))


class Idefics3(Tiled):
    """Idefics3: every view stands behind a token that says which it is."""

    model_class = Idefics3ForConditionalGeneration
    image_processor_class = Idefics3ImageProcessorPil
    language_name = "model.text_model"
    tower_name = "model.vision_model"
    projector_name = "model.connector"

    def frame_of(self, width: int, height: int) -> Frame:
        blank = self.image_processor(images=[Image.new("RGB", (width, height))], return_row_col_info=True)
        return blank["rows"][0][0], blank["cols"][0][0]

    @property
    def side(self) -> int:
        return self.image_processor.max_image_size["longest_edge"]

    @property
    def image_tokens(self) -> int:
        joined = self.model.config.vision_config.patch_size * self.model.config.scale_factor
        return (self.side // joined) ** 2 * self.views

    @property
    def image_text(self) -> str:
        return get_image_prompt_string(*self.frame, 1, "<fake_token_around_image>", self.placeholder, "<global-img>")

    @property
    def processor_facts(self) -> dict[str, Any]:
        name = f"{type(self.model).__name__.removesuffix('ForConditionalGeneration')}Processor"
        return {"processor_class": name, "image_seq_len": self.image_tokens // self.views}

    def embed(self, pixels: Tensor) -> Tensor:
        views = self.cut(pixels)
        patches = self.side // self.model.config.vision_config.patch_size
        shown = views.new_ones(len(views), patches, patches, dtype=torch.bool)
        return self.tower.embeddings(views, patch_attention_mask=shown).unflatten(0, (-1, self.views))

    def project(self, hidden: Tensor) -> Tensor:
        views = self.tower.post_layernorm(hidden.flatten(0, 1))
        return self.projector(views).unflatten(0, (len(hidden), -1)).flatten(1, 2)

    def image_inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": self.cut(pixels).unflatten(0, (-1, self.views))}


class SmolVlm(Idefics3):
    """SmolVLM: as Idefics3."""

    model_class = SmolVLMForConditionalGeneration
    image_processor_class = SmolVLMImageProcessorPil
