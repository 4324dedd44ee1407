"""A benchmark in CLEAR's shape goes through all steps of a run and of a comparison, with both families, to Table 1."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from pages import text

from unsee.cli_comparing import table1
from unsee.steps import compare_methods, compare_report, report
from unsee.steps.compare_methods import Measured, Reference
from unsee.tracking import NoTracker

FAMILIES = ("llava", "qwen2_vl")
PUBLISHED = {"llava": "0.349", "qwen2_vl": "0.125"}
"""The paper's ROUGE-L of forget QA, by its own method."""
MODELS = ("vanilla", "retrained", "vkd")
CLOZE = {
    f"{split}/{asked}{measure}"
    for split in ("forget", "retain", "realworld")
    for asked in ("qa/", "vqa/", "vqa/heldout_")
    for measure in ("cloze", "cloze_contained")
}


def read_json(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def runs(few_people_in_captions, make_run):
    """runs[family]: vkd compared with vanilla and retrained, one seed."""
    made = {family: make_run(family, few_people_in_captions, name="vkd") for family in FAMILIES}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KFP_RUN_ID"):
            patch.delenv(name, raising=False)
        for run in made.values():
            vanilla, retrained, vkd = ((run[f"evaluation-{name}"], run[f"relearning-{name}"]) for name in MODELS)
            references = {"vanilla": Reference(*vanilla), "retrained": Reference(*retrained)}
            compare_methods.run(0, references, [Measured(*vkd, run["vkd"])], run["seed"], NoTracker())
            compare_report.run([run["seed"]], "compare", run["comparison"], NoTracker())
    return made


@pytest.fixture(params=FAMILIES)
def run(request, runs):
    return runs[request.param]


def test_captions_and_names_are_measured_and_what_was_not_asked_has_its_reason(run):
    found = read_json(run["evaluation-vkd"] / "metrics.json")["metrics"]
    assert {name for name, metric in found.items() if metric["value"] is None} == CLOZE
    assert {found[name]["reason"] for name in CLOZE} == {"no such question was asked"}
    rows = pq.read_table(run["evaluation-vkd"] / "predictions.parquet").to_pylist()
    heldout = [r for r in rows if (r["split"], r["modality"], r["view"]) == ("forget", "vqa", "heldout")]
    captions = [r["rouge_l"] for r in heldout if r["prompt"] == "Describe this person in one sentence."]
    named = [r["correct"] for r in heldout if r["prompt"] == "What is the name of this person?"]
    assert len(captions) == len(named) == 4
    assert found["forget/vqa/heldout_rouge_l"]["value"] == pytest.approx(sum(captions) / 4)
    assert found["forget/vqa/heldout_accuracy"]["value"] == sum(named) / 4


def test_an_attack_is_judged_by_names(run):
    attacked = read_json(run["relearning-vkd"] / "relearning.json")["image"]["50"]
    assert attacked["before"] == run.returned["evaluation-vkd"]["forget/vqa/accuracy"]
    assert attacked["gap_unseen"] is not None


def test_a_comparison_has_null_and_a_reason_for_what_the_shape_has_not(run):
    found = read_json(run["comparison"] / "comparison.json")
    assert (found["shape"], found["benchmarks"]) == ("clear", ["embedded-clear-7"])
    method = found["methods"]["vkd"]
    assert {name for name, estimate in method["metrics"].items() if estimate is None} == CLOZE
    assert method["not_measured"] == dict.fromkeys(CLOZE, "no such question was asked")
    assert method["distance_to_retrained"]["forget/vqa/heldout_accuracy"] is not None
    assert "there was little to forget" in found["ranking_reason"]


@pytest.mark.parametrize(("family", "published"), PUBLISHED.items())
def test_the_page_of_a_comparison_has_clear_s_columns_and_no_tables_of_another_block(runs, family, published):
    page = text((runs[family]["comparison"] / "report.html").read_text())
    assert "on embedded-clear-7, in the shape of CLEAR" in page
    assert "Caption, unseen, ROUGE-L" in page
    assert published in page
    assert page.count("Ours (VKD)") == 2, "in Tables 1 and 2"


def test_the_report_of_a_run_shows_captions_and_no_guess_of_them(run, tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KFP_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    sections = {name: section.model_dump_json() for name, section in run.settings if name != "preset"}
    names = {"vanilla": "vanilla", "retrained": "retrained", "unlearned": "vkd"}
    report.run(
        benchmark=run["benchmark"],
        forget=[],
        settings=sections,
        statistics=run["statistics"],
        pruning=run["pruning"],
        **{model: run[name] for model, name in names.items()},
        evaluations={model: run[f"evaluation-{name}"] for model, name in names.items()},
        relearning={model: run[f"relearning-{name}"] for model, name in names.items()},
        out=tmp_path / "report",
        tracker=NoTracker(),
    )
    summary = read_json(tmp_path / "report" / "summary.json")
    assert summary["verdict"]["status"] == "undecided"
    assert summary["models"]["unlearned"]["forget/vqa/cloze"] is None
    page = text((tmp_path / "report" / "report.html").read_text())
    assert "ROUGE-L in percent: photographs described, and facts told by name (QA)" in page
    assert "the questions have no options to guess among" in page


def test_both_families_are_blocks_of_table_1_beside_the_paper_s(runs, tmp_path, capsys):
    table1([runs[family]["comparison"] for family in reversed(FAMILIES)], tmp_path)
    with (tmp_path / "table1.csv").open() as file:
        rows = list(csv.DictReader(file))
    captions = {row["block"]: None for row in rows}
    assert [*captions] == [f"{name} on embedded-clear-7, in the shape of CLEAR" for name in ("LLaVA", "Qwen2-VL")]
    shown = {(r["block"].split()[0], r["model"], r["column"]): r["value"] for r in rows}
    for family, name in (("llava", "LLaVA"), ("qwen2_vl", "Qwen2-VL")):
        own = runs[family].returned["evaluation-vkd"]
        assert shown[name, "vkd", "Forget: QA, ROUGE-L"] == f"{own['forget/qa/rouge_l']:.3f}"
        assert shown[name, "vkd", "Real-world: QA"] == f"{100 * own['realworld/qa/accuracy']:.1f}"
        assert shown[name, "Ours (VKD)", "Forget: QA, ROUGE-L"] == PUBLISHED[family]
        assert shown[name, "Ours (VKD)", "Forget: Caption, unseen, ROUGE-L"] == ""
    assert "Which method forgets best cannot be said" in capsys.readouterr().out
