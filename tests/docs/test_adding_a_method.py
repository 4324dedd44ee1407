"""The page on adding a method is executed: its file is a method like any other."""

import math
import re
from pathlib import Path

import pytest
from unlearning_work import settings

from unsee.errors import UserError
from unsee.unlearning import method, methods

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-method.md"
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.fixture
def uniform(tmp_path, monkeypatch):
    (tmp_path / "uniform.py").write_text(CODE)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])


def test_it_has_no_more_than_twenty_lines_of_code():
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 20


def test_before_the_file_is_there_the_method_is_unknown():
    with pytest.raises(UserError, match="method 'uniform' is unknown"):
        method.find("uniform")


def test_the_page_s_method_trains_towards_what_it_says(uniform, llava, make):
    assert "uniform" in method.names()
    assert settings("uniform", epochs=2).method == "uniform"
    work = make(llava, "uniform", epochs=12, learning_rate=3e-3, clip=1.0)
    curve = work.run()
    least = math.log(llava.model.config.text_config.vocab_size)
    assert least <= curve[-1]["forget_loss"] < curve[0]["forget_loss"]
    assert {"retain_loss", "retain_by_name_loss"} <= set(curve[0])


def test_every_file_the_page_names_exists():
    folder = Path(methods.__file__).parent
    for name in re.findall(r"`(\w+\.py)`", PAGE.read_text()):
        assert name == "uniform.py" or (folder / name).exists() or (folder.parent / name).exists(), name
