"""Every step on tiny sizes, from a benchmark to relearning: what each writes, and what must hold across them."""

import hashlib
import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from unsee.benchmark import schema
from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.sections import UnlearnSettings
from unsee.steps import compare_methods, compare_report, evaluate, prepare_benchmark, relearn_attack, unlearn
from unsee.steps.compare_methods import Measured, Reference
from unsee.storage import artifact
from unsee.storage.transfer import CHECKPOINTS
from unsee.tracking import NoTracker
from unsee.unlearning.method import settings_of

KINDS = {
    "benchmark": "benchmark", "vanilla": "model", "retrained": "model", "statistics": "statistics",
    "pruning": "pruning", "unlearned": "model", "evaluation-vanilla": "evaluation",
    "evaluation-unlearned": "evaluation", "relearning-unlearned": "relearning",
}  # fmt: skip
MODELS = ("vanilla", "unlearned")


def read_json(path):
    return json.loads(path.read_text())


def llm_hash(mllm):
    digest = hashlib.sha256()
    for module in (mllm.language_model, mllm.head):
        for name, tensor in module.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def vanilla(tiny_run):
    return checkpoint.load(tiny_run["vanilla"])


@pytest.fixture(scope="module")
def unlearned(tiny_run):
    return checkpoint.load(tiny_run["unlearned"], tiny_run["vanilla"])


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_every_step_leaves_a_complete_verified_artifact(tiny_run, name, kind):
    assert artifact.read(tiny_run[name], kind).seconds >= 0


def test_a_given_benchmark_is_copied_whole(tiny_run, few_people):
    assert (
        artifact.read(tiny_run["benchmark"], "benchmark").files
        == artifact.read(few_people.directory, "benchmark").files
    )
    assert tiny_run.returned["benchmark"]["forget people"] == 2
    assert schema.load(tiny_run["benchmark"]).questions == few_people.questions


