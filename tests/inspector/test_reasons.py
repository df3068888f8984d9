"""Why a handler hasn't stopped: each of `stubborn.py`'s is explained, in words, while it goes on and when it is over."""

import asyncio
import re
import time
from contextlib import suppress
from typing import Any

import anyio
import pytest
import sniffio

from microasgi import CancelOnDisconnect, Request, Router
from microasgi.inspector.reasons import Blocked, Seen, reasons
from microasgi.inspector.summary import story
from tests.conftest import LOOPS
from tests.inspector import stubborn
from tests.inspector.inspected import inspecting

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return LOOPS[request.param]


WORDS = {
    ("GET", "/blocking"): r"\*It blocks the event loop\*: it was at work for \d+ ms without an await. In which line was not seen",
    (
        "GET",
        "/swallowing",
    ): r"\*It has swallowed the cancellation\*: that was raised at `stubborn\.py:\d+ in swallowing`",
    ("GET", "/shielded"): r"\*It is shielded\*, at `stubborn\.py:\d+ in shielded`",
    ("POST", "/finishing"): r'\*It is meant to finish\*: the route /finishing says `on_disconnect="finish"`, in `stubborn\.py:\d+`',
    ("GET", "/threaded"): r"\*It is in a thread\*.*check_cancelled",
}


@pytest.mark.parametrize("asked", WORDS, ids=str)
async def test_it_is_told_why_a_handler_goes_on(asked: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says what holds it, where that is, and what to do about it."""
    method, path = asked
    monkeypatch.setattr(stubborn, "SECONDS", 0.7 if path == "/blocking" else 0.3)
    if path == "/swallowing" and sniffio.current_async_library() == "trio":
        return  # there every further await raises, too, and so it ends at once
    async with inspecting(stubborn.routes) as inspected:
        id = await inspected.visit(method, path, "fin", 0.05)
        with anyio.fail_after(5):
            running = None if path == "/blocking" else await inspected.timeline(id, until="reasons")
            over = await inspected.timeline(id)
    for found in filter(None, [running, over]):
        (reason,) = found["reasons"]
        assert re.search(WORDS[asked], reason), reason
    if running and path == "/threaded":
        assert "at `stubborn.py:" in running["reasons"][0]


mixed = Router()


async def protected() -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.3)


async def deaf() -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(9)
    await asyncio.sleep(0.3)


@mixed.get("/first-shielded")
async def first_shielded(request: Request) -> None:
    await protected()
    await anyio.sleep(9)


@mixed.get("/first-in-a-thread")
async def first_in_a_thread(request: Request) -> None:
    await anyio.to_thread.run_sync(time.sleep, 0.3)
    await anyio.sleep(9)


@mixed.get("/shielded-child")
async def shielded_child(request: Request) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(protected)


@mixed.get("/deaf-child")
async def deaf_child(request: Request) -> None:
    await asyncio.gather(deaf(), deaf())


@mixed.get("/leaving-a-task")
async def leaving_a_task(request: Request) -> None:
    await asyncio.shield(asyncio.create_task(protected()))


@mixed.get("/leaving-a-thread")
async def leaving_a_thread(request: Request) -> None:
    await asyncio.to_thread(time.sleep, 0.3)


@mixed.get("/cleaning")
async def cleaning(request: Request) -> None:
    try:
        await anyio.sleep(9)
    finally:
        await anyio.sleep(0.6)


@mixed.get("/in-time")
async def in_time(request: Request) -> None:
    with anyio.move_on_after(0.01):  # a cancellation that is no departure's
        await anyio.sleep(9)
    await anyio.sleep(9)


MIXED = {
    "/first-shielded": r"\*It was shielded\* for \d+ ms, at `test_reasons\.py:\d+ in protected`",
    "/first-in-a-thread": r"\*It was in a thread\* for \d+ ms",
    "/shielded-child": r"\*It waits for task 1\*, `\S+protected`, which is shielded, at `test_reasons\.py:\d+ in protected`",
    "/deaf-child": r"\*Task 1, `deaf`, has swallowed the cancellation\*: that was raised at `test_reasons\.py:\d+ in deaf`",
    "/leaving-a-task": r"\*It has left a task behind\*, `protected`",
    "/leaving-a-thread": r"\*It has left a thread behind\*, at `test_reasons\.py:\d+ in leaving_a_thread`",
    "/cleaning": r"\*Its cleanup takes \d+ ms\*, at `test_reasons\.py:\d+ in cleaning`",
    "/in-time": "",
}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_each_task_is_looked_at() -> None:
    """What holds the news up, or goes on behind it, may be a task or a thread that the handler has started; and is told when it is over."""
    found = {}
    async with inspecting(mixed) as inspected:
        ids = {path: await inspected.visit("GET", path, "fin", 0.1) for path in MIXED}
        for path, id in ids.items():
            found[path] = (await inspected.timeline(id))["reasons"]
    assert {path: len(told) for path, told in found.items()} == {path: bool(words) for path, words in MIXED.items()}
    assert not [(path, told) for path, told in found.items() if not all(re.match(MIXED[path], reason) for reason in told)]


async def test_who_stops_needs_no_reason() -> None:
    """A handler that was told, and cleaned up in time, has none; nor has one whose client stays."""
    async with inspecting(stubborn.routes) as inspected:
        assert (await inspected.timeline(await inspected.visit("GET", "/report/2024")))["reasons"] == []
        assert (await inspected.timeline(await inspected.visit("GET", "/nowhere", "after")))["reasons"] == []


async def foreign(scope: Any, receive: Any, send: Any) -> None:
    """An app that knows nothing of us."""
    if scope["type"] == "http":
        await anyio.sleep(0.3)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def test_an_app_that_does_not_ask_is_told_of_the_wrapper() -> None:
    """Nobody has subscribed: that is said, with the option that helps; with it, there is nothing to say."""
    async with inspecting(foreign) as inspected:
        found = await inspected.timeline(await inspected.visit("GET", "/"))
        assert "*Nobody in this app has asked to be told*" in found["reasons"][0]
        assert "--cancel-on-disconnect" in found["reasons"][0]
    async with inspecting(CancelOnDisconnect(foreign)) as inspected:
        found = await inspected.timeline(await inspected.visit("GET", "/"))
        assert (found["status"], found["reasons"]) == (499, [])


def event(at: float, /, lane: str, what: str, **facts: Any) -> dict[str, Any]:
    return {"at": at, "connection": 1, "request": 1, "lane": lane, "what": what, "source": None, "facts": facts}


COMPUTES = [event(1, "asgi", "call"), event(300, "client", "close", way="FIN"), event(3000, "asgi", "end")]
WAITS = [event(1, "asgi", "call"), event(2, "handler", "wait", at="a.py:1 in a", task=0), *COMPUTES[1:]]


@pytest.mark.parametrize(("events", "who"), [(COMPUTES, "It blocks"), (WAITS, "Something else blocks")], ids=["itself", "another"])
def test_the_right_one_is_blamed_for_a_blocked_loop(events: Any, who: str) -> None:
    """Whoever computed meanwhile blocks the loop; who only waited suffers from it."""
    seen = Seen([Blocked(200, 2900, "shop.py:30 in work: time.sleep(3)")])
    (reason,) = reasons(events, story(events), seen)
    assert re.match(rf"\*{who} the event loop\*, which stood in `shop\.py:30 in work: time\.sleep\(3\)` for (2\.70|3\.00) s", reason)


SHORT = [event(1, "asgi", "call"), event(2, "handler", "wait", at="a.py:1 in a", task=0), event(20, "handler", "go on", task=0)]
SHORT += [event(60, "client", "close", way="FIN"), event(320, "wire", "FIN"), event(320, "handler", "wait", at="b.py:2 in b", task=0)]
SHORT += [event(321, "asgi", "told"), event(321, "handler", "stage", new="CALLED"), event(321, "handler", "stage", new="SENT")]
SHORT += [event(322, "handler", "thrown", error="CancelledError", task=0), event(323, "asgi", "end")]


@pytest.mark.parametrize(
    "blocked", [[], [Blocked(40, 320, "shop.py:30 in work")], [Blocked(40, 320, "")]], ids=["nothing", "it", "no place"]
)
def test_a_short_block_is_no_shield_and_names_no_innocent_line(blocked: list[Blocked]) -> None:
    """Who computes for most of the time in which it can't hear is told so, and where, if that was seen; else nowhere."""
    (reason,) = reasons(SHORT, story(SHORT), Seen(blocked))
    assert reason.startswith("*It blocks the event loop*")
    assert ("`shop.py:30 in work` for 300 ms" in reason) == any(each.at for each in blocked)
    assert "a.py" not in reason
    assert "b.py" not in reason


own = Router()


async def shielding() -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.3)


