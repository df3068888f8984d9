"""What is refused where it is written, so that a mistake shows at import and not in the first request.

Each check says in one sentence what was wrong and what to write instead. Mistakes of kind are a TypeError, of value a ValueError.
"""

import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import AsyncContextDecorator
from difflib import get_close_matches
from typing import Any

from microasgi.addresses import URL
from microasgi.signatures import check_arguments, is_for, name_of, parameters_of, takes

METHODS = (
    *("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),  # RFC 9110 §9.3, RFC 5789
    *("QUERY", "SEARCH", "REPORT", "LINK", "UNLINK", "PURGE", "SUBSCRIBE", "UNSUBSCRIBE", "NOTIFY", "MSEARCH"),
    *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "ACL", "BIND", "UNBIND", "REBIND", "ORDERPATCH"),  # WebDAV
    *("CHECKIN", "CHECKOUT", "LABEL", "MERGE", "MKACTIVITY", "MKCALENDAR", "UNCHECKOUT", "UPDATE", "VERSION-CONTROL"),
)
"""The methods in use. Others are allowed, if they aren't so near to one of these that they must be a slip."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_NOT_IN_VALUES = re.compile(r"[\x00\r\n]")  # RFC 9110 §5.5
_OTHER_PARAMETERS = re.compile(r"<(?:(\w+):)?(\w+)>|(?<=/):(\w+)")
"""`<id>` and `<int:id>`, as Flask and Django have them, and `:id`, as Express has it."""


def check_status(status: Any) -> None:
    """An HTTP status is a number of three digits (RFC 9110 §15)."""
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"a status is a number, such as 404, not {_shown(status)}")
    if not 100 <= status <= 599:
        raise ValueError(f"a status is a number from 100 to 599, not {status}")


def encode_headers(headers: Mapping[str, str | URL] | None) -> list[tuple[bytes, bytes]]:
    """Header fields as ASGI has them: names in lower case, everything in bytes.

    :raises TypeError: it is no mapping, or a name or a value isn't text
    :raises ValueError: a name or a value can't stand in a header
    """
    if not headers:
        return []
    if not isinstance(headers, Mapping):
        raise TypeError(f'headers are a mapping, such as {{"X-Name": "value"}}, not {_shown(headers)}')
    return [encode_header(name, value) for name, value in headers.items()]


def encode_header(name: Any, value: Any) -> tuple[bytes, bytes]:
    """One field, as `encode_headers` has it."""
    if isinstance(value, URL):  # by `request.url_for`
        value = str(value)
    if not isinstance(name, str) or not isinstance(value, str):
        wrong = (
            f"the header {name!r} is text, not {_shown(value)}" if isinstance(name, str) else f"a header's name is text, not {_shown(name)}"
        )
        raise TypeError(f"{wrong}{_as_text(value if isinstance(name, str) else name)}")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} can't be the name of a header: those have letters, digits and hyphens")
    if _NOT_IN_VALUES.search(value):
        raise ValueError(f"the header {name!r} can't have a line break or a NUL in its value {value!r}")
    try:
        return name.lower().encode(), value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the header {name!r} can't have {value[error.start]!r} in its value: quote it, as urllib.parse.quote does"
        ) from None


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return f"; write {value.decode('latin-1')!r}"
    if isinstance(value, int | float):
        return f'; write "{value}"'
    return "" if value is None or callable(value) or isinstance(value, Collection) else "; write str() around it"


def _shown(value: Any) -> str:
    """A wrong value, as short as its mistake can be told."""
    shown = repr(value)
    return f"{shown if len(shown) <= 60 else shown[:57] + '...'} ({type(value).__name__})"


def check_path(path: Any) -> None:
    """A template is text, and its parameters stand in braces."""
    if not isinstance(path, str):
        decorator = "; a decorator has one, as in @routes.get('/')" if callable(path) else ""
        raise TypeError(f"a path is text, such as '/items/{{id}}', not {_shown(path)}{decorator}")
    if _OTHER_PARAMETERS.search(path):
        better = _OTHER_PARAMETERS.sub(lambda found: "{" + (found[2] or found[3]) + (f":{found[1]}" if found[1] else "") + "}", path)
        raise ValueError(f"path {path!r} has parameters as another framework writes them; write {better!r}")


def check_template(path: str, parts: Iterable[tuple[str, str | None, str]], converters: Collection[str], *, is_prefix: bool) -> None:
    """A template starts with a slash, has no braces but its parameters', and those have names of their own and converters that there are.

    :param parts: plain text, and the name and the converter of the parameter behind it
    :param is_prefix: whether it may be empty
    """
    if not path.startswith("/") and not (is_prefix and path == ""):
        raise ValueError(f"a path starts with a slash: {'/' + path!r}, not {path!r}")
    names = set()
    for literal, name, kind in parts:
        if "{" in literal or "}" in literal:
            raise ValueError(f"path {path!r} has a brace that belongs to no parameter; those look like {{name}} or {{name:int}}")
        if kind not in converters:
            raise ValueError(f"no converter {kind!r} in path {path!r}; {_meant(name, kind, converters)}")
        if name in names:
            raise ValueError(f"parameter {name!r} stands twice in path {path!r}")
        names.add(name)


def _meant(name: str | None, kind: str, converters: Collection[str]) -> str:
    """What to write instead of a converter that there isn't. `{int:id}` has Flask's and Sanic's order."""
    if name in converters:
        return f"the name comes first: write {{{kind}:{name}}}"
    near = get_close_matches(kind, converters, 1)
    return f"{f'did you mean {near[0]!r}? ' if near else ''}there are {', '.join(converters)}"


