"""KFP's local engine runs a loop within a loop, as the comparison has one, with the item of either."""

import io
from pathlib import Path

import pytest
from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from unsee_pipelines import local
from unsee_pipelines.engine import step_names
from unsee_pipelines.runners import Processes
from unsee_pipelines.transcript import Transcript, everything_into


@dsl.component(base_image="none", install_kfp_package=False)
def tell(method: str, seed: int, told: Output[Artifact]):
    with open(told.path, "w") as file:  # noqa: PTH123
        file.write(f"{method} {seed}")


@dsl.component(base_image="none", install_kfp_package=False)
def gather(each: Input[list[Artifact]], gathered: Output[Artifact]):
    with open(gathered.path, "w") as file:  # noqa: PTH123
        file.write(", ".join(open(one.path).read() for one in each))  # noqa: PTH123, SIM115


@dsl.pipeline
def nested(seeds: list[int], methods: list[str]):
    with dsl.ParallelFor(seeds, parallelism=1) as seed:
        with dsl.ParallelFor(methods, parallelism=1) as method:
            told = tell(method=method, seed=seed)
        of_seed = gather(each=dsl.Collected(told.outputs["told"]))
    gather(each=dsl.Collected(of_seed.outputs["gathered"]))


def execute(tmp_path: Path, **arguments: list[int] | list[str]) -> Path:
    """Run it and return where its artifacts are."""
    place = local.Workplace(tmp_path / "out")
    place.cache.mkdir(parents=True)
    names = step_names(nested.pipeline_spec)
    transcript = Transcript(names, io.StringIO(), io.StringIO(), lambda step: None, len(names), lambda task: True)
    with everything_into(transcript), Processes().of_kfp(tmp_path, [], []) as runner:
        local._execute(nested.pipeline_spec, arguments, tmp_path / "artifacts", place, transcript, runner)
    return tmp_path / "artifacts"


def test_an_inner_loop_sees_the_item_of_the_outer_one(tmp_path: Path) -> None:
    artifacts = execute(tmp_path, seeds=[0, 1], methods=["vkd", "npo"])
    (gathered,) = artifacts.glob("*/gather-2/gathered")
    assert gathered.read_text() == "vkd 0, npo 0, vkd 1, npo 1"


def test_a_pipeline_that_ends_before_any_step_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("refused")

    monkeypatch.setattr(local, "run_local_pipeline", refuse)
    with pytest.raises(local.StepError, match=r"no step failed: refused \(details in .*log.txt\)"):
        execute(tmp_path, seeds=[0], methods=["vkd"])
