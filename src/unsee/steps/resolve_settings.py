"""First step: one section of settings per step, so that a change reaches the steps that read it and no other."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from unsee.settings import Settings, load_settings


def run(preset: str, overrides: Sequence[str], config: str, method: str, seed: int) -> dict[str, str]:
    """Section name -> the section as JSON.

    Args:
        overrides: "section.name=value" assignments. config: YAML text of the preset's shape, or "".

    Raises:
        UserError: unknown preset, section or name, or an impossible value.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(config)
        found = load_settings(preset, config=file if config else None, assignments=overrides, method=method, seed=seed)
    sections = (name for name in Settings.model_fields if name != "preset")
    return {name: getattr(found, name).model_dump_json() for name in sections}
