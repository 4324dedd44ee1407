"""The sections that the steps receive."""

import json

import pytest

from unsee.errors import UserError
from unsee.settings import load_settings
from unsee.steps import resolve_settings


def test_every_section_is_what_the_settings_say():
    sections = resolve_settings.run("embedded", ["unlearn.beta=0.7"], "unlearn: {alpha: 2}", "vkd", 3)
    settings = load_settings("embedded", assignments=["unlearn.beta=0.7", "unlearn.alpha=2"], seed=3)
    assert {name: json.loads(section) for name, section in sections.items()} == settings.model_dump(
        mode="json", exclude={"preset"}
    )


def test_where_a_benchmark_is_given_what_is_generated_is_not_among_them():
    given, generated = (resolve_settings.run("embedded", [], "", "vkd", 0, source) for source in ("people", ""))
    assert generated.keys() - given.keys() == {"benchmark"}
    assert given.items() <= generated.items()


def test_settings_of_generation_are_refused_where_a_benchmark_is_given():
    with pytest.raises(UserError, match="--benchmark people is given"):
        resolve_settings.run("embedded", ["benchmark.retain=4"], "", "vkd", 0, "people")
