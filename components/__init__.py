"""The steps as KFP components, one folder each: bodies of a few lines that call `unsee.steps` and nothing else."""

from unsee import __version__

IMAGE = f"unsee:{__version__}"
"""The step image. Goldens name it by version; `unsee pipeline compile --image` puts a digest in its place."""
