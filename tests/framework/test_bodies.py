"""A body as a whole: how long it may be, and JSON into a dataclass where neither pydantic nor msgspec is."""

import dataclasses
import sys
from typing import Any

import anyio
import pytest

from microasgi import Request, Router
from microasgi.parsing import parse_json
from microasgi.plain import reader_of
from microasgi.testing import Client
from tests.harness import eventually, serving
from tests.models import told

pytestmark = pytest.mark.anyio


# How long it may be.


@pytest.mark.parametrize("limit", [3, 4])
async def test_a_limit(limit: int) -> None:
    """A body of more bytes than its reader wants is answered with 413; the limit counts for a body that is kept already, too."""
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> bytes:
        return await request.body(limit)

    @routes.post("/kept")
    async def kept(request: Request) -> bytes:
        await request.body()
        return await request.body(limit)

    @routes.post("/json")
    async def as_json(request: Request) -> str:
        return str(await request.json(limit=limit))

    async with Client(routes) as client:
        for path in ("/", "/kept", "/json"):
            for headers in ({}, {"content-length": "0004"}, {"content-length": "nonsense"}):  # no server lets the last one through
                answer = await client.post(path, content=b"1234", headers=headers)
                if limit == 3:
                    assert answer.status_code == 413
                    assert answer.text == "the request's body is longer than 3 bytes, which is what is taken here"
                else:
                    assert answer.text == "1234"


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
async def test_a_limit_refuses_early(framing: bytes) -> None:
    """By its Content-Length a body is refused before any of it has come, and a chunked one with the first byte that is too many."""
    routes, gone = Router(), anyio.Event()

    @routes.post("/")
    async def handler(request: Request) -> bytes:
        try:
            return await request.body(limit=4)
        finally:
            gone.set()

    async with serving(routes) as served, await served.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\n" + framing + b"\r\n\r\n")
        if b"chunked" in framing:
            await client.send(b"5\r\n12345\r\n")
        assert (await client.response(b"POST")).status == 413
        await eventually(gone.is_set)


# Without anybody's help.


@dataclasses.dataclass
class Simple:
    name: str
    ratio: float = 1.0
    tags: list | None = None  # type: ignore[type-arg]
    anything: Any = None
    sure: bool = dataclasses.field(default_factory=bool)
    length: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a name has letters")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pydantic nor msgspec is installed."""
    for name in ("pydantic", "msgspec"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"name": "eve", "ratio": 1, "tags": [1], "anything": {}, "sure": True, "more": 1}, Simple("eve", 1, [1], {}, True)),
        ({"name": "eve", "tags": None}, Simple("eve")),
        ({}, [[["body", "name"], "it is missing"]]),
        (
            {"name": 1, "ratio": True},
            [[["body", "name"], "str is wanted, not a number"], [["body", "ratio"], "float is wanted, not a boolean"]],
        ),
        (
            {"name": None, "tags": {}},
            [[["body", "name"], "str is wanted, not null"], [["body", "tags"], "list | None is wanted, not an object"]],
        ),
        ({"name": ""}, [[["body"], "a name has letters"]]),
        (["eve"], [[["body"], "an object is wanted, not an array"]]),
        ("eve", [[["body"], "an object is wanted, not a string"]]),
    ],
    ids=str,
)
def test_a_dataclass_of_plain_values_needs_nobody(content: Any, found: Any) -> None:
    """Names and plain values are checked; of what a dataclass doesn't have, nothing is taken."""
    assert told(content, Simple) == found


@dataclasses.dataclass
class Nested:
    simple: list[Simple]


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Nested, r"Nested\.simple is list\[tests\..*Simple\]: to check that, install pydantic or msgspec"),
        (set[str], r"to read JSON into set\[str\], install pydantic or msgspec"),
    ],
)
def test_what_can_not_be_checked_is_refused(model: Any, says: str) -> None:
    """Nothing passes unchecked: where a library would be needed, the error says so."""
    with pytest.raises(TypeError, match=says):
        parse_json(b"{}", model)
    with pytest.raises(TypeError, match=says):
        reader_of(model)
