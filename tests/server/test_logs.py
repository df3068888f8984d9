"""The access log as an operator wants it, ids for requests, and fields for every response."""

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from microasgi_server import Config, Limits, identity, request_id
from microasgi_server.access import VALUES
from microasgi_server.access_fields import FIELDS
from microasgi_server.log_formats import JSONFormatter, TextFormatter
from microasgi_server.log_stream import LogStream
from microasgi_server.logs import TRACE

from tests.harness import Client, access_lines, eventually, serving
from tests.websocket_client import talk, with_fields

pytestmark = pytest.mark.anyio

EVERYTHING = " | ".join(f"{name}={{{name}}}" for name in FIELDS)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the id that it finds; /own with one of its own, /wait not before its client leaves, and /fail not at all."""
    if scope["path"] == "/wait":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if scope["path"] == "/fail":
        raise ValueError
    ids = f"{scope['state'].get('request_id')} {request_id.get()}"
    headers = [(b"content-length", b"%d" % len(ids))]
    if scope["path"] == "/own":
        headers.append((b"X-Request-Id", b"own"))
    await send({"type": "http.response.start", "status": 404 if scope["path"] == "/missing" else 200, "headers": headers})
    await send({"type": "http.response.body", "body": ids.encode()})


async def ask(client: Client, target: str = "/", *fields: bytes) -> Any:
    await client.send(b"\r\n".join([b"GET %b HTTP/1.1" % target.encode(), b"Host: test", *fields]) + b"\r\n\r\n")
    return await client.response()


def test_every_field_has_a_value() -> None:
    """What a format may name is what can be written."""
    assert FIELDS.keys() == VALUES.keys()


@pytest.mark.parametrize(("worker", "text"), [(None, "INFO: here"), (2, "INFO [worker 2]: here")])
def test_a_line_names_the_worker(worker: int | None, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are several, each line says whose it is, and so can the access log's; where there is one, nothing does."""
    monkeypatch.setattr(identity, "worker", worker)
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "here"})
    assert TextFormatter().format(record) == text
    assert json.loads(JSONFormatter().format(record)).get("worker") == worker
    assert VALUES["worker"](None, None, 0.0) == worker  # type: ignore[arg-type]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="nothing here is as full as Linux's /dev/full")
def test_what_a_full_disk_swallowed_is_told_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that can't be written leaves no traceback, and the next that can is followed by how many there were."""
    with open("/dev/full", "w", buffering=1) as stderr, (tmp_path / "log").open("wb") as file:
        monkeypatch.setattr(sys, "stderr", stderr)
        stream = LogStream()
        for number in range(3):
            stream.handle(logging.makeLogRecord({"msg": f"line {number}"}))
        os.dup2(file.fileno(), stderr.fileno())
        for number in range(3, 5):
            stream.handle(logging.makeLogRecord({"msg": f"line {number}"}))
        assert stream.stream is stderr
    told = "3 line(s) of this log came late, or not at all: No space left on device"
    assert (tmp_path / "log").read_text().splitlines()[-3:] == ["line 3", told, "line 4"]


def test_a_record_that_is_no_line_is_somebodys_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """It has Python's own traceback."""
    LogStream().handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    assert "TypeError" in capsys.readouterr().err


async def test_a_line_says_what_its_format_asks_for(caplog: pytest.LogCaptureFixture) -> None:
    """Each field has its value, or a hyphen; what a client sent is escaped; `bytes` are those on the wire."""
    async with serving(app, access_log_format=EVERYTHING) as served, await served.connect() as client:
        await client.send(b'GET /a%20b?c="d HTTP/1.1\r\nHost: test\r\nUser-Agent: a "fine\xe9\tone" \\\r\nX-Request-ID: 4711\r\n\r\n')
        written = len(await client.receive())
        await eventually(lambda: access_lines(caplog))
    said = dict(part.split("=", 1) for part in access_lines(caplog)[0].split(" | "))
    assert re.fullmatch(r"127\.0\.0\.1:\d+", said["client"])
    assert re.fullmatch(r"\d\.\d{3}", said["duration"])
    assert said["line"] == r"GET /a%20b?c=\"d HTTP/1.1"
    assert (said["method"], said["path"], said["target"], said["status"]) == ("GET", "/a%20b", r"/a%20b?c=\"d", "200")
    assert said["bytes"] == str(written)
    assert said["request_id"] == "4711"
    assert said["user_agent"] == r"a \"fine\xe9\tone\" \\"
    assert (said["referer"], said["outcome"]) == ("-", "-")


