"""The settings of a run: one frozen section per step, read from a preset, a file and `--set key=value`.

Each step receives its own section and nothing else, so that a changed threshold changes the cache key of the steps
that read it and of no other.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import SerializeAsAny, ValidationError

from unsee.errors import Problems, UserError
from unsee.sections import (
    TAGS,
    AnyBenchmark,
    AnyFinetuning,
    BenchmarkSettings,
    EvaluationSettings,
    PruneSettings,
    RelearnSettings,
    Section,
    StatisticsSettings,
    ThresholdSettings,
    UnlearnSettings,
)

EMBEDDED = "embedded"
"""As `vanilla.base`: the base model in SHIPPED_BASE, a Hugging Face folder inside the installed package."""
SHIPPED_BASE = Path(str(resources.files("unsee.mllm"))) / "base"

OWN_SECTIONS = ("prune", "unlearn")
"""The sections in which methods that are compared may differ; the others reach their references too."""
TRIED = ("strength", "search")
"""Beside the sections of a method under `methods`: values to be tried (`unsee.comparison.candidates`), no settings."""


class Settings(Section):
    """Everything a run depends on besides its data and its code."""

    preset: str
    benchmark: AnyBenchmark
    vanilla: AnyFinetuning
    statistics: StatisticsSettings
    prune: PruneSettings
    unlearn: SerializeAsAny[UnlearnSettings]
    evaluation: EvaluationSettings
    relearn: RelearnSettings

    @property
    def generated(self) -> BenchmarkSettings:
        """What the embedded generator draws. Raises UserError if the benchmark is a published one."""
        if not isinstance(self.benchmark, BenchmarkSettings):
            raise UserError(f"preset {self.preset} has a published benchmark, which cannot be generated; take embedded")
        return self.benchmark


def load_settings(
    preset: str,
    *,
    config: Path | None = None,
    assignments: Sequence[str] = (),
    method: str = "vkd",
    seed: int = 0,
    benchmark: str = "",
) -> Settings:
    """Preset, what it says of the method, `config` (YAML of the same shape), `assignments` ("unlearn.beta=0.3"), seed.

    What `config` says under `methods` stands in the preset's place: settings outside of it win.

    Args:
        method: a method's name, or a name under the preset's `methods` that is a method with other settings.
        benchmark: the directory or address that is given instead of the preset's own benchmark, if one is.

    Raises:
        UserError: unknown preset, unreadable file, malformed assignment, unknown name, impossible value, or a value
            that would have no effect.
    """
    values = _read_preset(preset)
    changes = _changes(config, assignments)
    entries = _take_methods(values, changes)
    _require_known(method, entries)
    entry = entries.get(method, {})
    variant = {name: section for name, section in entry.items() if name not in TRIED}
    _merge(values, variant)
    if benchmark and any("benchmark" in change for change in changes):
        raise UserError(
            f"settings of benchmark.* say what is generated or imported, but --benchmark {benchmark} is given; leave "
            "out one of them"
        )
    for change in changes:
        _merge(values, change)
    compute = values.pop("compute")
    sections = {name: section for name, section in values.items() if isinstance(section, dict)}
    for name in sections.keys() & {"benchmark", "vanilla", "unlearn", "evaluation", "relearn"}:
        sections[name].setdefault("seed", seed)
    for name in sections.keys() & {"vanilla", "statistics", "unlearn", "evaluation", "relearn"}:
        own = sections[name].get("compute", {})
        sections[name]["compute"] = {**compute, **own} if isinstance(own, dict) and isinstance(compute, dict) else own
    for name, scored in {"choice": "choice", "evaluation_batch_images": "batch_images"}.items():
        if scored in sections.get("evaluation", {}):
            sections.get("relearn", {}).setdefault(name, sections["evaluation"][scored])
    _set_by_option(values, "preset", preset, "--preset")
    of_variant = variant.get("unlearn", {}).get("method", method)
    _set_by_option(sections.get("unlearn", {}), "unlearn.method", of_variant, "--method")
    settings = _validated(values)
    _check_layers(settings)
    return settings


def method_entries(
    preset: str, config: Path | None = None, assignments: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """What the preset, and `config` and `assignments` over it, hold under `methods`: name -> sections, and TRIED."""
    return _take_methods(_read_preset(preset), _changes(config, assignments))


def sets(config: Path | None, section: str, name: str) -> bool:
    """Whether `config` says anything of this setting, for all methods."""
    given = {} if config is None else _read_yaml(config).get(section)
    return isinstance(given, dict) and name in given


def _changes(config: Path | None, assignments: Sequence[str]) -> list[dict[str, Any]]:
    """What is changed of the preset, in the order in which later ones win."""
    return [*([] if config is None else [_read_yaml(config)]), *map(_parse_assignment, assignments)]


def _take_methods(values: dict[str, Any], changes: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Remove `methods` from the preset's values and from the changes, and merge them."""
    methods = values.pop("methods")
    for change in changes:
        given = change.pop("methods", {})
        if not _maps(given, levels=3):
            raise UserError(
                f"methods = {given!r} does not map names to settings; write e.g. vkd: {{unlearn: {{beta: 3}}}}"
            )
        _merge(methods, given)
    return methods


