"""The command line: fast help, one sentence per error, exit codes."""

import subprocess
import sys

import published_rows
import pytest

from unsee import cli
from unsee.benchmark import schema


def unsee(capsys, monkeypatch, *arguments):
    """Run the command line in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["unsee", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    return left.value.code, out, err


HELP = """
import sys
from unsee import cli
sys.argv = ["unsee", "--help"]
try:
    cli.main()
finally:
    print(sorted({"torch", "transformers", "mlflow", "kfp", "pyarrow"} & set(sys.modules)))
"""


def test_help_lists_the_commands_without_importing_anything_heavy():
    shown = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True).stdout
    commands = ("run", "compare", "sweep", "frontier", "search", "table1", "bench", "costs")
    commands += ("benchmark", "model", "base", "pipeline", "stack")
    assert all(command in shown for command in commands)
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--preset", "nowhere"], "nowhere"),
        (["--set", "unlearn.beta"], "unlearn.beta"),
        (["--set", "unlearn.colour=red"], "unlearn.colour"),
        (["--method", "magic"], "magic"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--benchmark", "missing"], "missing"),
        (["--benchmark", "people", "--set", "benchmark.retain=4"], "--benchmark people is given"),
        (["--set", "unlearn.layers=99"], "unlearn.layers = 99"),
        (["--set", "unlearn.method=magic"], "choose it with --method"),
        (["--forget", ""], "--forget '' names nobody"),
        (["--forget", " , "], "--forget ' , ' names nobody"),
        (["--forget", "P001, P999"], "--forget names P999, not in benchmark"),
        (["--forget", "R001"], "R001, real-world"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_run_refuses_impossible_settings_before_anything_starts(arguments, named, tmp_path, capsys, monkeypatch):
    code, _, err = unsee(capsys, monkeypatch, "run", "--out", str(tmp_path / "out"), *arguments)
    assert code == 2
    assert named in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sweep", "--parameter", "unlearn.beta"], "--parameter 'unlearn.beta' is not KEY=VALUE,VALUE"),
        (["sweep", "--parameter", "unlearn.beta=0,-1"], "unlearn.beta = -1"),
        (["sweep", "--parameter", "unlearn.gamma=1,2"], "unlearn.gamma = 1"),
        (["sweep", "--parameter", "vanilla.steps=10,20"], "vanilla.steps is the same for all methods"),
        (["sweep", "--parameter", "unlearn.alpha=1,2", "--method", "ga"], "unlearn.alpha = 1"),
        (["sweep", "--parameter", "unlearn.alpha=1,2", "--method", ""], "no method is named"),
        (["frontier", "--methods", "vkd,retrain"], "methods.retrain.strength is missing"),
        (["frontier", "--methods", ","], "--methods ',' names no method"),
        (["search", "--seeds", "0,100"], "--seeds names 0, but figures are reported at seeds below 100"),
        (["search", "--seeds", "100,x"], "--seeds '100,x' are not different numbers"),
        (["search", "--seeds", "100,100"], "--seeds '100,100' are not different numbers"),
        (["search", "--budget", "0"], "--budget"),
        (["search", "--methods", "retrain"], "methods.retrain.search is missing"),
    ],
)
def test_comparisons_refuse_what_cannot_be_before_anything_starts(arguments, named, tmp_path, capsys, monkeypatch):
    code, _, err = unsee(capsys, monkeypatch, *arguments, "--out", str(tmp_path / "out"))
    assert code == 2
    assert named in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_out_that_is_a_file_is_refused(tmp_path, capsys, monkeypatch):
    (tmp_path / "out").write_text("")
    code, _, err = unsee(capsys, monkeypatch, "run", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "give a directory" in err


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path, capsys, monkeypatch):
    code, _, err = unsee(capsys, monkeypatch, "run", "--out", str(tmp_path / "out"), "--preset", "nowhere", "--debug")
    assert code == 2
    assert "Traceback" in err


def test_an_unknown_layout_is_refused(tmp_path, capsys, monkeypatch):
    code, _, err = unsee(capsys, monkeypatch, "benchmark", "import", "tarball", "src", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "folder" in err


def test_a_published_benchmark_is_imported_with_the_forget_set_asked_for(tmp_path, capsys, monkeypatch):
    source, out = published_rows.write(tmp_path / "hub", published_rows.mllmu()), str(tmp_path / "out")
    arguments = ("benchmark", "import", "mllmu", source, "--out", out, "--forget-percent", "10")
    code, counts, _ = unsee(capsys, monkeypatch, *arguments)
    assert code == 0
    assert "3  forget people" in counts
    assert schema.ForgetRequest.resolve(schema.load(tmp_path / "out"), []).forget == ("000", "002", "004")


@pytest.mark.parametrize(
    ("layout", "percent", "named"),
    [
        ("clear", "15", "--forget-percent 15: clear has 1, 5, 10; choose one of them"),
        ("mllmu", "1", "--forget-percent 1: mllmu has 5, 10, 15; choose one of them"),
        ("folder", "5", "--forget-percent chooses a forget set of mllmu or clear; in a folder, split says who"),
    ],
)
def test_a_forget_set_that_is_not_there_is_refused(layout, percent, named, tmp_path, capsys, monkeypatch):
    arguments = ("benchmark", "import", layout, "src", "--out", str(tmp_path / "out"), "--forget-percent", percent)
    code, _, err = unsee(capsys, monkeypatch, *arguments)
    assert (code, err) == (2, f"unsee: {named}\n")
    assert not (tmp_path / "out").exists()


def test_a_preset_of_a_published_benchmark_draws_none(tmp_path, capsys, monkeypatch):
    arguments = ("benchmark", "generate", "--preset", "llava-1.5-7b-clear", "--out", str(tmp_path / "out"))
    code, _, err = unsee(capsys, monkeypatch, *arguments)
    assert code == 2
    assert "preset llava-1.5-7b-clear has a published benchmark, which cannot be generated; take embedded" in err


def test_a_benchmark_is_drawn_in_the_shape_asked_for(tmp_path, capsys, monkeypatch):
    code, _, _ = unsee(capsys, monkeypatch, "benchmark", "generate", "--shape", "clear", "--out", str(tmp_path / "out"))
    assert code == 0
    assert schema.load(tmp_path / "out").shape == "clear"


def test_pipeline_compile_writes_the_yaml(tmp_path, capsys, monkeypatch):
    code, out, _ = unsee(capsys, monkeypatch, "pipeline", "compile", "--out", str(tmp_path))
    assert code == 0
    assert out.splitlines() == [str(tmp_path / f"{name}.yaml") for name in ("unlearn", "compare", "sweep", "continual")]
    assert (tmp_path / "unlearn.yaml").exists()
