"""An app is a function.

An ASGI app is `app(scope, receive, send)`: it gets a dict that says what is asked for, and two functions, by which it listens and speaks.

Predict: what must be there to call one: a socket, a server, an event loop? And of how many messages is one response made?
"""

from typing import Any

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from tests.lessons.form import Break, Place

# This is one. It has no base class, and is registered nowhere.
#
# `scope` is all that was known when the request began: method, path, header fields. The body may still be on its way then, so it comes by
# `receive()`, in as many messages as it takes; `more_body` says whether there are others behind this one. A response goes the same way: a
# start, then the body, in one message or in several.


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": scope["path"].encode() + b" got ", "more_body": True})
    await send({"type": "http.response.body", "body": body, "more_body": False})


# And this is its server: two lists. `receive` takes from one, `send` puts into the other.
#
# There is no event loop. An awaitable hands its loop whatever it has to wait for, and these two functions never wait: what the app hands
# out is nothing, and the list of it is empty. An `await` is a place where a function *may* stop. Remember that for lesson 3.


def call(app: ASGIApp, path: str, received: list[Message]) -> tuple[list[Any], list[Message]]:
    """What an app waits for, and what it sends, when this is all that it can receive."""
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    sent: list[Message] = []

    async def receive() -> Message:
        return received.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    waited_for = list(app(scope, receive, send).__await__())
    return waited_for, sent


def body_in_two_pieces() -> list[Message]:
    return [
        {"type": "http.request", "body": b"a cup ", "more_body": True},
        {"type": "http.request", "body": b"of tea", "more_body": False},
    ]


def test_two_lists_are_a_server() -> None:
    """An app can be called by hand: messages in, messages out, and no event loop."""
    waited_for, sent = call(app, "/kitchen", body_in_two_pieces())
    for message in sent:
        print("  sent", message)
    assert waited_for == []
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body", "http.response.body"]
    assert sent[1]["body"] + sent[2]["body"] == b"/kitchen got a cup of tea"


# What calls an app with a `send` of its own, and is an app itself, is middleware. Nothing more is behind the word: the app inside can't
# tell whether the two functions come from a server, from a test, or from another app.


def louder(app: ASGIApp) -> ASGIApp:
    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_louder(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": message["body"].upper()}
            await send(message)

        await app(scope, receive, send_louder)

    return around


def test_middleware_is_an_app_around_an_app() -> None:
    """Middleware hands on `scope`, `receive` and `send`, or others in their place."""
    _, sent = call(louder(app), "/kitchen", body_in_two_pieces())
    assert sent[1]["body"] + sent[2]["body"] == b"/KITCHEN GOT A CUP OF TEA"


# Break it: take the first message of the body for all of it. Many apps do; with short bodies it works for years.

BREAK = Break(
    old='more = message["more_body"]',
    new="more = False",
    fails='assert sent[1]["body"] + sent[2]["body"] == b"/kitchen got a cup of tea"',
)

READ_NEXT = [
    Place("server/microasgi_server/call.py", "Call.receive"),  # a `receive` that does wait
    Place("microasgi/responses.py", "Response.__call__"),  # a response is an app, too
    Place("microasgi/request_body.py", "RequestBody.stream"),  # the loop over `more_body`, once for all handlers
]