def _maps(value: Any, levels: int) -> bool:
    """Whether it maps names to values, so many levels deep: methods, their sections, and what is set there."""
    if levels == 0:
        return True
    return isinstance(value, dict) and all(
        isinstance(name, str) and _maps(inner, levels - 1) for name, inner in value.items()
    )


def _require_known(method: str, entries: Mapping[str, Any]) -> None:
    from unsee.unlearning.method import names  # the methods need torch, `unsee --help` does not

    if method not in (known := sorted({*names(), *entries})):
        raise UserError(f"method {method!r} is unknown; choose one of {', '.join(known)}")


def _validated(values: dict[str, Any]) -> Settings:
    """Raises Problems with everything that is wrong with the values."""
    from unsee.unlearning.method import settings_of  # the methods need torch, `unsee --help` does not

    problems = []
    if isinstance(unlearn := values.get("unlearn"), dict):
        try:
            values = {**values, "unlearn": settings_of(unlearn)}
        except ValidationError as error:
            problems += _told(error, "unlearn.")
            values = {**values, "unlearn": UnlearnSettings.model_construct()}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += _told(error)
    if problems:
        raise Problems(f"preset {values['preset']} with these settings is not valid:", problems)
    return settings


def _told(error: ValidationError, prefix: str = "") -> list[str]:
    def place(loc: tuple[str | int, ...]) -> str:
        return ".".join(str(part) for part in loc if part not in TAGS)

    return [f"{prefix}{place(e['loc'])} = {e['input']!r}: {e['msg']}" for e in error.errors()]


def require_layers(setting: str, wanted: int | None, available: int) -> None:
    """Raises UserError if more tower layers are wanted than feed the projector."""
    if wanted is not None and wanted > available:
        raise UserError(
            f"{setting} = {wanted}, but {available} tower layers feed the projector; give at most {available}"
        )


def _check_layers(settings: Settings) -> None:
    """Tell too many layers before anything is trained. Of another base than the shipped one, prune and unlearn do."""
    if settings.vanilla.base == EMBEDDED:
        config = json.loads((SHIPPED_BASE / "config.json").read_text(encoding="utf-8"))
        layers = config["vision_config"]["num_hidden_layers"]
        require_layers("prune.layers", settings.prune.layers, layers)
        require_layers("unlearn.layers", settings.unlearn.layers, layers)


def _set_by_option(section: dict[str, Any], name: str, value: str, option: str) -> None:
    """A setting that has an option of its own: a file may repeat the option's value, not contradict it."""
    found = section.setdefault(name.rpartition(".")[2], value)
    if found != value:
        raise UserError(f"{name} = {found!r} contradicts {option} {value}; choose it with {option}")


def _read_preset(name: str) -> dict[str, Any]:
    """The preset's values over those of the preset that it extends."""
    folder = resources.files("unsee.presets")
    names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if name not in names:
        raise UserError(f"--preset {name!r} is unknown; choose one of {', '.join(names)}")
    values = yaml.safe_load((folder / f"{name}.yaml").read_text())
    if extended := values.pop("extends", None):
        changes, values = values, _read_preset(extended)
        _merge(values, changes)
    return values


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--config {path} cannot be read as YAML in UTF-8: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"--config {path} holds no mapping of sections; write e.g. 'unlearn: {{beta: 0.3}}'")
    return values


def _parse_assignment(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text!r} is not key=value; write e.g. --set unlearn.beta=0.3")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {key}: {value!r} is not a value; quote it as YAML") from None
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return nested


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Deep merge; a threshold given as value replaces a fraction and the other way round.

    Mappings are copied before they change: those that a preset repeats by an anchor are one.
    """
    for key, value in values.items():
        before = into.get(key)
        if isinstance(value, Mapping) and isinstance(before, dict) and not (_threshold(value) and _threshold(before)):
            into[key] = dict(before)
            _merge(into[key], value)
        else:
            into[key] = value


def _threshold(value: Mapping[str, Any]) -> bool:
    return value.keys() <= ThresholdSettings.model_fields.keys()
