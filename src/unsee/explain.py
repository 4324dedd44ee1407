"""What to tell a person about an exception: a sentence, and whether they can mend it (exit code 2) or not (1)."""

import errno
import re

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError

from unsee.errors import UserError

INSIDE = 1
USER = 2

MENDS = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EROFS: "the file system is read-only; give a directory that can be written",
    errno.EACCES: "permission is missing; give a directory that you may read and write",
    errno.EPERM: "permission is missing; give a directory that you may read and write",
}


class Explanation(BaseModel):
    """The sentence to print and the exit code to leave with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sentence: str
    code: int


def explain(error: BaseException) -> Explanation:
    """The sentence and exit code for an exception."""
    if isinstance(error, UserError):
        return Explanation(sentence=str(error), code=USER)
    number = _system_error(error)
    if number in MENDS:
        where = (error.filename if isinstance(error, OSError) else None) or "an output cannot be written"
        return Explanation(sentence=f"{where}: {MENDS[number]}", code=USER)
    ours = type(error).__module__.startswith("unsee")
    return Explanation(sentence=str(error) if ours else f"{type(error).__name__}: {error}", code=INSIDE)


def _system_error(error: BaseException) -> int | None:
    """The system's error number behind an exception; safetensors tells it in words only."""
    if isinstance(error, SafetensorError):
        told = re.search(r"\(os error (\d+)\)", str(error))
        return int(told[1]) if told else None
    return error.errno if isinstance(error, OSError) else None
