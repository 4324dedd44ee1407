"""Candidates: methods with settings of their own, named as a comparison names them: "vkd unlearn.beta=0.3".

A sweep varies one setting of one method, a frontier the strength of several, a search draws from each method's space.
What is tried stands under `methods` of the preset: `strength: {parameter, values}`, and `search`, a mapping from
settings to their values (a list) or to the ends of a range (`{low, high}`).
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import Field, PositiveFloat, TypeAdapter, ValidationError, model_validator

from unsee.errors import Problems, UserError
from unsee.sections import Section
from unsee.settings import OWN_SECTIONS

VALUE = re.compile(r"^[\w.+-]+$")
Value = bool | int | float | Annotated[str, Field(pattern=VALUE)]
Values = Annotated[tuple[Value, ...], Field(min_length=1)]
Tried = TypeVar("Tried")
VARIANT = "vkd_"
"""How the names of our own method's variants begin."""
DIGITS = 3
"""Significant digits of a value drawn from a range."""
POINTS = 1000
"""How many points of a space are looked at for each candidate that is wanted, before it is said to hold too few."""


class Strength(Section):
    """The setting that makes a method forget more or less, and its values."""

    parameter: str
    values: Values


class Range(Section):
    """Drawn from as log-uniform: every factor is as likely wherever in the range it is."""

    low: PositiveFloat
    high: PositiveFloat

    @model_validator(mode="after")
    def _ascending(self) -> "Range":
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self

    def at(self, share: float) -> float:
        """The value at this share of the logarithmic way from low to high."""
        return float(f"{self.low * (self.high / self.low) ** share:.{DIGITS}g}")


Space = Mapping[str, Range | Values]


@dataclass(frozen=True)
class Candidate:
    """A method and its own settings, values as text.

    Raises:
        UserError: a setting that reaches other methods or a reference, or one given twice.
    """

    method: str
    own: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        given = [setting for setting, _ in self.own]
        for setting in given:
            require_own(self.name, setting)
            if given.count(setting) > 1:
                raise UserError(f"{self.name}: {setting} is given {given.count(setting)} times; give it once")

    @classmethod
    def parse(cls, name: str) -> "Candidate":
        """From its name in a comparison.

        Raises:
            UserError: an empty name, or settings that are not its own.
        """
        if not name.strip():
            raise UserError("no method is named; write e.g. vkd")
        method, *assignments = name.split()
        pairs = (assignment.partition("=") for assignment in assignments)
        return cls(method, tuple((setting, value) for setting, _, value in pairs))

    @property
    def name(self) -> str:
        """As in a comparison."""
        return " ".join([self.method, *(f"{setting}={value}" for setting, value in self.own)])

    def having(self, values: Mapping[str, object]) -> "Candidate":
        """With these settings besides its own; numbers as Python writes them."""
        return Candidate(self.method, (*self.own, *((setting, str(value)) for setting, value in values.items())))

    @property
    def varied(self) -> str:
        """What a sweep or a frontier varies: the last of its settings.

        Raises:
            UserError: it has none.
        """
        return self._last[0]

    @property
    def value(self) -> str:
        """Of what is varied."""
        return self._last[1]

    @property
    def base(self) -> "Candidate":
        """Without what is varied."""
        return Candidate(self.method, self.own[:-1])

    @property
    def order(self) -> tuple[bool, float, str]:
        """Numbers ascending, then words."""
        value = number(self.value)
        return (True, 0.0, value) if isinstance(value, str) else (False, value, "")

    @property
    def _last(self) -> tuple[str, str]:
        if not self.own:
            raise UserError(f"{self.method} has no setting of its own to be varied; write e.g. 'vkd unlearn.beta=3'")
        return self.own[-1]

    @property
    def settings(self) -> dict[str, Any]:
        """Its own settings nested as in a preset."""
        nested: dict[str, Any] = {}
        for setting, text in self.own:
            *sections, name = setting.split(".")
            section = nested
            for part in sections:
                section = section.setdefault(part, {})
            section[name] = _typed(text)
        return nested


def require_own(name: str, setting: str) -> None:
    """Raises UserError if a setting of `name` is none that may differ between methods of a comparison."""
    if setting.partition(".")[0] not in OWN_SECTIONS:
        raise UserError(
            f"{name}: {setting} is the same for all methods of a comparison; vary a setting of "
            f"{' or '.join(OWN_SECTIONS)}, or give it to all by --set"
        )


def number(text: str) -> float | str:
    """A finite number, or the text itself."""
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def expand(methods: str, known: Sequence[str], entries: Mapping[str, Any]) -> list[str]:
    """Names separated by commas; `all` stands for every method but retraining, which is the reference, `variants` for
    the preset's other names that begin as our method's does, and `ablations` for the rest of them.

    Args:
        known: `unsee.unlearning.method.names`.
        entries: `unsee.settings.method_entries`.

    Raises:
        UserError: no name.
    """
    others = [name for name in entries if name not in known]
    groups = {
        "all": [name for name in known if name != "retrain"],
        "variants": [name for name in others if name.startswith(VARIANT)],
        "ablations": [name for name in others if not name.startswith(VARIANT)],
    }
    chosen = [name.strip() for name in methods.split(",") if name.strip()]
    names = list(dict.fromkeys(name for part in chosen for name in groups.get(part, [part])))
    if not names:
        raise UserError(f"--methods {methods!r} names no method; write e.g. --methods vkd,npo")
    return names


