"""`unsee pipeline upload`, `submit`, `schedule`, `unschedule`, `status` against a server that speaks KFP's API."""

from http import HTTPStatus

import kfp_server_api as api
import pytest
import yaml
from kfp_commands import IMAGE, NIGHTLY, Left, Pipeline, only, written
from kfp_server import ROUTES, KfpServer, Refused

from unsee_pipelines.compile import COMPILED


def test_all_pipelines_are_uploaded_under_the_names_they_are_compiled_with(server, pipeline) -> None:
    assert pipeline("upload").code == 0
    assert {p.display_name for p in server.pipelines.values()} == {
        "unsee-unlearn", "unsee-compare", "unsee-sweep", "unsee-continual"
    }  # fmt: skip
    assert len(server.versions) == len(server.pipelines)


def test_what_is_uploaded_is_the_golden(uploaded: KfpServer) -> None:
    specification, platform = yaml.safe_load_all((COMPILED / "unlearn.yaml").read_text())
    version = only(uploaded.versions)
    assert version.pipeline_spec["pipeline_spec"]["root"]["dag"].keys() == specification["root"]["dag"].keys()
    assert version.pipeline_spec["pipeline_spec"]["deploymentSpec"] == specification["deploymentSpec"]
    assert version.pipeline_spec["platform_spec"] == platform
    assert only(uploaded.pipelines).description == specification["pipelineInfo"]["description"]


def test_the_same_specification_is_not_uploaded_twice(uploaded: KfpServer, pipeline: Pipeline) -> None:
    before = written(uploaded)
    again = pipeline("upload", "unlearn")
    assert again.out == f"unlearn {only(uploaded.versions).display_name} is already there\n"
    assert written(uploaded) == before


def test_a_changed_one_is_a_new_version_of_the_same_pipeline(uploaded: KfpServer, pipeline: Pipeline) -> None:
    pipeline("upload", "unlearn", "--image", IMAGE)
    assert len(uploaded.pipelines) == 1
    first, second = uploaded.versions.values()
    assert first.display_name != second.display_name
    executors = second.pipeline_spec["pipeline_spec"]["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {IMAGE}


def test_a_run_is_of_the_newest_version_with_arguments_of_the_parameters_types(uploaded, pipeline) -> None:
    pipeline("upload", "unlearn", "--image", IMAGE)
    arguments = ("seed=3", "method=ga", "gpus=1", 'forget=["P001"]', 'node_selector={"pool":"gpu"}', "config=a: b=c")
    assert pipeline("submit", "unlearn", *(part for each in arguments for part in ("--param", each))).code == 0
    run = only(uploaded.runs)
    assert run.runtime_config.parameters == {
        "seed": 3,
        "method": "ga",
        "gpus": "1",
        "forget": ["P001"],
        "node_selector": {"pool": "gpu"},
        "config": "a: b=c",
    }
    assert run.pipeline_version_reference.pipeline_version_id == [*uploaded.versions][-1]
    assert only(uploaded.experiments).display_name == "unsee-unlearn"


def test_runs_of_a_pipeline_share_an_experiment(uploaded: KfpServer, pipeline: Pipeline) -> None:
    for _ in range(2):
        assert pipeline("submit", "unlearn").code == 0
    assert len(uploaded.runs) == 2
    assert {run.experiment_id for run in uploaded.runs.values()} == {*uploaded.experiments}


def test_an_older_version_may_be_named_and_an_unknown_one_is_told(uploaded: KfpServer, pipeline: Pipeline) -> None:
    older = only(uploaded.versions)
    pipeline("upload", "unlearn", "--image", IMAGE)
    assert pipeline("submit", "unlearn", "--version", older.display_name).code == 0
    assert only(uploaded.runs).pipeline_version_reference.pipeline_version_id == older.pipeline_version_id
    refused = pipeline("submit", "unlearn", "--version", "0.0-none")
    newest = [*uploaded.versions.values()][-1].display_name
    assert refused.code == 2
    assert (
        f"--version 0.0-none: pipeline unlearn has no such version; its newest are {newest}, {older.display_name}"
        in (refused.err)
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("submit", "forget"), "there is no pipeline 'forget'; there are unlearn, compare, sweep"),
        (("submit", "compare"), "pipeline compare is not on the server; run unsee pipeline upload compare"),
        (("schedule", "compare", "--cron", NIGHTLY), "pipeline compare is not on the server"),
        (("unschedule", "forget"), "there is no pipeline 'forget'"),
        (("status", "compare"), "pipeline compare is not on the server"),
        (("upload", "unlearn", "forget"), "there is no pipeline 'forget'"),
        (("upload", "unlearn", "--image", "two words"), "--image 'two words' is no image reference"),
        (("upload", "unlearn", "--shared-memory", "much"), "--shared-memory 'much' is no quantity"),
        (("submit", "unlearn", "--param", "seed"), "--param 'seed' is not NAME=VALUE"),
        (("submit", "unlearn", "--param", "sede=1"), "--param sede: pipeline unlearn has no such parameter; it has "),
        (("submit", "unlearn", "--param", "seed=1.5"), "--param seed=1.5: seed is a whole number; write e.g."),
        (("submit", "unlearn", "--param", "seed=true"), "seed is a whole number"),
        (("submit", "unlearn", "--param", "seed=one"), "seed is a whole number"),
        (("submit", "unlearn", "--param", "forget=P001"), "--param forget=P001: forget is a JSON list; write e.g."),
        (("submit", "unlearn", "--param", "node_selector=[1]"), "node_selector is a JSON object"),
        (("submit", "unlearn", "--param", "seed=1", "--param", "seed=2"), "--param seed is given twice"),
    ],
)
def test_what_cannot_be_asked_is_told_and_nothing_is_written(uploaded, pipeline, arguments, told) -> None:
    before = written(uploaded)
    left = pipeline(*arguments)
    assert left.code == 2
    assert told in left.err
    assert written(uploaded) == before