def check_options(options: Iterable[str], known: Collection[str]) -> None:
    """What a route says by keyword is something that there is."""
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, 1)
            told = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise TypeError(f"a route has no option {option!r}; {told}")


def check_methods(methods: Any) -> frozenset[str]:
    """The methods of a route, in upper case; GET if none are given.

    :raises TypeError: a method is no text
    :raises ValueError: they are one text instead of several, none, or one of them is a slip
    """
    if methods is None:
        return frozenset(("GET",))
    if isinstance(methods, str):
        raise ValueError(f"methods is a list, [{methods!r}], not the text {methods!r}")
    if not isinstance(methods, Iterable) or not (methods := list(methods)):
        raise ValueError(f'a route has at least one method, such as ["GET"], not {methods!r}')
    for method in methods:
        if not isinstance(method, str):
            raise TypeError(f"a method is text, such as 'GET', not {_shown(method)}")
        near = get_close_matches(method.upper(), METHODS, 1, 0.65)
        if near and method.upper() not in METHODS:
            raise ValueError(f"there is no method {method!r}; did you mean {near[0]!r}?")
        if not _TOKEN.fullmatch(method):
            raise ValueError(f"{method!r} can't be a method: those are letters")
    return frozenset(method.upper() for method in methods)


def check_endpoint(endpoint: Any, parameters: Collection[str] = ()) -> None:
    """A handler takes the request, and nothing else, and returns.

    :param parameters: the names of the path's parameters, which it doesn't take
    """
    name, how = name_of(endpoint), "with one argument, the request"
    if not callable(endpoint):
        raise TypeError(f"a handler is a function that takes the request, not {name}")
    if inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint):
        events = ", or EventStream(function()) for Events" if inspect.isasyncgenfunction(endpoint) else ""
        written = f"put that into a function, and return StreamingResponse(function()){events}"
        raise TypeError(f"handler {name} yields, and a handler returns: {written}")
    if is_for(endpoint, "WebSocket"):
        raise TypeError(f"handler {name} takes a WebSocket, and is called with a request; write @routes.websocket, or WebSocketRoute")
    check_arguments(endpoint, ["request"], f"handler {name}", how, _in_path(endpoint, parameters))
    first = next(iter(parameters_of(endpoint)), None)
    if first in parameters:
        raise TypeError(
            f"handler {name} is called with the request, which it names {first!r}, like a parameter of its path;"
            f" write {name}(request), and request.path_params[{first!r}]"
        )


def check_conversation(endpoint: Any, parameters: Collection[str]) -> None:
    """A WebSocket's handler takes that, and nothing else.

    :param parameters: the names of the path's parameters, which it doesn't take
    """
    name, how = name_of(endpoint), "with one argument, the WebSocket"
    if is_for(endpoint, "Request"):
        raise TypeError(f"handler {name} takes a Request, and is called with a WebSocket; write @routes.get, or {name}(ws: WebSocket)")
    check_arguments(endpoint, ["ws"], f"handler {name}", how, _in_path(endpoint, parameters, "ws"))


def _in_path(endpoint: Any, parameters: Collection[str], of: str = "request") -> str:
    """What to write, if a handler wants the path's parameters as arguments."""
    names = [name for name in parameters_of(endpoint) if name in parameters]
    return f"; a path's parameters are in {of}.path_params[{names[0]!r}]" if names else ""


