"""Shared parts: one small generated benchmark and freshly initialised models of the real classes."""

import copy
from pathlib import Path

import pytest

from unsee.bench.float64 import to_float64
from unsee.benchmark import embedded as embedded_benchmark
from unsee.benchmark.schema import Benchmark
from unsee.mllm import embedded as embedded_model
from unsee.mllm.families import Llava, set_compute
from unsee.settings import BenchmarkSettings


@pytest.fixture(scope="session", autouse=True)
def _compute() -> None:
    set_compute(threads=2)


@pytest.fixture(scope="session")
def benchmark_settings() -> BenchmarkSettings:
    return BenchmarkSettings(forget=2, retain=3, train_views=3, heldout_views=1, seed=7)


@pytest.fixture(scope="session")
def small_benchmark(tmp_path_factory: pytest.TempPathFactory, benchmark_settings: BenchmarkSettings) -> Benchmark:
    directory: Path = tmp_path_factory.mktemp("benchmark") / "small"
    return embedded_benchmark.generate(benchmark_settings, directory)


@pytest.fixture(scope="session")
def _fresh_llava() -> Llava:
    return embedded_model.make(seed=3)


@pytest.fixture
def llava(_fresh_llava: Llava) -> Llava:
    """A fresh embedded LLaVA in float32, safe to change."""
    return Llava(copy.deepcopy(_fresh_llava.model).eval(), _fresh_llava.tokenizer, _fresh_llava.image_processor)


@pytest.fixture
def llava64(llava: Llava) -> Llava:
    """The same in float64, where exactness can be told from rounding."""
    to_float64(llava)
    return llava
