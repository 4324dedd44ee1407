"""Where things are in a model: tower, projector, LLM, and the MLP neurons that unlearning may touch.

`Mllm` is all that statistics, pruning, unlearning and evaluation know of a model; a new family is a new subclass
(docs/families.md). It is written for what most families are: a vision transformer, a projector, and an LLM of Llama's
kind that reads an image's features in the places of its placeholders, in order, and sees only what came before.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from unsee.compute import PLAIN, Compute
from unsee.errors import UserError
from unsee.mllm.families.parts import Mlp
from unsee.mllm.packed_llm import ATTENTION, LLMS, hidden_states, prefix_embeddings, windows_of
from unsee.mllm.packing import Packed, alone
from unsee.mllm.prompts import Prompter
from unsee.sections import Part
from unsee.storage.artifact import write_json

Frame = tuple[int, ...]
"""What an image's size makes of it in a family: rows and columns of tiles or patches. Empty where it makes nothing."""


class Mllm(ABC):
    """A multimodal LLM taken apart: M = tower V, projector P, LLM W, with v^e = P(V(v)).

    model_class, image_processor_class: transformers' own, as a model of the family is loaded. language_name,
    projector_name, tower_name: modules of the model; layers_name: in the tower; incoming_names, outgoing_name: of an
    MLP, in a layer of the tower. chat_template: for tokenizers that bring none. llms: `model_type` of the LLMs that
    fit. prefix_lm: prompt tokens see all of the prompt, so that questions share no prefix.
    """

    model_class: ClassVar[type[PreTrainedModel]]
    image_processor_class: ClassVar[type[BaseImageProcessor]]
    language_name: ClassVar[str] = "model.language_model"
    projector_name: ClassVar[str] = "model.multi_modal_projector"
    tower_name: ClassVar[str] = "model.vision_tower"
    layers_name: ClassVar[str] = "encoder.layers"
    incoming_names: ClassVar[tuple[str, ...]] = ("mlp.fc1",)
    outgoing_name: ClassVar[str] = "mlp.fc2"
    chat_template: ClassVar[str | None] = None
    llms: ClassVar[tuple[str, ...]] = LLMS
    prefix_lm: ClassVar[bool] = False

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        compute: Compute = PLAIN,
    ):
        self.model, self.compute = model, compute
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.frame = self.usual_frame
        self._at: dict[Frame, Mllm] = {}
        self.prompter = self._prompter()
        self.windows = windows_of(self._known(self.language_model.config))
        self.language_model.set_attn_implementation(ATTENTION)

    def _known(self, config: PreTrainedConfig) -> PreTrainedConfig:
        if config.model_type not in self.llms:
            raise UserError(
                f"config.json: an LLM of model_type {config.model_type!r} is not known to answer packed rows as it "
                f"answers one row per question; use a model with one of {', '.join(self.llms)}"
            )
        return config

    def _prompter(self) -> Prompter:
        shown = self.image_token_id, self.image_tokens, self.placeholder, self.image_text
        return Prompter(self.tokenizer, *shown, self.ends)

    @property
    def usual_frame(self) -> Frame:
        """The frame of images unless said otherwise."""
        return ()

    def frame_of(self, width: int, height: int) -> Frame:
        """What becomes of an image of this size."""
        return ()

    def at(self, frame: Frame | None) -> "Mllm":
        """The same model for images of another frame (None: of this one): all that it says of images, from pixels to
        positions, is of images of one frame."""
        if frame is None or frame == self.frame:
            return self
        if frame not in self._at:
            other = copy.copy(self)
            other.frame, other._at = frame, {}
            other.prompter = other._prompter()
            self._at[frame] = other
        return self._at[frame]

    @property
    def image_token_id(self) -> int:
        """Id of the placeholder that the image's features replace."""
        return self.model.config.image_token_id

    @property
    def ends(self) -> list[int]:
        """Ids that end an answer: EOS, and what else the model's own generation stops at."""
        own = self.model.generation_config.eos_token_id
        return sorted({self.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None})

    @property
    def pad(self) -> int:
        """Id used to fill blocks."""
        return self.tokenizer.pad_token_id

    @property
    @abstractmethod
    def image_tokens(self) -> int:
        """How many features one image has."""

    @property
    def placeholder(self) -> str:
        """What the chat template writes for an image."""
        return self.tokenizer.convert_ids_to_tokens(self.image_token_id)

    @property
    def image_text(self) -> str:
        """What stands for an image in a prompt; every image token in it for an equal share of the features."""
        return self.placeholder

    @property
    def processor_facts(self) -> dict[str, Any]:
        """What transformers' own processor of the family wants to know beside tokenizer and image processor."""
        return {}

    def save_processor(self, directory: Path) -> None:
        """Write tokenizer and image processor as plain transformers loads them.

        Not by its own processors: most of them read videos as well, and cannot be made without torchvision.
        """
        self.tokenizer.save_pretrained(directory)
        self.image_processor.save_pretrained(directory)
        if self.processor_facts:
            write_json(directory / "processor_config.json", self.processor_facts)

    @property
    def language_model(self) -> PreTrainedModel:
        """W, without its head."""
        return self.model.get_submodule(self.language_name)

    @property
    def head(self) -> nn.Module:
        """The LLM's output layer."""
        return self.model.get_output_embeddings()

    @property
    def projector(self) -> nn.Module:
        """P."""
        return self.model.get_submodule(self.projector_name)

    @property
    def tower(self) -> PreTrainedModel:
        """V."""
        return self.model.get_submodule(self.tower_name)

    @property
    def tower_layers(self) -> Sequence[Any]:
        """The tower's layers that feed the projector, shallow to deep."""
        return list(self.tower.get_submodule(self.layers_name))

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
        return [
            Mlp(index, tuple(map(layer.get_submodule, self.incoming_names)), layer.get_submodule(self.outgoing_name))
            for index, layer in chosen
        ]

    def llm_mlps(self) -> list[Mlp]:
        """The LLM's MLPs, shallow to deep."""
        mlps = [layer.mlp for layer in self.language_model.layers]
        return [Mlp(index, (mlp.gate_proj, mlp.up_proj), mlp.down_proj) for index, mlp in enumerate(mlps)]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.device

    def run(self, layer: Callable[..., Tensor], *inputs: Any, **options: Any) -> Tensor:
        """A layer applied; with checkpointing, its activations are computed again when gradients are asked for."""
        if self.compute.checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False, **options)
        return layer(*inputs, **options)

    def embed(self, pixels: Tensor) -> Tensor:
        """What the first tower layer reads, [B, ...], from pixels [B, 3, H, W]."""
        return self.tower.embeddings(pixels)

    def run_layers(self, hidden: Tensor, start: int, stop: int | None = None) -> Tensor:
        """Tower layers start..stop applied to [B, ...]."""
        for layer in self.tower_layers[start:stop]:
            hidden = self.run(self.through, layer, hidden)
        return hidden

    def through(self, layer: Any, hidden: Tensor) -> Tensor:
        """One layer of the tower applied to [B, tokens, width]."""
        return layer(hidden, attention_mask=None)

    def patches(self, hidden: Tensor) -> Tensor:
        """The tokens of the last used tower layer's output that stand for image patches, [B, patches, width]."""
        return hidden

    @abstractmethod
    def project(self, hidden: Tensor) -> Tensor:
        """Projector output [B, N, D] from the last used tower layer's output."""

    def up_to(self, pixels: Tensor, stop: int | None = None) -> Tensor:
        """The tower's layers before `stop` (None: all), from pixels [B, 3, H, W] as they are prepared."""
        return self.run_layers(self.embed(pixels.to(self.device, self.tower.dtype)), 0, stop)

    def features(self, pixels: Tensor) -> Tensor:
        """v^e = P(V(v)), [B, N, D], from pixels [B, 3, H, W]."""
        return self.project(self.up_to(pixels))

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Preprocessed pixels, float32 [B, 3, H, W]."""
        return self.image_processor(images=list(images), return_tensors="pt")["pixel_values"]

    def on_pictures(self, pixels: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Pixels [B, 3, H, W] with every picture they consist of changed: tiles are not, what they make up is."""
        return change(pixels)

    def image_inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        """What transformers' own tower takes for images [B, 3, H, W]."""
        return {"pixel_values": pixels}

    def model_inputs(self, ids: Tensor, pixels: Tensor | None, prompts: Tensor | None = None) -> dict[str, Tensor]:
        """What transformers' own forward takes for rows [R, T] with their images [R, 3, H, W] (None: without).

        prompts: int64 [R], how many tokens of each row are the prompt's (None: all).
        """
        return {"input_ids": ids, **({} if pixels is None else self.image_inputs(pixels))}

    def positions(self, prefix: Tensor) -> Tensor:
        """Rotary positions of a shared prefix [P], int64 [P], or [axes, P] if there are several axes; text goes on
        from the largest."""
        return torch.arange(len(prefix))

    def rotary(self, hidden: Tensor, positions: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
        """Cosines and sines of positions [B, T] or [axes, B, T] for each of the LLM's layers."""
        return [self.language_model.rotary_emb(hidden, positions)] * len(self.language_model.layers)

    def sees(self, prefix: Tensor) -> Tensor | None:
        """Which tokens of a shared prefix [P] see which, bool [P, P]; None: those before them, and themselves."""
        return None

    def shares_prefix(self, tokens: int) -> bool:
        """Whether generation may keep a prefix for several questions, in rows of up to so many tokens."""
        return not self.prefix_lm and all(window is None or window >= tokens for window in self.windows)

    def hidden(self, packed: Packed, features: Tensor | None, everywhere: bool = False) -> Tensor:
        """The LLM over packed rows: last hidden states of the T tokens that are read, [T, D].

        everywhere: run the last layer for all tokens, not only for those.
        """
        if self.prefix_lm:
            packed, features = alone(packed, features)
        packed = replace(packed, layout=replace(packed.layout, sees=self.sees(packed.prefix)))
        prefix = self.prefix_embeddings(packed.prefix, len(packed.tokens), features)
        positions = self.positions(packed.prefix)
        model, run = self.language_model, self.run
        shown = self.shown(packed.prefix).to(self.device)
        return hidden_states(
            model, packed, prefix, positions, self.rotary, self.windows, run, everywhere, self.deep(features), shown
        )

    def shown(self, prefix: Tensor) -> Tensor:
        """Where in a shared prefix [P] the image's placeholders stand, int64 [N]."""
        return (prefix == self.image_token_id).nonzero()[:, 0]

    def deep(self, features: Tensor | None) -> Sequence[Tensor]:
        """What of an image's features is added to the outputs of the LLM's first layers, [B, N, D] each."""
        return ()

    def prefix_inputs(self, prefix: Tensor, rows: int, features: Tensor | None) -> dict[str, Any]:
        """What transformers' own LLM takes for a shared prefix [P] of some rows, as generation starts from it."""
        inputs = {
            "inputs_embeds": self.prefix_embeddings(prefix, rows, features),
            "position_ids": self.positions(prefix).unsqueeze(-2).to(self.device),
        }
        if (sees := self.sees(prefix)) is None:
            return inputs
        mask = sees[None, None].to(self.device)
        return {**inputs, "attention_mask": {"full_attention": mask, "sliding_attention": mask}}

    def prefix_embeddings(self, prefix: Tensor, rows: int, features: Tensor | None) -> Tensor:
        """What the LLM reads for a shared prefix, [rows, P, D]."""
        return prefix_embeddings(self.language_model, prefix, rows, features, self.image_token_id)

    def parts(self) -> dict[Part, dict[str, nn.Parameter]]:
        """Every parameter by full name, under projector, tower or LLM; what two of them share is in the first."""
        rest = {id(parameter): (name, parameter) for name, parameter in self.model.named_parameters()}
        of: dict[Part, nn.Module] = {"projector": self.projector, "tower": self.tower, "llm": self.model}
        return {name: dict(rest.pop(id(p)) for p in of[name].parameters() if id(p) in rest) for name in of}

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
