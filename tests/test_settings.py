"""Settings: preset, file, assignments, seed; every mistake is told in a sentence that names where it is."""

import json

import pytest
import yaml

from unsee.errors import UserError
from unsee.sections import ComputeSettings, UnlearnSettings
from unsee.settings import load_settings, method_entries
from unsee.unlearning.method import find, names

PUBLISHED = [f"{model}-{benchmark}" for model in ("llava-1.5-7b", "qwen2-vl-7b") for benchmark in ("mllmu", "clear")]


def test_the_preset_gives_every_section_its_seed_and_how_it_computes():
    settings = load_settings("embedded", seed=4)
    assert settings.preset == "embedded"
    assert settings.unlearn.method == "vkd"
    assert {settings.benchmark.seed, settings.vanilla.seed, settings.unlearn.seed, settings.relearn.seed} == {4}
    computing = {settings.vanilla.compute, settings.statistics.compute, settings.evaluation.compute}
    assert computing == {ComputeSettings(threads=2)}


def test_assignments_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("unlearn: {beta: 0.7, alpha: 2}\ncompute: {threads: 1}\n")
    settings = load_settings("embedded", config=file, assignments=["unlearn.beta=0.9", "unlearn.seed=5"], seed=3)
    preset = load_settings("embedded", seed=3)
    assert (settings.unlearn.alpha, settings.unlearn.beta, settings.unlearn.seed) == (2, 0.9, 5)
    assert settings.relearn.compute.threads == 1
    assert settings.unlearn.clip == preset.unlearn.clip
    assert settings.vanilla.model_copy(update={"compute": preset.vanilla.compute}) == preset.vanilla


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001"])
def test_small_numbers_may_be_written_in_any_usual_way(text):
    assert load_settings("embedded", assignments=[f"unlearn.learning_rate={text}"]).unlearn.learning_rate == 0.001


@pytest.mark.parametrize(("assignment", "value", "fraction"), [("value=1.5", 1.5, None), ("fraction=0.25", None, 0.25)])
def test_a_threshold_given_one_way_replaces_the_preset_s_other_way(assignment, value, fraction):
    mask = load_settings("embedded", assignments=[f"unlearn.mask.{assignment}"]).unlearn.mask
    assert (mask.value, mask.fraction) == (value, fraction)


@pytest.mark.parametrize("method", dict.fromkeys([*names(), *method_entries("embedded")]))
def test_every_method_and_its_own_settings_can_be_set_one_by_one(method):
    settings = load_settings("embedded", method=method)
    own = find(settings.unlearn.method).Settings.model_fields.keys() - UnlearnSettings.model_fields.keys()
    for name in own:
        value = json.dumps(settings.unlearn.model_dump(mode="json")[name])
        assert load_settings("embedded", method=method, assignments=[f"unlearn.{name}={value}"]) == settings


def test_mmunlearner_masks_the_ascent_alone_and_the_ablations_differ_in_their_parts_alone():
    assert load_settings("embedded", method="mmunlearner").unlearn.mask_on == "forget_gradient"
    for full, visual in (("b", "f"), ("b_mask", "f_mask"), ("b_mask_vkd", "f_mask_vkd")):
        one, other = (load_settings("embedded", method=name).unlearn.model_dump() for name in (full, visual))
        assert {name for name in one if one[name] != other[name]} == {"scope", "learning_rate", "clip"}


