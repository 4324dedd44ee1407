"""Speed and memory: against the plain implementation, in one run, and of every method (`costs`).

`plain` is also what the tests compare with.
"""

from unsee.bench.measure import main

__all__ = ["main"]
