"""Memory of this process and of this machine."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident() -> int:
    """Resident memory of this process, in bytes; its peak where /proc does not tell."""
    return _of_status("VmRSS") if STATUS.exists() else peak_resident()


def available() -> int:
    """Main memory that a new process could have, in bytes, a container's limit in mind."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    given = limit.read_text().strip() if limit.exists() else "max"
    return free if given == "max" else min(free, int(given))


def peak_resident() -> int:
    """Peak resident memory of this process so far, in bytes.

    Where /proc has it, it is read there: the peak that getrusage reports begins with that of the parent process.
    """
    if STATUS.exists():
        return _of_status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _of_status(field: str) -> int:
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields[field].split()[0]) * 1024