def test_no_variant_of_vkd_asks_for_blends_that_nothing_is_distilled_on():
    of_vkd = [load_settings("embedded", method=name).unlearn for name in method_entries("embedded")]
    assert all(s.beta > 0 or s.blends == 0 for s in of_vkd if s.method == "vkd")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("unlearn.gamma=1", ["unlearn.gamma", "1"]),
        ("nothing.beta=1", ["nothing"]),
        ("unlearn.alpha=-1", ["unlearn.alpha", "-1", "greater than 0"]),
        ("unlearn.alpha=.nan", ["unlearn.alpha", "nan"]),
        ("unlearn.epochs=two", ["unlearn.epochs", "two", "integer"]),
        ("unlearn.mask_on=weights", ["unlearn.mask_on", "weights", "forget_gradient", "update"]),
        ("unlearn.mask={value: 1, fraction: 0.5}", ["unlearn.mask", "exactly one of value and fraction"]),
        ("prune.threshold.fraction=1.5", ["prune.threshold.fraction", "1.5", "less than or equal to 1"]),
        ("unlearn.layers=0", ["unlearn.layers", "0", "greater than 0"]),
        ("unlearn.layers=99", ["unlearn.layers = 99", "4 tower layers feed the projector"]),
        ("prune.layers=5", ["prune.layers = 5", "4 tower layers feed the projector"]),
        ("prune.threshold.value=.nan", ["prune.threshold.value", "nan", "finite"]),
        ("unlearn.bound=0", ["unlearn.bound", "0", "greater than 0"]),
        ("unlearn.bound=-5.5", ["unlearn.bound", "-5.5", "greater than 0"]),
        ("relearn.seed=-1", ["relearn.seed", "-1", "greater than or equal to 0"]),
        ("unlearn.method=gradient_ascent", ["unlearn.method = 'gradient_ascent'", "--method vkd"]),
        ("preset=huge", ["preset = 'huge'", "--preset embedded"]),
        ("relearn.percents=[10, 150]", ["relearn.percents.1", "150", "less than 100"]),
        ("relearn.percents=[0]", ["relearn.percents.0", "0", "greater than 0"]),
        ("relearn.samplings=[people]", ["relearn.samplings.0", "people", "person", "image"]),
        ("unlearn=5", ["unlearn", "5"]),
        ("vanilla=null", ["vanilla", "None"]),
        ("statistics=[1]", ["statistics", "[1]"]),
        ("unlearn.beta", ["unlearn.beta", "key=value"]),
        ("=3", ["=3", "key=value"]),
        ("unlearn.beta=[1", ["unlearn.beta", "[1", "quote"]),
    ],
)
def test_a_bad_assignment_is_told_with_its_place_and_value(assignment, words):
    with pytest.raises(UserError) as error:
        load_settings("embedded", assignments=[assignment])
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("assignments", "method", "words"),
    [
        (["compute.llm_bits=8"], "vkd", ["vanilla.compute", "relearn.compute", "that do not train the LLM"]),
        (["vanilla.compute.llm_bits=4"], "vkd", ["vanilla.compute", "llm_bits = 4", "unlearn.compute.llm_bits"]),
        (["unlearn.compute.llm_bits=8"], "ga", ["unlearn.compute", "set unlearn.scope to vision"]),
        (["unlearn.compute.llm_bits=8"], "retrain", ["unlearn.compute", "set unlearn.scope to vision"]),
        (["unlearn.compute.llm_bits=8", "unlearn.sharding=llm"], "vkd", ["set unlearn.sharding to none"]),
        (["unlearn.compute.llm_bits=8"], "vkd_resist", ["set unlearn.resist to null"]),
        (["evaluation.compute.llm_bits=3"], "vkd", ["evaluation.compute.llm_bits", "3", "8 or 4"]),
    ],
)
def test_an_llm_in_few_bits_is_refused_where_it_is_trained_or_shared(assignments, method, words):
    with pytest.raises(UserError) as error:
        load_settings("embedded", assignments=assignments, method=method)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("preset", ["embedded", *PUBLISHED])
def test_an_llm_in_few_bits_is_a_setting_of_the_steps_that_leave_it_alone(preset):
    sections = ("statistics", "unlearn", "evaluation")
    settings = load_settings(preset, assignments=[f"{section}.compute.llm_bits=4" for section in sections])
    bits = {name: section.compute.llm_bits for name, section in settings if name in (*sections, "vanilla", "relearn")}
    assert bits == {**dict.fromkeys(sections, 4), "vanilla": None, "relearn": None}


def test_what_stays_is_held_by_answers_or_features():
    with pytest.raises(UserError, match="answers = false and beta = 0 nothing holds the portraits that stay"):
        load_settings("embedded", assignments=["unlearn.answers=false", "unlearn.beta=0"])


