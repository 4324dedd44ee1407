"""Stopping processes, with real ones."""

import subprocess
import sys

STOPS = """
import random, shlex, subprocess, time
import psutil
from unsee.processes import descendants, session, started, stop
nested = "sleep 60; true"
for _ in range(4):
    nested = f"sh -c {shlex.quote(nested)}; true"
for trial in range(25):
    with subprocess.Popen(["sh", "-c", nested], start_new_session=True) as step:
        known = {"pid": step.pid, "started": started(psutil.Process(step.pid))}
        time.sleep(random.Random(trial).uniform(0, 0.01))
        stop(descendants())
    assert session(known) == [], trial
print("stopped")
"""


def test_shells_that_are_stopped_while_they_start_one_another_leave_nobody_behind():
    run = subprocess.run([sys.executable, "-c", STOPS], capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.stderr) == ("stopped\n", "")
