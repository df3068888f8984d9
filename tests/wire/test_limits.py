"""How much a request may bring, and what becomes of an app that asks for more."""

import json
from typing import Any

import anyio
import pytest
from microasgi_server import Config, Limits

from tests.harness import Client, Served, access_lines, eventually, loud_lines, serving, within

pytestmark = pytest.mark.anyio

POST = b"POST / HTTP/1.1\r\nHost: test\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
FOREVER = b"10000\r\n" + b"x" * 65_536 + b"\r\n"


def sized(length: int, *fields: bytes) -> bytes:
    return b"\r\n".join([POST + b"Content-Length: %d" % length, *fields, b"", b""])


class App:
    """Reads a body, and keeps what it heard.

    allowance: what it writes into `microasgi.limits` before that; None leaves the server's own.
    begins: whether its response begins before it reads.
    """

    def __init__(self, allowance: int | None = None, *, begins: bool = False) -> None:
        self.allowance = allowance
        self.begins = begins
        self.seen = 0
        self.heard: list[str] = []
        self.ended = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.allowance is not None:
            scope["extensions"]["microasgi.limits"]["body"] = self.allowance
        if self.begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        try:
            message: Any = {"more_body": True}
            while message.get("more_body"):
                message = await receive()
                self.heard.append(message["type"])
                self.seen += len(message.get("body", b""))
            if message["type"] == "http.request":
                if not self.begins:
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"%d" % self.seen})
        finally:
            self.ended.set()


async def asked(served: Served, *sent: bytes) -> Any:
    """The server's answer, which the client can read though it sends on."""
    async with await served.connect() as client:
        for data in sent:
            await client.send(data)
        with anyio.fail_after(5):
            return await client.response()


async def test_a_body_whose_length_is_known_is_refused_before_it_is_read(caplog: pytest.LogCaptureFixture) -> None:
    """Content-Length over the limit: 413 when the app asks for the body; the app hears that its client is gone, and nobody complains."""
    app = App()
    async with serving(app, lifespan="off", limits=Limits(body=100)) as served:
        response = await asked(served, sized(101), b"x" * 50)
        await within(app.ended)
    assert (response.status, response.header(b"connection")) == (413, b"close")
    assert response.body == "a request's body has at most 100 bytes here (RFC 9110 §15.5.14)\n".encode()
    assert (app.heard, app.seen) == (["http.disconnect"], 0)
    assert [line for line in access_lines(caplog) if '"POST / HTTP/1.1" 413 ' in line]
    assert len([line for line in caplog.messages if "refused with 413" in line]) == 1
    assert not loud_lines(caplog)


async def test_who_waits_for_the_100_gets_the_413_instead() -> None:
    """A client that asked first is refused before it sends its body."""
    async with serving(App(), lifespan="off", limits=Limits(body=100)) as served:
        response = await asked(served, sized(101, b"Expect: 100-continue"))
    assert (response.status, response.informational) == (413, [])


async def test_a_chunked_body_is_refused_at_the_limit() -> None:
    """Without a length, the app gets what the limit allows, and no byte more."""
    app = App()
    async with serving(app, lifespan="off", limits=Limits(body=200_000)) as served:
        response = await asked(served, CHUNKED, *[FOREVER] * 4)
        await within(app.ended)
    assert response.status == 413
    assert app.heard[-1] == "http.disconnect"
    assert app.seen <= 200_000


@pytest.mark.parametrize(
    ("limit", "allowance", "status"),
    [(100, None, 200), (99, None, 413), (0, None, 200), (10, 100, 200), (10, 0, 200), (1000, 99, 413)],
    ids=["at the limit", "over it", "none", "raised", "lifted", "lowered"],
)
@pytest.mark.parametrize("data", [sized(100) + b"x" * 100, CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n"], ids=["sized", "chunked"])
async def test_the_app_may_say_otherwise(limit: int, allowance: int | None, status: int, data: bytes) -> None:
    """The limit counts bytes of content; 0 is none; and an app may raise or lower it before it asks."""
    async with serving(App(allowance), lifespan="off", limits=Limits(body=limit)) as served:
        assert (await asked(served, data)).status == status


async def test_an_app_that_does_not_read_is_not_asked() -> None:
    """Who doesn't want the body may answer as it likes, however long that is."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with serving(app, lifespan="off", limits=Limits(body=100)) as served:
        assert (await asked(served, sized(101))).status == 204


async def test_a_response_that_has_begun_is_broken_off() -> None:
    """What is on its way can't become a 413: the client sees that it isn't whole."""
    app = App(begins=True)
    async with serving(app, lifespan="off", limits=Limits(body=100)) as served:
        response = await asked(served, sized(101))
        await within(app.ended)
    assert (response.status, response.body, response.complete) == (200, b"begun", False)
    assert app.heard == ["http.disconnect"]


async def test_the_413_reaches_a_client_that_sends_on() -> None:
    """Behind the answer the server reads on for a moment, so that no reset overtakes it; the look-ahead being full doesn't matter."""
    release = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()
        assert (await receive())["type"] == "http.disconnect"

    async def flood(client: Client) -> None:
        while True:
            await client.send(FOREVER)

    async with (
        serving(app, lifespan="off", limits=Limits(body=1000)) as served,
        await served.connect() as client,
        anyio.create_task_group() as tasks,
    ):
        await client.send(CHUNKED + FOREVER * 4)
        tasks.start_soon(flood, client)
        release.set()
        with anyio.fail_after(5):
            assert (await client.response()).status == 413
        tasks.cancel_scope.cancel()


async def test_the_defaults_are_finite() -> None:
    """As the README says."""
    limits = Config().limits
    assert (limits.request_line, limits.fields, limits.head, limits.body) == (8190, 100, 32 * 1024, 100 * 1024 * 1024)


@pytest.mark.parametrize("name", ["request_line", "fields", "head", "body"])
def test_a_negative_limit_is_refused(name: str) -> None:
    """There is no such thing."""
    with pytest.raises(ValueError, match=f"the limit {name} is not negative"):
        Limits(**{name: -1})  # type: ignore[arg-type]


async def test_a_scope_that_is_echoed() -> None:
    """What an app finds in `extensions` is data to whoever dumps it, and the function is there for who asks by name."""
    undone: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        extensions = scope["extensions"]
        disconnect = extensions["microasgi.disconnect"]
        assert disconnect
        assert "subscribe" in disconnect
        assert "other" not in disconnect
        assert disconnect.get("subscribe") == disconnect["subscribe"]
        assert disconnect.get("other", 1) == 1
        with pytest.raises(KeyError):
            disconnect["other"]
        undone.append(disconnect["subscribe"](lambda: None)())
        data = json.dumps({name: extension for name, extension in extensions.items() if name != "microasgi.tap"}, indent=1).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": data})

    async with serving(app, lifespan="off") as served:
        response = await asked(served, sized(0))
        await eventually(lambda: undone)
    assert json.loads(response.body) == {
        "http.response.early_hint": {},
        "http.response.trailers": {},
        "microasgi.disconnect": {},
        "microasgi.shutdown": {},
        "microasgi.limits": {"body": 100 * 1024 * 1024},
    }