async def test_a_departure_is_in_the_line(caplog: pytest.LogCaptureFixture) -> None:
    """A format may say why a request ended early."""
    async with serving(app, access_log_format="{{{status}}} 100% {outcome}") as served:
        async with await served.connect() as client:
            await client.send(b"GET /wait HTTP/1.1\r\nHost: test\r\n\r\n")
        await eventually(lambda: access_lines(caplog))
    assert access_lines(caplog) == ["{499} 100% client left: the client closed its side (FIN)"]


@pytest.mark.parametrize(
    "chosen", ["{agent}", "{}", "{0}", "{status:d}", "{status!r}", "{status", "status}", "{client.host}", "two\nlines", 5]
)
def test_a_format_that_is_none_is_refused(chosen: Any) -> None:
    """A wrong name, or what could do more than name a field, is found when the options are made; the error lists what there is."""
    with pytest.raises(
        ValueError, match=r"^access_log_format is one line whose names in braces are of \{client\}, .*\{user_agent\}"
    ) as raised:
        Config(access_log_format=chosen)
    assert repr(chosen) in str(raised.value)


async def test_a_quiet_path_is_heard_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Of a quiet path's requests those have a line that fail, and so has everybody else's."""
    async with serving(app, access_log_quiet=["/healthz", "/missing", "/wait"]) as served, await served.connect() as client:
        for target in ("/healthz", "/healthz?full", "/missing", "/healthz/2"):
            await ask(client, target)
        await client.send(b"GET /wait HTTP/1.1\r\nHost: test\r\n\r\n")
        client.leave()
        await eventually(lambda: len(access_lines(caplog)) == 3)
    assert [line.split('"')[1].split(" ")[1] for line in access_lines(caplog)] == ["/missing", "/healthz/2", "/wait"]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([b"X-Request-ID: 4711"], "4711"),
        ([b"x-request-id: " + b"~" * 128], "~" * 128),
        ([b"X-Request-ID: " + b"~" * 129], ""),
        ([b"X-Request-ID: one two"], ""),
        ([b"X-Request-ID: caf\xe9"], ""),
        ([b"X-Request-ID:"], ""),
        ([b"X-Request-ID: 1", b"X-Request-ID: 2"], ""),
        ([], ""),
    ],
    ids=["one", "long", "too long", "with a space", "no ASCII", "empty", "two", "none"],
)
async def test_a_request_has_an_id(fields: list[bytes], kept: str) -> None:
    """It is the client's, if that will do, else a new one; the app finds it in its state and in its context, the client in the response."""
    async with serving(app, request_id=True) as served, await served.connect() as client:
        response = await ask(client, "/", *fields)
        again = await ask(client, "/", *fields)
    found = response.header(b"x-request-id").decode()
    assert found == kept or (not kept and re.fullmatch("[0-9a-f]{32}", found))
    assert response.body.decode() == f"{found} {found}"
    assert (again.header(b"x-request-id").decode() == found) == bool(kept)


async def test_an_id_is_the_apps_if_it_has_one_and_on_its_failure_too(caplog: pytest.LogCaptureFixture) -> None:
    """An app's own X-Request-ID is left alone; the 500 for one that failed carries the id, which is what one needs there."""
    async with serving(app, request_id=True) as served, await served.connect() as client:
        own = await ask(client, "/own", b"X-Request-ID: 4711")
        assert [value for name, value in own.headers if name == b"x-request-id"] == [b"own"]
        failed = await ask(client, "/fail", b"X-Request-ID: 4711")
        assert (failed.status, failed.header(b"x-request-id")) == (500, b"4711")