def test_an_unknown_parameter_is_told_with_those_there_are(uploaded: KfpServer, pipeline: Pipeline) -> None:
    told = pipeline("submit", "unlearn", "--param", "sede=1").err
    assert "it has accelerator, benchmark, benchmark_digest, code_digest, config, cpu, forget, gpus, memory, " in told


def test_a_schedule_runs_one_at_a_time_and_leaves_missed_runs_out(uploaded: KfpServer, pipeline: Pipeline) -> None:
    assert pipeline("schedule", "unlearn", "--cron", NIGHTLY, "--param", "seed=1").code == 0
    made = only(uploaded.recurring_runs)
    assert made.trigger.cron_schedule.cron == NIGHTLY
    assert (made.no_catchup, made.max_concurrency, made.mode) == (True, "1", api.RecurringRunMode.ENABLE)
    assert made.runtime_config.parameters == {"seed": 1}
    assert made.pipeline_version_reference.pipeline_version_id == only(uploaded.versions).pipeline_version_id
    assert made.display_name == "unsee-unlearn"


def test_the_same_schedule_is_left_alone(uploaded: KfpServer, pipeline: Pipeline) -> None:
    pipeline("schedule", "unlearn", "--cron", NIGHTLY)
    before = written(uploaded)
    assert pipeline("schedule", "unlearn", "--cron", NIGHTLY).out == f"unlearn is already scheduled: {NIGHTLY}\n"
    assert written(uploaded) == before


@pytest.mark.parametrize("change", ["cron", "parameter", "version", "switched off"])
def test_a_changed_schedule_is_replaced(uploaded: KfpServer, pipeline: Pipeline, change: str) -> None:
    pipeline("schedule", "unlearn", "--cron", NIGHTLY)
    before = only(uploaded.recurring_runs)
    if change == "version":
        pipeline("upload", "unlearn", "--image", IMAGE)
    if change == "switched off":
        before.status = api.V2beta1RecurringRunStatus.DISABLED
    cron = "0 0 3 * * 1-5" if change == "cron" else NIGHTLY
    parameters = ("--param", "seed=2") if change == "parameter" else ()
    assert pipeline("schedule", "unlearn", "--cron", cron, *parameters).out.endswith(f"unlearn scheduled: {cron}\n")
    after = only(uploaded.recurring_runs)
    assert after.recurring_run_id != before.recurring_run_id
    assert after.status == api.V2beta1RecurringRunStatus.ENABLED
    assert after.pipeline_version_reference.pipeline_version_id == [*uploaded.versions][-1]


