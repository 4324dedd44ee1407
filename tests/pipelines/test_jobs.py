"""What the commands ask of the comparison DAG."""

import shutil
from pathlib import Path

import pytest

from unsee.benchmark.schema import Benchmark
from unsee.errors import UserError
from unsee.storage import artifact
from unsee.storage.transfer import upload
from unsee_pipelines import jobs
from unsee_pipelines.jobs import Request

REQUEST = Request()


def percents(job: jobs.Job) -> str:
    return job.arguments["overrides"][0]


def test_a_sweep_is_a_comparison_of_one_method_with_itself() -> None:
    job = jobs.sweep_job(REQUEST, "vkd", "unlearn.beta=0,14", range(2))
    assert job.arguments["methods"] == ["vkd unlearn.beta=0", "vkd unlearn.beta=14"]
    assert (job.arguments["seeds"], job.arguments["report"], job.name) == ([0, 1], "sweep", "sweep")
    assert job.dag is jobs.compare_job(REQUEST, ["vkd"], [0]).dag
    assert percents(job) == "relearn.percents=[20]"
    assert job.steps == 2 + 2 * (10 + 2 * 5)


def test_any_setting_of_pruning_and_unlearning_may_be_swept() -> None:
    for parameter in ("prune.threshold.fraction=0.01,0.1", "unlearn.mask.fraction=0.2,0.8", "unlearn.layers=1,2,null"):
        assert jobs.sweep_job(REQUEST, "vkd", parameter, [0]).arguments["methods"]


@pytest.mark.parametrize(
    "setting", ["vanilla.steps=3", "benchmark.forget=3", "evaluation.choice=letter", "compute.threads=1"]
)
def test_a_setting_that_reaches_other_models_too_is_no_method_s_own(setting: str) -> None:
    with pytest.raises(UserError, match=rf"ga {setting}: {setting.partition('=')[0]} is the same for all methods"):
        jobs.compare_job(REQUEST, ["vkd", f"ga {setting}"], [0])


@pytest.mark.parametrize("setting", ["statistics: {fisher_unit: question}", "relearn: {percents: [30]}"])
def test_a_config_may_not_give_one_method_what_reaches_other_models_too(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"methods: {{ga: {{{setting}}}}}", encoding="utf-8")
    with pytest.raises(UserError, match=rf"ga: {setting.partition(':')[0]} is the same for all methods"):
        jobs.compare_job(Request(config=file), ["vkd", "ga"], [0])


def test_an_assignment_may_not_either_and_changes_what_is_tried() -> None:
    with pytest.raises(UserError, match="ga: evaluation is the same for all methods"):
        jobs.compare_job(Request(assignments=("methods.ga.evaluation.choice=letter",)), ["vkd", "ga"], [0])
    request = Request(assignments=("methods.vkd.strength.values=[3]",))
    assert jobs.frontier_job(request, "vkd", [0]).arguments["methods"] == ["vkd unlearn.bound=3"]


def test_methods_are_compared_without_vkd() -> None:
    request = Request(assignments=("unlearn.forget_term=kl",))
    job = jobs.compare_job(request, ["kl_min unlearn.clip=2", "kl_min"], [0])
    assert job.parameters["methods"] == ["kl_min unlearn.clip=2", "kl_min"]
    assert job.parameters.keys().isdisjoint({"unlearn", "prune"})
    assert job.parameters["vanilla"]["steps"] == 300


def test_the_comparison_s_own_attack_gives_way_to_a_config(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("relearn: {percents: [30]}", encoding="utf-8")
    job = jobs.compare_job(Request(config=file), ["vkd"], [0])
    assert job.arguments["overrides"] == []
    assert job.parameters["relearn"]["percents"] == (30,)
    file.write_text("relearn: {epochs: 2}", encoding="utf-8")
    assert percents(jobs.compare_job(Request(config=file), ["vkd"], [0])) == "relearn.percents=[20]"


@pytest.mark.parametrize("methods", [" , ", ""])
def test_a_list_that_names_no_method_is_refused(methods: str) -> None:
    with pytest.raises(UserError, match=f"--methods '{methods}' names no method"):
        jobs.expand(REQUEST, methods)


def test_a_group_without_a_member_is_no_method_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "method_entries", lambda *_: {"vkd": {}})
    with pytest.raises(UserError, match="--methods 'ablations' names no method"):
        jobs.expand(REQUEST, "ablations")


def test_variants_of_ours_are_a_group_beside_the_rows_of_the_ablation() -> None:
    variants, ablations = jobs.expand(REQUEST, "variants"), jobs.expand(REQUEST, "ablations")
    assert variants == ["vkd_plain", "vkd_resist", "vkd_full", "vkd_features"]
    assert {"b", "f", "b_mask", "f_mask", "parallel"} < {*ablations}
    assert not {*ablations} & {*variants, *jobs.expand(REQUEST, "all")}


def test_frontiers_and_searches_attack_nobody_unless_asked() -> None:
    frontier = jobs.frontier_job(REQUEST, "vkd,manu", [0])
    assert percents(frontier) == percents(jobs.search_job(REQUEST, "ga", 2, "100")) == "relearn.percents=[]"
    assert {name.split()[0] for name in frontier.arguments["methods"]} == {"vkd", "manu"}
    asked = jobs.frontier_job(Request(assignments=("relearn.percents=[30]",)), "vkd", [0])
    assert asked.arguments["overrides"][-1] == "relearn.percents=[30]"


