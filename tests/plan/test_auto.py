"""`--preset auto`: any base of a known family, if it fits."""

import json

import pytest
from PIL import Image
from tiny_families import TINY
from typer.testing import CliRunner

from unsee.benchmark import embedded
from unsee.cli import app
from unsee.errors import UserError
from unsee.launching import PROCESSES
from unsee.mllm import checkpoint
from unsee.plan import GIB, auto, plan
from unsee.sections import BenchmarkSettings
from unsee.settings import SHIPPED_BASE, load_settings

SMALL = (
    "unlearn.batch_forget_images=2", "unlearn.batch_retain_images=2", "unlearn.micro_batch_images=2",
    "unlearn.blends=2", "relearn.percents=[]", "statistics.batch_images=2", "evaluation.batch_images=2",
    "evaluation.generate=false", "vanilla.batch_images=2", "compute.threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    out = tmp_path_factory.mktemp("auto") / "people"
    embedded.generate(BenchmarkSettings(forget=1, retain=2, train_views=2, heldout_views=1, seed=5), out)
    return out


def test_a_tiny_model_gets_the_embedded_recipe_and_its_own_layers(people):
    preset, assignments = auto.Asked(str(SHIPPED_BASE), people).preset()
    assert preset == "embedded"
    settings = load_settings(preset, assignments=assignments)
    assert (settings.vanilla.base, settings.unlearn.layers, settings.prune.layers) == (str(SHIPPED_BASE), 2, 2)


@pytest.mark.parametrize(
    ("model", "preset", "layers"),
    [("llava-hf/llava-1.5-7b-hf", "llava-1.5-7b-mllmu", 11), ("Qwen/Qwen2-VL-7B-Instruct", "qwen2-vl-7b-mllmu", 16)],
)
def test_a_large_model_gets_the_preset_of_the_nearest_family(people, model, preset, layers):
    chosen, assignments = auto.Asked(model, people).preset()
    assert chosen == preset
    assert load_settings(chosen, assignments=assignments).unlearn.layers == layers


@pytest.mark.long
def test_a_run_that_fits_goes_with_its_own_settings_and_then_those_given(people):
    preset, assignments = auto.Asked(str(SHIPPED_BASE), people, assignments=SMALL).fitting()
    assert preset == "embedded"
    assert tuple(assignments[-len(SMALL) :]) == SMALL


ONE_AT_ONCE = (
    "vanilla.batch_images=1", "statistics.batch_images=1", "unlearn.batch_forget_images=1",
    "unlearn.batch_retain_images=1", "unlearn.micro_batch_images=1", "unlearn.blends=1",
)  # fmt: skip
ATTACK = ("relearn.percents=[50]", "relearn.batch_images=4", "relearn.evaluation_batch_images=64")


@pytest.fixture(scope="module")
def asked(people, tmp_path_factory):
    """A run whose attack takes the most: it alone sees several images at once."""
    model = tmp_path_factory.mktemp("auto") / "model"
    checkpoint.save_full(TINY["llava"](), model)
    return auto.Asked(str(model), people, assignments=[*SMALL, *ONE_AT_ONCE, *ATTACK], forget=["P001", "P002"])


@pytest.fixture(scope="module")
def plans():
    """Of that run, the first time it is planned."""
    return []


@pytest.fixture
def planned_once(plans, monkeypatch):
    def planned(*given, **options):
        if not plans:
            plans.append(plan(*given, **options))
        return plans[0]

    monkeypatch.setattr(auto, "plan", planned)


@pytest.mark.usefixtures("planned_once")
def test_what_does_not_fit_is_refused_in_a_sentence(asked, monkeypatch):
    monkeypatch.setattr(auto, "free_on", lambda device: GIB // 4)
    words = r"does not fit: the step build-vanilla needs [0-9.]+ GiB, and 0\.2 GiB are free on cpu"
    with pytest.raises(UserError, match=words):
        asked.fitting()


@pytest.mark.usefixtures("planned_once")
def test_every_process_of_a_step_takes_as_much(asked, plans, monkeypatch):
    monkeypatch.setenv(PROCESSES, "1")
    monkeypatch.setattr(auto, "free_on", lambda _: 1.5 * max(step.host_bytes for step in plans[0].steps.values()))
    asked.fitting()
    monkeypatch.setenv(PROCESSES, "2")
    with pytest.raises(UserError, match="does not fit"):
        asked.fitting()


@pytest.mark.usefixtures("planned_once")
def test_the_attack_is_left_out_where_it_alone_does_not_fit(asked, plans, monkeypatch, capsys):
    def all_but_the_attack(_device):
        return max(step.peak_device_bytes for name, step in plans[0].steps.items() if name != auto.ATTACK)

    monkeypatch.setattr(auto, "free_on", all_but_the_attack)
    preset, assignments = asked.fitting()
    needed = plans[0].steps[auto.ATTACK].peak_device_bytes
    assert needed > all_but_the_attack("cpu")
    words = f"the relearning attack needs {needed / GIB:.1f} GiB, more than there is, and is left out"
    assert words in capsys.readouterr().out
    assert assignments[-1] == "relearn.percents=[]"
    assert load_settings(preset, assignments=assignments).relearn.percents == ()


def test_one_large_picture_among_small_ones_is_planned_for(tmp_path):
    """Of somebody who is neither forgotten nor retained, the last that a step comes to."""
    people, model = tmp_path / "people", tmp_path / "model"
    data = embedded.generate(BenchmarkSettings(forget=1, retain=2, train_views=2, heldout_views=1, seed=5), people)
    checkpoint.save_full(TINY["qwen2_vl"](), model)
    last = people / str(data.select(split="realworld", modality="vqa")[-1].image)
    for image in people.glob("images/**/*.*"):
        if image != last:
            Image.open(image).resize((32, 32)).save(image)
    deep = ("prune.layers=1", "unlearn.layers=1", f"vanilla.base={model}")
    settings = load_settings("embedded", assignments=[*SMALL, *deep])
    large = plan(settings, people, only=["evaluate"])
    Image.open(last).resize((32, 32)).save(last)
    small = plan(settings, people, only=["evaluate"])
    assert (large.image_tokens, small.image_tokens) == (16, 4)
    taken = [found.steps["evaluate"].activation_bytes["as_computed"] for found in (large, small)]
    assert taken[0] > taken[1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--preset", "auto"], "--preset auto needs --model"),
        (["--model", "here"], "--model here is for --preset auto"),
    ],
)
def test_what_auto_needs_is_told(given, words, tmp_path):
    with pytest.raises(UserError, match=words):
        CliRunner().invoke(app, ["run", *given, "--out", str(tmp_path)], catch_exceptions=False)


def test_a_plan_takes_auto_too(people):
    given = [word for assignment in SMALL for word in ("--set", assignment)]
    of = ["--preset", "auto", "--model", str(SHIPPED_BASE), "--benchmark", str(people)]
    found = CliRunner().invoke(
        app, ["plan", *of, *given, "--step", "collect-statistics", "--json"], catch_exceptions=False
    )
    facts = json.loads(found.stdout)
    assert (facts["model"], [*facts["steps"]]) == (str(SHIPPED_BASE), ["collect-statistics"])
    assert facts["compute"]["threads"] == 1, "as it was set"


def test_a_model_of_no_known_family_is_refused(people, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="model_type 'bert' is not supported"):
        auto.Asked(str(tmp_path), people).preset()
