"""Clients of `mixed.py` that ask, upload, stream, converse and leave, and hold every byte that comes against what should have come."""

import hashlib
import random
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from tests.deployment.faults import BEGINNINGS
from tests.deployment.mixed import content
from tests.harness import Client, Departure, Served
from tests.websocket_client import BINARY, CLOSE, PONG, Talker, frame, goodbye, shake_hands

DEADLINE = 30.0
"""Seconds after which something is stuck: more than a server that stops gives what runs."""

CLIENTS = 12
WAYS: list[Departure] = ["FIN", "RST", "half-close"]


@dataclass
class Broken:
    """A connection that ended in the middle of something.

    what: was under way.
    connected, ended: when, by `time.monotonic`.
    how: what the client saw.
    used: whether it had been used before, and nothing of the present answer had come.
    """

    what: str
    connected: float
    ended: float
    how: str
    used: bool


@dataclass
class Load:
    """What many clients have seen.

    done: how often each kind of exchange went as it should.
    wrong: answers that weren't right, and connections that were refused.
    stuck: what took longer than `DEADLINE`.
    broken: connections that ended too early.
    """

    served: Served
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)

    async def run(self) -> None:
        """Be all of them until cancelled."""
        async with anyio.create_task_group() as tasks:
            for number in range(CLIENTS):
                tasks.start_soon(Visitor(self, random.Random(self.seed * 1000 + number)).run)


class Visitor:
    """One client after another, on a connection each."""

    def __init__(self, load: Load, chance: random.Random) -> None:
        self._load = load
        self._chance = chance
        self._visits: list[Callable[[], Awaitable[None]]] = [self._ask, self._ask, self._upload, self._depart, self._converse]
        self._what = self._step = ""
        self._used = False
        self._connected = 0.0

    async def run(self) -> None:
        while True:
            visit = self._chance.choice(self._visits)
            self._what, self._step, self._used, self._connected = visit.__name__, "connecting", False, time.monotonic()
            try:
                with anyio.fail_after(DEADLINE):
                    await visit()
            except TimeoutError:
                self._load.stuck.append(f"{self._what}, {self._step}, after {time.monotonic() - self._connected:.1f} s")
            except ConnectionRefusedError as error:
                self._load.wrong.append(f"{self._what}: {error}")
            except OSError as error:
                self._break(str(error))

    def _break(self, how: str) -> None:
        self._load.broken.append(Broken(self._what, self._connected, time.monotonic(), how, self._used))

    async def _ask(self) -> None:
        """Some requests on one connection, of which the client takes the answers at once, or slowly."""
        buffer = self._chance.choice([0, 4096])
        async with await self._load.served.connect(receive_buffer=buffer) as client:
            for times in range(self._chance.randrange(1, 6)):
                kind, seed, size = (
                    self._chance.choice(["bytes", "stream"]),
                    self._chance.getrandbits(30),
                    self._chance.choice([0, 10, 300_000]),
                )
                await client.send(f"GET /{kind}/{seed}/{size} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
                if not await self._is_answered(client, kind, content(seed, size), used=times > 0):
                    return
                await anyio.sleep(self._chance.choice([0, 0, 0.2]))

    async def _upload(self) -> None:
        """A body, sized or in chunks, in pieces."""
        body = content(self._chance.getrandbits(30), self._chance.choice([1, 1000, 200_000]))
        chunked = self._chance.random() < 0.5
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        async with await self._load.served.connect() as client:
            await client.send(f"POST /digest HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n".encode())
            for start in range(0, len(body), 50_000):
                piece = body[start : start + 50_000]
                await client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await anyio.sleep(0.001)
            if chunked:
                await client.send(b"0\r\n\r\n")
            await self._is_answered(client, "upload", hashlib.sha256(body).hexdigest().encode(), used=False)

    async def _is_answered(self, client: Client, kind: str, expected: bytes, *, used: bool) -> bool:
        """Whether the answer is the right one, and the connection can be used again."""
        self._step = "waiting for the answer"
        answer = await client.response()
        if answer.status == 0 or not answer.complete:
            self._used = used and answer.status == 0
            self._break(f"an answer with status {answer.status} broke off")
        elif answer.status != 200 or answer.body != expected:
            self._load.wrong.append(f"{kind}: {answer.status}, {len(answer.body)} of {len(expected)} bytes")
        else:
            self._load.done[kind] += 1
            return answer.header(b"connection") != b"close"
        return False

    async def _depart(self) -> None:
        """Leave in the middle: of a sleep, a stream, an upload, a head."""
        sent = self._chance.choice(BEGINNINGS)
        async with await self._load.served.connect(receive_buffer=4096) as client:
            await client.send(sent)
            await anyio.sleep(self._chance.choice([0, 0.01, 0.1]))
            client.leave(self._chance.choice(WAYS))
        self._load.done["departure"] += 1

    async def _converse(self) -> None:
        """Messages on a WebSocket, each of which comes back; then a goodbye, or none."""
        async with await self._load.served.connect() as client:
            self._step = "shaking hands"
            try:
                talker = await shake_hands(client, patience=DEADLINE)
            except AssertionError as error:
                if " 503 " in str(error):  # it came to a worker that stops
                    return
                raise
            for _ in range(self._chance.randrange(1, 20)):
                message = content(self._chance.getrandbits(30), self._chance.choice([1, 125, 70_000]))
                self._step = f"a message of {len(message)} bytes"
                await talker.send(frame(BINARY, message))
                opcode, payload = await self._heard(talker)
                if opcode != BINARY:
                    code = struct.unpack_from("!H", payload)[0] if opcode == CLOSE else 0
                    if code != 1012:
                        self._break(f"a WebSocket closed with {code}, {payload!r}")
                    return
                if payload != message:
                    self._load.wrong.append(f"a message of {len(message)} bytes came back with {len(payload)}")
                await anyio.sleep(self._chance.choice([0, 0.05]))
            if self._chance.random() < 0.5:
                self._step = "saying goodbye"
                await talker.client.send(goodbye(1000))
                await self._heard(talker)
            else:
                talker.leave(self._chance.choice(WAYS))
        self._load.done["conversation"] += 1

    async def _heard(self, talker: Talker) -> tuple[int, bytes]:
        """The next frame that isn't a pong's."""
        while True:
            found = await talker.receive()
            if found[0] != PONG:
                return found
