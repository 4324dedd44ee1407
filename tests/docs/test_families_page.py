"""The page on model families names the families there are, and its example is one."""

import re
from pathlib import Path

import torch

from unsee.mllm import families
from unsee.mllm.families import FAMILIES, Mllm
from unsee.mllm.packing import pack_training

PAGE = (Path(__file__).parents[2] / "docs" / "families.md").read_text()


def test_the_table_of_families_is_the_registry():
    table = PAGE.partition("| family |")[2].partition("What is tuned")[0]
    assert re.findall(r"^\| [^|]+ \| `(\w+)` \|", table, re.M) == list(FAMILIES)


def test_every_fact_of_a_family_the_page_names_exists():
    table = PAGE.partition("| fact | where |")[2].partition("As an example")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.rpartition(" | ")[2])}
    assert len(named) > 15
    assert {name for name in named if name not in {*dir(Mllm), *Mllm.__annotations__}} == set()
    assert FAMILIES is families.FAMILIES


def test_the_page_s_example_is_a_family(llava, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (tmp_path / "whole.py").write_text(code)
    scope: dict = {}
    exec(compile(code, str(tmp_path / "whole.py"), "exec"), scope)
    llava.model.config.vision_feature_select_strategy = "full"
    mllm = scope["Whole"](llava.model, llava.tokenizer, llava.image_processor)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = mllm.features(pixels)
        rendered = mllm.prompter.trained("Who is this?", "Ada Moss", image=True)
        packed = pack_training([[rendered]], mllm.pad)
        found = mllm.head(mllm.hidden(packed, features))
        ids = torch.tensor([rendered.prompt + rendered.answers[0]])
        expected = mllm.model(**mllm.model_inputs(ids, pixels)).logits[0, len(rendered.prompt) - 1 : -1]
    assert features.shape[1] == 17
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
