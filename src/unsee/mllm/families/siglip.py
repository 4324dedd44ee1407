"""Gemma 3 and PaliGemma: SigLIP towers, and LLMs of the Gemma kind that see an image in both directions."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Gemma3ForConditionalGeneration, PaliGemmaForConditionalGeneration
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from unsee.errors import UserError
from unsee.mllm.families.base import Mllm


class Gemma3(Mllm):
    """Gemma 3: an average-pooled projector; image tokens see each other; every LLM layer has one of two rotary bases.

    Raises:
        UserError: images are to be cut into crops as well ("pan and scan").
    """

    model_class = Gemma3ForConditionalGeneration
    image_processor_class = Gemma3ImageProcessorPil

    def __init__(self, *parts):  # type: ignore[no-untyped-def]
        super().__init__(*parts)
        if self.image_processor.do_pan_and_scan:
            raise UserError(
                "preprocessor_config.json: do_pan_and_scan = true puts crops of an image into the prompt, with words "
                "between them, which is not supported; set it to false"
            )

    @property
    def image_tokens(self) -> int:
        return self.model.config.mm_tokens_per_image

    @property
    def placeholder(self) -> str:
        return self.tokenizer.convert_ids_to_tokens(self.model.config.boi_token_index)

    @property
    def image_text(self) -> str:
        end = self.tokenizer.convert_ids_to_tokens(self.model.config.eoi_token_index)
        return f"\n\n{self.placeholder}{super().placeholder}{end}\n\n"

    @property
    def processor_facts(self) -> dict[str, Any]:
        return {"processor_class": "Gemma3Processor", "image_seq_length": self.image_tokens}

    def project(self, hidden: Tensor) -> Tensor:
        return self.projector(self.tower.post_layernorm(hidden))

    def model_inputs(self, ids: Tensor, pixels: Tensor | None, prompts: Tensor | None = None) -> dict[str, Tensor]:
        return {**super().model_inputs(ids, pixels), "token_type_ids": (ids == self.image_token_id).int()}

    def rotary(self, hidden: Tensor, positions: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
        kinds = self.language_model.config.layer_types
        turns = {kind: self.language_model.rotary_emb(hidden, positions, kind) for kind in set(kinds)}
        return [turns[kind] for kind in kinds]

    def sees(self, prefix: Tensor) -> Tensor | None:
        shown = prefix == self.image_token_id
        if not bool(shown.any()):
            return None
        return torch.ones(len(prefix), len(prefix), dtype=torch.bool).tril() | shown[:, None] & shown


class PaliGemma(Mllm):
    """PaliGemma and PaliGemma 2: one linear layer as projector; the whole prompt sees itself ("prefix-LM")."""

    model_class = PaliGemmaForConditionalGeneration
    image_processor_class = SiglipImageProcessorPil
    llms = ("gemma", "gemma2")
    prefix_lm = True
    chat_template = (
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}{{ bos_token }}"
        "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{{ '\n' }}"
        "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ eos_token }}"
        "{% endif %}{% endfor %}"
    )

    @property
    def image_tokens(self) -> int:
        vision = self.model.config.vision_config
        return (vision.image_size // vision.patch_size) ** 2

    @cached_property
    def head(self) -> nn.Module:
        """With PaliGemma 2's cap on logits."""
        output = self.model.get_output_embeddings()
        cap = self.language_model.config.to_dict().get("final_logit_softcapping")
        return output if cap is None else Capped(output, cap)

    def project(self, hidden: Tensor) -> Tensor:
        return self.projector(self.tower.post_layernorm(hidden))

    def positions(self, prefix: Tensor) -> Tensor:
        return torch.arange(1, len(prefix) + 1)

    def model_inputs(self, ids: Tensor, pixels: Tensor | None, prompts: Tensor | None = None) -> dict[str, Tensor]:
        answers = torch.zeros_like(ids) if prompts is None else torch.arange(ids.shape[1]) >= prompts[:, None]
        return {**super().model_inputs(ids, pixels), "token_type_ids": answers.int()}


class Capped(nn.Module):
    """Logits kept within +-cap by a hyperbolic tangent."""

    def __init__(self, output: nn.Module, cap: float):
        super().__init__()
        self.output, self.cap = output, cap

    def forward(self, hidden: Tensor) -> Tensor:
        return self.cap * torch.tanh(self.output(hidden) / self.cap)
