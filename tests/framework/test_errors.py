"""Who answers an exception: handlers by status and class, other frameworks' HTTPExceptions, and what is said of a wrong result."""

import logging
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.staticfiles import StaticFiles

from microasgi import HTTPException, Mount, PlainTextResponse, Request, Response, Route, Router
from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from tests.harness import GET, call, loud_lines, serving, within
from tests.harness import Response as Answer
from tests.naming import named

pytestmark = pytest.mark.anyio


class Odd(Exception):
    """An app's own."""


class Upstream(Exception):
    """Another service's answer, as clients raise it."""

    status_code = 401
    detail = "the token of our own"


def raising(error: Exception) -> Callable[[Request], Any]:
    async def handler(request: Request) -> None:
        raise error

    return handler


def app_raising(error: Exception, *, begun: bool = False) -> ASGIApp:
    """An app of nobody's framework, which may have begun its response before."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return app


def tells(name: str) -> Callable[[Request, Exception], Response]:
    return lambda request, error: PlainTextResponse(f"{name}: {error}", 400)


# HTTPException.


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (HTTPException(404), 404, b"404"),
        (HTTPException(422, "no"), 422, b"422"),
        (Odd("a bug"), 400, b"last: a bug"),
    ],
)
async def test_a_handler_for_exception_is_not_asked_for_answers(error: Exception, status: int, body: bytes) -> None:
    """A handler for Exception is for what nobody expected: HTTPExceptions are still answered by status, class, or themselves."""
    handlers: dict[Any, Any] = {Exception: tells("last"), HTTPException: lambda _, error: PlainTextResponse(f"{error.status_code}", 422)}
    routes = Router([Route("/", raising(error))], exception_handlers={Exception: tells("last")})
    assert (await call(routes)).status == status
    routes = Router([Route("/", raising(error))], exception_handlers=handlers)
    assert (await call(routes)).body == body


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/", 405), ("PUT", "/", 400)])
async def test_the_routings_own_answers_stay_what_they_are(method: str, path: str, status: int) -> None:
    """404, 405 and a body that is no JSON are no 500 where there is a handler for Exception."""
    routes = Router(exception_handlers={Exception: tells("last"), 500: tells("last")})

    @routes.get("/")
    @routes.route("/put", ["PUT"])
    async def json(request: Request) -> Any:
        return await request.json()

    assert (await call(routes, method, "/put" if method == "PUT" else path)).status == status


@pytest.mark.parametrize(
    ("detail", "media_type", "body"),
    [
        ("why", "text/plain; charset=utf-8", b"why"),
        ({"field": ["name"]}, "application/json", b'{"detail":{"field":["name"]}}'),
        (["a", "b"], "application/json", b'{"detail":["a","b"]}'),
        (None, "text/plain; charset=utf-8", None),
    ],
)
async def test_a_detail_is_text_or_json(detail: Any, media_type: str, body: bytes | None) -> None:
    """A text is sent as it is, everything else as JSON with the name `detail`."""
    answer = await call(Router([Route("/", raising(HTTPException(422, detail, {"X-Why": "so"})))]))
    assert (answer.status, answer.header(b"content-type"), answer.header(b"x-why")) == (422, media_type.encode(), b"so")
    assert answer.body == (body if body is not None else HTTPException(422).detail.encode())


async def test_an_exception_with_an_empty_status_has_no_body() -> None:
    """A 304 is sent without one."""
    answer = await call(Router([Route("/", raising(HTTPException(304, headers={"ETag": '"a"'})))]))
    assert (answer.status, answer.body, answer.header(b"etag")) == (304, b"", b'"a"')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("404",), "a status is a number, such as 404, not '404' (str)"),
        (("not found", 404), "a status is a number, such as 404, not 'not found' (str)"),
        ((999,), "a status is a number from 100 to 599, not 999"),
        ((400, ValueError("x")), "is text, or goes into JSON: content is of type ValueError, which JSON has nothing for; write str()"),
        ((400, {"a": [b""]}), "content['a'][0] is of type bytes"),
        ((401, "who?", {"Retry-After": 5}), "the header 'Retry-After' is text, not 5 (int); write \"5\""),
        ((401, "who?", ["a"]), "headers are a mapping"),
        ((401, "who?", {"X-A": "a\r\nb"}), "can't have a line break"),
    ],
)
def test_a_wrong_http_exception_is_refused_where_it_is_made(arguments: Any, message: str) -> None:
    """Status, detail and headers are checked at once, and not when the answer is sent."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        HTTPException(*arguments)


# Other frameworks'.


