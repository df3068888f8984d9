"""The load: keep-alive connections, each asking again as soon as it has its answer.

wrk where it is installed. Else `benchmarks.clients.generator`, which asks more slowly, and not everything: that changes the throughput, but
hardly what a request costs the server. What a generator used of its own core is part of the result: one that used nearly all of it
was itself the limit.
"""

import json
import math
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients.messages import head
from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Progress
from benchmarks.running import ROOT

SCRIPT = Path(__file__).parent / "wrk.lua"

PATIENCE = 60.0
"""Seconds that a generator may take beyond its time."""

TOLERATED = 0.01
"""The share of requests that may meet a closed connection. A server may close one between two responses (hypercorn does, after a
thousand), and wrk can't tell that from a failure."""

SMALL = 100_000
"""Bytes of a body that the built-in generator can post: it doesn't listen while it sends."""


@dataclass(frozen=True)
class Workload:
    """What is asked, again and again.

    name: as tables show it.
    connections: all kept alive.
    headers: beside Host.
    body: bytes to post; 0 for a GET.
    streamed: the response's length isn't known before its end.
    opening: seconds that it goes on for beside those of other workloads, since so many connections aren't open at once.
    """

    name: str
    target: str = "/"
    connections: int = 32
    headers: tuple[tuple[str, str], ...] = ()
    body: int = 0
    streamed: bool = False
    opening: float = 0.0

    @property
    def needs_wrk(self) -> bool:
        """The built-in generator can't ask this."""
        return self.streamed or self.body > SMALL or ("Connection", "close") in self.headers

    def request(self) -> bytes:
        """Its bytes, for the built-in generator."""
        headers = [f"{name}: {value}" for name, value in self.headers]
        if not self.body:
            return head("GET", self.target, *headers)
        return head("POST", self.target, *headers, f"Content-Length: {self.body}") + b"x" * self.body


@dataclass(frozen=True)
class Result:
    """What a load came to.

    requests: how many were answered.
    seconds: how long it took.
    received: bytes, heads and unfinished responses included.
    busy: the share of one core that the generator used.
    """

    requests: int
    seconds: float
    received: int
    busy: float


def find_wrk(progress: Progress) -> str | None:
    """wrk's path; None, and a word about it, if there is none."""
    path = shutil.which("wrk")
    if path is None:
        progress.missing("what only wrk can ask (large bodies), and requests/s that the generator doesn't limit", "apt-get install wrk")
    return path


def put_load(port: int, workload: Workload, seconds: float, wrk: str | None, scheme: str = "http") -> Result:
    """Ask one server for so long. Without wrk, the built-in generator does, which speaks no TLS.

    :raises BenchmarkError: not all requests were answered with success
    """
    before = _cpu_of_children()
    if wrk is not None:
        output = _ask_with_wrk(wrk, f"{scheme}://127.0.0.1:{port}{workload.target}", workload, seconds)
    elif scheme == "https":
        raise BenchmarkError("only wrk can ask over TLS")
    else:
        command = [sys.executable, "-m", "benchmarks.clients.generator", str(port), str(workload.connections), str(seconds)]
        output = _run(command, seconds + PATIENCE, workload.request())
    return parse(output, _cpu_of_children() - before)


def _ask_with_wrk(wrk: str, url: str, workload: Workload, seconds: float) -> bytes:
    whole = math.ceil(seconds)  # wrk knows no others; interrupted, it ends and reports as ever
    command = [wrk, "-t1", f"-c{workload.connections}", f"-d{whole}s", "--timeout", "30s", "-s", str(SCRIPT)]
    for name, value in workload.headers:
        command += ["-H", f"{name}: {value}"]
    command += [url, "--", str(workload.body)]
    if whole > seconds:
        output = _run(command, seconds, interrupt=True)
        if output:
            return output
        # So busy is the machine that it had not begun.
    return _run(command, whole + PATIENCE)


def _run(command: list[str], seconds: float, given: bytes = b"", *, interrupt: bool = False) -> bytes:
    """What a generator wrote; nothing if it was interrupted too early."""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            try:
                output, _ = process.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired:
                if not interrupt:
                    raise
                process.send_signal(signal.SIGINT)
                output, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"the load generator didn't end: {' '.join(command)}") from None
        finally:
            process.kill()
    if process.returncode == -signal.SIGINT and interrupt:
        return b""
    if process.returncode != 0:
        raise BenchmarkError(f"the load generator failed: {output.decode(errors='replace').strip()}")
    return output


def parse(output: bytes, cpu: float) -> Result:
    """Read a generator's last line.

    cpu: seconds that it used.

    :raises BenchmarkError: there were failures, or too little answers, or it isn't a report
    """
    try:
        told = json.loads(output.splitlines()[-1])
        requests, seconds, refused, broken = told["requests"], told["seconds"], told["refused"], told["broken"]
    except (IndexError, ValueError, KeyError, TypeError):
        raise BenchmarkError(f"the load generator's report can't be read: {output.decode(errors='replace')!r}") from None
    if refused:
        raise BenchmarkError(f"{refused} of {requests} answers were no success")
    if broken > TOLERATED * requests:
        raise BenchmarkError(f"{broken} connections failed, beside {requests} answers")
    return Result(requests, seconds, told["received"], cpu / seconds)


def _cpu_of_children() -> float:
    """CPU time of the children that have ended, in seconds. A server that still runs isn't among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
