"""Progress: a bar on a terminal, otherwise a line every few seconds."""

import os
import pty
import sys

import pytest

from unsee import progress as module
from unsee.benchmark import embedded
from unsee.mllm.rows import FrozenPrefix, ImageBank, Portraits
from unsee.progress import MARK, TERMINAL, progress
from unsee.statistics.activation import mean_absolute_activation
from unsee.unlearning import references
from unsee.unlearning.references import reference_features


@pytest.fixture
def captured(monkeypatch, capsys):
    """Output that is captured, as a pipeline step's is."""
    monkeypatch.delenv(TERMINAL, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    return capsys


def test_items_pass_unchanged(captured):
    assert list(progress(iter("abc"), "letters")) == ["a", "b", "c"]


def test_without_a_terminal_there_is_a_line_with_what_is_left(captured, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    list(progress([1, 2], "training"))
    first, last = captured.readouterr().out.splitlines()
    assert first.startswith(f"{MARK}training 1/2, ")
    assert last.endswith("about 0 s left")


def test_quick_work_prints_nothing(captured):
    list(progress(range(1000), "training"))
    assert captured.readouterr().out == ""


def test_a_captured_step_draws_its_bar_on_the_terminal_it_was_named(captured, monkeypatch):
    reader, writer = pty.openpty()
    monkeypatch.setenv(TERMINAL, os.ttyname(writer))
    list(progress(range(3), "training", total=3))
    os.set_blocking(reader, False)
    assert b"training" in os.read(reader, 4096)
    assert captured.readouterr().out == ""


def test_long_work_tells_how_far_it_is(captured, monkeypatch, small_benchmark, benchmark_settings, llava, tmp_path):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    bank = ImageBank(llava, small_benchmark)
    images = [question.image for question in small_benchmark.select(role="train", modality="vqa")][:2]
    embedded.generate(benchmark_settings, tmp_path / "drawn")
    mean_absolute_activation(llava, bank.pixels, images, batch=1)
    FrozenPrefix(llava, bank.pixels, 2).fill(images, batch=1)
    monkeypatch.setattr(references, "CHUNK", 1)
    reference_features(Portraits(llava, bank, small_benchmark, list(small_benchmark.entities)[:1]))
    told = captured.readouterr().out
    for line in ("drawing portraits 1/25", "neuron importance 1/2", "frozen layers 1/", "the teacher's features 1/3"):
        assert f"{MARK}{line}" in told
