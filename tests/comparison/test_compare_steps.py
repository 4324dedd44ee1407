"""What is gathered of a seed, and what is refused because it would compare unlike with unlike."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from kfp.dsl.executor import Executor
from made_seeds import (
    SUBJECT,
    Compared,
    Outcome,
    make_artifacts,
    make_seed,
    predictions,
    reanswered,
    write_evaluation,
)

from unsee.comparison.seeds import ANSWER_COLUMNS, read_seeds
from unsee.errors import UserError
from unsee.steps import compare_methods
from unsee.steps.compare_methods import aligned
from unsee.storage import artifact
from unsee.tracking import NoTracker

METHODS = {"vkd": Outcome(0.25), "ga": Outcome(0.05, retain=0.5)}


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    return make_artifacts(tmp_path / "artifacts", 3, METHODS)


def gather(arguments: dict[str, Any], out: Path) -> dict[str, float]:
    return compare_methods.run(**arguments, out=out, tracker=NoTracker())


def test_seed_json_has_everything_that_was_measured(arguments: dict[str, Any], tmp_path: Path) -> None:
    shown = gather(arguments, tmp_path / "seed")
    told = json.loads((tmp_path / "seed" / "seed.json").read_text())
    assert artifact.read(tmp_path / "seed", "comparison-seed").facts == {"seed": 3, "methods": ["vkd", "ga"]}
    assert told["seed"] == 3
    assert set(told["references"]) == {"vanilla", "retrained"}
    assert told["methods"]["ga"]["settings"]["method"] == "ga"
    assert told["methods"]["ga"]["cost"]["seconds_per_epoch"] == 3.0
    assert told["methods"]["ga"]["metrics"]["forget/vqa/heldout_accuracy"] == pytest.approx(0.05)
    assert told["methods"]["ga"]["relearning"]["image"]["20"]["after"] == 0.5
    assert shown["ga/distance"] == pytest.approx(0.2)
    assert shown["ga/retain_loss"] == pytest.approx(0.46)


def test_answers_of_all_models_are_kept_by_name(arguments: dict[str, Any], tmp_path: Path) -> None:
    gather(arguments, tmp_path / "seed")
    answers = pq.read_table(tmp_path / "seed" / "answers.parquet")
    assert set(answers.column_names) == {*ANSWER_COLUMNS, "name"}
    assert set(answers["name"].to_pylist()) == {"vanilla", "retrained", "vkd", "ga"}
    assert len(answers) == 4 * len(predictions(METHODS["vkd"]))


def test_as_many_of_each_kind() -> None:
    with pytest.raises(UserError, match="2 models, 1 evaluations and 2 relearning attacks; give one of each"):
        aligned([Path("a"), Path("b")], [Path("a")], [Path("a"), Path("b")])


def swap(arguments: dict[str, Any], kind: str) -> None:
    first, second = arguments["methods"]
    swapped = replace(first, **{kind: getattr(second, kind)}), replace(second, **{kind: getattr(first, kind)})
    arguments["methods"] = list(swapped)


def twice(arguments: dict[str, Any]) -> None:
    arguments["methods"] *= 2


def full_model(arguments: dict[str, Any]) -> None:
    with artifact.create(arguments["methods"][0].model, "model", {}):
        pass


def other_reference(arguments: dict[str, Any]) -> None:
    arguments["references"]["retrained"] = arguments["references"]["vanilla"]


def other_request(arguments: dict[str, Any]) -> None:
    answers = predictions(METHODS["vkd"])
    write_evaluation(
        arguments["methods"][0].evaluation, "vkd", [*reanswered(answers[:1], split="retain"), *answers[1:]]
    )


def other_attack(arguments: dict[str, Any]) -> None:
    path = arguments["methods"][1].relearning
    facts, attacks = artifact.read(path, "relearning").facts, json.loads((path / "relearning.json").read_text())
    with artifact.create(path, "relearning", {**facts, "settings": {**facts["settings"], "epochs": 3}}):
        artifact.write_json(path / "relearning.json", attacks)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda a: swap(a, "relearning"), "is an attack on ga, but .* is the evaluation of another model, vkd"),
        (lambda a: swap(a, "model"), "vkd/evaluation is not the evaluation of .*ga/model; give the artifacts of all"),
        (other_attack, "ga was not evaluated and attacked with the settings of vanilla .relearn.epochs.; give all"),
        (twice, "vkd is given 2 times; give every model a name of its own"),
        (full_model, "is no unlearned model .settings is missing."),
        (other_reference, "is the evaluation of vanilla, not of retrained"),
        (other_request, "vkd was not asked the questions that vanilla was asked"),
    ],
)
def test_unlike_artifacts_are_refused(
    spoil: Callable[[dict[str, Any]], None], told: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    spoil(arguments)
    with pytest.raises(UserError, match=told):
        gather(arguments, tmp_path / "seed")
    assert not (tmp_path / "seed").exists()


def test_the_order_of_questions_is_of_no_account(arguments: dict[str, Any], tmp_path: Path) -> None:
    gather(arguments, tmp_path / "in order")
    write_evaluation(arguments["methods"][0].evaluation, "vkd", predictions(METHODS["vkd"])[::-1])
    gather(arguments, tmp_path / "reversed")
    assert (tmp_path / "reversed/seed.json").read_bytes() == (tmp_path / "in order/seed.json").read_bytes()


def test_seeds_must_be_alike(tmp_path: Path) -> None:
    first = make_seed(tmp_path, 0, METHODS)
    with pytest.raises(UserError, match="there is no seed to compare"):
        read_seeds([])
    with pytest.raises(UserError, match="seed 0 is given twice"):
        read_seeds([first, first])
    with pytest.raises(UserError, match="seeds 0 and 1 do not both have ga; run the missing methods"):
        read_seeds([first, make_seed(tmp_path, 1, {"vkd": Outcome(0.25)})])
    changed = {**METHODS, "vkd": Outcome(0.25, settings={"beta": 2.0})}
    with pytest.raises(UserError, match=r"vkd has other settings with seed 2 than with seed 0 \(beta\)"):
        read_seeds([first, make_seed(tmp_path, 2, changed)])
    with pytest.raises(UserError, match="seed 3 has family qwen2_vl, seed 0 llava; compare seeds of one model family"):
        read_seeds([first, make_seed(tmp_path, 3, METHODS, subject={**SUBJECT, "family": "qwen2_vl"})])
    with pytest.raises(UserError, match=r"seed 4 was not .* attacked with the settings of seed 0 \(relearn\.epochs\)"):
        read_seeds([first, make_seed(tmp_path, 4, METHODS, attack={"epochs": 3})])


def test_seeds_are_read_in_ascending_order(two_seeds: Compared) -> None:
    seeds = [two_seeds.directory.parent / f"seed-{seed}" / "comparison" for seed in (1, 0)]
    assert [seed.seed for seed in read_seeds(seeds)] == [0, 1]


def given(path: Path, kind: str = "system.Artifact") -> dict[str, Any]:
    return {"name": path.name, "uri": str(path), "type": {"schemaTitle": kind}, "metadata": {}}


def execute(
    component: Any, parameters: dict[str, Any], inputs: dict[str, list[Path]], outputs: dict[str, Path]
) -> None:
    """Run a component as KFP's executor does, with lists of artifacts as they are collected."""
    told = {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {name: {"artifacts": [*map(given, paths)]} for name, paths in inputs.items()},
        },
        "outputs": {
            "artifacts": {
                name: {"artifacts": [given(path, "system.Metrics" if name == "metrics" else "system.Artifact")]}
                for name, path in outputs.items()
            },
            "outputFile": str(next(iter(outputs.values())).parent / "executor_output.json"),
        },
    }
    Executor(executor_input=told, function_to_execute=component.python_func).execute()


