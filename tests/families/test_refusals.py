"""What cannot be done truthfully is refused, in one sentence with the mend."""

import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from tiny_families import template, text
from transformers import BloomConfig, LlamaConfig

from unsee.errors import UserError
from unsee.mllm import checkpoint, families
from unsee.mllm.families import FAMILIES, Gemma3, Llava, Mllm
from unsee.mllm.packing import pack_training

FAMILIES_FOLDER = Path(families.__file__).parent


@pytest.mark.parametrize("unknown", ["blip-2", "llava_llama"], ids=["to us", "to transformers"])
def test_an_unknown_family_is_refused_with_what_is_missing_and_where_to_describe_it(unknown, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": unknown}))
    told = (
        rf"config\.json: model_type '{unknown}' is not supported: no family says where its tower, projector, LLM and "
        r"MLP neurons are, how the tokens of an image enter a prompt, which positions they have, and what its chat "
        r"template and image processing are; describe it by a file in src/unsee/mllm/families, as docs/families\.md "
        rf"shows, or use one of {', '.join(FAMILIES)}$"
    )
    with pytest.raises(UserError, match=told):
        checkpoint.load_full(tmp_path)
    assert (FAMILIES_FOLDER / "llava.py").exists()
    assert (FAMILIES_FOLDER.parents[3] / "docs/families.md").exists()


def test_code_that_a_folder_brings_is_not_run_and_nobody_is_asked_whether_to(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    stated = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Theirs"}}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))
    with pytest.raises(UserError, match="model_type 'theirs' is not supported"):
        checkpoint.load_full(tmp_path)
    assert not (tmp_path / "ran").exists()


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
