"""Inputs that fail, from public reports: what is answered out of a cancellation, and out of a group."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

from microasgi import CancelOnDisconnect, HTTPException, PlainTextResponse, Request, Router
from tests.cases import SOON, Case, Witness, left, table
from tests.conftest import LOOPS
from tests.harness import GET, PATIENCE, Response, access_lines, eventually, loud_lines, serving, within

pytestmark = pytest.mark.anyio


# E1: an answer to one's own cancellation is for nobody.


class Busy(HTTPException):
    """An app's own."""

    def __init__(self) -> None:
        super().__init__(503, "come back later")


async def answered(request: Request, witness: Witness) -> None:
    try:
        await witness.wait()
    except anyio.get_cancelled_exc_class():
        raise HTTPException(503) from None


async def answered_by_its_own_class(request: Request, witness: Witness) -> None:
    try:
        await witness.wait()
    finally:
        raise Busy


async def answered_with_its_cause(request: Request, witness: Witness) -> None:
    try:
        await witness.wait()
    except anyio.get_cancelled_exc_class() as error:
        raise HTTPException(503) from error


async def answered_in_a_child(request: Request, witness: Witness) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answered, request, witness)


async def answered_in_an_asyncio_child(request: Request, witness: Witness) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(answered(request, witness))


ANSWERED = (answered, answered_by_its_own_class, answered_with_its_cause, answered_in_a_child)


@table(*ANSWERED, asyncio_only=(answered_in_an_asyncio_child,))
async def test_an_answer_to_the_cancellation_is_dropped(case: Case, server: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that makes an HTTPException of its cancellation is a departure like any other."""
    assert (await left(case, server, caplog, routed=True)).notes == []


async def test_fastapis_answer_to_the_cancellation_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """So is one in FastAPI, whose own handler sends its exceptions' answers."""
    import fastapi

    api, witness = fastapi.FastAPI(), Witness()

    @api.get("/")
    async def endpoint() -> None:
        try:
            await witness.wait()
        except anyio.get_cancelled_exc_class():
            raise fastapi.HTTPException(503) from None
        finally:
            witness.ended.set()

    async with serving(CancelOnDisconnect(api)) as served:
        async with await served.connect() as client:
            await client.send(GET)
            await within(witness.begun)
        await within(witness.ended, SOON)
        await eventually(lambda: access_lines(caplog))
    assert ' HTTP/1.1" 499 ' in access_lines(caplog)[0]
    assert loud_lines(caplog) == []


# E3: an HTTPException that is alone in its group is the answer.


class Teapot(HTTPException):
    """One that has a handler of its own."""

    def __init__(self) -> None:
        super().__init__(418)


class Lost(Exception):
    """An app's own, with a handler of its own."""


Endpoint = Callable[[Request], Awaitable[None]]


async def fail(error: Exception) -> None:
    raise error


def in_an_anyio_group(*errors: Exception, depth: int = 1) -> Endpoint:
    """A handler whose children raise these, in so many groups within each other."""

    async def nested(depth: int) -> None:
        async with anyio.create_task_group() as tasks:
            if depth > 1:
                tasks.start_soon(nested, depth - 1)
            else:
                for error in errors:
                    tasks.start_soon(fail, error)

    async def handler(request: Request) -> None:
        await nested(depth)

    return handler


def in_an_asyncio_group(error: Exception) -> Endpoint:
    async def handler(request: Request) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(error))
            tasks.create_task(asyncio.sleep(30))

    return handler


async def group_by_hand(request: Request) -> None:
    raise ExceptionGroup("one", [ExceptionGroup("inner", [HTTPException(404)])])


async def ask(handler: Endpoint) -> Response:
    """What the handler's request is answered with, on a Router that has handlers for `Teapot` and `Lost`."""

    async def teapot(request: Request, error: Teapot) -> PlainTextResponse:
        return PlainTextResponse("short and stout", 418)

    async def lost(request: Request, error: Lost) -> PlainTextResponse:
        return PlainTextResponse("elsewhere", 410)

    routes = Router(exception_handlers={Teapot: teapot, Lost: lost})
    routes.get("/")(handler)
    async with serving(routes) as served, await served.connect() as client:
        await client.send(GET)
        with anyio.fail_after(PATIENCE):
            return await client.response()


ALONE: dict[str, tuple[Callable[[], Endpoint], int, bytes]] = {
    "anyio": (lambda: in_an_anyio_group(HTTPException(404)), 404, b"Not Found"),
    "anyio, three deep": (lambda: in_an_anyio_group(HTTPException(404), depth=3), 404, b"Not Found"),
    "a subclass": (lambda: in_an_anyio_group(Busy()), 503, b"come back later"),
    "a subclass with a handler": (lambda: in_an_anyio_group(Teapot(), depth=2), 418, b"short and stout"),
    "another class with a handler": (lambda: in_an_anyio_group(Lost()), 410, b"elsewhere"),
    "by hand": (lambda: group_by_hand, 404, b"Not Found"),
}

NOT_ALONE: dict[str, Callable[[], Endpoint]] = {
    "two of them": lambda: in_an_anyio_group(HTTPException(404), HTTPException(403)),
    "a bug beside it": lambda: in_an_anyio_group(HTTPException(404), ZeroDivisionError()),
    "a bug": lambda: in_an_anyio_group(ZeroDivisionError()),
}


@pytest.mark.parametrize("case", list(ALONE))
async def test_an_exception_alone_in_a_group_answers(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """An HTTPException, or one that has a handler, answers from a task group's child as it does from the handler itself."""
    make, status, body = ALONE[case]
    response = await ask(make())
    assert (response.status, response.body) == (status, body)
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
async def test_an_exception_alone_in_an_asyncio_group_answers(caplog: pytest.LogCaptureFixture) -> None:
    """It does so from an asyncio.TaskGroup, too."""
    assert (await ask(in_an_asyncio_group(HTTPException(404)))).status == 404
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("case", list(NOT_ALONE))
async def test_an_exception_among_others_is_a_500(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is another error, nobody can tell which is the answer: it is a 500, and logged."""
    response = await ask(NOT_ALONE[case]())
    assert response.status == 500
    assert len(loud_lines(caplog)) == 1