@pytest.mark.parametrize(
    ("method", "assignment", "words"),
    [
        ("npo", "unlearn.beta=0", "unlearn.beta = 0: Input should be greater than 0"),
        ("npo_retain", "unlearn.beta=-0.4", "unlearn.beta = -0.4: Input should be greater than 0"),
        ("vgid", "unlearn.instruction='Forget {person}.'", "nothing but {name} may stand in braces"),
        ("vgid", "unlearn.instruction='Forget {name.__class__}.'", "nothing but {name} may stand in braces"),
        ("vgid", "unlearn.instruction='Forget {'", "nothing but {name} may stand in braces"),
        ("manu", "unlearn.scope=vision", "unlearn.scope = 'vision': Input should be 'full'"),
    ],
)
def test_what_a_method_could_only_fail_on_later_is_told(method, assignment, words):
    with pytest.raises(UserError) as error:
        load_settings("embedded", method=method, assignments=[assignment])
    assert words in str(error.value)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_published_benchmark_s_preset_knows_every_method_and_only_its_benchmark_s_forget_sets(preset):
    """All but our variants, which are for the embedded model so far (docs/decisions.md)."""
    ours = {"vkd_plain", "vkd_resist", "vkd_full", "vkd_features"}
    for method in {*names(), *method_entries(preset)}:
        assert load_settings(preset, method=method).preset == preset
    assert method_entries(preset).keys() == method_entries("embedded").keys() - ours
    here, elsewhere = (15, 1) if preset.endswith("mllmu") else (1, 15)
    assert load_settings(preset, assignments=[f"benchmark.forget_percent={here}"]).benchmark.forget_percent == here
    with pytest.raises(UserError, match=f"has no forget set of {elsewhere} %; choose one of"):
        load_settings(preset, assignments=[f"benchmark.forget_percent={elsewhere}"])


def test_a_preset_that_extends_another_has_its_values_but_for_those_it_gives():
    first, second = (load_settings(f"{model}-mllmu") for model in ("llava-1.5-7b", "qwen2-vl-7b"))
    assert (first.unlearn.layers, second.unlearn.layers) == (12, 16)
    assert second.vanilla == first.vanilla.model_copy(update={"base": "Qwen/Qwen2-VL-7B-Instruct"})
    assert second.unlearn == first.unlearn.model_copy(update={"layers": 16})
    clear = load_settings("qwen2-vl-7b-clear")
    given = {"base": second.vanilla.base, "micro_batch_questions": 4}
    assert clear.vanilla == load_settings("llava-1.5-7b-clear").vanilla.model_copy(update=given)


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("vanilla.rank=0", "vanilla.rank = 0: Input should be greater than 0"),
        ("vanilla.dropout=1", "vanilla.dropout = 1: Input should be less than 1"),
        ("vanilla.warmup_epochs=7", "warmup_epochs = 7 leaves none of 7 epochs; give fewer"),
        ("vanilla.steps=3", "vanilla.steps = 3: Extra inputs are not permitted"),
        ("benchmark.retain=3", "benchmark.retain = 3: Extra inputs are not permitted"),
        ("benchmark=3", "benchmark = 3: Input should be a valid dictionary"),
    ],
)
def test_a_bad_value_of_a_section_of_two_forms_is_told_by_its_name_alone(assignment, told):
    with pytest.raises(UserError) as error:
        load_settings("llava-1.5-7b-clear", assignments=[assignment])
    assert told in str(error.value)


def test_all_bad_values_are_told_at_once():
    with pytest.raises(UserError) as error:
        load_settings("embedded", assignments=["unlearn.alpha=0", "evaluation.bootstrap=0"])
    assert "unlearn.alpha" in str(error.value)
    assert "evaluation.bootstrap" in str(error.value)


def test_an_unknown_preset_is_told_with_the_known_ones():
    with pytest.raises(UserError, match=r"--preset 'huge' is unknown; choose one of .*embedded"):
        load_settings("huge")


def test_an_unknown_method_is_refused():
    with pytest.raises(UserError, match=r"method 'magic' is unknown; choose one of b, b_mask, .*f_vkd, ga, .*vkd"):
        load_settings("embedded", method="magic")