def check_exception_handler(key: Any, handler: Any) -> None:
    """An exception's handler is for a status or a class, and takes the request and the exception."""
    if isinstance(key, bool) or not isinstance(key, int | type) or (isinstance(key, type) and not issubclass(key, Exception)):
        raise TypeError(f"an exception handler is for a status, such as 404, or a class of exceptions, not {_shown(key)}")
    if isinstance(key, int):
        check_status(key)
    if not callable(handler):
        raise TypeError(f"an exception handler is a function that takes the request and the exception, not {name_of(handler)}")
    how = "with two arguments, the request and the exception"
    check_arguments(handler, ["request", "error"], f"exception handler {name_of(handler)}", how)


def check_middleware_function(function: Any) -> None:
    """Middleware that is a function is async, and takes the request and what comes next."""
    name = name_of(function)
    if not inspect.iscoroutinefunction(function):
        form = ": write @routes.middleware, without parentheses" if isinstance(function, str) else ""
        other = form or "; classes and other ASGI middleware go into Router(middleware=[…])"
        raise TypeError(f"middleware is an async function of the request and call_next, not {name}{other}")
    check_arguments(function, ["request", "call_next"], f"middleware {name}", "with two arguments, the request and call_next")


def check_parts(routes: Any, middleware: Any, exception_handlers: Any) -> None:
    """What a Router is made of comes in lists and a mapping."""
    for name, kind, value in (("routes", "Route and Mount objects", routes), ("middleware", "ASGI middleware", middleware)):
        if not isinstance(value, Collection):
            raise TypeError(f"{name} is a list of {kind}, […], not {_shown(value)}")
    if exception_handlers is not None and not isinstance(exception_handlers, Mapping):
        raise TypeError(f"exception_handlers is a mapping, such as {{404: handler}}, not {_shown(exception_handlers)}")


def check_middleware(middleware: Any) -> None:
    """ASGI middleware is a callable from app to app."""
    name = name_of(middleware)
    if inspect.iscoroutinefunction(middleware):
        raise TypeError(f"middleware=[…] takes ASGI middleware, callables from app to app; write @routes.middleware above {name}")
    if not callable(middleware):
        hint = "; write microasgi.Middleware" if hasattr(middleware, "cls") else ""
        raise TypeError(f"middleware is a callable from app to app, not {_shown(middleware)}{hint}")


def check_app(app: Any) -> None:
    """An ASGI app is called with scope, receive and send."""
    if not callable(app):
        routes = "; write Router([…])" if isinstance(app, list | tuple) else ""
        raise TypeError(f"a mount or middleware needs an ASGI app, not {_shown(app)}{routes}")
    hint = "; a WSGI app needs an adapter, such as a2wsgi's WSGIMiddleware" if takes(app, 2) else ""
    hint = "; it is a class: is an instance of it meant?" if isinstance(app, type) else hint
    how = "with three arguments, scope, receive and send"
    check_arguments(app, ["scope", "receive", "send"], f"the app {name_of(app)}", how, hint)


def check_lifespan(lifespan: Any) -> None:
    """A lifespan is a function that takes the Router, and gives an async context manager."""
    if lifespan is None:
        return
    is_made = isinstance(lifespan, AsyncContextDecorator)  # by an asynccontextmanager function
    if is_made or not callable(lifespan):
        call = "; write it without calling it" if is_made else ""
        raise TypeError(f"a lifespan is a function that gives an async context manager, not {_shown(lifespan)}{call}")
    name, inner = name_of(lifespan), inspect.unwrap(lifespan)
    bare = lifespan is inner and (inspect.isasyncgenfunction(inner) or inspect.iscoroutinefunction(inner))
    if bare or inspect.isgeneratorfunction(inner):
        raise TypeError(
            f"lifespan {name} gives no async context manager; write @contextlib.asynccontextmanager above an async def that yields"
        )
    check_arguments(lifespan, ["router"], f"lifespan {name}", "with one argument, the Router")


def check_state(state: Any, lifespan: Any) -> Mapping[str, Any]:
    """What a lifespan yields: a mapping from names to values, or None. No traceback has the lifespan in it."""
    if state is None:
        return {}
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        code = getattr(inspect.unwrap(lifespan), "__code__", None)
        place = f"; see {code.co_filename}, line {code.co_firstlineno}" if code else ""
        told = f'must yield None or a mapping of names, such as {{"pool": pool}}, not {_shown(state)}'
        raise TypeError(f"lifespan {name_of(lifespan)} {told}{place}")
    return state
