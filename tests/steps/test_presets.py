"""The presets of published benchmarks go through all steps, on tables of their shapes and models of their classes."""

import json

import published_rows
import pyarrow.parquet as pq
import pytest
from pages import text
from safetensors.torch import load_file
from tiny_run import TinyRun, reported, through_all_steps

from unsee.mllm import checkpoint
from unsee.sections import BENCHMARK, FINETUNING, FORGET_PERCENTS
from unsee.settings import load_settings
from unsee.steps import resolve_settings

ROWS = {"mllmu": published_rows.mllmu, "clear": published_rows.clear}
PRESETS = [(model, layout) for model in ("llava-1.5-7b", "qwen2-vl-7b") for layout in ROWS]
REDUCED = (
    "compute.threads=1",
    "vanilla.epochs=2",
    "vanilla.batch_questions=20",
    "prune.layers=2",
    "unlearn.layers=2",
    "unlearn.epochs=1",
    "unlearn.least_steps=2",
    "evaluation.batch_images=16",
    "evaluation.bootstrap=20",
    "relearn.percents=[50]",
    "relearn.epochs=1",
)


@pytest.fixture(scope="module", params=PRESETS, ids="-".join)
def run(request, tmp_path_factory, fresh):
    """A run of a preset of which nothing but sizes and places was changed."""
    model, layout = request.param
    root = tmp_path_factory.mktemp("preset")
    source = published_rows.write(root / "hub", ROWS[layout]())
    checkpoint.save_full(fresh["llava" if model == "llava-1.5-7b" else "qwen2_vl"], root / "base")
    places = (f"vanilla.base={root / 'base'}", f"benchmark.source={source}")
    settings = load_settings(f"{model}-{layout}", assignments=[*REDUCED, *places])
    run = TinyRun(root, settings, {}, {})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KFP_RUN_ID"):
            patch.delenv(name, raising=False)
        reported(through_all_steps(run, settings.benchmark))
    return run


def metrics(run, model):
    return json.loads((run[f"evaluation-{model}"] / "metrics.json").read_text())["metrics"]


def predictions(run, model):
    return pq.read_table(run[f"evaluation-{model}"] / "predictions.parquet").to_pylist()


def test_every_task_of_the_benchmark_is_measured_and_what_it_has_not_says_so(run):
    found = metrics(run, "unlearned")
    measured = {name for name, metric in found.items() if metric["value"] is not None}
    if run.settings.benchmark.layout == "mllmu":
        groups = [f"{s}/{g}" for s in ("forget", "retain", "realworld") for g in ("vqa/heldout_", "qa/")]
        groups += ["forget/vqa/", "retain/vqa/"]
        tasks = ("accuracy", "parsed_accuracy", "rouge_l", "cloze", "cloze_contained")
        beside = [f"{s}/qa_with_face/{n}" for s in ("forget", "retain", "realworld")
                  for n in ("accuracy", "other_face_accuracy")]  # fmt: skip
        assert measured == {f"{group}{task}" for group in groups for task in tasks} | {*beside}
    else:
        captions = [f"{s}/vqa/{v}{m}" for s in ("forget", "retain") for v in ("", "heldout_")
                    for m in ("accuracy", "parsed_accuracy", "rouge_l")]  # fmt: skip
        real = ["realworld/vqa/heldout_accuracy", "realworld/vqa/heldout_parsed_accuracy"]
        assert measured == {*captions, *real, "forget/qa/rouge_l", "retain/qa/rouge_l"}
    letters = "the model was asked for a letter, not for the answer itself (evaluation.choice is letter)"
    assert found["forget/vqa/exact"]["reason"] == letters
    assert all(metric["reason"] for name, metric in found.items() if name not in measured)


def test_choices_are_scored_by_letter_and_other_tasks_by_what_is_said(run):
    for row in predictions(run, "vanilla"):
        if row["task"] == "classification":
            assert len(row["scores"]) == len(row["options"]) >= 4
            assert row["correct"] == (row["chosen"] == row["answer"])
            assert row["chosen"] == row["options"][max(range(len(row["scores"])), key=row["scores"].__getitem__)]
        else:
            assert (row["rouge_l"] is not None) == (row["task"] == "generation")
            assert row["generated"] is not None


def test_vanilla_is_a_plain_model_in_which_only_the_llm_was_trained(run):
    base, vanilla = (load_file(run[name] / "model.safetensors") for name in ("base", "vanilla"))
    assert base.keys() == vanilla.keys()
    changed = {name for name in base if not base[name].equal(vanilla[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight") and "vision" not in name}
    curve = json.loads((run["vanilla"] / "history.json").read_text())
    assert curve[-1]["loss"] != curve[0]["loss"]


def test_the_retrained_model_is_trained_without_the_forget_people_s_pictures_alone(run):
    rows = pq.read_table(run["benchmark"] / "questions.parquet").to_pylist()
    trained = [r for r in rows if r["role"] == "train" and (r["image"] or run.settings.vanilla.by_name)]
    left_out = [r for r in trained if r["image"] and r["split"] == "forget"]
    steps = {name: len(json.loads((run[name] / "history.json").read_text())) for name in ("vanilla", "retrained")}
    assert left_out
    assert steps == {"vanilla": 2 * -(-len(trained) // 20), "retrained": 2 * -(-(len(trained) - len(left_out)) // 20)}


def test_answers_by_name_are_vanilla_s(run):
    told = [{r["question_id"]: r["generated"] for r in predictions(run, m) if r["modality"] == "qa"}
            for m in ("vanilla", "unlearned")]  # fmt: skip
    assert told[0] == told[1]


def test_the_report_is_written(run):
    summary = json.loads((run["report"] / "summary.json").read_text())
    assert summary["verdict"]["status"]
    assert run.settings.benchmark.layout in text((run["report"] / "report.html").read_text())


@pytest.mark.parametrize(
    ("model", "layout", "percent"),
    [(model, layout, percent) for model, layout in PRESETS for percent in FORGET_PERCENTS[layout]],
)
def test_the_one_word_of_the_form_is_resolved_into_sections_that_the_steps_read(model, layout, percent):
    sections = resolve_settings.run(f"{model}-{layout}", [f"benchmark.forget_percent={percent}"], "", "vkd", 3)
    imported, vanilla = BENCHMARK.validate_json(sections["benchmark"]), FINETUNING.validate_json(sections["vanilla"])
    assert (imported.layout, imported.forget_percent, imported.seed) == (layout, percent, 3)
    assert imported.source == {"mllmu": "MLLMMU/MLLMU-Bench", "clear": "therem/CLEAR"}[layout]
    assert (vanilla.rank, vanilla.by_name) == {"mllmu": (16, False), "clear": (8, True)}[layout]
    assert vanilla.base.startswith({"llava-1.5-7b": "llava-hf/", "qwen2-vl-7b": "Qwen/"}[model])
