"""Shared parts: one small generated benchmark, freshly initialised models of the real classes, a real S3 server."""

import datetime
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

# Read when torch is imported: OpenMP's threads wait without taking a busy machine's time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from unlearning_work import copy_of, few_questions, pruned_neurons, random_fisher, settings

from unsee.bench.float64 import to_float64
from unsee.benchmark import embedded as embedded_benchmark
from unsee.benchmark.schema import Benchmark, ForgetRequest
from unsee.compute import Compute
from unsee.mllm.base_model import MAKE
from unsee.mllm.families import Llava, Mllm
from unsee.mllm.rows import ImageBank
from unsee.requests import inbox
from unsee.requests.inbox import DeletionRequest
from unsee.sections import BenchmarkSettings, PruneSettings
from unsee.stack import Stack
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.unlearning.method import Work
from unsee.unlearning.trainer import Unlearning


@pytest.fixture(scope="session", autouse=True)
def _compute() -> None:
    Compute(threads=1).start()  # tests run side by side, and threads that wait for a busy core take ten times as long


@pytest.fixture(scope="session")
def benchmark_settings() -> BenchmarkSettings:
    return BenchmarkSettings(forget=2, retain=3, train_views=3, heldout_views=1, seed=7)


@pytest.fixture(scope="session")
def small_benchmark(tmp_path_factory: pytest.TempPathFactory, benchmark_settings: BenchmarkSettings) -> Benchmark:
    directory: Path = tmp_path_factory.mktemp("benchmark") / "small"
    return embedded_benchmark.generate(benchmark_settings, directory)


@pytest.fixture(scope="session")
def clear_benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """One in CLEAR's shape: captions and names."""
    settings = BenchmarkSettings(shape="clear", forget=4, retain=4, train_views=2, heldout_views=1, seed=7)
    return embedded_benchmark.generate(settings, tmp_path_factory.mktemp("benchmark") / "clear")


@pytest.fixture(scope="session")
def fresh() -> dict[str, Mllm]:
    """A freshly initialised embedded model of each family, Qwen2-VL's with biases that are not zero."""
    made = {name: make(3) for name, make in MAKE.items()}
    for name, parameter in made["qwen2_vl"].model.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.fixture(params=MAKE)
def family(request: pytest.FixtureRequest) -> str:
    """What a test of every family runs over."""
    return request.param


@pytest.fixture
def mllm(fresh: dict[str, Mllm], family: str) -> Mllm:
    """A fresh embedded model of the family in float32, safe to change."""
    return copy_of(fresh[family])


@pytest.fixture
def mllm64(mllm: Mllm) -> Mllm:
    """The same in float64, where exactness can be told from rounding."""
    to_float64(mllm)
    return mllm


@pytest.fixture
def llava(fresh: dict[str, Mllm]) -> Llava:
    """A fresh embedded LLaVA in float32, safe to change."""
    return copy_of(fresh["llava"])


@pytest.fixture
def llava64(llava: Llava) -> Llava:
    """The same in float64."""
    to_float64(llava)
    return llava


@pytest.fixture
def request_(small_benchmark: Benchmark) -> ForgetRequest:
    """One person to forget, one to retain, three portraits each."""
    first, second, *_ = small_benchmark.entities
    return ForgetRequest((first,), (second,), ())


@pytest.fixture
def make_work(small_benchmark, request_):
    """make_work(llava, method, **settings): up to three questions per row, two neurons pruned in one layer."""

    def make(llava, method="vkd", *, questions=3, pruned_layer=3, retrained=None, **changes):
        benchmark = few_questions(small_benchmark, questions)
        return Work(
            settings=settings(method, **changes),
            mllm=llava,
            bank=ImageBank(llava, benchmark),
            benchmark=benchmark,
            request=request_,
            pruned=pruned_neurons(pruned_layer),
            pruning=PruneSettings.model_validate({"threshold": {"fraction": 0.1}, "layers": 2}),
            fisher=random_fisher(llava),
            retrained=retrained,
        )

    return make


@pytest.fixture
def make(make_work):
    """make(llava, method, **settings): the same, put together for training."""

    def of(llava, method="vkd", *, checkpoints=None, **changes):
        return Unlearning.of(make_work(llava, method, **changes), checkpoints or Checkpoints(), NoTracker())

    return of


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MLflow database without runs, made once: its migrations take longer than most tests."""
    from mlflow import MlflowClient  # takes a second, and few files track anything

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def database(empty_database: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a database of its own, at `tmp_path` / mlflow.db, which MLFLOW_TRACKING_URI names."""
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """SeaweedFS, by the environment that reaches it."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    stack.up(["s3"])
    yield stack.environment()
    stack.down()


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty prefix of a real bucket."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://unsee/{uuid.uuid4().hex}"


@pytest.fixture(params=["file", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place in each kind of store."""
    return request.getfixturevalue("s3") if request.param == "s3" else (tmp_path / "store").as_uri()


@pytest.fixture
def ask():
    """ask(root, id, *entities): put a request into the inbox."""

    def put(root: str, request_id: str, *entities: str) -> DeletionRequest:
        when = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
        request = DeletionRequest(request_id=request_id, entities=entities or ("P001",), received_at=when)
        inbox.add(root, request)
        return request

    return put
