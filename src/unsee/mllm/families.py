"""Where things are in a model: tower, projector, LLM, and the MLP neurons that unlearning may touch.

`Mllm` is all that statistics, pruning, unlearning and evaluation know of a model; a new family is a new subclass.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedModel, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from unsee.errors import UserError
from unsee.mllm.packing import ATTENTION, Packed, hidden_states, prefix_embeddings
from unsee.mllm.prompts import Prompter


@dataclass(frozen=True)
class Mlp:
    """One MLP of the tower or the LLM: its hidden units ("neurons") are the inputs of `outgoing`.

    incoming: modules whose output rows belong to neurons (fc1; gated MLPs: gate and up).
    """

    layer: int
    incoming: tuple[nn.Linear, ...]
    outgoing: nn.Linear


class Mllm(ABC):
    """A multimodal LLM taken apart: M = tower V, projector P, LLM W, with v^e = P(V(v)).

    model_class, image_processor_class: transformers' own, as a model of the family is loaded.
    """

    model_class: ClassVar[type[PreTrainedModel]]
    image_processor_class: ClassVar[type[BaseImageProcessor]]

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, image_processor: BaseImageProcessor):
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.prompter = Prompter(tokenizer, self.image_token_id, self.image_tokens)
        self.language_model.set_attn_implementation(ATTENTION)

    @property
    def image_token_id(self) -> int:
        """Id of the placeholder that the image's features replace."""
        return self.model.config.image_token_id

    @property
    def pad(self) -> int:
        """Id used to fill blocks."""
        return self.tokenizer.pad_token_id

    @property
    @abstractmethod
    def image_tokens(self) -> int:
        """How many features one image has."""

    @abstractmethod
    def save_processor(self, directory: Path) -> None:
        """Write tokenizer and image processor as plain transformers loads them."""

    @property
    @abstractmethod
    def language_model(self) -> PreTrainedModel:
        """W, without its head."""

    @property
    def head(self) -> nn.Module:
        """The LLM's output layer."""
        return self.model.get_output_embeddings()

    @property
    @abstractmethod
    def projector(self) -> nn.Module:
        """P."""

    @property
    @abstractmethod
    def tower(self) -> PreTrainedModel:
        """V."""

    @property
    @abstractmethod
    def tower_layers(self) -> Sequence[Any]:
        """The tower's layers that feed the projector, shallow to deep."""

    def tower_mlps(self, deepest: int | None = None) -> list[Mlp]:
        """The MLPs of the `deepest` layers among those that feed the projector (None: all).

        Raises:
            UserError: there are not so many.
        """
        layers = list(enumerate(self.tower_layers))
        if deepest is not None and deepest > len(layers):
            raise UserError(
                f"layers = {deepest}, but only {len(layers)} tower layers feed the projector; give at most that"
            )
        chosen = layers if deepest is None else layers[-deepest:]
        return [Mlp(index, (layer.mlp.fc1,), layer.mlp.fc2) for index, layer in chosen]

    def llm_mlps(self) -> list[Mlp]:
        """The LLM's MLPs, shallow to deep."""
        mlps = [layer.mlp for layer in self.language_model.layers]
        return [Mlp(index, (mlp.gate_proj, mlp.up_proj), mlp.down_proj) for index, mlp in enumerate(mlps)]

    @abstractmethod
    def embed(self, pixels: Tensor) -> Tensor:
        """What the first tower layer reads, [B, tokens, width], from pixels [B, 3, H, W]."""

    @abstractmethod
    def run_layers(self, hidden: Tensor, start: int, stop: int | None = None) -> Tensor:
        """Tower layers start..stop applied to [B, tokens, width]."""

    def patches(self, hidden: Tensor) -> Tensor:
        """The tokens of the last used tower layer's output that stand for image patches, [B, patches, width]."""
        return hidden

    @abstractmethod
    def project(self, hidden: Tensor) -> Tensor:
        """Projector output [B, N, D] from the last used tower layer's output."""

    def features(self, pixels: Tensor) -> Tensor:
        """v^e = P(V(v)), [B, N, D], from pixels [B, 3, H, W]."""
        return self.project(self.run_layers(self.embed(pixels), 0))

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Preprocessed pixels, float32 [B, 3, H, W]."""
        return self.image_processor(images=list(images), return_tensors="pt")["pixel_values"]

    @abstractmethod
    def image_inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        """What transformers' own tower takes for images [B, 3, H, W]."""

    def model_inputs(self, ids: Tensor, pixels: Tensor | None) -> dict[str, Tensor]:
        """What transformers' own forward takes for rows [R, T] with their images [R, 3, H, W] (None: without)."""
        return {"input_ids": ids, **({} if pixels is None else self.image_inputs(pixels))}

    def positions(self, prefix: Tensor) -> Tensor:
        """Rotary positions of a shared prefix [P], int64 [P], or [axes, P] if there are several axes; text goes on
        from the largest."""
        return torch.arange(len(prefix))

    def hidden(self, packed: Packed, features: Tensor | None) -> Tensor:
        """The LLM over packed rows: last hidden states of the T tokens that are read, [T, D]."""
        prefix = self.prefix_embeddings(packed.prefix, len(packed.tokens), features)
        return hidden_states(self.language_model, packed, prefix, self.positions(packed.prefix))

    def prefix_embeddings(self, prefix: Tensor, rows: int, features: Tensor | None) -> Tensor:
        """What the LLM reads for a shared prefix, [rows, P, D]."""
        return prefix_embeddings(self.language_model, prefix, rows, features, self.image_token_id)

    def visual_parameters(self, deepest: int | None) -> dict[str, nn.Parameter]:
        """What the paper tunes: the tower MLPs of the deepest layers and the projector, by full parameter name."""
        modules = {id(m) for mlp in self.tower_mlps(deepest) for m in (*mlp.incoming, mlp.outgoing)}
        modules |= {id(module) for module in self.projector.modules()}
        return {
            f"{name}.{leaf}": parameter
            for name, module in self.model.named_modules()
            if id(module) in modules
            for leaf, parameter in module.named_parameters(recurse=False)
        }


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
    def language_model(self) -> PreTrainedModel:
        return self.model.model.language_model

    @property
    def projector(self) -> nn.Module:
        return self.model.model.multi_modal_projector

    @property
    def tower(self) -> PreTrainedModel:
        return self.model.model.vision_tower

    @property
    def tower_layers(self) -> Sequence[Any]:
        layers = list(self.tower.encoder.layers)
        chosen = self.model.config.vision_feature_layer
        return layers[: chosen if chosen >= 0 else len(layers) + 1 + chosen]

    def embed(self, pixels: Tensor) -> Tensor:
        return self.tower.pre_layrnorm(self.tower.embeddings(pixels))

    def run_layers(self, hidden: Tensor, start: int, stop: int | None = None) -> Tensor:
        for layer in self.tower_layers[start:stop]:
            hidden = layer(hidden, attention_mask=None)
        return hidden

    def patches(self, hidden: Tensor) -> Tensor:
        return hidden[:, 1:]

    def project(self, hidden: Tensor) -> Tensor:
        with_class_token = self.model.config.vision_feature_select_strategy == "full"
        return self.projector(hidden if with_class_token else self.patches(hidden))

    def image_inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": pixels}


def only_tunable(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    """Freeze every parameter that is not tunable: no gradient, no optimiser state, not one bit changed."""
    chosen = {id(parameter) for parameter in parameters.values()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)


def set_compute(threads: int) -> None:
    """Fix the thread count and flush denormals: equal inputs give equal bits only at an equal thread count."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