def sweep(method: str, parameter: str) -> list[str]:
    """One candidate per value.

    Args:
        method: may have settings of its own.
        parameter: "unlearn.beta=0,0.3,1,3".

    Raises:
        UserError: no setting, no values, something that is no single value, or a value given twice.
    """
    setting, _, text = (part.strip() for part in parameter.partition("="))
    values = [value.strip() for value in text.split(",")]
    if not setting or not text:
        raise UserError(
            f"--parameter {parameter!r} is not KEY=VALUE,VALUE…; write e.g. --parameter unlearn.beta=0,0.3,1,3"
        )
    for value in values:
        if not VALUE.match(value):
            raise UserError(f"--parameter {setting}: {value!r} is no value; give numbers or words between commas")
        if sum(number(value) == number(other) for other in values) > 1:
            raise UserError(f"--parameter {setting}: {value} is given more than once; give every value once")
    return [Candidate.parse(method).having({setting: value}).name for value in values]


def frontier(methods: Sequence[str], entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every method at every value of its strength.

    Args:
        entries: `unsee.settings.method_entries`.

    Raises:
        UserError: a method without a strength, or one that is malformed.
    """
    found: list[str] = []
    for method in map(Candidate.parse, methods):
        strength = _tried(method.method, "strength", entries, TypeAdapter(Strength))
        found += dict.fromkeys(method.having({strength.parameter: value}).name for value in strength.values)
    return found


def draw(
    methods: Sequence[str],
    entries: Mapping[str, Mapping[str, Any]],
    budget: int,
    settings: Callable[[str], Mapping[str, Any]],
) -> list[str]:
    """So many candidates of every method: what is set already, then points spread evenly over its search space.

    The same at every call; a larger budget begins with the candidates of a smaller one.

    Args:
        entries: `unsee.settings.method_entries`.
        settings: a method's sections as they are without the search.

    Raises:
        UserError: a method with settings of its own, without a search space, with a malformed one, with one that holds
            fewer candidates, or one over a setting that has no value yet.
    """
    found: list[str] = []
    for method in map(Candidate.parse, methods):
        if method.own:
            raise UserError(f"{method.name}: a search takes methods by name alone; give settings by --config or --set")
        space: Space = _tried(method.method, "search", entries, TypeAdapter(dict[str, Range | Values]))
        drawn = {method.having(_as_set(method, space, settings(method.method))).name: None}
        points = islice(_spread(len(space)), POINTS * budget)
        while len(drawn) < budget:
            if (shares := next(points, None)) is None:
                raise UserError(
                    f"methods.{method.method}.search holds {len(drawn)} candidates, fewer than --budget {budget}; "
                    "lower the budget or add values"
                )
            drawn[method.having(_at(space, shares)).name] = None
        found += drawn
    return found


def searched(
    candidate: Candidate, entries: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Setting -> what a search of this method would draw it `from`, as the preset says, and the `value` it has here.

    Args:
        entries: `unsee.settings.method_entries`. settings: the candidate's sections.
    """
    space = entries.get(candidate.method, {}).get("search", {})
    return {setting: {"from": values, "value": _value(settings, setting)} for setting, values in space.items()}


def grouped(names: Sequence[str]) -> dict[str, list[Candidate]]:
    """Candidates of a sweep or a frontier by method, and by the setting varied: each a line, numbers ascending."""
    found: dict[str, list[Candidate]] = {}
    for candidate in sorted(map(Candidate.parse, names), key=lambda candidate: candidate.order):
        found.setdefault(f"{candidate.base.name} over {candidate.varied}", []).append(candidate)
    return found


def _as_set(method: Candidate, space: Space, settings: Mapping[str, Any]) -> dict[str, Value]:
    """The values that the settings of a search have without it."""
    found: dict[str, Value] = {}
    for setting in space:
        value = _value(settings, setting)
        if not isinstance(value, bool | int | float | str):
            raise UserError(f"methods.{method.name}.search varies {setting}, which has no value; give it one by --set")
        found[setting] = value
    return found


def _value(settings: Mapping[str, Any], setting: str) -> Any:
    """Of "unlearn.mask.fraction", say; None where a section is missing."""
    value: Any = settings
    for part in setting.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _at(space: Space, shares: Sequence[float]) -> dict[str, Value]:
    """The values at these places of the space, each in [0, 1)."""
    return {
        setting: values.at(share) if isinstance(values, Range) else values[int(share * len(values))]
        for (setting, values), share in zip(space.items(), shares, strict=True)
    }


def _spread(dimensions: int) -> Iterator[list[float]]:
    """Points of the unit cube, every beginning of them spread evenly: the sequence of Halton (1960)."""
    primes = [n for n in range(2, 100) if all(n % k for k in range(2, n))][:dimensions]
    return ([_radical_inverse(index, base) for base in primes] for index in count(1))


def _radical_inverse(index: int, base: int) -> float:
    """The digits of `index` in this base, mirrored at the point."""
    share, unit = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        unit /= base
        share += digit * unit
    return share


def _tried(method: str, what: str, entries: Mapping[str, Mapping[str, Any]], form: TypeAdapter[Tried]) -> Tried:
    place = f"methods.{method}.{what}"
    if what not in entries.get(method, {}):
        raise UserError(f"{place} is missing: there is nothing to try; give it by --config, or leave {method} out")
    try:
        return form.validate_python(entries[method][what])
    except ValidationError as error:
        told = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()]
        raise Problems(f"{place} is not valid:", told) from None


def _typed(text: str) -> Any:
    value = number(text)
    return yaml.safe_load(text) if isinstance(value, str) or text.isdecimal() else value
