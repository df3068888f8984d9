"""Forms: fields and files come whole, within limits, or not at all; and what a file leaves on disk goes with it."""

import gc
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from microasgi import FormData, Request, Router, UploadFile
from microasgi.testing import Client, Response
from tests.harness import access_lines, eventually, loud_lines, serving, within

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def part(disposition: str, content: bytes, *fields: str) -> bytes:
    head = "\r\n".join(["--limit", f"Content-Disposition: form-data; {disposition}", *fields])
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


def field(name: str, content: bytes = b"x") -> bytes:
    return part(f'name="{name}"', content)


def file(name: str, content: bytes, filename: str = "a.txt") -> bytes:
    return part(f'name="{name}"; filename="{filename}"', content, "Content-Type: text/plain")


def multipart(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--limit--\r\n"


MULTIPART = "multipart/form-data; boundary=limit"
URLENCODED = "application/x-www-form-urlencoded"


async def told(form: FormData) -> list[Any]:
    """The form in plain values: of a file its name, type, size and content."""
    return [
        [key, value if isinstance(value, str) else [value.filename, value.content_type, value.size, (await value.read()).decode()]]
        for key, value in form.multi_items()
    ]


async def posted(content: bytes, content_type: str = MULTIPART, **limits: Any) -> Response:
    """What a handler answers that reads a form and tells it."""
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> list[Any]:
        async with request.form(**limits) as form:
            return await told(form)

    async with Client(routes) as client:
        return await client.post("/", content=content, headers={"content-type": content_type})


# What a form has in it.


async def test_a_multipart_form() -> None:
    """Fields are text and files are UploadFiles, in order; a name may come twice; a file without a name is one where none was chosen."""
    content = multipart(
        field("a", "é".encode()), file("f", b"hello", "h.txt"), field("a", b"\xff"), file("f", b"", ""), field("empty", b"")
    )
    answer = await posted(content)
    assert answer.json() == [
        ["a", "é"],
        ["f", ["h.txt", "text/plain", 5, "hello"]],
        ["a", "ÿ"],
        ["f", ["", "text/plain", 0, ""]],
        ["empty", ""],
    ]


async def test_an_urlencoded_form() -> None:
    """Pairs are decoded, empty values kept."""
    answer = await posted(b"name=J%C3%BCrgen+B&name=&x", f"{URLENCODED}; charset=utf-8")
    assert answer.json() == [["name", "Jürgen B"], ["name", ""], ["x", ""]]


@pytest.mark.parametrize("content_type", ["application/json", ""])
async def test_what_is_no_form_is_an_empty_one(content_type: str) -> None:
    """As in Starlette, a body of another type, or of none, has no fields."""
    assert (await posted(b"{}", content_type)).json() == []


async def test_a_form_may_be_asked_for_again() -> None:
    """A form is kept, for middleware and handler; a body that was kept is read as a form; one that was streamed can't be any more."""
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> list[Any]:
        await request.body()
        assert await request.form() is await Request(request.scope, request._receive).form()
        return await told(await request.form())

    @routes.post("/streamed")
    async def streamed(request: Request) -> None:
        assert [chunk async for chunk in request.stream()]
        for _ in range(2):
            with pytest.raises(RuntimeError, match="was streamed already"):
                await request.form()

    async with Client(routes, headers={"content-type": URLENCODED}) as client:
        assert (await client.post("/", content=b"a=1")).json() == [["a", "1"]]
        assert (await client.post("/streamed", content=b"a=1")).status_code == 204


# Limits.


TWO_FIELDS = multipart(field("a", b"123"), field("b", b"45"))
TWO_FILES = multipart(file("a", b"x"), file("b", b"x"))
TOO_LONG = "the request's body is longer than {} bytes, which is what is taken here"


@pytest.mark.parametrize(
    ("content", "content_type", "limit", "enough", "says"),
    [
        (TWO_FIELDS, MULTIPART, "max_fields", 2, "the form has too many fields: {} at most"),
        (TWO_FILES, MULTIPART, "max_files", 2, "the form has too many files: {} at most"),
        (TWO_FIELDS, MULTIPART, "max_part_size", 3, "the form's field 'a' is longer than {} bytes"),
        (TWO_FIELDS, MULTIPART, "max_memory", 5, "the form has more than {} bytes to be kept in memory"),
        (TWO_FIELDS, MULTIPART, "limit", len(TWO_FIELDS), TOO_LONG),
        (b"a=1&b=2", URLENCODED, "max_fields", 2, "the form has too many fields: {} at most"),
        (b"a=123", URLENCODED, "max_part_size", 4, "the form's field 'a' is longer than {} bytes"),
        (b"a=123", URLENCODED, "max_memory", 5, TOO_LONG),
        (b"a=123", URLENCODED, "limit", 5, TOO_LONG),
    ],
)
async def test_a_limit_is_a_413(content: bytes, content_type: str, limit: str, enough: int, says: str) -> None:
    """Each limit that is broken is answered with 413 and a sentence; a form that has just as much as it may is read."""
    assert (await posted(content, content_type, **{limit: enough})).status_code == 200
    answer = await posted(content, content_type, **{limit: enough - 1})
    assert (answer.status_code, answer.text) == (413, says.format(enough - 1))


@pytest.mark.parametrize(
    ("content", "content_type", "says"),
    [
        (b"", "multipart/form-data", "Empty boundary"),
        (b"", MULTIPART, "Unexpected end of multipart stream"),
        (multipart(field("a"))[:-4], MULTIPART, "Unexpected end of multipart stream"),
        (b"nonsense--limit\r\n", MULTIPART, "Unexpected byte in front of first boundary"),
        (b"--limit\r\nnonsense\r\n\r\n", MULTIPART, "Malformed segment header"),
        (multipart(part("name=a", b"", f"X: {'x' * 5000}")), MULTIPART, "Maximum segment header length exceeded"),
    ],
)
async def test_what_is_malformed_or_ends_early_is_refused(content: bytes, content_type: str, says: str) -> None:
    """A form that isn't whole, or none at all, is answered with 400, one of endless heads with 413; and it says why."""
    answer = await posted(content, content_type)
    assert answer.status_code == (413 if "Maximum" in says else 400)
    assert answer.text.startswith(f"the form can't be read: {says}")


async def test_a_limit_that_there_is_not() -> None:
    """A limit's name that is written wrong is a mistake, which is told with the right ones."""
    with pytest.raises(TypeError, match="a form has no limit 'max_file'; there are max_files, max_fields"):
        await posted(b"", max_file=1)


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda form: form["photo"], TypeError, "the form has yet to be read: write (await request.form())['photo']"),
        (lambda form: form.get("photo"), AttributeError, "the form has yet to be read: write (await request.form()).get"),
        (lambda form: "photo" in form, TypeError, "write await request.form()"),
        (list, TypeError, "write await request.form()"),
        (lambda form: form.nothing, AttributeError, "'FormReading' object has no attribute 'nothing'"),
    ],
)
async def test_a_form_that_nobody_awaited(use: Callable[[Any], Any], error: type[Exception], words: str) -> None:
    """Who forgets the await is told where it belongs."""
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> str:
        with pytest.raises(error, match=re.escape(words)):
            use(request.form())
        return "told"

    async with Client(routes) as client:
        assert (await client.post("/", content=b"a=b", headers={"content-type": URLENCODED})).text == "told"


