"""Files, by Starlette's responses on a Router: whole and in ranges, only if they have changed, and closed at every end."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from microasgi import Request, Router
from microasgi.files import PIECE, FileResponse, StaticFiles
from microasgi.testing import Client
from tests.harness import access_lines, eventually, loud_lines, serving

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * (9 * PIECE // 4 // 256)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "large.bin").write_bytes(CONTENT)
    (tmp_path / "index.html").write_text("<h1>home</h1>")
    return tmp_path


def app_of(directory: Path) -> Router:
    routes = Router()

    @routes.get("/file")
    async def handler(request: Request) -> FileResponse:
        return FileResponse(directory / "large.bin", filename="my file.bin")

    routes.mount("/static", StaticFiles(directory=directory, html=True))
    return routes


BOTH = pytest.mark.parametrize("path", ["/file", "/static/large.bin"])


@BOTH
async def test_a_file_is_read_in_large_pieces(path: str, directory: Path) -> None:
    """A file comes whole, in pieces of 256 KiB, with its length, type and validators."""
    pieces: list[int] = []
    app = app_of(directory)

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        async def count(message: Any) -> None:
            if message["type"] == "http.response.body":
                pieces.append(len(message["body"]))
            await send(message)

        await app(scope, receive, count)

    answer = await Client(counting).get(path)
    assert answer.content == CONTENT
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes"
    assert {"etag", "last-modified"} <= set(answer.headers)
    assert pieces == [PIECE, PIECE, PIECE // 4]


@BOTH
async def test_ranges(path: str, directory: Path) -> None:
    """One range, several, one from the end, and one that there isn't; HEAD has no body."""
    client = Client(app_of(directory))
    part = await client.get(path, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, CONTENT[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(CONTENT)}"
    assert (await client.get(path, headers={"range": "bytes=-5"})).content == CONTENT[-5:]
    several = await client.get(path, headers={"range": "bytes=0-1,5-6"})
    assert several.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert len(several.content) == int(several.headers["content-length"])
    assert (await client.get(path, headers={"range": f"bytes={len(CONTENT)}-"})).status_code == 416
    head = await client.request("HEAD", path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))


async def test_only_if_it_has_changed(directory: Path) -> None:
    """A client that has the file already is told so; a directory is its `index.html`; a name is given where a response has one."""
    client = Client(app_of(directory))
    first = await client.get("/static/large.bin")
    for condition in ({"if-none-match": first.headers["etag"]}, {"if-modified-since": first.headers["last-modified"]}):
        again = await client.get("/static/large.bin", headers=condition)
        assert (again.status_code, again.content) == (304, b"")
    fresh = await client.get("/static/large.bin", headers={"range": "bytes=0-0", "if-range": '"another"'})
    assert (fresh.status_code, len(fresh.content)) == (200, len(CONTENT))
    assert (await client.get("/static/")).text == "<h1>home</h1>"
    assert (await client.get("/file")).headers["content-disposition"] == "attachment; filename*=utf-8''my%20file.bin"


def open_files(directory: Path) -> int:
    """How many of the files in there this process has open."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(directory))
        except OSError:  # that of the listing itself
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc/self/fd, which Linux has")
@BOTH
async def test_a_client_that_leaves_has_the_file_closed(path: str, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While its client doesn't take it, a file stays open; when the client leaves, it is closed, and nobody hears of an error."""
    (directory / "large.bin").write_bytes(CONTENT * 40)
    async with serving(app_of(directory)) as served:
        async with await served.connect(receive_buffer=4096) as client:
            await client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            await eventually(lambda: open_files(directory))
            assert await client.receive()
            await anyio.lowlevel.checkpoint()
            assert open_files(directory) == 1
        await eventually(lambda: not open_files(directory))
        await eventually(lambda: access_lines(caplog))
    assert '" 499 ' in access_lines(caplog)[0]
    assert loud_lines(caplog) == []


def test_without_starlette_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra, where it is imported."""
    monkeypatch.delitem(sys.modules, "microasgi.files")
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(ImportError, match=r"microasgi\.files needs starlette>=1\.8: it is in the extra microasgi\[files\]"):
        importlib.import_module("microasgi.files")
