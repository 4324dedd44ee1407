"""Slow tests use the folder of real photographs that the importer's tests are made with, and cut trainings as those of
pipelines do.
"""

import sys
from pathlib import Path

for folder in ("benchmark", "pipelines"):
    sys.path.append(str(Path(__file__).parents[1] / folder))
