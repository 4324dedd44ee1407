"""First step: one section of settings per step, so that a change reaches the steps that read it and no other."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from unsee.comparison.candidates import Candidate
from unsee.settings import Settings, load_settings


def run(
    preset: str, overrides: Sequence[str], config: str, method: str, seed: int, given_benchmark: str = ""
) -> dict[str, str]:
    """Section name -> the section as JSON; without `benchmark`, what is generated or imported, when one is given.

    Args:
        overrides: "section.name=value" assignments. config: YAML text of the preset's shape, or "".
        method: a method, which assignments of its own may follow: "vkd unlearn.beta=0.3".
        given_benchmark: benchmark directory, or "" for the preset's own.

    Raises:
        UserError: unknown preset, section or name, an impossible value, or one that would have no effect.
    """
    candidate = Candidate.parse(method)
    own = method.split()[1:]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(config, encoding="utf-8")
        given = file if config else None
        found = load_settings(
            preset,
            config=given,
            assignments=[*overrides, *own],
            method=candidate.method,
            seed=seed,
            benchmark=given_benchmark,
        )
    unused = {"preset", "benchmark"} if given_benchmark else {"preset"}
    return {name: getattr(found, name).model_dump_json() for name in Settings.model_fields if name not in unused}
