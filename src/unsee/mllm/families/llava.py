"""LLaVA-1.5."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from unsee.mllm.families.base import Mllm


class Llava(Mllm):
    """LLaVA-1.5: CLIP tower, two-layer projector, Llama."""

    model_class = LlavaForConditionalGeneration
    image_processor_class = CLIPImageProcessorPil

    @property
    def image_tokens(self) -> int:
        return self.model.config.image_seq_length

    def save_processor(self, directory: Path) -> None:
        processor = LlavaProcessor(
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
        layers = super().tower_layers
        chosen = self.model.config.vision_feature_layer
        return layers[: chosen if chosen >= 0 else len(layers) + 1 + chosen]

    def embed(self, pixels: Tensor) -> Tensor:
        return self.tower.pre_layrnorm(self.tower.embeddings(pixels))

    def patches(self, hidden: Tensor) -> Tensor:
        return hidden[:, 1:]

    def project(self, hidden: Tensor) -> Tensor:
        with_class_token = self.model.config.vision_feature_select_strategy == "full"
        return self.projector(hidden if with_class_token else self.patches(hidden))
