"""The load: keep-alive connections, each asking again as soon as it has its answer.

wrk where it is installed. Else this file, run as a process of its own: `python -m benchmarks.load PORT CONNECTIONS SECONDS`. It
asks more slowly, which changes the throughput but not what a request costs the server.
"""

import re
import selectors
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from benchmarks.contestants import ROOT
from benchmarks.errors import BenchmarkError

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
"""What wrk sends."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Result:
    """What a load came to.

    requests: how many were answered.
    seconds: how long it took.
    """

    requests: int
    seconds: float


def find_wrk() -> str | None:
    """wrk's path, or None."""
    return shutil.which("wrk")


def describe(wrk: str | None) -> str:
    """The load generator, as the report names it."""
    if wrk is None:
        hint = " (wrk is not installed; it loads harder: apt-get install wrk)" if find_wrk() is None else ""
        return f"the built-in generator, whose own limit the throughput may be{hint}"
    said = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False)  # its exit code is 1 even so
    return " ".join(said.stdout.partition("Copyright")[0].split()[:2]) or "wrk"


def put_load(port: int, connections: int, seconds: float, wrk: str | None) -> Result:
    """Ask one server for so long.

    :raises BenchmarkError: not all requests were answered with 200
    """
    if wrk is not None and seconds >= 1:  # wrk counts in whole seconds
        command = [wrk, "-t1", f"-c{connections}", f"-d{round(seconds)}s", f"http://127.0.0.1:{port}/"]
        return parse_wrk(_run(command, seconds))
    answered, took = _run([sys.executable, "-m", "benchmarks.load", str(port), str(connections), str(seconds)], seconds).split()
    return Result(int(answered), float(took))


def parse_wrk(output: str) -> Result:
    """Read wrk's report.

    :raises BenchmarkError: it reports errors, or isn't one
    """
    summary = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", output)
    failed = re.search(r"Socket errors: .*|Non-2xx or 3xx responses: \d+", output)
    if failed is not None:
        raise BenchmarkError(f"wrk saw failures: {failed[0]}")
    if summary is None:
        raise BenchmarkError(f"wrk's report can't be read: {output!r}")
    return Result(int(summary[1]), float(summary[2]) * {"ms": 0.001, "s": 1, "m": 60}[summary[3]])


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds + 60)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"the load generator didn't end: {' '.join(command)}") from None
    if done.returncode != 0:
        raise BenchmarkError(f"the load generator failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def ask(sock: socket.socket) -> bytes:
    """One request on a connection, and the whole response.

    :raises BenchmarkError: it isn't a complete 200
    """
    sock.sendall(REQUEST)
    data = b""
    while (size := response_size(data)) is None or len(data) < size:
        data += _received(sock)
    return data


def response_size(data: bytes | bytearray) -> int | None:
    """The size of the response that `data` begins with, or None as long as its head is incomplete.

    :raises BenchmarkError: it isn't a 200 with a length
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = _LENGTH.search(data, 0, end + 2)
    if not data.startswith(b"HTTP/1.1 200") or length is None:
        raise BenchmarkError(f"not the expected response: {bytes(data[:200])!r}")
    return end + 4 + int(length[1])


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise BenchmarkError("the server closed a connection in the middle of a response")
    return data


def connect(port: int) -> socket.socket:
    """A new connection."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _generate(port: int, connections: int, seconds: float) -> Result:
    answered = 0
    with selectors.DefaultSelector() as selector, ExitStack() as stack:

        def ask_on_new_connection() -> None:
            sock = stack.enter_context(connect(port))
            selector.register(sock, selectors.EVENT_READ, bytearray())
            sock.sendall(REQUEST)

        began = time.monotonic()
        for _ in range(connections):
            ask_on_new_connection()
        while (took := time.monotonic() - began) < seconds:
            for key, _ in selector.select(0.1):
                sock: socket.socket = key.fileobj  # type: ignore[assignment]
                received: bytearray = key.data
                if not received and _is_closed(sock):  # between two responses it may: hypercorn does, after a thousand
                    selector.unregister(sock)
                    sock.close()
                    ask_on_new_connection()
                    continue
                received += _received(sock)
                size = response_size(received)
                if size is not None and len(received) >= size:
                    answered += 1
                    del received[:size]
                    with suppress(BrokenPipeError, ConnectionResetError):  # seen when it is read
                        sock.sendall(REQUEST)
    return Result(answered, took)


def _is_closed(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except ConnectionResetError:
        return True


if __name__ == "__main__":
    result = _generate(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    print(result.requests, result.seconds)
