"""How numbers and people are put into words."""

from unsee.report.inputs import RunInputs

THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"


def percent(value: float, digits: int = 0) -> str:
    """0.271 -> '27 %'."""
    return f"{100 * value:.{digits}f}{THIN_SPACE}%"


def points(difference: float) -> str:
    """0.012 -> '1.2 points', 0.05 -> '5 points'."""
    number = f"{100 * difference:.1f}".removesuffix(".0")
    return f"{number} point{'' if number == '1' else 's'}"


def duration(seconds: float) -> str:
    """75 -> '1 min 15 s'."""
    if seconds < 60:
        return f"{seconds:.1f}{THIN_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def thousands(number: int) -> str:
    """65536 -> '65 536'."""
    return f"{number:,}".replace(",", THIN_SPACE)


def counted(number: int, one: str, many: str) -> str:
    """(1, 'person', 'people') -> '1 person'."""
    return f"{number} {one if number == 1 else many}"


def people_phrase(run: RunInputs) -> str:
    """The forget request as a subject: the name of one person, or how many people."""
    forget = run.request.forget
    return run.benchmark.entities[forget[0]] if len(forget) == 1 else counted(len(forget), "person", "people")
