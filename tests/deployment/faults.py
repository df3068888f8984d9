"""What goes wrong around a server: processes that are killed or stopped, clients that vanish, a machine that has no more room."""

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from tests.deployment.mixed import content
from tests.harness import Served

PAUSE = 0.7
"""Seconds that the longer faults last."""

GONE = (ProcessLookupError, FileNotFoundError)
"""What it is to look for a process that has ended meanwhile."""

BEGINNINGS = (
    b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n",
    b"GET /stream/1/1000000 HTTP/1.1\r\nHost: test\r\n\r\n",
    b"POST /digest HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nthe beginning",
    b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\nGET /bytes/1/1 HTTP/1.1\r\nHost: test\r\n\r\n",
    b"POST /sleep HTTP/1.1\r\nHost:",
    b"",
)
"""What clients have sent who leave: whole requests, and parts of some."""

SLOW_CLIENT = """
import hashlib, socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(b"GET /stream/7/3000000 HTTP/1.0\\r\\n\\r\\n")
body = sock.makefile("rb")
while body.readline().strip():
    pass
print("begun", flush=True)
print(hashlib.sha256(body.read()).hexdigest())
"""


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that have not ended."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = file.read_text().rpartition(") ")[2].split()[:2]
        except OSError:  # it has ended meanwhile
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(file.parent.name))
    return sorted(found)


def memory(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def has_a_loop(pid: int) -> bool:
    """Whether a process has begun an event loop: what Python says of one that can't open its modules isn't ours to shorten."""
    with suppress(*GONE):
        return any(os.readlink(file) == "anon_inode:[eventpoll]" for file in Path(f"/proc/{pid}/fd").iterdir())
    return False


class Faults:
    """Has one after another happen to a server with workers, and to its clients.

    supervisor: its process.
    kills, rolls, shortages: when workers were killed, when some began to be replaced, when descriptors were taken, by `time.monotonic`.
    damage: what went wrong that shouldn't.
    """

    def __init__(self, served: Served, supervisor: int, chance: random.Random) -> None:
        self.supervisor = supervisor
        self.kills: list[float] = []
        self.rolls: list[float] = []
        self.shortages: list[float] = []
        self.damage: list[str] = []
        self._served = served
        self._chance = chance
        self._spared = 0
        self._all: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.reset_clients,
            self.stop_a_client,
            self.kill_a_worker,
            self.stop_a_worker,
            self.roll,
            self.fill_the_disk,
            self.take_descriptors,
            self.add_and_remove_a_worker,
        ]

    def spare(self, pid: int) -> None:
        """Let this worker live on, to see what becomes of its memory: nothing replaces it any more."""
        self._spared = pid
        self._all.remove(self.roll)
        self._all.remove(self.add_and_remove_a_worker)  # which would count those that are being killed

    async def run(self, pace: float) -> None:
        """All kinds, over and over, one every `pace` seconds, until cancelled. What lasts longer goes on beside the next."""
        async with anyio.create_task_group() as tasks:
            while True:
                self._chance.shuffle(self._all)
                for fault in list(self._all):
                    tasks.start_soon(fault)
                    await anyio.sleep(pace)

    # To clients.

    async def reset_clients(self) -> None:
        """Twelve clients are reset at once, in different places."""
        async with AsyncExitStack() as stack:
            for number in range(12):
                client = await stack.enter_async_context(await self._served.connect(receive_buffer=4096))
                stack.callback(client.leave, "RST")
                with suppress(BrokenPipeError, ConnectionResetError):  # its worker has just been killed
                    await client.send(BEGINNINGS[number % len(BEGINNINGS)])
            await anyio.sleep(0.01)

    async def stop_a_client(self) -> None:
        """A client's process stands still in the middle of its answer; then it goes on, and has it whole, or it is killed."""
        command = [sys.executable, "-ISc", SLOW_CLIENT, str(self._served.port)]
        began = time.monotonic()
        async with await anyio.open_process(command, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            said = await anext(process.stdout, b"")
            with suppress(*GONE):  # with its worker
                process.send_signal(signal.SIGSTOP)
                await anyio.sleep(PAUSE)
                process.send_signal(signal.SIGCONT)
                if self._chance.random() < 0.5:
                    process.kill()
                    return
            said += b"".join([part async for part in process.stdout])
        expected = f"begun\n{hashlib.sha256(content(7, 3_000_000)).hexdigest()}\n".encode()
        if said != expected and not self.was_killed(began, time.monotonic()):
            self.damage.append(f"a client that was stopped got something else: {said!r}")

    # To workers.

    def _victims(self) -> list[int]:
        return [pid for pid in children(self.supervisor) if pid != self._spared]

    async def kill_a_worker(self) -> None:
        """One is killed, without a word."""
        victims = self._victims()
        if victims and len(victims) + bool(self._spared) > 1:  # another must be there, or requests wait
            self.kills.append(time.monotonic())
            os.kill(self._chance.choice(victims), signal.SIGKILL)

    async def stop_a_worker(self) -> None:
        """One stands still for less than it may."""
        for pid in self._victims()[:1]:
            with suppress(*GONE):
                os.kill(pid, signal.SIGSTOP)
                try:
                    await anyio.sleep(PAUSE)
                finally:
                    os.kill(pid, signal.SIGCONT)

    async def roll(self) -> None:
        """All are replaced."""
        self.rolls.append(time.monotonic())
        os.kill(self.supervisor, signal.SIGHUP)

    async def add_and_remove_a_worker(self) -> None:
        """There is one more for a time."""
        os.kill(self.supervisor, signal.SIGTTIN)
        try:
            await anyio.sleep(PAUSE)
        finally:
            self.rolls.append(time.monotonic())
            os.kill(self.supervisor, signal.SIGTTOU)

    def was_killed(self, since: float, until: float) -> bool:
        """Whether a worker was killed in this time, which may be why a connection ended."""
        return any(since - 0.1 <= kill <= until + 0.1 for kill in self.kills)

    def closes_idle_ones(self, since: float, until: float) -> bool:
        """Whether a server had reason to close idle connections in this time: it stopped, or was short of descriptors."""
        return any(since - 20 <= roll <= until for roll in self.rolls) or any(since - 1 <= short <= until for short in self.shortages)

    # To the machine.

    async def fill_the_disk(self) -> None:
        """For a time nothing can be written into a file, such as the log."""
        async with self._limited(resource.RLIMIT_FSIZE, [self.supervisor, *children(self.supervisor)], lambda pid: 0):
            await anyio.sleep(PAUSE)

    async def take_descriptors(self) -> None:
        """For a time there are none for the workers but those that are in use: who has been idle for half a second makes room."""
        self.shortages.append(time.monotonic())
        serving = [pid for pid in children(self.supervisor) if has_a_loop(pid)]
        async with self._limited(resource.RLIMIT_NOFILE, serving, descriptors):
            await anyio.sleep(PAUSE)

    @asynccontextmanager
    async def _limited(self, what: int, processes: list[int], limit: Callable[[int], int]) -> AsyncIterator[None]:
        _, most = resource.getrlimit(what)
        for pid in processes:
            with suppress(*GONE):
                resource.prlimit(pid, what, (limit(pid), most))
        try:
            yield
        finally:
            resource.prlimit(self.supervisor, what, resource.getrlimit(what))
            for pid in children(self.supervisor):  # those that came meanwhile had it from the supervisor
                with suppress(*GONE):
                    resource.prlimit(pid, what, resource.getrlimit(what))
