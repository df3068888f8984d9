"""Conversations as they are told, with the times of one that was had: the post's, whose client leaves after a second."""

from typing import Any

from microasgi.inspector.told import Shown

HEAD = b"GET /report/2024 HTTP/1.1\r\nHost: localhost\r\nCookie: ****************\r\n\r\n"


def event(moment: float, lane: str, what: str, source: str | None = None, /, **facts: Any) -> Shown:
    """One event of the first request of the first connection."""
    return {"at": moment, "connection": 1, "request": 1, "lane": lane, "what": what, "source": source, "facts": facts}


def data(content: bytes) -> dict[str, Any]:
    return {"bytes": content.hex(), "size": len(content)}


QUERY = {"at": "shop.py:48 in query", "line": "await anyio.sleep(10)", "chain": ["shop.py:12 in report", "shop.py:48 in query"], "task": 0}

BEGINS = [
    event(0.0, "client", "connect"),
    event(0.292, "wire", "open", "transports/asyncio.py:37", client=["127.0.0.1", 34864]),
    event(2.454, "client", "send", data=data(HEAD)),
    event(2.557, "wire", "in", "transports/asyncio.py:105", data=data(HEAD)),
    event(2.749, "core", "head", "http1/protocol.py:122", line="GET /report/2024 HTTP/1.1", fields=[["host", "localhost"]]),
    event(2.858, "asgi", "call", "call.py:61", scope={"type": "http"}),
    event(2.982, "asgi", "subscribe", "promise/visit.py:78", who="Visit.leave"),
    event(3.081, "handler", "wait", "shop.py:48", **QUERY),
]

ENDS = [
    event(1003.875, "wire", "FIN", "transports/asyncio.py:108"),
    event(1003.890, "core", "hang_up", "connection.py:124", why="the client closed its side (FIN)"),
    event(1003.937, "core", "phase", "http1/exchange.py:247", old="WAITING", new="GONE", row="leaves"),
    event(1003.959, "asgi", "told", "http1/exchange.py:279", who="Visit.leave"),
    event(1003.983, "handler", "stage", "promise/delivery.py:121", old="OPEN", new="CALLED", means="it is cancelled"),
    event(1004.011, "handler", "stage", "promise/delivery.py:336", old="CALLED", new="SENT", means="the task is cancelled"),
    event(1004.029, "wire", "close", "connection.py:268"),
    event(1004.094, "handler", "thrown", "shop.py:48", error="CancelledError", at="shop.py:48 in query", task=0),
    event(1004.104, "handler", "stage", "promise/delivery.py:253", old="SENT", new="HEARD", means="an exception came"),
    event(1004.284, "handler", "wait", "shop.py:52", at="shop.py:52 in __aexit__", line="await anyio.sleep(0.012)", chain=[], task=0),
    event(1004.310, "wire", "lost", "transports/asyncio.py:115", why=""),
    event(1021.708, "handler", "go on", task=0),
    event(1021.773, "handler", "stage", "promise/delivery.py:271", old="HEARD", new="OVER", means="the call has ended"),
    event(1021.829, "asgi", "end", "promise/visit.py:157"),
]

LEFT = [*BEGINS, event(1003.711, "client", "close", way="FIN"), *ENDS]
"""The client leaves by a FIN, the handler is told."""

UNHEARD = [
    event(0.0, "client", "connect"),
    event(2.853, "client", "send", data=data(HEAD)),
    event(3.474, "asgi", "call", scope={"type": "http"}),
    event(22.213, "handler", "wait", "shop.py:15", at="shop.py:15 in query", line="await anyio.sleep(10)", chain=[], task=0),
    event(1003.862, "client", "close", way="FIN"),
    event(10023.243, "handler", "go on", task=0),
    event(10035.967, "asgi", "send", message={"type": "http.response.start", "status": 200}),
    event(10035.978, "asgi", "send", message={"type": "http.response.body", "body": data(b"x" * 12), "more_body": False}),
    event(10036.006, "asgi", "end"),
]
"""The same on a server that tells nobody, of which only the app can be seen."""

ANSWERED = [
    *BEGINS[:-2],
    event(3.0, "asgi", "send", message={"type": "http.response.start", "status": 200}),
    event(3.1, "core", "phase", old="WAITING", new="STARTED", row="START"),
    event(3.2, "asgi", "send", message={"type": "http.response.body", "body": data(b"hello"), "more_body": False}),
    event(3.3, "core", "phase", old="STARTED", new="DONE", row="LAST_BODY"),
    event(3.4, "wire", "out", data=data(b"HTTP/1.1 200 OK\r\n\r\nhello")),
    event(3.5, "asgi", "end"),
    event(3.6, "client", "received", data=data(b"HTTP/1.1 200 OK\r\n\r\nhello")),
    event(203.7, "client", "close", way="FIN"),
    event(203.8, "wire", "FIN"),
    event(203.9, "core", "hang_up", why="the client closed its side (FIN)"),
    event(204.0, "wire", "lost", why=""),
]
"""The client leaves behind the last byte."""
