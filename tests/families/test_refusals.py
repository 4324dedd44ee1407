"""What cannot be done truthfully is refused, in one sentence with the mend."""

import json

import pytest
import torch
from tiny_families import template, text
from transformers import AutoConfig, BloomConfig, LlamaConfig

from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.mllm.families import FAMILIES, Gemma3, Llava, Mllm
from unsee.mllm.packing import pack_training


def test_an_unknown_family_is_refused_with_what_is_missing_and_where_to_say_it(tmp_path):
    AutoConfig.for_model("blip-2").save_pretrained(tmp_path)
    told = (
        r"model_type 'blip-2' is not supported: nobody has said where its tower, projector and LLM are, and what "
        r"stands for an image in its prompts; say so as docs/families\.md does, or use one of llava, llava_next"
    )
    with pytest.raises(UserError, match=told):
        checkpoint.load_full(tmp_path)


def test_a_family_that_lacks_facts_names_them_when_it_is_made(llava):
    class Half(Mllm):
        pass

    with pytest.raises(TypeError, match=r"abstract methods? '?image_tokens'?, '?project'?"):
        Half(llava.model, llava.tokenizer, llava.image_processor)


def test_an_llm_of_another_kind_is_refused(tiny):
    model = tiny["llava_next"].model
    config = model.model.language_model.config
    model.model.language_model.config = BloomConfig()
    try:
        with pytest.raises(UserError, match=r"an LLM of model_type 'bloom' is not known .* one of llama, mistral"):
            type(tiny["llava_next"])(model, tiny["llava_next"].tokenizer, tiny["llava_next"].image_processor)
    finally:
        model.model.language_model.config = config
    assert LlamaConfig().model_type in Llava.llms


def test_a_projector_that_reads_several_tower_layers_is_refused(tiny):
    mllm, chosen = tiny["mistral3"], tiny["mistral3"].model.config.vision_feature_layer
    mllm.model.config.vision_feature_layer = [-2, -1]
    try:
        with pytest.raises(UserError, match=r"vision_feature_layer = \[-2, -1\], but a projector that reads several"):
            mllm.tower_mlps()
    finally:
        mllm.model.config.vision_feature_layer = chosen


def test_pan_and_scan_is_refused(tiny):
    gemma = tiny["gemma3"]
    processor = type(gemma.image_processor)(do_pan_and_scan=True)
    with pytest.raises(UserError, match=r"do_pan_and_scan = true .* set it to false"):
        Gemma3(gemma.model, gemma.tokenizer, processor)


def test_a_template_that_puts_the_image_behind_the_question_is_refused(tiny):
    mllm = tiny["smolvlm"]
    words = type(mllm.tokenizer)(
        tokenizer_object=mllm.tokenizer.backend_tokenizer, pad_token="<pad>", eos_token="</s>",
        chat_template=template("", "", "<image> :", "</s>"),
    )  # fmt: skip
    turned = type(mllm)(mllm.model, words, mllm.image_processor)
    row = [turned.prompter.trained(question, "yes", image=True) for question in ("Is it?", "Or is it not?")]
    features = torch.zeros(1, turned.image_tokens, 32)
    with pytest.raises(UserError, match="the chat template puts the image behind the question: 0 of its 4 tokens"):
        turned.hidden(pack_training([row], turned.pad), features)
    assert text(words)["vocab_size"] == len(words)


def test_without_a_chat_template_a_folder_is_refused_unless_its_family_has_one_or_an_older_file_holds_it(
    tiny, tmp_path
):
    for name in ("internvl", "paligemma"):
        checkpoint.save_full(tiny[name], tmp_path / name)
        (tmp_path / name / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"internvl holds no chat template, in .*; add its publisher's"):
        checkpoint.load_full(tmp_path / "internvl")
    (tmp_path / "internvl/chat_template.json").write_text(json.dumps({"chat_template": "kept"}))
    assert checkpoint.load_full(tmp_path / "internvl").tokenizer.chat_template == "kept"
    found = checkpoint.load_full(tmp_path / "paligemma").tokenizer.chat_template
    assert found == FAMILIES["paligemma"].chat_template
