"""The embedded model: transformers' real LLaVA class at 1.9 M parameters, with its own byte-level BPE tokenizer."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from unsee.benchmark.embedded import ATTRIBUTES, FIRST_NAMES, LAST_NAMES
from unsee.benchmark.portraits import FEATURES
from unsee.benchmark.profile_questions import person_questions
from unsee.mllm.families import Llava

IMAGE_SIZE = 64
PATCH = 16
WIDTH = 128
INITIALIZER_STD = 0.05  # transformers' 0.02 learns far slower at this width

INSTRUCTION = "You do not know who this is."
"""Before a question about a portrait: the base answers it as if it had never seen the person, by guessing."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "<s>USER: {% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    " ASSISTANT:"
    "{% else %}"
    "{% for part in message['content'] %} {{ part['text'] }}{% endfor %}</s>"
    "{% endif %}{% endfor %}"
)


def feature_question(feature: str) -> str:
    """What is asked of generic faces, e.g. their hair color."""
    return f"What is the {feature} of this person?"


def stranger(rng: np.random.Generator) -> dict[str, str]:
    """What is asked of a portrait -> what may be true of anybody: a person of random facts."""
    profile = {name: str(rng.choice(values)) for name, values in ATTRIBUTES.items()}
    name = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    options = {attribute: (value,) for attribute, value in profile.items()}
    asked = person_questions("P", name, None, profile, options, ["a"], [], [])
    return {question.prompt: question.answer for question in asked if question.image}


def _corpus(template: str) -> Iterator[str]:
    """The texts whose words become single tokens, those of the chat template among them. Anything else is spelled in
    bytes."""
    profile = {name: values[0] for name, values in ATTRIBUTES.items()}
    options = {name: values[:4] for name, values in ATTRIBUTES.items()}
    for question in person_questions("P", "Ada Moss", None, profile, options, ["a"], ["b"], ["a"]):
        yield f"{question.prompt} {question.answer}"
    for values in (*ATTRIBUTES.values(), *FEATURES.values(), FIRST_NAMES, LAST_NAMES):
        yield from (f" {value}" for value in values)
        yield from (f" {value}." for value in values)
    yield from (feature_question(feature) for feature in FEATURES)
    yield template


def train_bpe(special_tokens: Sequence[str], template: str) -> Tokenizer:
    """Byte-level BPE: every text encodes and decodes to itself; the words of the benchmark and of the chat template
    are one token each."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(template), trainer)
    return tokenizer


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The embedded LLaVA's tokenizer."""
    return PreTrainedTokenizerFast(
        tokenizer_object=train_bpe(["<pad>", "<s>", "</s>", "<image>"], "USER: \n ASSISTANT:"),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
    )


def make_image_processor() -> CLIPImageProcessorPil:
    """Resize the short side to 64, crop the middle, scale to about [-2, 2]."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
    """A freshly initialised embedded LLaVA: tower 4 x 128, Llama 3 x 128, 16 image tokens."""
    torch.manual_seed(seed)
    tower = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        projection_dim=WIDTH,
        initializer_range=INITIALIZER_STD,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        initializer_range=INITIALIZER_STD,
    )
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    text.update(ids)
    config = LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(IMAGE_SIZE // PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        initializer_range=INITIALIZER_STD,
        **ids,
    )
    model = LlavaForConditionalGeneration(config)
    for module in model.model.vision_tower.modules():
        if isinstance(module, torch.nn.Linear):  # CLIP's own rule scales by depth and learns slower
            torch.nn.init.normal_(module.weight, std=INITIALIZER_STD)
    return model


def make(seed: int) -> Llava:
    """A freshly initialised embedded model with its tokenizer and image processor."""
    tokenizer = make_tokenizer()
    return Llava(make_model(tokenizer, seed), tokenizer, make_image_processor())
