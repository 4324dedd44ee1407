"""Pages of documentation as tests read them: their blocks, and the commands that they tell people to type."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [block for found, block in FENCED.findall(text) if found == language]


def commands(text: str, program: str) -> list[list[str]]:
    """The arguments of every call of a program in the blocks of shell, up to a pipe or the like."""
    lines = "".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [arguments(line) for line in lines if re.match(rf"(\S*/)?{program} ", line)]


def inline(text: str, program: str) -> list[list[str]]:
    """The same of what stands between backticks in prose, where arguments may be left out."""
    return [arguments(each) for each in INLINE.findall(FENCED.sub("", text)) if each.startswith(f"{program} ")]


def arguments(line: str) -> list[str]:
    """The words after the first one, without a comment."""
    words = shlex.shlex(line, posix=True, punctuation_chars="|<>&")
    words.whitespace_split = True
    found = list(words)
    end = next((place for place, word in enumerate(found) if set(word) <= set("|<>&")), len(found))
    return found[1:end]