@pytest.mark.parametrize(("headers", "kept"), [([], "4711"), ([(b"X-Request-Id", b"own")], "own")], ids=["ours", "the app's own"])
async def test_a_handshake_has_an_id(headers: Any, kept: str, caplog: pytest.LogCaptureFixture) -> None:
    """The answer to it has it, whether it is one or a denial, whose bytes are counted; an open WebSocket's aren't."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["query_string"] == b"denied":
            await send({"type": "websocket.http.response.start", "status": 451, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b"no"})
            return
        await send({"type": "websocket.accept", "headers": headers})
        await send({"type": "websocket.close"})

    handshake = with_fields(b"X-Request-ID: 4711")
    async with serving(app, request_id=True, access_log_format="{status} {request_id} {bytes} {close_code}") as served:
        async with await talk(served, handshake=handshake) as client:
            assert f"x-request-id: {kept}\r\n" in client.head.decode().lower() + "\r\n"
            assert await client.closed_with() == 1000
        async with await served.connect() as bare:
            await bare.send(handshake.replace(b"room=1", b"denied"))
            answer = await bare.receive_until_closed()
            assert f"x-request-id: {kept}\r\n" in answer.decode().lower()
        await eventually(lambda: len(access_lines(caplog)) == 2)
    assert access_lines(caplog) == ["101 4711 - 1000", f"451 4711 {len(answer)} -"]


@pytest.mark.parametrize("ids", [True, False])
async def test_a_refusal_is_written_for_its_request(ids: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The bytes of the server's own answer to a request that is over a limit are counted."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    options: dict[str, Any] = {"request_id": ids, "limits": Limits(body=1)}
    async with serving(app, access_log_format="{status} {bytes}", **options) as served, await served.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab")
        written = len(await client.receive_until_closed())
        await eventually(lambda: access_lines(caplog))
    assert access_lines(caplog) == [f"413 {written}"]


async def test_who_traces_sees_ids_too(caplog: pytest.LogCaptureFixture) -> None:
    """What `--log-level trace` puts in and what ids put in get along."""
    caplog.set_level(TRACE, logger="microasgi_server")
    async with serving(app, request_id=True, access_log_format="{request_id} {bytes}") as served, await served.connect() as client:
        assert (await ask(client, "/", b"X-Request-ID: 4711")).body == b"4711 4711"
    assert re.fullmatch(r"4711 \d\d\d", access_lines(caplog)[0])
    assert [record for record in caplog.records if record.levelname == "TRACE" and "started scope=" in record.getMessage()]


async def test_nobody_has_an_id_who_hasnt_asked_for_them() -> None:
    """By default nothing is added to a request or to its response."""
    async with serving(app) as served, await served.connect() as client:
        response = await ask(client, "/", b"X-Request-ID: 4711")
    assert response.body == b"None None"
    assert response.header(b"x-request-id") is None


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({}, {b"server": b"microasgi", b"date": None}),
        ({"server_header": False, "date_header": False}, {}),
        (
            {"header": ["Server: ours", "X-Frame-Options:DENY", "Via: caf\xe9"], "date_header": False},
            {b"server": b"ours", b"x-frame-options": b"DENY", b"via": b"caf\xe9"},
        ),
    ],
    ids=["default", "none", "more"],
)
async def test_every_response_has_the_operators_fields(options: Any, own: dict[bytes, bytes | None]) -> None:
    """Date and Server can be left out, and other fields be added; so for the server's own answers, too."""
    async with serving(app, **options) as served, await served.connect() as client:
        answers = [await ask(client)]
        await client.send(b"nonsense\r\n\r\n")
        answers.append(await client.response())
    for answer in answers:
        found = {name: value for name, value in answer.headers if name not in (b"content-length", b"content-type", b"connection")}
        if own.get(b"date", b"") is None:
            assert found.pop(b"date").endswith(b"GMT")
            assert found == {b"server": b"microasgi"}
        else:
            assert found == own


@pytest.mark.parametrize(
    "line", ["no colon", ": empty", "a b: c", "Content-Length: 5", "connection: close", "A: b\nC: d", "A: b\x00", "A: \u2713", 5]
)
def test_a_field_that_is_none_is_refused(line: Any) -> None:
    """What would break a response is found when the options are made."""
    with pytest.raises(ValueError, match=r"^header is a list of NAME: VALUE .*, none of which frames a response, not "):
        Config(header=[line])
