"""What a process costs, children included, as Linux tells it in /proc (proc(5))."""

import os
from pathlib import Path

from benchmarks.errors import BenchmarkError

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def check_platform() -> None:
    """
    :raises BenchmarkError: there is no /proc to read
    """
    if not Path("/proc/self/stat").exists():
        raise BenchmarkError("the benchmarks read CPU time and memory from /proc, which only Linux has; run them there")


def tree(pid: int) -> list[int]:
    """A process and all that descend from it; nothing if it has ended."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            parents[int(entry)] = int(fields[1])
    found = [pid] if pid in parents else []
    for known in found:  # grows while it is walked
        found.extend(child for child, parent in parents.items() if parent == known)
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its descendants have used so far, in user code and in the kernel. Counts in ticks of 10 ms."""
    return sum(int(ticks) for member in tree(pid) if (fields := _stat(member)) for ticks in fields[11:15]) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory of a process and its descendants that is in RAM."""
    total = 0
    for member in tree(pid):
        try:
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * _PAGE
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from `state` on: what comes before holds a name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
