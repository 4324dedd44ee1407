"""What to tell a person about an exception: a sentence, and whether they can mend it (exit code 2) or not (1)."""

import errno

from pydantic import BaseModel, ConfigDict

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
    if isinstance(error, OSError) and error.errno in MENDS:
        where = error.filename or "an output cannot be written"
        return Explanation(sentence=f"{where}: {MENDS[error.errno]}", code=USER)
    ours = type(error).__module__.startswith("unsee")
    return Explanation(sentence=str(error) if ours else f"{type(error).__name__}: {error}", code=INSIDE)
