"""JSON into the types of pydantic and msgspec, and into dataclasses by them, with what is wrong where."""

import dataclasses
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from microasgi import Request, Router
from microasgi.testing import Client
from tests.models import told

pytestmark = pytest.mark.anyio


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
    assert told(content, model) == value


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
    found = told(content, model)
    assert [place for place, _ in found] == faults
    assert all(message for _, message in found)


@pytest.mark.parametrize("model", [None, Plain, Model, Struct], ids=str)
@pytest.mark.parametrize("body", [b"", b'{"name": ', b'{"name": "\xff"}', b'{"name": "eve", "more": ' + b"[" * 100_000])
def test_what_is_not_json_is_a_400(body: bytes, model: Any) -> None:
    """Whoever reads it: what isn't JSON is answered with 400, and with the reason."""
    status, says = told(body, model)
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
