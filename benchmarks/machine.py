"""Under which circumstances was it measured? Everything that a reader needs before comparing with another machine."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.stacks import FRAMEWORKS, SERVERS, missing_packages

PACKAGES = sorted(
    {"anyio", "h11", "uvloop", "trio", *(each.package for each in FRAMEWORKS.values()), *(each.package for each in SERVERS.values())}
)


def check_platform() -> None:
    """
    :raises BenchmarkError: there is no /proc to read
    """
    if not Path("/proc/self/stat").exists():
        raise BenchmarkError("the benchmarks read CPU time and memory from /proc, which only Linux has; run them there")


def circumstances() -> dict[str, str]:
    """What is measured with, on what."""
    absent = missing_packages(PACKAGES)
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()} on {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0))),
        "load at the start": f"{os.getloadavg()[0]:.2f}",
        "versions": ", ".join(f"{name} {version(name)}" for name in PACKAGES if name not in absent),
        "wrk": _wrk(),
    }


def _wrk() -> str:
    path = shutil.which("wrk")
    if path is None:
        return "not installed"
    said = subprocess.run([path, "-v"], capture_output=True, text=True, check=False)  # its exit code is 1 even so
    return " ".join(said.stdout.partition("Copyright")[0].split()[1:2]) or "of an unknown version"
