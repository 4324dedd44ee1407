"""People about whom nothing is asked in training: told before a model is loaded."""

import shutil

import pytest

from unsee.benchmark.schema import ForgetRequest, load, write_questions
from unsee.errors import UserError
from unsee.settings import load_settings
from unsee.steps import collect_statistics, unlearn
from unsee.storage import artifact
from unsee.tracking import NoTracker

TOLD = {"vqa": "about a photograph of", "qa": "by name about"}


@pytest.fixture
def lacking(small_benchmark, tmp_path):
    """lacking(split, modality): a benchmark without the training questions of that kind about that split."""

    def make(split, modality):
        kept = [q for q in small_benchmark.questions if (q.split, q.role, q.modality) != (split, "train", modality)]
        with artifact.create(tmp_path / "few", "benchmark", {"name": "few"}) as out:
            write_questions(out, kept)
            shutil.copytree(small_benchmark.directory / "images", out / "images")
        return tmp_path / "few"

    return make


@pytest.fixture
def inputs(tmp_path):
    for kind in ("model", "statistics", "pruning"):
        with artifact.create(tmp_path / kind, kind, {}):
            pass
    return [tmp_path / kind for kind in ("model", "statistics", "pruning")]


@pytest.mark.parametrize("split", ["forget", "retain"])
def test_statistics_need_photographs(lacking, inputs, tmp_path, split):
    benchmark, settings = lacking(split, "vqa"), load_settings("embedded").statistics
    with pytest.raises(UserError, match=f"few has no training question about a photograph of the people to {split}; "):
        collect_statistics.run(settings, benchmark, [], inputs[0], tmp_path / "out", NoTracker())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["forget", "retain"])
@pytest.mark.parametrize(("method", "modality"), [("vkd", "vqa"), ("ga_diff", "vqa"), ("ga_diff", "qa")])
def test_unlearning_needs_photographs_and_where_the_llm_is_trained_questions_by_name(
    lacking, inputs, tmp_path, split, method, modality
):
    benchmark, settings = lacking(split, modality), load_settings("embedded", method=method).unlearn
    with pytest.raises(UserError, match=f"few has no training question {TOLD[modality]} the people to {split}; add"):
        unlearn.run(settings, benchmark, [], *inputs, None, tmp_path / "out", NoTracker())
    assert not (tmp_path / "out").exists()


def test_with_a_frozen_llm_questions_by_name_may_be_missing(lacking):
    benchmark = load(lacking("retain", "qa"))
    assert ForgetRequest.resolve(benchmark, []).require_training(benchmark, by_name=False) is None
