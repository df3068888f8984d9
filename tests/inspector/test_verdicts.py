"""What is told of a handler says the same everywhere: in the sentence, in the reason, in the rows, in the bar and in the list."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from microasgi import Request, Router
from microasgi.inspector.enclosing import catching, shielding
from microasgi.inspector.page.sheet import Sheet
from microasgi.inspector.reasons import Blocked, Seen
from tests.conftest import LOOPS
from tests.inspector.inspected import inspecting

pytestmark = pytest.mark.anyio

HERE = Path(__file__)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return LOOPS[request.param]


async def finishes(request: Request) -> None:
    await anyio.sleep(0.5)


inner = Router(on_disconnect="finish")
inner.get("/by-its-router")(finishes)
undecided = Router()
undecided.get("/by-its-mount")(finishes)
contrary = Router()
contrary.get("/after-all", on_disconnect="cancel")(finishes)
routes = Router()
routes.mount("/inner", inner)
routes.mount("/mounted", undecided, on_disconnect="finish")
routes.mount("/contrary", contrary, on_disconnect="finish")
routes.get("/by-itself", on_disconnect="finish")(finishes)


@routes.get("/decorated", on_disconnect="finish")
async def decorated(request: Request) -> None:
    await finishes(request)


whole = Router(on_disconnect="finish")
whole.get("/by-all")(finishes)

SPEAKERS = [
    (routes, "/inner/by-its-router", "the Router mounted at /inner"),
    (routes, "/mounted/by-its-mount", "the mount /mounted"),
    (routes, "/by-itself", "the route /by-itself"),
    (routes, "/decorated", "the route /decorated"),
    (whole, "/by-all", "the Router"),
    (routes, "/contrary/after-all", ""),
]


@pytest.mark.parametrize(("app", "path", "speaker"), SPEAKERS, ids=[path for _, path, _ in SPEAKERS])
async def test_who_says_finish_is_named(app: Router, path: str, speaker: str) -> None:
    """The route, the mount or the Router whose opinion holds; and the departure's own row doesn't read as the opposite."""
    async with inspecting(app) as inspected:
        found = await inspected.timeline(await inspected.visit("GET", path, after=0.2))
    rows = {row["label"]: row["why"] for row in found["rows"] if "label" in row}
    if not speaker:
        assert found["reasons"] == []
        return
    (reason,) = found["reasons"]
    assert reason.startswith(f'*It is meant to finish*: {speaker} says `on_disconnect="finish"`')
    assert " in finishes" not in reason  # the await at which it happens to be has nothing to do with it
    assert "Visit.leave() cancels nothing" in rows
    assert found["meant"]
    if path == "/decorated":
        place = re.search(r"`, in `(\S+:\d+)`", reason)
        assert place
        assert '@routes.get("/decorated", on_disconnect="finish")' in dict(found["places"][place[1]]["code"]).values()
    assert any(label.startswith("is meant to finish") for label in rows)


stubborn = Router()


@stubborn.get("/swallows", cleanup_grace=0.25)
async def swallows(request: Request) -> None:
    for _ in range(4):
        try:
            await anyio.sleep(0.1)
        except (Exception, anyio.get_cancelled_exc_class()):
            continue


@stubborn.get("/shielded")
async def shielded(request: Request) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.2)


@stubborn.get("/threaded")
async def threaded(request: Request) -> None:
    await anyio.to_thread.run_sync(anyio.run, anyio.sleep, 0.2)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_swallowed_cancellation_is_never_called_cleanup() -> None:
    """What follows it is work for nobody; the statement that took it is quoted, and the end of the grace is an event."""
    async with inspecting(stubborn) as inspected:
        found = await inspected.timeline(await inspected.visit("GET", "/swallows"))
    rows = [row for row in found["rows"] if "label" in row]
    assert "cleanup" not in found["sum"] + found["how"] + "".join(row["label"] for row in rows)
    assert "It swallowed that, and *worked on for nobody for " in found["sum"]
    assert "swallowed it" in found["how"]
    assert found["bars"][-1][2] == "b-late"
    assert "except (Exception, anyio.get_cancelled_exc_class()):` has taken it" in found["reasons"][0]
    labels = [row["label"] for row in rows]
    given_up = labels.index("the grace of 0.25 s is over: cancelled for good")
    assert labels.index(next(label for label in labels if label.startswith("Cancel"))) < given_up
    assert any(label.startswith("Cancel") for label in labels[given_up:])


def happens(at: float, /, lane: str, what: str, **facts: Any) -> dict[str, Any]:
    return {"at": at, "connection": 1, "request": 1, "lane": lane, "what": what, "source": None, "facts": facts}


def test_each_silence_has_its_own_place() -> None:
    """A gap in which the handler computes names where the loop stood then, also if it has stood there before; else no place."""
    waits = [happens(at, "handler", "wait", at="shop.py:9 in page", task=0) for at in (2.0, 700.0, 1320.0)]
    wakes = [happens(at, "handler", "go on", task=0) for at in (20.0, 720.0)]
    events = sorted([happens(1.0, "asgi", "call", scope={"path": "/"}), *waits, *wakes], key=lambda event: event["at"])
    places = "shop.py:12 in work: sleep()", "shop.py:14 in work: pass"
    seen = Seen([Blocked(30, 690, places[0]), Blocked(730, 1300, places[0]), Blocked(1301, 1310, places[1])])
    gaps = [row["at"] for row in Sheet(1, events, "").whole(seen)["rows"] if row.get("gap")]
    assert gaps == [places[0], places[0]]
    gaps = [row["at"] for row in Sheet(1, events, "").whole(Seen())["rows"] if row.get("gap")]
    assert gaps == ["", ""]


HOLDS = {"/shielded": "it is shielded", "/threaded": "it waits for a thread, which nobody can stop"}


@pytest.mark.parametrize("path", HOLDS)
async def test_what_holds_the_cancellation_off_is_not_left_open(path: str) -> None:
    """Where it is known, only that is said, in the row and of the stage."""
    async with inspecting(stubborn) as inspected:
        found = await inspected.timeline(await inspected.visit("GET", path))
    (row,) = [row for row in found["rows"] if row.get("label", "").endswith("→ CALLED")]
    assert row["why"] == row["state"]["means"] == f"It is cancelled, but can't be told yet: {HOLDS[path]}."
    assert path != "/shielded" or "with anyio.CancelScope(shield=True):` holds off" in found["reasons"][0]


async def holding(scope: anyio.CancelScope) -> None:
    try:
        with suppress(BaseException):
            async with anyio.create_task_group():
                with anyio.CancelScope(shield=True), anyio.fail_after(1):
                    await anyio.sleep(0.001)
    except Exception:
        raise
    except BaseException:
        raise


def test_the_innermost_statement_that_holds_is_found() -> None:
    """Not one that passes it on, nor one of another function; where nothing is seen, nothing is said."""
    lines = HERE.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.strip() == "await anyio.sleep(0.001)")
    chain, files = (f"{HERE.name}:{line} in holding",), {HERE.name: str(HERE)}
    assert catching(chain, files) == f"{HERE.name}:{line - 3}: with suppress(BaseException):"
    assert shielding(chain, files) == f"{HERE.name}:{line - 1}: with anyio.CancelScope(shield=True), anyio.fail_after(1):"
    assert shielding((*chain, "gone.py:1 in f"), files) == shielding(chain, files)
    assert catching((f"{HERE.name}:1 in f",), files) == catching(chain, {}) == ""
