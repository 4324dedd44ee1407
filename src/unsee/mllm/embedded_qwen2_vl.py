"""The embedded Qwen2-VL: transformers' real class at 2.1 M parameters, with the embedded model's BPE tokenizer."""

import torch
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from unsee.mllm.embedded import IMAGE_SIZE, INITIALIZER_STD, WIDTH, train_bpe
from unsee.mllm.families import Qwen2Vl

PATCH = 8
MERGE = 2
SPECIAL = {
    "pad_token": "<|endoftext|>",
    "eos_token": "<|im_end|>",
    "turn_token": "<|im_start|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
}

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "<|im_start|>user\n"
    "{% for part in message['content'] if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}<|im_end|>\n"
    "<|im_start|>assistant\n"
    "{% else %}"
    "{% for part in message['content'] %} {{ part['text'] }}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with Qwen2-VL's special tokens. There is no BOS."""
    pad, eos, *rest = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=train_bpe(list(SPECIAL.values()), "user\nassistant\n"),
        **{name: SPECIAL[name] for name in (pad, eos)},
        extra_special_tokens={name: SPECIAL[name] for name in rest},
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
    )


def make_image_processor() -> Qwen2VLImageProcessorPil:
    """Resize to 64 x 64 pixels, scale to about [-2, 2]."""
    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE**2, "longest_edge": IMAGE_SIZE**2},
        patch_size=PATCH,
        merge_size=MERGE,
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2VLForConditionalGeneration:
    """A freshly initialised embedded Qwen2-VL: tower 4 x 128, Qwen2 3 x 128 with 2 key heads for 4, 16 image tokens."""
    torch.manual_seed(seed)
    tower = Qwen2VLVisionConfig(
        depth=4,
        embed_dim=WIDTH,
        hidden_size=WIDTH,
        num_heads=4,
        patch_size=PATCH,
        spatial_merge_size=MERGE,
        initializer_range=INITIALIZER_STD,
    )
    text = Qwen2VLTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        initializer_range=INITIALIZER_STD,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(SPECIAL[name]) for name in SPECIAL if name != "turn_token"}
    config = Qwen2VLConfig(
        vision_config=tower, text_config=text, tie_word_embeddings=False, initializer_range=INITIALIZER_STD, **ids
    )
    return Qwen2VLForConditionalGeneration(config)


def make(seed: int) -> Qwen2Vl:
    """A freshly initialised embedded model with its tokenizer and image processor."""
    tokenizer = make_tokenizer()
    return Qwen2Vl(make_model(tokenizer, seed), tokenizer, make_image_processor())