def test_a_search_has_the_same_budget_for_every_method() -> None:
    job = jobs.search_job(REQUEST, "all", 3, "100, 101")
    methods = [name.split()[0] for name in job.arguments["methods"]]
    assert {methods.count(name) for name in methods} == {3}
    assert set(methods) == set(jobs.expand(REQUEST, "all"))
    assert (job.arguments["seeds"], job.arguments["report"]) == ([100, 101], "search")


@pytest.mark.parametrize("given", [0, 99])
def test_a_search_on_a_reported_benchmark_is_refused(given: int) -> None:
    request = Request(assignments=(f"benchmark.seed={given}",))
    with pytest.raises(UserError, match=f"benchmark.seed names {given}, but figures are reported at seeds below 100"):
        jobs.search_job(request, "ga", 1, "100,101")
    assert jobs.search_job(Request(assignments=("benchmark.seed=100",)), "ga", 1, "101").arguments["seeds"] == [101]


def test_a_search_on_a_directory_of_a_reported_benchmark_is_refused(small_benchmark: Benchmark, tmp_path: Path) -> None:
    """It was drawn from seed 7; of photographs, the seed says which of them are held out."""
    with pytest.raises(UserError, match=r"--benchmark .* names 7, but figures are reported at seeds below 100"):
        jobs.search_job(Request(benchmark=str(small_benchmark.directory)), "ga", 1, "100")
    photographs = shutil.copytree(small_benchmark.directory, tmp_path / "photographs")
    manifest = photographs / artifact.MANIFEST
    manifest.write_text(manifest.read_text().replace('"source": "embedded"', '"source": "folder"'))
    assert jobs.search_job(Request(benchmark=str(photographs)), "ga", 1, "100").arguments["seeds"] == [100]


@pytest.mark.parametrize("make", [jobs.unlearn_job, jobs.continual_job])
def test_a_benchmark_by_its_address_is_known_by_its_content_as_a_directory_is(make, small_benchmark, tmp_path) -> None:
    directory, root = small_benchmark.directory, (tmp_path / "store").as_uri()
    address = upload(directory, "benchmark", root)
    by_address, by_directory = (make(Request(benchmark=given), "vkd", 0) for given in (address, str(directory)))
    assert by_address.arguments == {**by_directory.arguments, "benchmark": address}
    assert by_address.parameters["benchmark_source"] == address
    assert by_address.reads == (tmp_path / "store" / "benchmark" / Path(address).name,)


def test_of_a_benchmark_by_its_address_people_are_checked_and_photographs_not_fetched(
    small_benchmark: Benchmark, tmp_path: Path
) -> None:
    address = upload(small_benchmark.directory, "benchmark", (tmp_path / "store").as_uri())
    for photograph in (tmp_path / "store").rglob("*.png"):
        photograph.unlink()
    with pytest.raises(UserError, match="--forget names P999, not in benchmark"):
        jobs.unlearn_job(Request(benchmark=address, forget=("P999",)), "vkd", 0)
    next((tmp_path / "store").rglob(artifact.MANIFEST)).unlink()
    with pytest.raises(UserError, match=f"{address} is no complete benchmark"):
        jobs.unlearn_job(Request(benchmark=address), "vkd", 0)


def test_a_search_on_a_reported_benchmark_in_a_store_is_refused(small_benchmark: Benchmark, tmp_path: Path) -> None:
    address = upload(small_benchmark.directory, "benchmark", tmp_path.as_uri())
    with pytest.raises(UserError, match=r"--benchmark file://.* names 7, but figures are reported at seeds below 100"):
        jobs.search_job(Request(benchmark=address), "ga", 1, "100")


def test_a_seed_written_in_two_ways_is_the_same() -> None:
    with pytest.raises(UserError, match="--seeds '100,0100' are not different numbers"):
        jobs.search_job(REQUEST, "ga", 1, "100,0100")


def test_a_published_benchmark_is_not_fetched_before_its_step() -> None:
    job = jobs.unlearn_job(Request("qwen2-vl-7b-clear"), "vkd", 0)
    assert job.parameters["benchmark"] == {
        "layout": "clear", "source": "therem/CLEAR", "forget_percent": 5, "seed": 0
    }  # fmt: skip
    assert job.arguments["benchmark"] == ""


def test_a_local_copy_of_a_published_benchmark_is_known_by_its_content(tmp_path: Path) -> None:
    request = Request("llava-1.5-7b-mllmu", assignments=(f"benchmark.source={tmp_path}",))
    identities = [jobs.unlearn_job(request, "vkd", 0).arguments["code_digest"]]
    for content in ("one", "another"):
        (tmp_path / "train.parquet").write_text(content, encoding="utf-8")
        identities.append(jobs.unlearn_job(request, "vkd", 0).arguments["code_digest"])
    assert len(set(identities)) == 3


def test_a_setting_is_not_swept_over_a_value_of_its_own() -> None:
    with pytest.raises(UserError, match=r"vkd unlearn\.beta=3 unlearn\.beta=1: unlearn\.beta is given 2 times"):
        jobs.sweep_job(REQUEST, "vkd unlearn.beta=3", "unlearn.beta=1,2", [0])


def test_names_and_values_to_try_may_come_from_a_config(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "methods: {mild: {unlearn: {method: ga}, strength: {parameter: unlearn.clip, values: [1, 2]}}}",
        encoding="utf-8",
    )
    request = Request(config=file)
    assert "mild" in jobs.expand(request, "ablations")
    assert jobs.frontier_job(request, "mild", [0]).arguments["methods"] == [
        "mild unlearn.clip=1",
        "mild unlearn.clip=2",
    ]
