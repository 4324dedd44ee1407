"""Every family: prompts and pixels are those of its own processor, and what is saved is plain transformers' own."""

import copy
import sys
from unittest.mock import patch

import pytest
import torch
from tiny_families import template
from tokenizers import Tokenizer, processors
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.pixtral import image_processing_pil_pixtral
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from unlearning_work import copy_of

from unsee.mllm import checkpoint, inspect
from unsee.mllm.rows import alike
from unsee.storage import artifact

with patch.dict(sys.modules, {"transformers.models.pixtral.image_processing_pixtral": image_processing_pil_pixtral}):
    # Without torchvision it finds no function to resize by; the module for Pillow has the same one.
    from transformers.models.pixtral.processing_pixtral import PixtralProcessor

WITHOUT_TORCHVISION = {
    "qwen2_vl": Qwen2VLProcessor,
    "qwen2_5_vl": Qwen2_5_VLProcessor,
    "qwen3_vl": Qwen3VLProcessor,
    "llava_onevision": LlavaOnevisionProcessor,
    "internvl": InternVLProcessor,
    "smolvlm": Idefics3Processor,  # SmolVLM's own wants num2words, to count the frames of a video
    "mistral3": PixtralProcessor,
}
"""These read videos too, or are said to need torchvision; AutoProcessor makes none of them without."""


def without_videos(processor_class):
    """The class itself, but for the check that there is a video processor."""

    class WithoutVideos(processor_class):
        def check_argument_for_proper_class(self, _name, argument):
            return type(argument)

    return WithoutVideos


def own_processor(mllm, name, directory):
    """transformers' own, from what was saved."""
    if name not in WITHOUT_TORCHVISION:
        return AutoProcessor.from_pretrained(directory, backend="pil")
    facts = {key: value for key, value in mllm.processor_facts.items() if key != "processor_class"}
    return without_videos(WITHOUT_TORCHVISION[name])(
        mllm.image_processor, mllm.tokenizer, **facts, chat_template=mllm.tokenizer.chat_template
    )


@pytest.fixture
def merged(mllm, tmp_path):
    """A changed model as a delta on its base, merged again."""
    base, delta, out = tmp_path / "base", tmp_path / "delta", tmp_path / "merged"
    checkpoint.save_full(mllm, base)
    with torch.no_grad():
        for parameter in mllm.visual_parameters(1).values():
            parameter.mul_(1.5)
    with artifact.create(delta, "model", {}):
        assert checkpoint.save_delta(mllm, base, delta, method="vkd", seed=0, config={}) == len(
            mllm.visual_parameters(1)
        )
    inspect.merge(delta, base, out)
    return out


def test_a_merged_model_is_plain_transformers_own_to_the_last_bit(mllm, merged):
    state = mllm.model.state_dict()
    plain = AutoModelForImageTextToText.from_pretrained(merged, dtype=torch.float32)
    assert type(plain) is mllm.model_class
    for found in (plain, checkpoint.load_full(merged).model):
        assert found.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in found.state_dict().items())


def test_prompts_pixels_and_logits_are_those_of_the_family_s_own_processor(mllm, name, bank, merged, faces, two_shapes):
    loaded = checkpoint.load_full(merged)
    plain = AutoModelForImageTextToText.from_pretrained(merged, dtype=torch.float32).eval()
    processor = own_processor(loaded, name, merged)
    question = "What is the pet of this person?"
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    if name.startswith("paligemma"):
        text = f"<image>{question}"  # it puts BOS and the end of the line there itself
    for image in (group[0] for group in alike(faces, bank.frame)):
        portrait = two_shapes.image(faces[image])
        inputs = processor(text=text, images=portrait, return_tensors="pt", add_special_tokens=False)
        inputs.pop("labels", None)
        at = loaded.at(bank.frame(image))
        ids = torch.tensor([at.prompter.asked(question, image=True)])
        assert inputs["input_ids"].tolist() == ids.tolist()
        with torch.no_grad():
            expected = plain(**inputs).logits
            found = at.model(**at.model_inputs(ids, at.pixels([portrait]))).logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


LLAVA_1_5 = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def test_a_template_without_bos_and_end_gets_the_tokenizer_s(tiny):
    """As LLaVA-1.5's own has neither."""
    mllm = tiny["llava_next"]
    backend = Tokenizer.from_str(mllm.tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    words = type(mllm.tokenizer)(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=LLAVA_1_5
    )
    prompter = type(mllm)(mllm.model, words, mllm.image_processor).prompter
    trained, scored = prompter.trained("Who?", "Ada", image=True), prompter.scored("Who?", ["Ada"], image=True)
    shown = f"<s>USER: {'<image>' * mllm.image_tokens}\nWho? ASSISTANT:"
    assert words.decode(trained.prompt) == words.decode(prompter.asked("Who?", image=True)) == shown
    assert words.decode(trained.answers[0]) == " Ada</s>"
    assert words.decode(scored.answers[0]) == " Ada"


def test_an_answer_ends_at_whatever_the_model_s_own_generation_stops_at(tiny):
    """As Gemma 3's turns end before EOS."""
    mllm = copy_of(tiny["gemma3"])
    turn = mllm.tokenizer.convert_tokens_to_ids("<end_of_image>")
    mllm.model.generation_config.eos_token_id = [mllm.tokenizer.eos_token_id, turn]
    mllm.tokenizer = copy.copy(mllm.tokenizer)
    mllm.tokenizer.chat_template = template("<s>user\n", "<start_of_image>", "\nmodel\n", "<end_of_image>\n")
    again = type(mllm)(mllm.model, mllm.tokenizer, mllm.image_processor)
    assert again.ends == sorted([mllm.tokenizer.eos_token_id, turn])
    assert again.tokenizer.decode(again.prompter.trained("Who?", "Ada", image=False).answers[0]) == "Ada<end_of_image>"