async def cleans() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        await anyio.sleep(0.6)


@own.get("/member")
async def member(request: Request) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 9)
        tasks.start_soon(shielding)


@own.get("/cleaning-member")
async def cleaning_member(request: Request) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cleans)


@own.get("/one-of-two")
async def one_of_two(request: Request) -> None:
    await asyncio.gather(cleans(), swallows())


async def swallows() -> None:
    with suppress(BaseException):
        await anyio.sleep_forever()


@own.get("/polling", on_disconnect="finish")
async def polling(request: Request) -> None:
    for _ in range(4):
        with anyio.move_on_after(0.05):
            await anyio.sleep_forever()


OWN = {
    "/member": (r"\*It waits for task \d\*, `.*shielding`, which is shielded, at `test_reasons\.py:\d+ in shielding`", r"was told"),
    "/cleaning-member": (r"\*Its cleanup takes \d+ ms\*, at `test_reasons\.py:\d+ in cleans`|^$", r"was told"),
    "/one-of-two": (r"\*Its cleanup takes \d+ ms\*, at `test_reasons\.py:\d+ in cleans`", r"was told"),
    "/polling": (r'\*It is meant to finish\*: the route /polling says `on_disconnect="finish"`, in `test_reasons\.py:\d+`', r"never heard"),
}


@pytest.mark.parametrize("path", OWN)
async def test_members_and_timeouts_are_not_taken_for_what_they_are_not(path: str) -> None:
    """Who waits for members has swallowed nothing, is in no shield, has not computed, and has heard; a timeout is no departure."""
    on_trio = sniffio.current_async_library() == "trio"
    if path == "/one-of-two" and on_trio:
        return  # that is asyncio's `gather`
    async with inspecting(own) as inspected:
        found = await inspected.timeline(await inspected.visit("GET", path))
    reason, known = OWN[path]
    assert re.search(known, found["sum"]), found["sum"]
    assert re.match(reason, "".join(found["reasons"])), found["reasons"]
    assert found["reasons"] or on_trio
