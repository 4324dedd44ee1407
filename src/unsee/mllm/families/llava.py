"""LLaVA-1.5, LLaVA-NeXT and LLaVA-OneVision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaOnevisionForConditionalGeneration,
    LlavaProcessor,
)
from transformers.image_processing_utils import select_best_resolution
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from unsee.mllm.families.base import Frame, Mllm
from unsee.mllm.families.parts import feeding
from unsee.mllm.families.tiles import Tiled


class Llava(Mllm):
    """LLaVA-1.5: CLIP tower, two-layer projector, Llama."""

    model_class = LlavaForConditionalGeneration
    image_processor_class = CLIPImageProcessorPil
    processor_class: Any = LlavaProcessor

    @property
    def image_tokens(self) -> int:
        return self.model.config.image_seq_length

    def save_processor(self, directory: Path) -> None:
        processor = self.processor_class(
            self.image_processor,
            self.tokenizer,
            patch_size=self.model.config.vision_config.patch_size,
            vision_feature_select_strategy=self.model.config.vision_feature_select_strategy,
            num_additional_image_tokens=1,
            chat_template=self.tokenizer.chat_template,
        )
        processor.save_pretrained(directory)

    @property
    def tower_layers(self) -> Sequence[Any]:
        return feeding(super().tower_layers, self.model.config.vision_feature_layer)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.tower.pre_layrnorm(self.tower.embeddings(pixels))

    def patches(self, hidden: Tensor) -> Tensor:
        return hidden[:, 1:]

    def project(self, hidden: Tensor) -> Tensor:
        with_class_token = self.model.config.vision_feature_select_strategy == "full"
        return self.projector(hidden if with_class_token else self.patches(hidden))


class LlavaNext(Tiled, Llava):
    """LLaVA-NeXT: the whole picture, then tiles without their padding, every row of patches ended by a learnt feature.

    A frame is an image's height and width.
    """

    model_class = LlavaNextForConditionalGeneration
    image_processor_class = LlavaNextImageProcessorPil
    processor_class = LlavaNextProcessor
    whole_first = True

    @property
    def usual_frame(self) -> Frame:
        return self.side, self.side

    def frame_of(self, width: int, height: int) -> Frame:
        return height, width

    @property
    def tiles(self) -> tuple[int, int]:
        height, width = select_best_resolution(self.frame, self.model.config.image_grid_pinpoints)
        return height // self.side, width // self.side

    @property
    def image_tokens(self) -> int:
        tokens = (self.side // self.model.config.vision_config.patch_size) ** 2
        return len(self.packed(torch.zeros(1, self.views, tokens, 1), torch.zeros(1))[0])

    def patches(self, hidden: Tensor) -> Tensor:
        return hidden[:, :, 1:]

    def project(self, hidden: Tensor) -> Tensor:
        return torch.stack(self.packed(super().project(hidden), self.model.model.image_newline))

    def packed(self, features: Tensor, newline: Tensor) -> list[Tensor]:
        """[N, D] for each image, from features of all views' patches [B, views, tokens, D] and the feature [D] that
        ends a row."""
        strategy = self.model.config.vision_feature_select_strategy
        return self.model.model.pack_image_features(list(features), self.sizes(len(features)), strategy, newline)[0]

    def sizes(self, images: int) -> Tensor:
        """Height and width of each image, int64 [images, 2]."""
        return torch.tensor([self.frame]).expand(images, -1)

    def image_inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        views = self.cut(pixels).unflatten(0, (-1, self.views))
        return {"pixel_values": views, "image_sizes": self.sizes(len(pixels))}


class LlavaOnevision(LlavaNext):
    """LLaVA-OneVision with one image: as LLaVA-NeXT, with a SigLIP tower and at most so many patches."""

    model_class = LlavaOnevisionForConditionalGeneration
    image_processor_class = LlavaOnevisionImageProcessorPil

    @property
    def processor_facts(self) -> dict[str, Any]:
        config = self.model.config
        return {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": (self.side // config.vision_config.patch_size) ** 2,
            "vision_feature_select_strategy": config.vision_feature_select_strategy,
            "vision_aspect_ratio": config.vision_aspect_ratio,
        }

    def save_processor(self, directory: Path) -> None:
        Mllm.save_processor(self, directory)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.tower.embeddings(self.cut(pixels)).unflatten(0, (-1, self.views))

    def packed(self, features: Tensor, newline: Tensor) -> list[Tensor]:
        ratio = self.model.config.vision_aspect_ratio
        return self.model.model.pack_image_features(list(features), self.sizes(len(features)), newline, ratio)[0]