async def test_a_missing_static_file_is_a_404(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Starlette's static files, mounted, answer a missing file with 404, a wrong method with 405, and nothing is logged."""
    (tmp_path / "a.txt").write_text("here")
    async with serving(Router([Mount("/static", StaticFiles(directory=tmp_path))])) as served, await served.connect() as client:
        for head, status in ((GET, 404), (GET.replace(b"GET", b"POST"), 405), (GET, 404)):
            await client.send(head.replace(b" / ", b" /static/b.txt "))
            assert (await client.response()).status == status
        await client.send(GET.replace(b" / ", b" /static/a.txt "))
        assert (await client.response()).body == b"here"
        client.leave()
        served.stop.set()
        await within(served.ended)
    assert loud_lines(caplog) == []


@pytest.mark.parametrize("error", [StarletteHTTPException(410, "gone", {"X-Why": "so"}), Upstream()], ids=["HTTPException", "alike"])
async def test_a_mounted_apps_http_exception_is_ours(error: Any) -> None:
    """What has a status and a detail, out of a mounted app, is an answer; the handler for its status makes another of it."""
    answer = await call(Router([Mount("/a", app_raising(error))]), path="/a")
    assert (answer.status, answer.body) == (error.status_code, error.detail.encode())
    assert answer.header(b"x-why") == (b"so" if isinstance(error, StarletteHTTPException) else None)
    routes = Router([Mount("/a", app_raising(error))], exception_handlers={error.status_code: tells("ours")})
    assert (await call(routes, path="/a")).body.startswith(b"ours: ")


async def test_an_http_exception_by_its_own_class() -> None:
    """Another framework's HTTPException goes to a handler for its own class, if there is one."""
    handlers: dict[Any, Any] = {StarletteHTTPException: tells("theirs"), 404: tells("ours")}
    routes = Router([Route("/", raising(StarletteHTTPException(404)))], exception_handlers=handlers)
    assert (await call(routes)).body.startswith(b"theirs")
    assert (await call(Router([Route("/", raising(StarletteHTTPException(404)))]))).status == 404


async def test_another_services_status_is_not_the_answer() -> None:
    """A client's exception that a handler lets through is a bug, though it has a status: that one was meant for us."""
    with pytest.raises(Upstream):
        await call(Router([Route("/", raising(Upstream()))]))


async def test_a_mounted_apps_exceptions_are_handled() -> None:
    """An exception of a mounted app goes to our handlers, if its response hasn't begun, and to the server otherwise."""
    routes = Router(
        [Mount("/a", app_raising(Odd("a"))), Mount("/b", app_raising(Odd("b"), begun=True))], exception_handlers={Odd: tells("ours")}
    )
    assert (await call(routes, path="/a")).body == b"ours: a"
    with pytest.raises(Odd, match="b"):
        await call(routes, path="/b")


@pytest.mark.parametrize("begun", [False, True])
async def test_middlewares_exceptions_are_handled(begun: bool) -> None:
    """So does one of ASGI middleware: a guard that raises answers."""
    routes = Router([Route("/", lambda request: "")], middleware=[lambda app: app_raising(HTTPException(403, "no"), begun=begun)])
    if begun:
        with pytest.raises(HTTPException):
            await call(routes)
    else:
        assert (await call(routes)).body == b"no"


# Routers within each other.


async def test_the_innermost_handler_answers_within_its_middleware() -> None:
    """The handlers around a mounted router answer within its middleware, which sees responses and no exceptions."""
    seen: list[int] = []

    def noting(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            async def noting_send(message: Message) -> None:
                seen.append(message.get("status", 0))
                await send(message)

            await app(scope, receive, noting_send)

        return middleware

    inner = Router([Route("/odd", raising(Odd("x")))], middleware=[noting])
    outer = Router([Mount("/in", inner)], exception_handlers={Odd: tells("outer"), 404: tells("outer")})
    assert (await call(outer, path="/in/odd")).body == b"outer: x"
    assert (await call(outer, path="/in/nowhere")).body == b"outer: 404: Not Found"
    assert seen == [400, 0, 400, 0]


async def test_what_a_handler_raises_is_for_the_next() -> None:
    """An exception handler may raise an HTTPException, which answers; its own kind isn't given to it again."""

    async def conflict(request: Request, error: Odd) -> None:
        raise HTTPException(409) from error

    assert (await call(Router([Route("/", raising(Odd()))], exception_handlers={Odd: conflict}))).status == 409


async def test_a_decorated_exception_handler() -> None:
    """`exception_handler` takes a status or a class."""
    routes = Router([Route("/", raising(Odd("x")))])

    @routes.exception_handler(404)
    async def lost(request: Request, error: HTTPException) -> str:
        return f"no {request.path}"

    @routes.exception_handler(Odd)
    def odd(request: Request, error: Odd) -> str:
        return f"odd {error}"

    assert (await call(routes, path="/b")).body == b"no /b"
    assert (await call(routes)).body == b"odd x"


@pytest.mark.parametrize(
    ("key", "handler", "message"),
    [
        ("404", tells("x"), "an exception handler is for a status, such as 404, or a class of exceptions, not '404' (str)"),
        (4040, tells("x"), "a status is a number from 100 to 599"),
        (KeyboardInterrupt, tells("x"), "or a class of exceptions, not <class 'KeyboardInterrupt'>"),
        (Odd("x"), tells("x"), "or a class of exceptions, not Odd('x')"),
        (404, lambda request: "", "must be callable with two arguments, the request and the exception"),
        (404, "lost", "an exception handler is a function"),
    ],
)
def test_a_wrong_exception_handler_is_refused(key: Any, handler: Any, message: str) -> None:
    """The key is checked, and what is called with what, whichever way a handler is given."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        Router(exception_handlers={key: handler})
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        Router().exception_handler(key)(handler)


# Wrong results.


async def coroutine() -> Any:
    return "x"


def generator() -> Any:
    yield "x"


async def async_generator() -> Any:
    yield "x"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            coroutine,
            "returned a value of type coroutine; a handler returns a response, str, bytes, dict, list or None: is an await",
        ),
        (generator, "of type generator; .*: write StreamingResponse\\(…\\) around it"),
        (async_generator, "of type async_generator; .*: write StreamingResponse\\(…\\) around it, or EventStream\\(…\\)"),
        (lambda: ("no", 404), r"of type tuple; .*: \(body, status\) is no response, write PlainTextResponse\(body, 404\)"),
        (lambda: ({}, 201), r"write JSONResponse\(body, 201\)"),
        (lambda: Response, r"returned the class Response; .*: write Response\(…\)"),
        (lambda: generator, "was it meant to be called?"),
        (lambda: 5, "write JSONResponse"),
    ],
    ids=named,
)
async def test_a_wrong_result_names_its_handler_and_what_to_write(make: Any, message: str) -> None:
    """The route that returned it is named, and what was meant, as far as it shows."""

    async def handler(request: Request) -> Any:
        return make()

    with pytest.raises(TypeError, match=f"^<Route GET /report to report> .*{message}"):
        await call(Router([Route("/report", handler, name="report")]), path="/report")


async def test_a_wrong_result_of_an_exception_handler_names_it() -> None:
    """So is an exception handler that returns one."""

    def lost(request: Request, error: Exception) -> Any:
        return 404

    with pytest.raises(TypeError, match=r"^exception handler lost returned a value of type int"):
        await call(Router(exception_handlers={404: lost}))


# What is shown with `debug`.


async def debugged(error: Exception, accept: bytes, **options: Any) -> Answer:
    return await call(Router([Route("/", raising(error))], **options), headers=[(b"accept", accept)])


async def test_a_bug_is_shown_where_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """With `debug`, a browser gets a page with the traceback, escaped, and the log gets it too, once."""
    answer = await debugged(Odd("<script>alert(1)</script> \udcff"), b"text/html,*/*", debug=True)
    body = answer.body.decode()
    assert (answer.status, answer.header(b"content-type"), answer.header(b"cache-control")) == (
        500,
        b"text/html; charset=utf-8",
        b"no-store",
    )
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\udcff" in body
    assert "<script" not in body
    assert "<mark>" in body
    assert "raise error" in body
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


@pytest.mark.parametrize(("accept", "media_type"), [(b"application/json", b"application/json"), (b"*/*", b"text/plain; charset=utf-8")])
async def test_other_clients_get_the_traceback_as_they_like(accept: bytes, media_type: bytes) -> None:
    """A program that asks for JSON gets JSON, any other plain text."""
    answer = await debugged(Odd("why"), accept, debug=True, exception_handlers={500: tells("sorry"), Exception: tells("sorry")})
    assert (answer.status, answer.header(b"content-type")) == (500, media_type)
    assert b"Odd: why" in answer.body
    assert b"Traceback" in answer.body


async def test_nothing_is_shown_by_default() -> None:
    """Without `debug` a bug is the server's 500; with it, answers are still answers."""
    with pytest.raises(Odd):
        await debugged(Odd("secret"), b"text/html")
    assert (await debugged(HTTPException(404), b"text/html", debug=True)).body == b"Not Found"
    answer = await debugged(Odd("x"), b"text/html", debug=True, exception_handlers={Odd: tells("ours")})
    assert answer.body == b"ours: x"


async def test_an_exception_handlers_own_bug_is_shown() -> None:
    """So is what goes wrong in an exception handler."""

    def failing(request: Request, error: Odd) -> None:
        raise KeyError("in the handler")

    answer = await debugged(Odd("x"), b"*/*", debug=True, exception_handlers={Odd: failing})
    assert (answer.status, b"KeyError: 'in the handler'" in answer.body) == (500, True)


async def test_a_group_of_bugs_is_shown() -> None:
    """An exception group is shown with all that is in it."""
    answer = await debugged(ExceptionGroup("two", [Odd("one"), Odd("other")]), b"text/html", debug=True)
    assert answer.status == 500
    assert all(part in answer.body for part in (b"Odd: one", b"Odd: other"))


async def test_no_frame_is_kept_by_an_exception() -> None:
    """What nobody answers leaves with its traceback, and no frame of ours holds it afterwards."""
    with pytest.raises(Odd) as raised:
        await call(Router([Route("/", raising(Odd("x")))]))
    ours = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__) if frame.f_code.co_filename.endswith("errors.py")]
    held = [frame for frame in ours if any(value is raised.value for value in frame.f_locals.values())]
    assert [frame for frame in held if "microasgi" in frame.f_code.co_filename and "tests" not in frame.f_code.co_filename] == []
