""" "Be the client": requests that the page has made, what they ask for, and how they leave."""

import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from microasgi_server.taps import Redaction

from microasgi import Request, Router, WebSocket
from microasgi.inspector.leaving import WAYS
from microasgi.inspector.page.visits import ways
from tests.conftest import LOOPS
from tests.harness import Departure, eventually
from tests.inspector.inspected import Inspected, inspecting

pytestmark = pytest.mark.anyio

routes = Router()


@routes.get("/sleep")
async def sleep(request: Request) -> None:
    await anyio.sleep(60)


@routes.get("/hello")
async def hello(request: Request) -> str:
    return "hello\n"


@routes.post("/upload")
async def upload(request: Request) -> None:
    async for _ in request.stream():
        await anyio.sleep(60)


@routes.websocket("/chat")
async def chat(ws: WebSocket) -> None:
    await ws.accept()
    async for _ in ws:
        pass


@pytest.fixture
def anyio_backend() -> Any:
    return LOOPS["asyncio"]


@pytest.fixture
async def inspected() -> AsyncIterator[Inspected]:
    async with inspecting(routes) as both:
        yield both


def lanes(timeline: Any) -> list[tuple[int, str]]:
    return [(row["to"], row["label"]) for row in timeline["rows"] if row.get("state")]


TRIES = {
    "fin": ("GET", "/sleep", 499),
    "rst": ("GET", "/sleep", 499),
    "half-close": ("GET", "/sleep", 499),
    "in-head": ("GET", "/sleep", None),
    "in-body": ("POST", "/upload", 499),
    "behind-body": ("POST", "/upload", 499),
    "behind-request": ("GET", "/sleep", 499),
    "not-reading": ("GET", "/sleep", 499),
    "before-last-byte": ("GET", "/hello", 200),
    "after": ("GET", "/hello", 200),
    "stay": ("GET", "/hello", 200),
    "goodbye": ("WEBSOCKET", "/chat", 101),
}


def test_every_way_is_tried() -> None:
    """A new way to leave needs a row here."""
    assert TRIES.keys() == WAYS.keys()


@pytest.mark.parametrize("way", TRIES)
async def test_it_leaves_in_every_way(way: str, inspected: Inspected) -> None:
    """The client's own lane and the server's are one timeline, in which the departure has its place."""
    method, path, status = TRIES[way]
    id = await inspected.visit(method, path, way)
    await eventually(lambda: not inspected.session.visits.going_on)
    with anyio.fail_after(5):
        found = await inspected.timeline(id, until="left" if way == "in-head" else "ended")
    assert found["status"] == status
    assert (0, "connect()") in lanes(found)
    assert (found["left"] is not None) == (way != "stay" or any("close()" in label for lane, label in lanes(found) if lane == 0))
    if status == 499:
        assert any(row.get("hot") and row["to"] == 4 for row in found["rows"]), found["sum"]


async def test_who_leaves_with_its_answer_needs_no_time(inspected: Inspected) -> None:
    """As the form has it, which offers no time where the way to leave has its own."""
    offered = {way["name"]: way["waits"] for way in ways()}
    assert [name for name, waits in offered.items() if not waits] == ["before-last-byte", "after", "stay"]
    for way in ("before-last-byte", "after", "stay"):
        await inspected.visit("GET", "/hello", way, after=None)
    await eventually(lambda: not inspected.session.visits.going_on)


