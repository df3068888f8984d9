"""When a worker has done enough: another takes over before it goes."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import randint, uniform

from microasgi_server.config import Config

JITTER = 0.1
"""The part by which a worker's age may pass its limit, at random, so that not all go at the same time."""


class Wear:
    """How far a worker is worn, by the limits that there are. Begins with it."""

    def __init__(self, config: Config, served: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        """
        :param served: how many requests there have been
        :param clock: seconds
        """
        self._config = config
        self._served = served
        self._clock = clock
        age = config.limit_worker_age
        self._enough = config.limit_max_requests and config.limit_max_requests + randint(0, config.limit_max_requests_jitter)
        self._old_at = None if age is None else clock() + age * uniform(1, 1 + JITTER)

    def reason(self) -> str:
        """Why another should take over, as the end of a sentence; empty, if none should."""
        memory = self._config.limit_worker_memory
        if self._enough and self._served() >= self._enough:
            return f"has served {self._enough} requests"
        if self._old_at is not None and self._clock() >= self._old_at:
            return f"is older than {self._config.limit_worker_age:g} s"
        if memory is not None and (used := memory_used()) > memory:
            return f"takes {used} bytes of memory"
        return ""


def memory_used() -> int:
    """Bytes of memory that this process has in use; where the system doesn't tell (all but Linux), the most that it ever had."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
