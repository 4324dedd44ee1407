"""A benchmark directory is read only if its manifest and every row are sound; everything that is wrong is told."""

import json
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unsee.benchmark.schema import COLUMNS, QUESTIONS, load
from unsee.errors import Problems, UserError
from unsee.steps import prepare_benchmark
from unsee.storage import artifact
from unsee.tracking import NoTracker


@pytest.fixture
def rows(small_benchmark):
    """The rows of a benchmark, to be damaged."""
    return [asdict(question) for question in small_benchmark.questions]


@pytest.fixture
def remade(small_benchmark, tmp_path):
    """Writes a benchmark of these rows, complete and with a true manifest."""

    def make(rows, facts=None):
        out = tmp_path / "remade"
        with artifact.create(out, "benchmark", {"name": "remade"} if facts is None else facts):
            pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), out / QUESTIONS)
            for image in {question.image for question in small_benchmark.questions if question.image}:
                (out / image).parent.mkdir(parents=True, exist_ok=True)
                small_benchmark.image(next(q for q in small_benchmark.questions if q.image == image)).save(out / image)
        return out

    return make


def test_sound_rows_are_read_back(small_benchmark, rows, remade):
    assert load(remade(rows)).questions == small_benchmark.questions


def test_everything_wrong_with_the_rows_is_told_at_once_and_nothing_is_copied(rows, remade, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    seen = [number for number, row in enumerate(rows) if row["image"]]
    asked = [number for number, row in enumerate(rows) if row["role"] == "eval" and row["task"] == "classification"]
    rows[seen[0]]["image"] = "../secret.png"
    rows[seen[1]]["image"] = str(tmp_path / "secret.png")
    rows[seen[2]]["image"] = None
    rows[asked[-1]]["answer_index"] = 17
    rows[-1]["split"] = rows[-2]["split"] = "forgett"
    rows[-3]["task"] = "essay"
    directory = remade(rows)
    with pytest.raises(Problems) as error:
        prepare_benchmark.run(str(directory), tmp_path / "copy", NoTracker())
    assert str(directory) in str(error.value)
    assert sorted(error.value.problems) == sorted(
        [
            f"{QUESTIONS} row {seen[0]}: image = '../secret.png' is not among the benchmark's files",
            f"{QUESTIONS} row {seen[1]}: image = '{tmp_path / 'secret.png'}' is not among the benchmark's files",
            f"{QUESTIONS} row {seen[2]}: image = None, but modality = 'vqa': vqa needs an image, qa takes none",
            f"{QUESTIONS} row {asked[-1]}: answer_index = 17 does not point to the answer among the options",
            f"{QUESTIONS} row {len(rows) - 2} and 1 more: split = 'forgett': "
            "Input should be 'forget', 'retain' or 'realworld'",
            f"{QUESTIONS} row {len(rows) - 3}: task = 'essay': "
            "Input should be 'classification', 'generation' or 'cloze'",
        ]
    )
    assert not (tmp_path / "copy").exists()


def test_a_benchmark_without_a_name_is_refused(rows, remade):
    with pytest.raises(UserError, match=r"manifest\.json lacks the fact name"):
        load(remade(rows, facts={}))


def test_a_benchmark_of_an_unknown_shape_is_refused(rows, remade):
    with pytest.raises(UserError, match=r"manifest\.json: shape = 'tofu' is none of mllmu, clear"):
        load(remade(rows, facts={"name": "remade", "shape": "tofu"}))


@pytest.mark.parametrize("name", ["../secret.txt", "images/../../secret.txt", "/etc/hostname"])
def test_a_manifest_that_lists_files_elsewhere_is_refused(rows, remade, tmp_path, name):
    directory = remade(rows)
    (tmp_path / "secret.txt").write_text("secret")
    manifest = json.loads((directory / artifact.MANIFEST).read_text())
    manifest["files"][name] = artifact.file_digest(directory / name)
    (directory / artifact.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"manifest.json is not a manifest .*files outside the directory: '{name}'"):
        prepare_benchmark.run(str(directory), tmp_path / "copy", NoTracker())
    assert not (tmp_path / "copy").exists()
