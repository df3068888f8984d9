"""ASGI without a framework: what is left is the server."""

import json
from typing import Any
from urllib.parse import parse_qs

from benchmarks.apps import work
from benchmarks.apps.bare_talk import talk

TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
HELLO = [*TEXT, (b"content-length", b"%d" % len(work.TOKEN))]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Hello-world at `/`, without looking at more than the path; the other routes by comparing strings."""
    if scope["type"] == "websocket":
        await talk(scope, receive, send)
        return
    if scope["type"] != "http":
        raise NotImplementedError(f"this app has no {scope['type']}")
    if scope["path"] == "/":
        await send({"type": "http.response.start", "status": 200, "headers": HELLO})
        await send({"type": "http.response.body", "body": work.TOKEN})
    else:
        await _other(scope, receive, send)


async def _other(scope: Any, receive: Any, send: Any) -> None:
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    token = query.get("token", "")
    match scope["path"].split("/")[1:]:
        case ["once"]:
            await _answer(send, (await work.once()).encode())
        case ["wait"]:
            await _answer(send, (await work.wait(token, query.get("seconds", ""))).encode())
        case ["notes"]:
            await _answer(send, json.dumps(work.notes()).encode())
        case ["json"]:
            await _answer(send, json.dumps(work.MESSAGE).encode())
        case ["users", user, "items", item]:
            await _answer(send, f"{user} {int(item)}".encode())
        case ["read" | "receive"]:
            await _answer(send, b"%d" % await _size(receive))
        case ["stream", megabytes]:
            await _stream(send, work.stream(int(megabytes)))
        case ["ticks"]:
            await _stream(send, work.ticks(token))
        case ["slot"]:
            await _answer(send, (await work.slot(token)).encode())
        case ["query"]:
            await _answer(send, (await work.query(token)).encode())
        case _:
            await _answer(send, b"nothing is here", 404)


async def _answer(send: Any, body: bytes, status: int = 200) -> None:
    headers = [*TEXT, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _size(receive: Any) -> int:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    return size


async def _stream(send: Any, pieces: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})
