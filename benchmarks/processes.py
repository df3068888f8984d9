"""What a process costs, children included, as Linux tells it in /proc (proc(5))."""

import os
import time
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


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
    """CPU time that a process and its descendants have used so far, in user code and in the kernel.

    What descendants have used that have ended counts in ticks of 10 ms.
    """
    total = 0.0
    for member in tree(pid):
        with suppress(OSError):  # it has just ended
            total += time.clock_gettime(_cpu_clock(member))
        total += sum(int(ticks) for ticks in _stat(member)[13:15]) / _TICKS
    return total


def _cpu_clock(pid: int) -> int:
    """As clock_getcpuclockid(3), which Python has not."""
    return ~pid << 3 | 2


def machine_seconds() -> tuple[float, float]:
    """CPU time that all cores together have been busy so far, whoever kept them so, and that they have had."""
    *ticks, _, _ = (int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])  # guests count twice
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / _TICKS, sum(ticks) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory of a process and its descendants that is in RAM."""
    total = 0
    for member in tree(pid):
        try:
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * _PAGE
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def forget_peak(pid: int) -> None:
    """`peak_bytes` tells of what comes from now on."""
    for member in tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            Path(f"/proc/{member}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most that a process and each of its descendants has had in RAM since `forget_peak`."""
    total = 0
    for member in tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{member}/status").read_text()
            total += int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return total


def open_files(pid: int) -> int:
    """Files and sockets that a process and its descendants have open."""
    total = 0
    for member in tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += len(os.listdir(f"/proc/{member}/fd"))
    return total


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from `state` on: what comes before holds a name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
