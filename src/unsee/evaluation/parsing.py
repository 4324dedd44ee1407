"""Reading free text: strict about which option was meant, lenient about case, punctuation and articles elsewhere."""

import re
import string
from collections.abc import Sequence

LETTERS = string.ascii_uppercase


def normalise(text: str) -> str:
    """Lower case, no punctuation, no leading article, single spaces."""
    bare = re.sub(r"^\W*(?:an?|the)\s+(?=.*\w)", "", text.lower(), flags=re.S)
    return " ".join(re.sub(r"[^\w\s]", " ", bare).split())


def parse_choice(text: str, options: Sequence[str]) -> int | None:
    """Index of the option a generated text names, or None.

    Accepted are a lone letter ("B", "(B)", "B."), "Answer: B" and the option's own text, alone or after a letter
    ("B: night nurse"). Never the first character of a sentence: "An engineer" is not option A, and "A: judge" names
    nothing unless A is the judge.
    """
    stripped = text.strip()
    lettered = re.fullmatch(r"(?:answer\s*(?:is)?\s*:?\s*)?\(?([A-Za-z])\)?[.:]?(?:\s+(.+))?", stripped, re.I | re.S)
    if lettered:
        index = LETTERS.find(lettered[1].upper())
        named = 0 <= index < len(options)
        if named and (lettered[2] is None or normalise(lettered[2]) == normalise(options[index])):
            return index
    matches = [i for i, option in enumerate(options) if normalise(option) == normalise(stripped)]
    return matches[0] if len(matches) == 1 else None


def exact_match(text: str, answer: str) -> bool:
    """Whether the whole text is the answer, after normalisation."""
    return normalise(text) == normalise(answer)


def contains(text: str, answer: str) -> bool:
    """Whether the answer occurs in the text as whole words, after normalisation."""
    return f" {normalise(answer)} " in f" {normalise(text)} "