def test_a_damaged_benchmark_is_not_copied(small_benchmark, tmp_path):
    prepare_benchmark.run(str(small_benchmark.directory), tmp_path / "copy", NoTracker())
    (tmp_path / "copy/images/P001/00.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"images/P001/00\.png was changed or damaged"):
        prepare_benchmark.run(str(tmp_path / "copy"), tmp_path / "again", NoTracker())
    assert not (tmp_path / "again").exists()


def test_without_a_given_benchmark_one_is_drawn(benchmark_settings, small_benchmark, tmp_path):
    prepare_benchmark.run(benchmark_settings, tmp_path / "drawn", NoTracker())
    assert schema.load(tmp_path / "drawn").questions == small_benchmark.questions


@pytest.mark.parametrize("model", ["vanilla", "retrained"])
def test_fine_tuned_models_are_full_folders_with_their_curves(tiny_run, model):
    assert not checkpoint.is_delta(tiny_run[model])
    curve = read_json(tiny_run[model] / "history.json")
    assert [point["step"] for point in curve] == [1, 2, 1, 2]
    assert curve[-1]["image_loss"] == tiny_run.returned[model]["image_loss"]
    assert [metrics for _, metrics in tiny_run.trackers[model].metrics[-1:]] == [
        {k: v for k, v in curve[-1].items() if k != "step"}
    ]


def test_the_retrained_model_is_another_one(tiny_run):
    digests = {checkpoint.weights_digest(tiny_run[model]) for model in ("vanilla", "retrained")}
    assert len(digests) == 2


def test_statistics_hold_importance_and_fisher_information_of_both_portrait_sets(tiny_run, vanilla):
    importance = load_file(tiny_run["statistics"] / "importance.safetensors")
    assert set(importance) == {f"{s}/layers.{i}" for s in ("forget_vqa", "retain_vqa") for i in range(4)}
    fisher = load_file(tiny_run["statistics"] / "fisher.safetensors")
    shapes = {name: p.shape for name, p in vanilla.visual_parameters(None).items()}
    assert {name: t.shape for name, t in fisher.items()} == {
        f"{s}/{name}": shape for s in ("forget_vqa", "retain_vqa") for name, shape in shapes.items()
    }
    assert all((tensor >= 0).all() and tensor.any() for tensor in fisher.values())
    assert tiny_run.returned["statistics"] == {"forget_vqa images": 6.0, "retain_vqa images": 9.0}


def test_pruning_removes_its_share_of_the_deepest_layers(tiny_run):
    pruned = load_file(tiny_run["pruning"] / "pruned.safetensors")
    assert set(pruned) == {"layers.2", "layers.3"}
    told = read_json(tiny_run["pruning"] / "pruning.json")
    assert told["layers"] == {k[-1]: {"pruned": int(t.sum()), "of": 512} for k, t in pruned.items()}
    assert sum(int(t.sum()) for t in pruned.values()) == round(0.05 * 1024)
    importance = load_file(tiny_run["statistics"] / "importance.safetensors")
    for layer, gone in pruned.items():
        ratio = importance[f"forget_vqa/{layer}"] / importance[f"retain_vqa/{layer}"]
        assert torch.equal(gone, ratio >= told["threshold"])
    assert tiny_run.returned["pruning"] == {"threshold": told["threshold"], "fraction": told["fraction"]}


def test_the_unlearned_model_is_a_delta_of_the_tuned_tensors_with_its_mask_and_curve(tiny_run, vanilla):
    facts = read_json(tiny_run["unlearned"] / "delta.json")
    assert set(facts["changed"]) == set(vanilla.visual_parameters(2))
    assert facts["config"] == tiny_run.settings.unlearn.model_dump()
    curve = read_json(tiny_run["unlearned"] / "history.json")
    assert [set(point) for point in curve] == [{"step", "forget_loss", "retain_loss", "vkd_loss"}] * 2
    mask = read_json(tiny_run["unlearned"] / "mask.json")
    kept, of = (sum(m[key] for m in mask["tensors"].values()) for key in ("kept", "of"))
    assert kept / of == pytest.approx(0.5, abs=1e-4)
    assert mask["d_F"] > 0
    assert [place["place"] for place in mask["places"]] == ["Tower layer 2", "Tower layer 3", "Projector"]
    assert [sum(place[key] for place in mask["places"]) for key in ("kept", "of")] == [kept, of]
    pruned = load_file(tiny_run["pruning"] / "pruned.safetensors")
    assert read_json(tiny_run["unlearned"] / "pruned.json") == [
        {"place": f"Tower layer {i}", "pruned": int(pruned[f"layers.{i}"].sum()), "of": 512} for i in (2, 3)
    ]
    assert tiny_run.trackers["unlearned"].params["d_F"] == mask["d_F"]


def test_the_llm_is_the_same_to_the_last_bit(vanilla, unlearned):
    assert llm_hash(unlearned) == llm_hash(vanilla)


def test_only_salient_weights_moved_and_pruned_neurons_are_zero(tiny_run, vanilla, unlearned):
    pruned = load_file(tiny_run["pruning"] / "pruned.safetensors")
    for mlp in unlearned.tower_mlps(2):
        gone = pruned[f"layers.{mlp.layer}"]
        assert gone.any()
        assert not mlp.incoming[0].weight[gone].any()
        assert not mlp.incoming[0].bias[gone].any()
        assert not mlp.outgoing.weight[:, gone].any()
    told = read_json(tiny_run["unlearned"] / "mask.json")["tensors"]
    before, projector = vanilla.visual_parameters(2), set(unlearned.projector.parameters())
    for name, tensor in unlearned.visual_parameters(2).items():
        if tensor in projector:
            moved = int((tensor != before[name]).sum())
            assert 0 < moved <= told[name]["kept"], name


def predictions(tiny_run, model):
    return pq.read_table(tiny_run[f"evaluation-{model}"] / "predictions.parquet").to_pylist()


def test_every_prediction_by_name_is_identical_to_the_vanilla_model_s(tiny_run):
    before, after = ([p for p in predictions(tiny_run, model) if p["modality"] == "qa"] for model in MODELS)
    assert len(before) == 7 * 15
    assert before == after


def test_predictions_about_portraits_changed(tiny_run):
    before, after = ([p for p in predictions(tiny_run, m) if p["modality"] == "vqa" and p["scores"]] for m in MODELS)
    assert [p["question_id"] for p in before] == [p["question_id"] for p in after]
    assert [p["scores"] for p in before] != [p["scores"] for p in after]


@pytest.mark.parametrize("model", MODELS)
def test_every_question_has_a_prediction_and_every_metric_a_value_or_a_reason(tiny_run, few_people, model):
    rows = predictions(tiny_run, model)
    asked = {q.question_id for q in few_people.select(role="eval")}
    assert {r["question_id"] for r in rows} == asked
    assert {r["split"] for r in rows} == {"forget", "retain", "realworld"}
    told = read_json(tiny_run[f"evaluation-{model}"] / "metrics.json")
    assert told["model"] == model
    measured = {name: m["value"] for name, m in told["metrics"].items() if m["value"] is not None}
    assert measured == tiny_run.returned[f"evaluation-{model}"]
    correct = [
        r["correct"] for r in rows if (r["split"], r["modality"], r["view"]) == ("forget", "vqa", "heldout")
        and r["task"] == "classification"
    ]  # fmt: skip
    assert measured["forget/vqa/heldout_accuracy"] == sum(correct) / len(correct)
    assert sorted(tiny_run.trackers[f"evaluation-{model}"].artifacts) == ["metrics.json", "predictions.parquet"]


def test_every_model_is_relearnt_with_the_same_budgets(tiny_run):
    models = ("unlearned", "vanilla", "retrained")
    found = {name: read_json(tiny_run[f"relearning-{name}"] / "relearning.json") for name in models}
    used = [{(s, p): r["used"] for s, rs in by.items() for p, r in rs.items()} for by in found.values()]
    assert used[0] == used[1] == used[2]
    assert used[0] == {
        ("person", "20"): {"people": 0, "images": 0},
        ("person", "50"): {"people": 1, "images": 3},
        ("image", "20"): {"people": 1, "images": 1},
        ("image", "50"): {"people": 2, "images": 3},
    }


def test_without_a_percentage_no_model_is_opened_and_nothing_is_attacked(tiny_run, tmp_path):
    settings = tiny_run.settings.relearn.model_copy(update={"percents": ()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relearn_attack, "open_model", None)
        gaps = relearn_attack.run(
            settings, tiny_run["benchmark"], [], "vanilla", tiny_run["vanilla"], None, tmp_path / "out", NoTracker()
        )
    assert gaps == {}
    assert read_json(tmp_path / "out" / "relearning.json") == {}


def test_relearning_tells_before_after_and_why_not(tiny_run):
    found = read_json(tiny_run["relearning-unlearned"] / "relearning.json")
    assert found["person"]["20"]["gap"] is None
    assert "too few people" in found["person"]["20"]["reason"]
    attacked = found["person"]["50"]
    assert attacked["reason"] is None
    assert [point["epoch"] for point in attacked["curve"]] == [0, 1]
    assert attacked["gap"] == attacked["after"] - attacked["before"]
    evaluated = tiny_run.returned["evaluation-unlearned"]
    assert attacked["before"] == evaluated["forget/vqa/accuracy"]
    assert attacked["curve"][0]["forget/qa/accuracy"] == evaluated["forget/qa/accuracy"]
    assert tiny_run.returned["relearning-unlearned"]["relearning/person/50/gap"] == attacked["gap"]
    assert "relearning/person/20/gap" not in tiny_run.returned["relearning-unlearned"]


def unlearn_again(tiny_run, out, tracker, settings=None):
    inputs = (tiny_run["vanilla"], tiny_run["statistics"], tiny_run["pruning"], tiny_run["retrained"])
    unlearn.run(settings or tiny_run.settings.unlearn, tiny_run["benchmark"], [], *inputs, out, tracker)


def test_what_a_sample_of_the_fisher_information_is_comes_with_the_statistics(tiny_run, tmp_path, monkeypatch):
    facts = artifact.read(tiny_run["statistics"], "statistics").facts
    facts["settings"]["fisher_unit"] = "question"
    with artifact.create(tmp_path / "statistics", "statistics", facts) as out:
        shutil.copy(tiny_run["statistics"] / "fisher.safetensors", out)
    works = []
    monkeypatch.setattr(unlearn.Unlearning, "of", lambda work, *_: works.append(work))
    inputs = (tiny_run["vanilla"], tmp_path / "statistics", tiny_run["pruning"], None)
    with pytest.raises(AttributeError):
        unlearn.run(tiny_run.settings.unlearn, tiny_run["benchmark"], [], *inputs, tmp_path / "out", NoTracker())
    assert works[0].fisher_unit == "question"


def test_a_step_run_again_writes_the_same_bytes(tiny_run, tmp_path):
    unlearn_again(tiny_run, tmp_path / "again", NoTracker())
    first, again = (artifact.read(path, "model").files for path in (tiny_run["unlearned"], tmp_path / "again"))
    assert again["delta.safetensors"] == first["delta.safetensors"]
    assert again["history.json"] == first["history.json"]


def test_a_method_of_full_scope_changes_tower_projector_and_llm(tiny_run, vanilla, tmp_path):
    common = tiny_run.settings.unlearn.model_dump(include=set(UnlearnSettings.model_fields))
    settings = settings_of({**common, "method": "npo_retain", "scope": "full", "versions": 1})
    unlearn_again(tiny_run, tmp_path / "out", NoTracker(), settings)
    changed = set(read_json(tmp_path / "out" / "delta.json")["changed"])
    assert len(read_json(tmp_path / "out" / "history.json")) == 2
    llm = {f"model.language_model.layers.{n}" for n, _ in vanilla.language_model.layers.named_parameters()}
    assert {*vanilla.visual_parameters(None), *llm} <= changed


class Failing(NoTracker):
    """Fails when the training curve is told: after the first update, before anything is published."""

    def log_metrics(self, metrics, step=None):
        raise ConnectionError("the tracking server is gone")


def test_a_step_that_fails_publishes_nothing_and_goes_on_from_its_checkpoint(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv(CHECKPOINTS, (tmp_path / "checkpoints").as_uri())
    monkeypatch.setenv("UNSEE_CHECKPOINT_SECONDS", "-1")
    out = tmp_path / "out"
    with pytest.raises(ConnectionError):
        unlearn_again(tiny_run, out, Failing())
    assert not out.exists()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    unlearn_again(tiny_run, out, NoTracker())
    first, resumed = (artifact.read(path, "model").files for path in (tiny_run["unlearned"], out))
    assert resumed["delta.safetensors"] == first["delta.safetensors"]
    assert resumed["history.json"] == first["history.json"]
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_checkpoint_of_other_settings_is_not_used(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv(CHECKPOINTS, (tmp_path / "checkpoints").as_uri())
    monkeypatch.setenv("UNSEE_CHECKPOINT_SECONDS", "-1")
    other = tiny_run.settings.unlearn.model_copy(update={"alpha": 2.0})
    with pytest.raises(ConnectionError):
        unlearn_again(tiny_run, tmp_path / "out", Failing(), other)
    unlearn_again(tiny_run, tmp_path / "out", NoTracker())
    first, found = (artifact.read(path, "model").files for path in (tiny_run["unlearned"], tmp_path / "out"))
    assert found["delta.safetensors"] == first["delta.safetensors"]


class Unreachable(NoTracker):
    """Takes everything but files."""

    def log_artifact(self, path):
        raise ConnectionError("the tracking server is gone")


def test_an_evaluation_that_cannot_be_uploaded_is_kept(tiny_run, tmp_path):
    settings = tiny_run.settings.evaluation.model_copy(update={"generate": False})
    with pytest.raises(ConnectionError):
        evaluate.run(
            settings, tiny_run["benchmark"], [], "vanilla", tiny_run["vanilla"], None, tmp_path / "out", Unreachable()
        )
    assert set(artifact.read(tmp_path / "out", "evaluation").files) == {"metrics.json", "predictions.parquet"}


def test_an_attack_that_cannot_be_uploaded_is_kept_and_not_run_again(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv(CHECKPOINTS, (tmp_path / "checkpoints").as_uri())
    settings = tiny_run.settings.relearn.model_copy(update={"samplings": ("image",), "percents": (50,)})

    def attack(tracker):
        model = ("unlearned", tiny_run["unlearned"], tiny_run["vanilla"])
        relearn_attack.run(settings, tiny_run["benchmark"], [], *model, tmp_path / "out", tracker)
        return read_json(tmp_path / "out" / "relearning.json")

    with pytest.raises(ConnectionError):
        attack(Unreachable())
    kept = artifact.read(tmp_path / "out", "relearning").files
    with monkeypatch.context() as patch:
        patch.setattr(relearn_attack.RelearningAttack, "run", None)
        assert set(attack(NoTracker())) == {"image"}
    assert artifact.read(tmp_path / "out", "relearning").files == kept
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_what_was_measured_is_compared_and_people_of_a_given_benchmark_count_once(tiny_run, tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KFP_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    measured = {name: (tiny_run[f"evaluation-{name}"], tiny_run[f"relearning-{name}"]) for name in MODELS}
    measured["retrained"] = (tiny_run["evaluation-retrained"], tiny_run["relearning-retrained"])
    references = {name: Reference(*measured[name]) for name in ("vanilla", "retrained")}
    methods = [Measured(*measured["unlearned"], tiny_run["unlearned"])]
    seeds = [tmp_path / "seed-0", tmp_path / "seed-1"]
    for number, out in enumerate(seeds):
        compare_methods.run(number, references, methods, out, NoTracker())
    compare_report.run(seeds, "compare", tmp_path / "report", NoTracker())
    found = read_json(tmp_path / "report" / "comparison.json")["methods"]["unlearned"]
    told = read_json(tiny_run["evaluation-unlearned"] / "metrics.json")["metrics"]["forget/vqa/heldout_accuracy"]
    estimate = found["metrics"]["forget/vqa/heldout_accuracy"]
    assert (estimate["mean"], estimate["n"], estimate["n_seeds"]) == (pytest.approx(told["value"]), told["n"], 2)


def test_inputs_of_the_wrong_kind_are_refused(tiny_run, tmp_path):
    with pytest.raises(UserError, match="holds a pruning, not a statistics"):
        unlearn.run(
            tiny_run.settings.unlearn, tiny_run["benchmark"], [], tiny_run["vanilla"], tiny_run["pruning"],
            tiny_run["pruning"], None, tmp_path / "out", NoTracker(),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
