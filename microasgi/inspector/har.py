"""A conversation as HAR 1.2, which browsers' and proxies' tools read: one entry, with the events beside it as `_events`.

A response that didn't come has status 0 there, and `_error` says why.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from microasgi.inspector.client import Request
from microasgi.inspector.secrets import told as told_of
from microasgi.inspector.summary import Story, story
from microasgi.inspector.told import Shown

VERSION = "1.2"


def as_har(events: Sequence[Shown], request: Request, received: bytes, began: datetime, by: tuple[str, str]) -> str:
    """One entry.

    :param received: what the client was sent, from the beginning
    :param began: when, with a time zone
    :param by: this program's name and version
    """
    told = story(events)
    entry: dict[str, Any] = {
        "startedDateTime": began.isoformat(),
        "time": told.last,
        "request": _request(request),
        "response": _response(received, told),
        "cache": {},
        "timings": _timings(events, told.last),
        "_events": list(events),
    }
    if told.left is not None and not told.is_complete:
        entry["_error"] = "the client left"
    log = {"version": VERSION, "creator": {"name": by[0], "version": by[1]}, "entries": [entry]}
    return json.dumps({"log": log}, indent=1) + "\n"


def _request(request: Request) -> dict[str, Any]:
    query = parse_qsl(urlsplit(request.path).query, keep_blank_values=True)
    made: dict[str, Any] = {
        "method": "GET" if request.websocket else request.method,
        "url": f"http://127.0.0.1{request.path}",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(request.headers),
        "queryString": _pairs(query),
        "headersSize": -1,
        "bodySize": len(request.body),
    }
    if request.body:
        kind = next((value for name, value in request.headers if name.lower() == "content-type"), "")
        made["postData"] = {"mimeType": kind, "text": request.body.decode("utf-8", "replace")}
    return made


def _response(received: bytes, told: Story) -> dict[str, Any]:
    head, _, body = received.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (field.partition(":") for field in fields)]
    kind = next((value for name, value in headers if name.lower() == "content-type"), "")
    return {
        "status": told.status if told.is_complete or told.left is None else 0,
        "statusText": line.split(" ", 2)[2] if line.count(" ") > 1 else "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(headers),
        "content": {"size": len(body), "mimeType": kind},
        "redirectURL": next((value for name, value in headers if name.lower() == "location"), ""),
        "headersSize": len(head) + 4 if head else -1,
        "bodySize": len(body),
    }


def _timings(events: Sequence[Shown], total: float) -> dict[str, float]:
    """Of the client's: until it has sent its request, until the first byte comes, until the end."""
    moments = {event["what"]: event["at"] for event in reversed(events) if event["lane"] == "client"}
    sent, first = moments.get("send", 0.0), moments.get("received", total)
    before, behind = round(first - sent, 3), round(total - first, 3)
    return {"blocked": -1, "dns": -1, "connect": sent, "ssl": -1, "send": 0, "wait": before, "receive": behind}


def _pairs(values: Any) -> list[dict[str, str]]:
    return [{"name": name, "value": told_of(name, value)} for name, value in values]
