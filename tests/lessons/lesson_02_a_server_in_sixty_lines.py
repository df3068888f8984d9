"""A server in sixty lines.

A server turns bytes into calls of an app and messages into bytes: a parser says what the bytes mean, and you say when to read.

Predict: here is a server of sixty lines, with a good parser. What will it get wrong that a browser, or an attacker, gets to see?
"""

import re
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection
from typing import Any

import anyio
import h11
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

from microasgi.asgi import ASGIApp, Message, Receive, Scope, Send
from tests.harness import serving
from tests.lessons import lesson_01_an_app_is_a_function as lesson_01
from tests.lessons.form import Break, Place

# h11 is a parser without a socket: bytes go in, events come out, and NEED_DATA says that it wants more. It never reads for itself. So one
# thing in a server is ours to decide, and the whole of lesson 3 will be about it: when does anybody read?


async def serve(app: ASGIApp, *, task_status: TaskStatus[int]) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener:
        task_status.started(listener.extra(SocketAttribute.local_port))
        await listener.serve(partial(converse, app))


async def converse(app: ASGIApp, client: SocketStream) -> None:
    wire = h11.Connection(h11.SERVER)
    async with client:
        with suppress(Exception):  # of the app, of h11, of the socket: all that this server can do is close
            while isinstance(request := await next_event(wire, client), h11.Request):
                await answer(app, client, wire, request)
                while wire.their_state is h11.SEND_BODY:  # what the app hasn't read stands in front of the next request
                    await next_event(wire, client)
                wire.start_next_cycle()


async def next_event(wire: h11.Connection, client: SocketStream) -> Any:
    while (event := wire.next_event()) is h11.NEED_DATA:
        try:
            wire.receive_data(await client.receive())
        except anyio.EndOfStream:
            wire.receive_data(b"")  # how h11 is told of a FIN
    return event


async def answer(app: ASGIApp, client: SocketStream, wire: h11.Connection, request: h11.Request) -> None:
    async def receive() -> Message:
        event = await next_event(wire, client)
        if event is h11.PAUSED:  # the next request is here already: there is no news of this one
            await anyio.sleep_forever()
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            data = wire.send(h11.Response(status_code=message["status"], headers=message["headers"]))
        else:
            data = wire.send(h11.Data(data=message["body"]))
            if not message.get("more_body"):
                data += wire.send(h11.EndOfMessage())
        await client.send(data)

    path, _, query = request.target.partition(b"?")
    scope = {"type": "http", "method": request.method.decode(), "path": path.decode(), "query_string": query, "headers": [*request.headers]}
    await app(scope, receive, send)


async def test_any_client_is_served() -> None:
    """The app of lesson 1, called by hand there, now has clients: here Python's own."""
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(serve, lesson_01.app)
        client = HTTPConnection("127.0.0.1", port)
        await anyio.to_thread.run_sync(client.request, "POST", "/kitchen", b"a cup of tea")
        assert await anyio.to_thread.run_sync(lambda: client.getresponse().read()) == b"/kitchen got a cup of tea"
        client.close()
        tasks.cancel_scope.cancel()


# That was easy, and it is half of the truth. Below are seven things that a client may send, with the statuses that it should get, and
# those that it gets here. Cover the last column, and look for its numbers in the sixty lines above.
#
# Most of them aren't h11's fault. It can't answer for an app that fails, or for one that sends a body where HTTP has none, and leaves it
# to us what a target and a host may be. Of two lengths it believes one. If a proxy in front of us believes the other, then what is one
# request to it is two to us, and the second is the attacker's: that is request smuggling (RFC 9112 §11.2).

LAST = b" HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
MORE = b" HTTP/1.1\r\nHost: test\r\n"

SENT_RIGHT_WRONG: dict[str, tuple[bytes, list[int], list[int]]] = {
    "no HTTP at all": (b"nonsense\r\n\r\n", [400], []),
    "an app that fails": (b"GET /fails" + LAST + b"\r\n", [500], []),
    "a HEAD: no body, whatever the app sends": (b"HEAD /" + MORE + b"\r\nGET /" + LAST + b"\r\n", [200, 200], [200]),
    "a target with a host": (b"GET http://test/" + LAST + b"\r\n", [200], [404]),
    "a path that is percent-encoded": (b"GET /caf%C3%A9" + LAST + b"\r\n", [200], [404]),
    "a Host that is none": (b"GET / HTTP/1.1\r\nHost: test/../admin\r\nConnection: close\r\n\r\n", [400], [200]),
    "two lengths": (b"PUT /" + LAST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400], [200]),
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/fails":
        raise ZeroDivisionError
    await send({"type": "http.response.start", "status": 200 if scope["path"] in ("/", "/café") else 404, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def statuses(port: int, sent: bytes) -> list[int]:
    async with await anyio.connect_tcp("127.0.0.1", port) as client:
        await client.send(sent)
        answer = b"".join([data async for data in client])
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answer)]


async def test_seven_requests_are_answered_wrongly() -> None:
    """A good parser is not enough: seven requests, and seven wrong answers. The server of this repository gives the right ones."""
    async with anyio.create_task_group() as tasks, serving(app, lifespan="off") as served:
        port = await tasks.start(serve, app)
        for what, (sent, right, wrong) in SENT_RIGHT_WRONG.items():
            ours, here = await statuses(served.port, sent), await statuses(port, sent)
            print(f"  {what}: {right} would be right, the sixty lines say {here}")
            assert ours == right
            assert here == wrong
        tasks.cancel_scope.cancel()


# An eighth one can be felt: `curl -T large.file` asks with `Expect: 100-continue` whether it may send its file, and waits a second for an
# answer that never comes. The ninth can't be seen at all, and is the next lesson: this server notices by chance alone that a client leaves.
#
# Break it, by mending one of the seven: a HEAD's answer has no body.

BREAK = Break(
    old='data = wire.send(h11.Data(data=message["body"]))',
    new='data = wire.send(h11.Data(data=b"" if request.method == b"HEAD" else message["body"]))',
    fails="assert here == wrong",
)

READ_NEXT = [
    Place("server/microasgi_server/http1/reader.py", "Reader"),  # what a request may be
    Place("server/microasgi_server/http1/protocol.py", "Protocol.after_response"),  # what comes after a response
    Place("server/microasgi_server/http1/exchange.py", "Exchange.fail"),  # an answer for an app that gives none
]
