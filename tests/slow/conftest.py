"""Slow tests use the folder of real photographs that the importer's tests are made with."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmark"))