async def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where multipart is missing, or is another package of that name, the error names the extra; urlencoded forms need nothing."""
    monkeypatch.setitem(sys.modules, "multipart", sys)
    with pytest.raises(RuntimeError, match=r"install multipart>=2: it is in the extra microasgi\[forms\]"):
        await posted(multipart(field("a")))
    assert (await posted(b"a=1", URLENCODED)).json() == [["a", "1"]]


# Files.


class Disk:
    """Temporary files, which have no name: the descriptors of this process tell of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def files(self) -> int:
        found = 0
        for descriptor in os.listdir("/proc/self/fd"):
            try:
                found += os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(self._directory))
            except OSError:  # that of the listing itself
                continue
        return found


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc/self/fd, which Linux has")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Disk(tmp_path)


@pytest.mark.parametrize(
    ("content", "limits", "files"),
    [
        (multipart(file("a", b"x" * MIB)), {}, 0),
        (multipart(file("a", b"x" * (MIB + 1))), {}, 1),
        (multipart(file("a", b"xx"), file("b", b"xx")), {"max_memory": 3}, 1),
        (multipart(field("a", b"xxx"), file("b", b"xx"), file("c", b"xx")), {"max_memory": 3}, 2),
    ],
    ids=["small", "large", "no room for the second", "no room"],
)
async def test_large_files_go_to_disk(content: bytes, limits: Any, files: int, disk: Disk) -> None:
    """A file of more than its share of memory is in a temporary file, reads the same, and is gone when the form is closed."""
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> str:
        async with request.form(**limits) as form:
            uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            assert disk.files() == files
            for upload in uploads:
                whole = await upload.read()
                assert len(whole) == upload.size
                await upload.seek(upload.size - 1)
                assert await upload.read(5) == whole[-1:]
        assert all(upload.file.closed for upload in uploads)
        return repr(uploads[0])

    async with Client(routes) as client:
        answer = await client.post("/", content=content, headers={"content-type": MULTIPART})
    assert answer.text.startswith("<UploadFile 'a.txt', ")
    assert answer.text.endswith(" bytes, closed>")
    assert disk.files() == 0


async def test_a_form_that_nobody_closes(disk: Disk) -> None:
    """A file that nobody holds any more is closed, quietly and at once: what was sent does not wait for the garbage collector."""
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> str:
        form = await request.form(max_part_size=1)
        return repr((await told(form), disk.files()))

    content = multipart(file("a", b"xx"))
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (MULTIPART.encode(), len(content))
    gc.disable()
    try:
        async with serving(routes) as served, await served.connect() as client:
            await client.send(head + content)
            assert (await client.response()).body == b"([['a', ['a.txt', 'text/plain', 2, 'xx']]], 1)"
            await eventually(lambda: disk.files() == 0)
    finally:
        gc.enable()


async def test_a_form_that_is_refused_leaves_nothing(disk: Disk) -> None:
    """The files that came before the fault are closed."""
    content = multipart(file("a", b"xx"), file("b", b"xx"), field("c", b"xx"))
    assert (await posted(content, max_part_size=1)).status_code == 413
    assert disk.files() == 0


@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_a_client_that_leaves_in_the_middle(policy: Any, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """No half form reaches a handler, its temporary files are closed, and nobody hears of an error."""
    ended = anyio.Event()
    forms: list[FormData] = []
    routes = Router(on_disconnect=policy)

    @routes.post("/")
    async def handler(request: Request) -> None:
        try:
            forms.append(await request.form())
        finally:
            ended.set()

    content = multipart(file("a", b"x" * (2 * MIB)), file("b", b"x" * (4 * MIB)))
    head = f"POST / HTTP/1.1\r\nHost: test\r\nContent-Type: {MULTIPART}\r\nContent-Length: {len(content)}\r\n\r\n"
    async with serving(routes) as served:
        async with await served.connect() as client:
            await client.send(head.encode() + content[: 4 * MIB])
            await eventually(lambda: disk.files() == 2)
        await within(ended)
        await eventually(lambda: access_lines(caplog))
    assert forms == []
    assert disk.files() == 0
    assert loud_lines(caplog) == []
