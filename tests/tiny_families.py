"""A tiny random model of the real class of every family: two tower layers, two LLM layers, and the processors and
tokenizers that its publishers ship, small."""

from functools import cache

import torch
from tokenizers import Tokenizer
from transformers import (
    CLIPVisionConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GemmaConfig,
    Idefics3Config,
    InternVLConfig,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    Mistral3Config,
    MistralConfig,
    PaliGemmaConfig,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen3Config,
    Qwen3VLConfig,
    SiglipVisionConfig,
    SmolVLMConfig,
)

from unsee.mllm.embedded import train_bpe
from unsee.mllm.embedded_qwen2_vl import CHAT_TEMPLATE as QWEN_TEMPLATE
from unsee.mllm.embedded_qwen2_vl import SPECIAL as QWEN_SPECIAL
from unsee.mllm.families import FAMILIES

VIEW = 32
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
VIT = {**TOWER, "image_size": VIEW}
LLM = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096, "initializer_range": 0.2,
}  # fmt: skip


@cache
def _words():
    return train_bpe(["<pad>", "<s>", "</s>"], "user\nassistant\nUSER: ASSISTANT:").to_str()


def tokenizer(special, template, eos="</s>"):
    """Byte-level BPE with a family's special tokens, named as its tokenizers name them."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_words()),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token=eos,
        extra_special_tokens=special,
        chat_template=template,
        model_max_length=4096,
    )


def template(user, image, assistant, end):
    """One turn: `user` text, images, the question, `assistant` text, the answer, `end`."""
    return (
        "{% for message in messages %}{% if message['role'] == 'user' %}" + user
        + "{% for part in message['content'] if part['type'] == 'image' %}" + image + "{% endfor %}"
        "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}" + assistant
        + "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}" + end
        + "{% endif %}{% endfor %}"
    )  # fmt: skip


def text(words, **more):
    ids = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    return {**LLM, "vocab_size": len(words), **ids, **more}


def of(family, config, words, **processor):
    """The family's model, its weights and biases large enough to tell a mistake by."""
    torch.manual_seed(0)
    made = FAMILIES[family]
    model = made.model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    image_processor = made.image_processor_class(image_mean=[0.5] * 3, image_std=[0.25] * 3, **processor)
    return made(model, words, image_processor)


def llava():
    words = tokenizer({"image_token": "<image>"}, template("USER: ", "<image>\n", " ASSISTANT:", "</s>"))
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VIT, patch_size=16, projection_dim=32),
        text_config=LlamaConfig(**text(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
        vision_feature_layer=-2,
    )
    return of("llava", config, words, size={"shortest_edge": VIEW}, crop_size={"height": VIEW, "width": VIEW})


def qwen2_vl(width=32, **llm):
    """width: of its LLM, whose other settings are these, or tiny."""
    words = qwen_words()
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2]}
    config = Qwen2VLConfig(
        vision_config={
            "depth": 2, "embed_dim": 48, "hidden_size": width, "mlp_ratio": 1, "num_heads": 4, "patch_size": 8,
        },
        text_config=text(words, rope_parameters=rope, hidden_size=width, num_attention_heads=width // 8, **llm),
        **qwen_ids(words),
    )  # fmt: skip
    return of("qwen2_vl", config, words, **QWEN_IMAGES)


def qwen2_5_vl():
    words = qwen_words()
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 8, "window_size": 32,
            "out_hidden_size": 32, "fullatt_block_indexes": [1],
        },
        text_config=text(words, rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2]}),
        **qwen_ids(words),
    )  # fmt: skip
    return of("qwen2_5_vl", config, words, **QWEN_IMAGES)


def qwen3_vl():
    words = qwen_words()
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 8,
            "out_hidden_size": 32, "deepstack_visual_indexes": [0], "num_position_embeddings": 16,
        },
        text_config=text(words, rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1]}),
        **qwen_ids(words),
    )  # fmt: skip
    return of("qwen3_vl", config, words, **QWEN_IMAGES)


QWEN_IMAGES = {"size": {"shortest_edge": 32**2, "longest_edge": 64**2}, "patch_size": 8, "merge_size": 2}


def qwen_words():
    special = {k: v for k, v in QWEN_SPECIAL.items() if k not in ("pad_token", "eos_token")}
    return tokenizer(special, QWEN_TEMPLATE, eos="<|im_end|>")


