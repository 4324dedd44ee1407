"""Memory of this process and of this machine."""

import os
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident() -> int:
    """Resident memory of this process, in bytes; its peak where /proc does not tell."""
    return _of_status("VmRSS") if STATUS.exists() else peak_resident()


def available() -> int:
    """Main memory that a new process could have, in bytes, a container's limit in mind; all of the machine's where the
    system does not tell."""
    meminfo, cgroup = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if not meminfo.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit = (cgroup / "memory.max").read_text().strip() if (cgroup / "memory.max").exists() else "max"
    if limit == "max":
        return free
    statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    used = int((cgroup / "memory.current").read_text()) - int(statistics["inactive_file"])
    return min(free, int(limit) - used)


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