def test_components_take_collected_lists(arguments: dict[str, Any], tmp_path: Path) -> None:
    from unsee_components.compare_methods.component import compare_methods as of_seed
    from unsee_components.compare_report.component import compare_report

    references = {
        f"{name}_{kind}": [getattr(reference, kind)]
        for name, reference in arguments["references"].items()
        for kind in ("evaluation", "relearning")
    }
    collected = {
        f"{kind}s": [getattr(method, kind) for method in arguments["methods"]]
        for kind in ("model", "evaluation", "relearning")
    }
    out = {name: tmp_path / name for name in ("comparison", "metrics")}
    execute(of_seed, {"seed": 3, "code_digest": ""}, {**references, **collected}, out)
    assert json.loads((tmp_path / "metrics").read_text())["ga/distance"] == pytest.approx(0.2)

    reported = {name: tmp_path / f"report-{name}" for name in ("comparison", "page", "metrics")}
    config = "methods: {ga: {search: {unlearn.learning_rate: [1.0e-5, 3.0e-5]}, unlearn: {learning_rate: 1.0e-5}}}"
    given = {"preset": "embedded", "overrides": ["unlearn.clip=2"], "config": config, "methods": ["ga"]}
    execute(compare_report, {"report": "compare", **given}, {"seeds": [tmp_path / "comparison"]}, reported)
    told = json.loads((reported["comparison"] / "comparison.json").read_text())["methods"]["ga"]["searched"]
    assert told == {"unlearn.learning_rate": {"from": [1e-5, 3e-5], "value": 1e-5}}
    assert reported["page"].read_text() == (reported["comparison"] / "report.html").read_text()
