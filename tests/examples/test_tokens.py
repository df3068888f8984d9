"""The proxy of a language model, with the model behind it: two servers, a client library between them, and a client that leaves."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from microasgi import testing
from tests.examples.tokens import Model, proxy
from tests.harness import PATIENCE, Client, Departure, Served, access_lines, eventually, loud_lines, serving

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Async generator 'http(core|x)\\b"),  # which leave theirs unfinished, and trio says so
]

SLOTS = 2


@dataclass
class Service:
    """Both servers, running."""

    model: Model
    upstream: Served
    proxy: Served

    def taken(self) -> int:
        """Slots of the model in use."""
        return int(self.model.slots.borrowed_tokens)


@asynccontextmanager
async def service(*, pace: float = 0.002, silence: float = 5.0) -> AsyncIterator[Service]:
    model = Model(SLOTS, pace)
    async with serving(model.routes) as upstream, serving(proxy(upstream.address, silence)) as served:
        yield Service(model, upstream, served)


async def chat(client: Client, **asked: object) -> None:
    """Ask, and don't wait."""
    body = json.dumps(asked).encode()
    await client.send(b"POST /chat HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def stands_still(count: Callable[[], int]) -> None:
    """Return when a number that grew has not grown for a while."""
    before = -1
    with anyio.fail_after(PATIENCE):
        while count() != before:
            before = count()
            await anyio.sleep(0.03)


async def test_tokens_are_passed_on() -> None:
    """An answer that ends comes whole."""
    async with service() as running, await running.proxy.connect() as client:
        await chat(client, prompt="to be or not", tokens=6)
        response = await client.response(b"POST")
    assert response.body.split() == [b"to", b"be", b"or", b"not", b"to", b"be"]
    assert response.complete


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_the_model_stops_when_the_proxys_client_leaves(how: Departure, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves an endless answer frees the model's slot, for the next one, and each server logs a 499, and nothing else."""
    async with service() as running:
        for number in range(SLOTS + 1):  # one more than there are slots
            async with await running.proxy.connect() as client:
                await chat(client, prompt="on and on")
                received = b""
                while received.count(b"on\n") < 3:
                    received += await client.receive()
                assert running.taken() == 1
                client.leave(how)
            await eventually(lambda: running.taken() == 0)
            await eventually(lambda number=number: len(access_lines(caplog)) == 2 * (number + 1))  # type: ignore[misc]
    assert all(" 499 " in line for line in access_lines(caplog))
    assert loud_lines(caplog) == []


async def test_the_model_stops_when_nobody_takes_its_tokens_any_more() -> None:
    """A client that leaves without having read frees the slot, too: the proxy waits in sending then, and not for the model."""
    async with service(pace=0) as running:
        async with await running.proxy.connect(receive_buffer=4096) as client:
            await chat(client, prompt="x" * 900)
            await eventually(lambda: running.taken() == 1)
            await stands_still(lambda: running.model.made)
            assert running.taken() == 1
        await eventually(lambda: running.taken() == 0)


async def test_the_model_stops_wherever_the_client_leaves() -> None:
    """At whichever await of the proxy its client leaves, the model's slots are free a moment later."""
    async with service(pace=0.0005) as running, testing.Client(proxy(running.upstream.address)) as client:
        departures = 0
        async for departure in client.hang_up_everywhere("/chat", "POST", json={"prompt": "a b c", "tokens": 3, "patient": True}):
            departures += 1
            await eventually(lambda: running.taken() == 0)
            assert departure.cancelled
        assert departures > 3


@pytest.mark.parametrize(
    "asked",
    [{}, [], {"prompt": ""}, {"prompt": 5}, {"prompt": "x" * 1001}, {"prompt": "x", "tokens": "many"}],
    ids=["nothing", "a list", "empty", "a number", "too long", "no number"],
)
async def test_a_prompt_that_is_none_never_reaches_the_model(asked: object) -> None:
    """What isn't a chat is refused in front of the model."""
    async with testing.Client(proxy("http://127.0.0.1:1")) as client:
        assert (await client.post("/chat", json=asked)).status_code == 422


async def test_a_model_that_fails_is_told_from_one_that_is_silent() -> None:
    """Without a free slot or a listening model the answer is a 502, and behind silence a 504."""
    async with service(pace=60) as running, anyio.create_task_group() as tasks:
        async with testing.Client(proxy(running.upstream.address, 0.05)) as client:
            assert (await client.post("/chat", json={"prompt": "hm"})).status_code == 504
        tasks.start_soon(running.model.slots.acquire_on_behalf_of, "one")
        tasks.start_soon(running.model.slots.acquire_on_behalf_of, "two")
        await eventually(lambda: running.taken() == SLOTS)
        async with testing.Client(proxy(running.upstream.address)) as client:
            assert (await client.post("/chat", json={"prompt": "hm"})).text == "the model answered with 503"
    async with testing.Client(proxy("http://127.0.0.1:1")) as client:
        assert (await client.post("/chat", json={"prompt": "hm"})).text == "the model can't be reached"
