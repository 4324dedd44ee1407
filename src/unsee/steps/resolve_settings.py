"""First step: one section of settings per step, so that a change reaches the steps that read it and no other."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unsee.comparison import candidates
from unsee.comparison.candidates import Candidate
from unsee.settings import Settings, load_settings, method_entries


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
    with _file(config) as file:
        found = _settings(preset, overrides, file, method, seed=seed, benchmark=given_benchmark)
    unused = {"preset", "benchmark"} if given_benchmark else {"preset"}
    return {name: getattr(found, name).model_dump_json() for name in Settings.model_fields if name not in unused}


def searched(preset: str, overrides: Sequence[str], config: str, methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Method -> what its settings were to be chosen from, and are (`candidates.searched`). Arguments as of `run`."""
    found = {}
    with _file(config) as file:
        entries = method_entries(preset, file, overrides)
        for method in methods:
            sections = _settings(preset, overrides, file, method).model_dump()
            found[method] = candidates.searched(Candidate.parse(method), entries, sections)
    return found


def _settings(preset: str, overrides: Sequence[str], config: Path | None, method: str, **options: Any) -> Settings:
    name, own = Candidate.parse(method).method, method.split()[1:]
    return load_settings(preset, config=config, assignments=[*overrides, *own], method=name, **options)


@contextmanager
def _file(text: str) -> Iterator[Path | None]:
    """A file that holds the text, None for none."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(text, encoding="utf-8")
        yield file if text else None