def qwen_ids(words):
    names = ("vision_start", "vision_end", "image", "video")
    return {f"{name}_token_id": words.convert_tokens_to_ids(QWEN_SPECIAL[f"{name}_token"]) for name in names}


def gemma3(window=4096):
    special = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    words = tokenizer(special, template("<s>user\n", "<start_of_image>", "\nmodel\n", "</s>\n"))
    sliding = {"sliding_window": window, "layer_types": ["sliding_attention", "full_attention"]}
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**VIT, patch_size=8, vision_use_head=False),
        text_config=Gemma3TextConfig(**text(words, query_pre_attn_scalar=8, **sliding)),
        mm_tokens_per_image=4,
        **{name.replace("token", "token_index"): words.convert_tokens_to_ids(t) for name, t in special.items()},
    )
    return of("gemma3", config, words, size={"height": VIEW, "width": VIEW})


def gemma3_narrow():
    """Its sliding window is shorter than most rows."""
    return gemma3(window=24)


def paligemma(llm=GemmaConfig, **more):
    words = tokenizer({"image_token": "<image>"}, FAMILIES["paligemma"].chat_template)
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**VIT, patch_size=16, projection_dim=32, vision_use_head=False),
        text_config=llm(**text(words, **more)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
    )
    made = of("paligemma", config, words, size={"height": VIEW, "width": VIEW})
    made.image_processor.image_seq_length = 4
    return made


def paligemma2():
    return paligemma(Gemma2Config, query_pre_attn_scalar=8, sliding_window=16, final_logit_softcapping=3.0)


def llava_next():
    words = tokenizer({"image_token": "<image>"}, template("<s>[INST] ", "<image>\n", " [/INST]", "</s>"))
    tiles = [[32, 64], [64, 32], [64, 64]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**VIT, patch_size=16, projection_dim=32),
        text_config=MistralConfig(**text(words, sliding_window=40)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=tiles,
        vision_feature_layer=-2,
    )
    crop = {"height": VIEW, "width": VIEW}
    return of("llava_next", config, words, size={"shortest_edge": VIEW}, crop_size=crop, image_grid_pinpoints=tiles)


def llava_onevision():
    words = tokenizer(
        {"image_token": "<image>", "video_token": "<video>"}, template("user ", "<image>\n", " :", "</s>")
    )
    tiles = [[32, 32], [32, 64], [64, 32], [64, 64], [64, 96]]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VIT, patch_size=16, vision_use_head=False),
        text_config=Qwen2Config(**text(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=tiles,
        vision_aspect_ratio="anyres_max_2",
    )
    size = {"height": VIEW, "width": VIEW}
    return of("llava_onevision", config, words, size=size, image_grid_pinpoints=tiles)


def internvl():
    special = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    words = tokenizer(special, template("user\n", "<IMG_CONTEXT>\n", "\nassistant\n", "</s>\n"))
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**VIT, patch_size=8),
        text_config=Qwen3Config(**text(words)),
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    return of("internvl", config, words, size={"height": VIEW, "width": VIEW})


def idefics3(family="idefics3", config_class=Idefics3Config):
    special = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    special |= {"global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"}
    special |= {f"row_{r}_col_{c}": f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2)}
    words = tokenizer(special, template("<s>User:", "<image>", "<end_of_utterance>\nAssistant:", "</s>"))
    config = config_class(
        vision_config={**VIT, "patch_size": 8},
        text_config=LlamaConfig(**text(words)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
        scale_factor=2,
    )
    sizes = {"size": {"longest_edge": 2 * VIEW}, "max_image_size": {"longest_edge": VIEW}}
    return of(family, config, words, **sizes)


def smolvlm():
    return idefics3("smolvlm", SmolVLMConfig)


def mistral3():
    special = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    words = tokenizer(special, template("<s>[INST]", "[IMG]", "[/INST]", "</s>"))
    config = Mistral3Config(
        vision_config=PixtralVisionConfig(**TOWER, patch_size=8, image_size=64),
        text_config=MistralConfig(**text(words, sliding_window=None)),
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    return of("mistral3", config, words, size={"longest_edge": 64}, patch_size={"height": 16, "width": 16})


TINY = {
    made.__name__: made
    for made in (
        llava, llava_next, llava_onevision, qwen2_vl, qwen2_5_vl, qwen3_vl, gemma3, gemma3_narrow, paligemma,
        paligemma2, internvl, idefics3, smolvlm, mistral3,
    )
}  # fmt: skip
