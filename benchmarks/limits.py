"""Limits of the machine that thousands of connections run into."""

import resource

from benchmarks.measuring import Run

SPARE = 300
"""Files that a server and a client have open besides."""


def allowed_connections(run: Run, wanted: int) -> int:
    """As many of so many connections as a process may have here. The rest is reported.

    The soft limit on open files is raised as far as it must be, for us and for all that we start from now on.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE
    if hard != resource.RLIM_INFINITY and hard < needed:
        run.progress.missing(f"{wanted} connections at once ({hard} open files allowed)", f"ulimit -n {needed}")
        needed = hard
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return needed - SPARE
