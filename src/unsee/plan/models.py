"""Models without weights, of real configurations: of a folder, of the hub, or of what is written here.

The configurations here are the config.json files of llava-hf/llava-1.5-7b-hf and Qwen/Qwen2-VL-7B-Instruct, so far as
they differ from transformers' defaults; so their presets can be planned without the hub. Tokens are then made by the
embedded models' tokenizers, which say how many there are and nothing more.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoTokenizer, LlavaConfig, PreTrainedConfig, PreTrainedTokenizerBase, Qwen2VLConfig
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from unsee.compute import Compute
from unsee.mllm import checkpoint, embedded_qwen2_vl
from unsee.mllm.families import FAMILIES, Mllm
from unsee.plan.tracking import blank
from unsee.settings import SHIPPED_BASE

Parts = tuple[PreTrainedConfig, PreTrainedTokenizerBase, BaseImageProcessor]


def llava_1_5_7b() -> Parts:
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_BASE)
    config = LlavaConfig(
        text_config={"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=576,
    )
    return (
        config,
        tokenizer,
        CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
    )


def qwen2_vl_7b() -> Parts:
    tokenizer = embedded_qwen2_vl.make_tokenizer()
    text = {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }  # fmt: skip
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in embedded_qwen2_vl.SPECIAL.items()}
    wanted = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = Qwen2VLConfig(text_config=text, **{name: ids[name] for name in wanted})
    size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}
    return config, tokenizer, Qwen2VLImageProcessorPil(size=size)


PUBLISHED: dict[str, Callable[[], Parts]] = {
    "llava-hf/llava-1.5-7b-hf": llava_1_5_7b,
    "Qwen/Qwen2-VL-7B-Instruct": qwen2_vl_7b,
}


class ModelPlan:
    """Makes a model without weights again and again.

    fake: the mode that its tensors belong to. image_tokens_read: by the LLMs of all models it made.
    """

    def __init__(self, parts: Parts):
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.config, self.tokenizer, self.image_processor = parts
        self.family = self._without_pixels(FAMILIES[self.config.model_type])
        self.image_tokens_read = 0

    @classmethod
    def of(cls, name: str, directory: Callable[[], Path]) -> "ModelPlan":
        """`name`: what settings call it; `directory`: fetches its configuration, if that is not known here."""
        return cls(PUBLISHED[name]() if name in PUBLISHED else checkpoint.parts(directory()))

    def make(self, compute: Compute) -> Mllm:
        """The model, as it computes."""
        with self.fake:
            model = checkpoint.without_weights(self.family, self.config, compute)
        return self.family(model.eval(), self.tokenizer, self.image_processor, compute)

    def _without_pixels(self, family: type[Mllm]) -> type[Mllm]:
        """The family with images that are prepared to the right size and hold nothing. Counts what its LLM reads."""

        @lru_cache(maxsize=64)
        def shape(mllm: Mllm, size: tuple[int, int]) -> tuple[int, ...]:
            return tuple(family.pixels(mllm, [Image.new("RGB", size)])[0].shape)

        def pixels(mllm: Mllm, images: Sequence[Image.Image]) -> Tensor:
            return blank(self.fake, len(images), *shape(mllm, images[0].size))

        def prefix_embeddings(mllm: Mllm, prefix: Tensor, rows: int, features: Tensor | None) -> Tensor:
            self.image_tokens_read += rows * len(mllm.shown(prefix))
            return family.prefix_embeddings(mllm, prefix, rows, features)

        return type(family.__name__, (family,), {"pixels": pixels, "prefix_embeddings": prefix_embeddings})


def parts_of(mllm: Mllm) -> dict[str, int]:
    """How many parameters projector, tower and LLM have; what two share counts in the first of them."""
    return {part: sum(p.numel() for p in parameters.values()) for part, parameters in mllm.parts().items()}
