"""An artifact exists once its manifest does: complete and verified, or not at all; nobody else's files are touched."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from unsee.errors import UserError
from unsee.explain import explain
from unsee.storage import artifact
from unsee.storage.artifact import MANIFEST, UNFINISHED


def write(path, kind="model", text="weights"):
    with artifact.create(path, kind, {"seed": 1}):
        artifact.write_bytes(path / "deep" / "data.bin", text.encode())
    return path


@contextmanager
def unprivileged():
    """File permissions bind root too while it acts as nobody."""
    root = os.getuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_was_written_is_read_back_with_its_facts_and_digests(tmp_path):
    manifest = artifact.read(write(tmp_path / "out"), "model")
    assert manifest.facts == {"seed": 1}
    assert manifest.files == {"deep/data.bin": artifact.file_digest(tmp_path / "out/deep/data.bin")}
    assert manifest.seconds >= 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["deep", MANIFEST]


def test_seconds_count_from_the_start_of_the_step(tmp_path):
    with artifact.step_clock():
        time.sleep(0.2)
        in_step = artifact.read(write(tmp_path / "step"), "model").seconds
    assert in_step >= 0.2 > artifact.read(write(tmp_path / "alone"), "model").seconds


def test_facts_found_while_writing_are_kept(tmp_path):
    facts = {}
    with artifact.create(tmp_path / "out", "model", facts):
        facts["threshold"] = 0.5
    assert artifact.read(tmp_path / "out", "model").facts == {"threshold": 0.5}


def test_equal_contents_have_equal_digests_and_any_change_another(tmp_path):
    one, same = write(tmp_path / "one"), write(tmp_path / "same")
    other = write(tmp_path / "other", text="Weights")
    digests = [artifact.read(path, "model").digest for path in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_the_manifest_is_written_last(tmp_path):
    out = tmp_path / "out"
    with artifact.create(out, "model", {}):
        artifact.write_bytes(out / "data.bin", b"1")
        assert not (out / MANIFEST).exists()
        with pytest.raises(UserError, match=r"is no complete model: manifest\.json is missing"):
            artifact.read(out, "model")
    assert artifact.read(out, "model").files.keys() == {"data.bin"}


def test_a_directory_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"typed is no directory; give one that holds a benchmark"):
        artifact.read(tmp_path / "typed", "benchmark")


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_leaves_nothing(tmp_path, error):
    out = tmp_path / "out"
    with pytest.raises(type(error)), artifact.create(out, "model", {}):
        artifact.write_bytes(out / "data.bin", b"1")
        raise error
    assert not out.exists()


def test_a_killed_writer_leaves_what_nobody_reads_and_the_next_run_replaces(tmp_path):
    out = tmp_path / "out"
    script = (
        "import os, sys; from pathlib import Path; from unsee.storage import artifact\n"
        "out = Path(sys.argv[1])\n"
        "with artifact.create(out, 'model', {}):\n"
        "    artifact.write_bytes(out / 'half.bin', b'1')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(out)], check=False).returncode == -9
    assert (out / "half.bin").exists()
    with pytest.raises(UserError, match="is no complete model"):
        artifact.read(out, "model")
    assert artifact.read(write(out), "model").files.keys() == {"deep/data.bin"}


def test_an_earlier_artifact_of_the_same_kind_is_replaced_whole(tmp_path):
    out = write(tmp_path / "out")
    with artifact.create(out, "model", {}):
        artifact.write_bytes(out / "new.bin", b"2")
    assert artifact.read(out, "model").files.keys() == {"new.bin"}
    assert not (out / "deep").exists()


@pytest.mark.parametrize("theirs", ["letter.txt", MANIFEST])
def test_somebody_s_directory_is_refused_and_left_alone(tmp_path, theirs):
    (tmp_path / theirs).write_text("dear diary")
    with pytest.raises(UserError, match=re.escape(str(tmp_path))), artifact.create(tmp_path, "model", {}):
        pass
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {theirs: "dear diary"}


def test_an_artifact_of_another_kind_is_refused_and_left_alone(tmp_path):
    out = write(tmp_path / "out", kind="benchmark")
    with pytest.raises(UserError, match=r"holds a benchmark, not a model"), artifact.create(out, "model", {}):
        pass
    assert artifact.read(out, "benchmark").facts == {"seed": 1}


def test_a_file_in_the_way_is_refused_and_left_alone(tmp_path):
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"out is a file, not a directory; give a new directory"):
        write(out)
    assert out.read_text() == "mine"


def test_an_empty_directory_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    assert artifact.read(write(tmp_path / "out"), "model").kind == "model"


def damage(out, how):
    data = out / "deep/data.bin"
    if how == "flipped":
        content = bytearray(data.read_bytes())
        content[3] ^= 1
        data.write_bytes(content)
    elif how == "truncated":
        data.write_bytes(data.read_bytes()[:-1])
    elif how == "missing":
        data.unlink()


@pytest.mark.parametrize(
    ("how", "words"),
    [("flipped", "changed or damaged"), ("truncated", "changed or damaged"), ("missing", "is missing")],
)
def test_a_damaged_file_is_named(tmp_path, how, words):
    out = write(tmp_path / "out")
    damage(out, how)
    with pytest.raises(UserError, match=rf"deep/data\.bin (was )?{words}.*run the step again"):
        artifact.read(out, "model")
    assert artifact.read(out, "model", verify=False).kind == "model"


@pytest.mark.parametrize("change", [b"{", b"{}", b'{"kind": 3}', b"\xff"])
def test_a_damaged_manifest_is_named(tmp_path, change):
    out = write(tmp_path / "out")
    (out / MANIFEST).write_bytes(change)
    with pytest.raises(UserError, match=r"manifest\.json is not a manifest .*run the step again"):
        artifact.read(out, "model")


def test_another_kind_is_told_apart(tmp_path):
    with pytest.raises(UserError, match="holds a model, not a pruning"):
        artifact.read(write(tmp_path / "out"), "pruning")


def test_files_are_replaced_atomically(tmp_path):
    artifact.write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        artifact.write_json(tmp_path / "a.json", {"new": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_directory_that_may_not_be_written_is_told_with_the_mend():
    with TemporaryDirectory() as folder:
        locked = Path(folder) / "locked"
        locked.mkdir()
        Path(folder).chmod(0o755)
        locked.chmod(0o555)
        with unprivileged(), pytest.raises(PermissionError) as error:
            write(locked / "out")
    assert "permission is missing; give a directory" in explain(error.value).sentence
    assert str(locked) in explain(error.value).sentence
    assert explain(error.value).code == 2


def test_unfinished_marks_are_not_part_of_the_artifact(tmp_path):
    out = write(tmp_path / "out")
    assert not (out / UNFINISHED).exists()
    assert UNFINISHED not in artifact.read(out, "model").files