def test_a_schedule_that_cannot_be_replaced_stays(uploaded, pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline("schedule", "unlearn", "--cron", NIGHTLY)
    before = only(uploaded.recurring_runs)

    def refuse(*_: object) -> None:
        raise Refused(HTTPStatus.BAD_REQUEST, "Invalid input error: the parameters are too long")

    monkeypatch.setitem(ROUTES, ("POST", "/recurringruns"), refuse)
    left = pipeline("schedule", "unlearn", "--cron", "0 0 3 * * *")
    assert left.code == 2
    assert "refuses what was asked (400: Invalid input error: the parameters are too long)" in left.err
    assert only(uploaded.recurring_runs) is before


def test_of_many_schedules_with_the_pipeline_s_name_the_right_one_stays_alone(uploaded, pipeline) -> None:
    pipeline("schedule", "unlearn", "--cron", NIGHTLY)
    right = only(uploaded.recurring_runs)
    for number in range(25):
        wrong = api.V2beta1RecurringRun(**{**right.to_dict(), "description": "by hand", "trigger": right.trigger})
        wrong.recurring_run_id = f"wrong-{number}"
        uploaded.recurring_runs = {wrong.recurring_run_id: wrong, **uploaded.recurring_runs}
    assert pipeline("schedule", "unlearn", "--cron", NIGHTLY).code == 0
    assert only(uploaded.recurring_runs) is right


@pytest.mark.parametrize(
    "cron", ["30 2 * * *", "0 30 2 * * * *", "@daily", "0 61 2 * * *", "0 30 2 L * *", "0 30 2 * * 7", "0 30 2 * * 1#2"]
)
def test_no_cron_expression_of_kfp_is_refused_before_anything_is_sent(uploaded, pipeline, cron: str) -> None:
    before = len(uploaded.requests)
    left = pipeline("schedule", "unlearn", "--cron", cron)
    assert left.code == 2
    assert f"--cron '{cron}'" in left.err
    assert "write second minute hour day month weekday, e.g. '0 30 2 * * *'" in left.err
    assert len(uploaded.requests) == before


@pytest.mark.parametrize("cron", ["0 0 9 ? * 2-6", "*/30 * * * * *", "0 0 0 1 JAN,JUL sun", "0 15 8-18/2 * * MON-FRI"])
def test_cron_expressions_of_kfp_are_taken(uploaded: KfpServer, pipeline: Pipeline, cron: str) -> None:
    assert pipeline("schedule", "unlearn", "--cron", cron).code == 0
    assert only(uploaded.recurring_runs).trigger.cron_schedule.cron == cron


def test_a_schedule_is_taken_away_and_the_uploaded_pipeline_stays(uploaded: KfpServer, pipeline: Pipeline) -> None:
    pipeline("schedule", "unlearn", "--cron", NIGHTLY)
    assert pipeline("unschedule", "unlearn").out == "unlearn unscheduled\n"
    assert not uploaded.recurring_runs
    assert uploaded.versions
    assert pipeline("unschedule", "unlearn") == Left(0, "unlearn has no schedule\n", "")


def test_status_tells_versions_schedules_and_the_last_runs(uploaded: KfpServer, pipeline: Pipeline) -> None:
    pipeline("schedule", "unlearn", "--cron", NIGHTLY)
    for _ in range(7):
        pipeline("submit", "unlearn")
    states = [api.V2beta1RuntimeState.SUCCEEDED] * 5 + [api.V2beta1RuntimeState.FAILED, api.V2beta1RuntimeState.RUNNING]
    for number, (run, state) in enumerate(zip(uploaded.runs.values(), states, strict=True)):
        run.state, run.display_name = state, f"run {number}"
    pipelines, runs = pipeline("status").out.split("\n\n")
    header, *rows = pipelines.splitlines()
    assert header.split() == ["pipeline", "version", "uploaded", "(UTC)", "schedule"]
    assert [row.split() for row in rows] == [
        ["unlearn", only(uploaded.versions).display_name, "2030-01-01", "00:00", *NIGHTLY.split()]
    ]
    _, *rows = runs.splitlines()
    assert [tuple(row.split()[:3]) for row in rows] == [
        ("run", "6", "RUNNING"),
        ("run", "5", "FAILED"),
        *(("run", str(number), "SUCCEEDED") for number in (4, 3, 2)),
    ]
    assert pipeline("status", "unlearn").out == f"{pipelines}\n\n{runs}"


def test_status_tells_a_schedule_that_is_switched_off_and_where_nothing_is(server, pipeline) -> None:
    assert pipeline("status").out == "no pipeline is uploaded; run unsee pipeline upload\n"
    pipeline("upload", "unlearn")
    pipeline("schedule", "unlearn", "--cron", NIGHTLY)
    only(server.recurring_runs).status = api.V2beta1RecurringRunStatus.DISABLED
    assert f"{NIGHTLY}, switched off" in pipeline("status").out
