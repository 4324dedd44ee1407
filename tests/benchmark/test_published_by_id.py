"""A published benchmark named by its id on the hub becomes the same benchmark as a directory with a copy of it."""

import os
import subprocess
import sys

import published_rows
import pytest
from hub import Hub

from unsee.benchmark.importing import import_published
from unsee.sections import ImportSettings
from unsee.storage import artifact

IDS = {"mllmu": "MLLMMU/MLLMU-Bench", "clear": "therem/CLEAR"}
IMPORTS = """
import sys
from unsee.cli import app
for command in sys.argv[1:]:
    app(command.split(), standalone_mode=False)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a process that knows the ids and the hub alone imported both benchmarks; copies of them are in `hub`."""
    place = tmp_path_factory.mktemp("published")
    copies = {layout: place / "hub" / layout for layout in IDS}
    published_rows.write(copies["mllmu"], published_rows.mllmu())
    published_rows.write(copies["clear"], published_rows.clear())
    hub = Hub({f"datasets/{IDS[layout]}": copy for layout, copy in copies.items()})
    commands = [f"benchmark import {layout} {name} --out {layout}" for layout, name in IDS.items()]
    others = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**others, **hub.environment(place / "cache")}
    run = subprocess.run([sys.executable, "-c", IMPORTS, *commands], cwd=place, env=environment, check=False)
    hub.close()
    assert run.returncode == 0
    return place


@pytest.mark.parametrize("layout", IDS)
def test_a_benchmark_imported_by_its_id_has_the_bytes_of_one_imported_from_a_copy(place, tmp_path, layout):
    copy = str(place / "hub" / layout)
    import_published(ImportSettings(layout=layout, source=copy, forget_percent=5, seed=0), tmp_path / "out")
    by_id, by_copy = artifact.read(place / layout, "benchmark"), artifact.read(tmp_path / "out", "benchmark")
    assert by_id.digest == by_copy.digest
    assert by_id.facts["settings"].pop("source") == IDS[layout]
    assert by_copy.facts["settings"].pop("source") == copy
    assert by_id.facts == by_copy.facts
