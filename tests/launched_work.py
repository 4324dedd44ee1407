"""Steps that run in two processes and fail, are killed, or talk to their tracker."""

import os
import signal
import time
from pathlib import Path

from unsee.errors import UserError
from unsee.launching import in_processes
from unsee.parallel import as_main, is_main, main_goes_on, rank, world
from unsee.tracking import NoTracker, Tracker

FOREVER = 600


@in_processes
def telling(out: Path, tracker: Tracker) -> dict[str, object]:
    """Every process counts itself, tells its tracker and writes its name to its `out`."""
    tracker.log_params({"rank": rank()})
    tracker.log_metrics({"loss": 0.5}, step=3)
    out.mkdir()
    (out / "name.txt").write_text(str(rank()))
    tracker.log_artifact(out / "name.txt")
    told = as_main(f"from {rank()}")
    main_goes_on()
    return {"processes": world(), "told": told, "pid": os.getpid()}


@in_processes
def failing(how: str, out: Path, tracker: Tracker) -> None:
    """The second process fails while the first waits for it."""
    if not is_main():
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("mend it")
    as_main(None)
    time.sleep(FOREVER)


@in_processes
def waiting(pids: Path, out: Path, tracker: Tracker) -> None:
    """Every process says who it is, and goes on for ever."""
    (pids / str(os.getpid())).touch()
    time.sleep(FOREVER)


if __name__ == "__main__":
    import sys

    waiting(Path(sys.argv[1]), Path(sys.argv[1]) / "out", NoTracker())
