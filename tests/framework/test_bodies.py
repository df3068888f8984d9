"""A body as a whole: how long it may be, and JSON into types, with what is wrong where."""

import dataclasses
import json
import sys
from typing import Annotated, Any

import anyio
import msgspec
import pydantic
import pytest

from microasgi import HTTPException, Request, Router
from microasgi.parsing import parse_json
from microasgi.plain import reader_of
from microasgi.testing import Client
from tests.harness import eventually, serving

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


# Into types.


@dataclasses.dataclass
class Plain:
    name: str
    age: int | None = None


class Model(pydantic.BaseModel):
    name: str
    ages: list[int] = []


class Struct(msgspec.Struct):
    name: str
    ages: list[int] = []


def read(body: Any, model: Any) -> Any:
    """What comes of a body: the value, or the status and what is said."""
    try:
        return parse_json(body if isinstance(body, bytes) else json.dumps(body).encode(), model)
    except HTTPException as error:
        if error.status_code == 422:
            return [[fault["loc"], fault["msg"]] for fault in json.loads(error.detail)["detail"]]
        return error.status_code, error.detail


EVE = {"name": "eve", "age": 3}


@pytest.mark.parametrize(
    ("model", "content", "value"),
    [
        (None, EVE, EVE),
        (Plain, EVE, Plain("eve", 3)),
        (Model, EVE, Model(name="eve", ages=[])),
        (Struct, EVE, Struct("eve")),
        (list[Plain], [EVE], [Plain("eve", 3)]),
        (list[Struct], [EVE], [Struct("eve")]),
        (dict[str, Model], {"her": EVE}, {"her": Model(name="eve")}),
        (Annotated[int, pydantic.Field(gt=2)], 3, 3),
        (int | Struct, EVE, Struct("eve")),
    ],
    ids=str,
)
def test_json_into_a_type(model: Any, content: Any, value: Any) -> None:
    """Each library reads its own types, and those made of them; any of them reads a dataclass."""
    assert read(content, model) == value


@pytest.mark.parametrize(
    ("model", "content", "faults"),
    [
        (Plain, {"age": "x"}, [["body", "name"], ["body", "age"]]),
        (Model, {"ages": [1, "x"]}, [["body", "name"], ["body", "ages", 1]]),
        (Struct, {"name": "eve", "ages": [1, "x"]}, [["body", "ages", 1]]),
        (Struct, [], [["body"]]),
        (dict[str, Struct], {"a": {"name": 1}}, [["body", "...", "name"]]),
        (list[Model], [{"name": "eve"}, {}], [["body", 1, "name"]]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_a_422(model: Any, content: Any, faults: list[Any]) -> None:
    """JSON that isn't the type is answered with 422, and for each fault its place in the body and a sentence."""
    found = read(content, model)
    assert [place for place, _ in found] == faults
    assert all(message for _, message in found)


@pytest.mark.parametrize("model", [None, Plain, Model, Struct], ids=str)
@pytest.mark.parametrize("body", [b"", b'{"name": ', b'{"name": "\xff"}', b'{"name": "eve", "more": ' + b"[" * 100_000])
def test_what_is_not_json_is_a_400(body: bytes, model: Any) -> None:
    """Whoever reads it: what isn't JSON is answered with 400, and with the reason."""
    status, says = read(body, model)
    assert status == 400
    assert says.startswith("the request's body is not JSON: ")


async def test_a_handler_gets_its_type() -> None:
    """`request.json(Model)` gives a Model, and the answer to anything else is JSON that says where."""
    routes = Router()

    @routes.post("/")
    async def handler(request: Request) -> str:
        model = await request.json(Model)
        return model.name

    async with Client(routes) as client:
        assert (await client.post("/", json={"name": "eve"})).text == "eve"
        answer = await client.post("/", json={})
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/json")
        assert answer.json()["detail"] == [{"loc": ["body", "name"], "msg": "Field required", "type": "missing"}]


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
    assert read(content, Simple) == found


@dataclasses.dataclass
class Nested:
    plain: list[Plain]


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Nested, r"Nested\.plain is list\[tests\..*Plain\]: to check that, install pydantic or msgspec"),
        (set[str], r"to read JSON into set\[str\], install pydantic or msgspec"),
    ],
)
def test_what_can_not_be_checked_is_refused(model: Any, says: str) -> None:
    """Nothing passes unchecked: where a library would be needed, the error says so."""
    with pytest.raises(TypeError, match=says):
        parse_json(b"{}", model)
    with pytest.raises(TypeError, match=says):
        reader_of(model)