def test_all_settings_of_a_run_may_be_its_config_again(tmp_path):
    file = tmp_path / "mine.yaml"
    settings = load_settings("embedded", assignments=["unlearn.beta=0.7"])
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    assert load_settings("embedded", config=file) == settings


def test_another_base_may_have_more_layers_than_the_shipped_one():
    settings = load_settings("embedded", assignments=["vanilla.base=/models/llava", "unlearn.layers=23"])
    assert settings.unlearn.layers == 23


def test_settings_of_generation_are_refused_where_a_benchmark_is_given(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("benchmark: {retain: 4}")
    for changes in ({"config": file}, {"assignments": ["benchmark.retain=4"]}):
        with pytest.raises(UserError, match=r"settings of benchmark\.\* .* --benchmark people is given"):
            load_settings("embedded", **changes, benchmark="people")
    assert load_settings("embedded", benchmark="people").unlearn == load_settings("embedded").unlearn


def test_a_file_that_is_not_utf_8_is_told_with_its_path(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes("unlearn: {beta: 0.3}  # für später".encode("latin-1"))
    with pytest.raises(UserError, match=r"--config .*mine\.yaml cannot be read as YAML in UTF-8"):
        load_settings("embedded", config=file)


@pytest.mark.parametrize(("text", "word"), [("- a\n- b\n", "mapping"), ("a: [", "YAML"), (None, "YAML")])
def test_a_file_that_holds_no_settings_is_told_with_its_path(tmp_path, text, word):
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as error:
        load_settings("embedded", config=file)
    assert str(file) in str(error.value)
    assert word in str(error.value)


def test_settings_cannot_be_changed_once_read():
    settings = load_settings("embedded")
    with pytest.raises(ValueError, match="frozen"):
        settings.unlearn.beta = 1.0
    assert load_settings("embedded") == settings


def test_what_a_file_says_of_methods_is_the_methods_and_no_other_s(tmp_path):
    file = tmp_path / "chosen.yaml"
    file.write_text("methods: {ga: {unlearn: {learning_rate: 3.0e-5}}, mine: {unlearn: {method: npo, beta: 0.7}}}")
    assert load_settings("embedded", config=file, method="ga").unlearn.learning_rate == 3e-5
    assert load_settings("embedded", config=file, method="mine").unlearn.beta == 0.7
    assert load_settings("embedded", config=file, method="npo") == load_settings("embedded", method="npo")
    told = load_settings("embedded", config=file, method="ga", assignments=["methods.ga.unlearn.clip=2"]).unlearn
    assert (told.learning_rate, told.clip) == (3e-5, 2)


def test_settings_outside_of_methods_win(tmp_path):
    file = tmp_path / "both.yaml"
    file.write_text("unlearn: {learning_rate: 1.0e-5}\nmethods: {ga: {unlearn: {learning_rate: 3.0e-5}}}")
    assert load_settings("embedded", config=file, method="ga").unlearn.learning_rate == 1e-5


@pytest.mark.parametrize(
    "text",
    [
        "methods: [ga]",
        "methods: {ga: 3}",
        "methods: {1: {unlearn: {method: ga}}}",
        "methods: {vkd: {unlearn: 3}}",
        "methods: {vkd: {unlearn: null}}",
        "methods: {vkd: {unlearn: {1: 2}}}",
    ],
)
def test_methods_that_map_nothing_are_refused(text, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match="does not map names to settings"):
        load_settings("embedded", config=file)


def test_a_change_to_one_method_s_values_to_try_leaves_the_others_that_share_them_by_an_anchor(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("methods: {ga: {search: {unlearn.learning_rate: {low: 1.0e-6}}}}")
    entries = method_entries("embedded", file)
    assert entries["ga"]["search"]["unlearn.learning_rate"]["low"] == 1e-6
    assert entries["npo"] == method_entries("embedded")["npo"]


def test_a_setting_named_fraction_is_no_threshold_and_leaves_its_section():
    assert load_settings("embedded", method="manu", assignments=["unlearn.fraction=0.2"]).unlearn.fraction == 0.2
