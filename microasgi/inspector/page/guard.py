"""Who may ask. The page shows everything that goes through an app, and sends requests to it; a browser runs everybody's scripts.

    Host                   one of our own names, else 421: a foreign name that resolves to 127.0.0.1 (DNS rebinding) doesn't pass
    Origin                 absent or our own, else 403: no other site's page, and none of the app's either, which has another port
    Authorization: Bearer  the token, else 401; but for the page's own files, which tell nothing

The token comes to the page behind the "#" of its address. What stands there is sent to nobody: to no log, no Referer, and not to the app,
as a cookie would be, since cookies know no ports. A script of another site can't add the header: it would have to ask first (CORS), and
nobody here says yes.
"""

from collections.abc import Callable, Collection
from hmac import compare_digest

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from microasgi.datastructures import Headers
from microasgi.exceptions import HTTPException
from microasgi.responses import PlainTextResponse, Response

FIELDS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
"""Of every response."""

NOTHING = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""The Content-Security-Policy of what isn't the page itself."""

NAMES = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """The app, for whoever may ask.

    :param open_paths: whether a path may be asked for without the token
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: Callable[[str], bool]) -> None:
        self._app, self._token, self._is_open = app, f"Bearer {token}".encode(), open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the inspector's page speaks http, not {scope['type']}")
        app: ASGIApp = self.refusal(scope) or self._app
        await app(scope, receive, _adding(send))

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to who may not ask."""
        headers = Headers(scope["headers"])
        _, port = scope["server"]
        own = {f"{name}:{port}" for name in NAMES}
        try:
            self._check(headers, own, scope["path"])
        except HTTPException as error:
            return PlainTextResponse(f"{error.detail}\n", error.status_code)
        return None

    def _check(self, headers: Headers, own: Collection[str], path: str) -> None:
        if _values(headers, b"host") not in [[name] for name in own]:
            raise HTTPException(421, "the inspector answers to 127.0.0.1 and localhost only: open the address that its terminal shows")
        if _values(headers, b"origin") not in [[], *([f"http://{name}"] for name in own)]:
            raise HTTPException(403, "another site's page may not look at the inspector")
        if not self._is_open(path) and not self._has_token(headers):
            raise HTTPException(401, "the inspector wants its token: open the address that its terminal shows, with what is behind the #")

    def _has_token(self, headers: Headers) -> bool:
        values = [value for name, value in headers.raw if name == b"authorization"]
        return len(values) == 1 and compare_digest(values[0], self._token)


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1").lower() for own, value in headers.raw if own == name]


def _adding(send: Send) -> Send:
    """`send()`, which adds what every response has."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            fields = list(message.get("headers", ()))
            policy = [] if any(name == b"content-security-policy" for name, _ in fields) else [(b"content-security-policy", NOTHING)]
            message = {**message, "headers": [*fields, *FIELDS, *policy]}
        await send(message)

    return add
