"""`unsee run --preset auto`: any base of a known family, on a benchmark that is given."""

import json
import subprocess
from pathlib import Path

import pytest
from reduced import command, environment

from unsee.benchmark.schema import Benchmark
from unsee.settings import SHIPPED_BASE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_base_and_a_benchmark_are_all_that_a_run_needs_to_be_told(small_benchmark: Benchmark, tmp_path: Path) -> None:
    given = {"preset": "auto", "model": str(SHIPPED_BASE), "benchmark": str(small_benchmark.directory)}
    few = [f"{name}=2" for name in ("unlearn.batch_forget_images", "unlearn.batch_retain_images", "unlearn.blends")]
    run = subprocess.run(command(tmp_path / "run", *few, **given), env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["models"]["unlearned"]["forget/vqa/accuracy"] is not None
    assert "settings of embedded, at most" in run.stdout + run.stderr