async def test_it_waits_until_it_is_told_to_leave(inspected: Inspected) -> None:
    """Without a time, the client stays until `/leave`; the handler hears of it then."""
    id = await inspected.visit("GET", "/sleep", after=None)
    await eventually(lambda: inspected.app)
    found = await inspected.get(f"/timeline/{id}")
    assert found["running"]
    assert found["left"] is None
    assert (await inspected.ask("/leave", {"visit": 1})).status == 200
    assert (await inspected.timeline(id))["status"] == 499
    assert (await inspected.ask("/leave", {"visit": 1})).status == 200  # it has left
    assert (await inspected.ask("/leave", {"visit": 2})).status == 404


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"method": "get"}, "the method is one of GET"),
        ({"path": "http://evil.example/"}, "the path starts with a slash"),
        ({"path": "/a b"}, "write %20"),
        ({"path": "/\r\nhost: evil"}, "the path starts with a slash, and is ASCII"),
        ({"way": "sideways"}, "the way to leave is one of fin, rst"),
        ({"way": "goodbye"}, "only a WebSocket has a goodbye"),
        ({"method": "WEBSOCKET", "way": "in-body"}, "a WebSocket can't be left by in-body"),
        ({"after": -1}, "after is a number of seconds"),
        ({"after": 1e300, "way": "after"}, "after is a number of seconds, 300 at most"),
        ({"way": ["fin"]}, "the way to leave is one of"),
        ({"after": "soon"}, "after is a number of seconds"),
        ({"headers": "no colon"}, "a header field is NAME: VALUE, not 'no colon'"),
        ({"headers": "na me: x"}, "na me"),
    ],
    ids=str,
)
async def test_what_cannot_be_asked_for_is_told(order: dict[str, Any], words: str, inspected: Inspected) -> None:
    """What is wrong is said in words, with 422, and nothing is sent."""
    answer = await inspected.ask("/open", {"method": "GET", "path": "/hello", "way": "fin", "after": 0, "headers": "", "body": "", **order})
    assert (answer.status, words in answer.body.decode()) == (422, True), answer
    assert inspected.session.recording.entries == {}


async def test_nothing_is_sent_anywhere_else(inspected: Inspected) -> None:
    """No order has a host in it: the connection goes to the app's own port, whatever its Host says."""
    id = await inspected.visit("GET", "//evil.example/", "after", headers="host: evil.example")
    found = await inspected.timeline(id)
    assert found["title"] == "GET //evil.example/"
    assert found["status"] == 404


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_client_from_elsewhere_leaves_when_the_server_notices(inspected: Inspected, how: Departure) -> None:
    """Of a browser, or of curl, there is no more to know: its departure is told all the same."""
    entries = inspected.session.recording.entries
    async with await inspected.app.connect() as client:
        await client.send(b"GET /sleep HTTP/1.1\r\nHost: here\r\n\r\n")
        await eventually(lambda: any(event["what"] == "wait" for entry in entries.values() for event in entry.told()))
        (id,) = entries
        assert (await inspected.get(f"/timeline/{id}"))["sum"].startswith("The client is there; the handler waits at test_visits.py")
        client.leave(how)
        found = await inspected.timeline(id)
    assert re.match(r"The client left( by a reset)? at \d+ ms\. The handler was told at test_visits\.py:\d+ in sleep", found["sum"])
    assert ("by a reset" in found["sum"]) == (how == "RST")
    assert (found["status"], found["reasons"]) == (499, [])


async def test_there_are_not_too_many(inspected: Inspected) -> None:
    """The 21st that is to go on at the same time is refused."""
    order = {"method": "GET", "path": "/sleep", "way": "fin", "after": None, "headers": "", "body": ""}
    answers = [(await inspected.ask("/open", order)).status for _ in range(21)]
    assert answers == [200] * 20 + [429]


SECRET = "e5b5ca-secret"


@pytest.mark.parametrize("kind", ["json", "text", "perfetto", "har"])
async def test_secrets_are_in_no_lane_and_no_export(kind: str) -> None:
    """What was hidden when it was told, the client's own bytes among it, is nowhere: not on the page, not in a file."""
    hides = Redaction(["x-mine"], hide_query=True, bodies=False)
    async with inspecting(routes, hides) as inspected:
        headers = f"cookie: {SECRET}\nX-Mine: {SECRET}\nauthorization: Basic {SECRET}"
        id = await inspected.visit("POST", f"/upload?key={SECRET}", "fin", headers=headers, body=SECRET)
        found = await inspected.timeline(id)
        answer = await inspected.ask(f"/export/{id}/{kind}")
        stream = await inspected.first_news()
    assert answer.status == 200
    for text in (str(found), answer.body.decode(), stream):
        assert SECRET not in text
        assert SECRET.encode().hex() not in text
    assert (found["status"], found["title"]) == (499, "POST /upload?***")
    assert "127.0.0.1" in answer.body.decode() or kind in ("text", "perfetto")


async def test_a_page_that_closes_is_a_departure(inspected: Inspected) -> None:
    """The inspector's own promise ends the stream of a page that is gone."""
    async with await inspected.page.connect() as client:
        await client.send(b"GET /stream HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in inspected.usual().items()).encode() + b"\r\n")
        assert b'"kind": "hello"' in await client.receive()
        assert len(inspected.session.pages) == 1
    await eventually(lambda: len(inspected.session.pages) == 0)
