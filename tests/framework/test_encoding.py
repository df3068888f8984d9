"""JSON of what handlers have at hand."""

import math
import re
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import ip_address
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest

from microasgi import JSONResponse, Route, Router
from microasgi.encoding import encode
from tests.harness import call
from tests.naming import named

pytestmark = pytest.mark.anyio


class Colour(Enum):
    RED = "red"
    BOTH = ("red", "green")


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


@dataclass
class Item:
    name: str
    when: date
    parts: list["Item"] = field(default_factory=list)


class Modelled:
    """What Pydantic's models have, as far as it matters."""

    def model_dump(self, *, mode: str, by_alias: bool) -> dict[str, Any]:
        return {"mode": mode, "by_alias": by_alias}


NESTED = '{"name":"a","when":"2026-01-02","parts":[{"name":"b","when":"2026-01-03","parts":[]}]}'
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Item("a", date(2026, 1, 2), [Item("b", date(2026, 1, 3))]), NESTED),
        (Modelled(), '{"mode":"json","by_alias":true}'),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '"2026-01-02T03:04:05+00:00"'),
        (time(3, 4), '"03:04:00"'),
        (timedelta(minutes=1, milliseconds=500), "60.5"),
        (ID, f'"{ID}"'),
        (Decimal("1.10"), "1.1"),
        (Decimal("7"), "7"),
        (Decimal("1E+2"), "100"),
        ({1}, "[1]"),
        (frozenset("a"), '["a"]'),
        (deque([1, 2]), "[1,2]"),
        ((1, "é"), '[1,"é"]'),
        (Colour.RED, '"red"'),
        (Colour.BOTH, '["red","green"]'),
        (Level.LOW, "1"),
        (Word.YES, '"yes"'),
        (PurePosixPath("/a/b"), '"/a/b"'),
        (ip_address("::1"), '"::1"'),
        (MappingProxyType({"a": ID}), f'{{"a":"{ID}"}}'),
        ({ID: 1, date(2026, 1, 2): {Colour.RED: Decimal("0.5")}}, f'{{"{ID}":1,"2026-01-02":{{"red":0.5}}}}'),
        ({1: "a", None: {True: 1}}, '{"1":"a","null":{"true":1}}'),
    ],
    ids=named,
)
def test_what_handlers_have_at_hand_is_json(value: Any, text: str) -> None:
    """Dataclasses, models, times, UUIDs, decimals, sets, enums, as values and where it can be as keys, anywhere inside."""
    assert encode(value).decode() == text
    assert encode([value]).decode() == f"[{text}]"


def test_pydantics_models_are_json() -> None:
    """A real model is dumped as Pydantic dumps it for JSON, by its aliases."""
    import pydantic

    class Model(pydantic.BaseModel):
        at: datetime = pydantic.Field(serialization_alias="when")

    assert encode({"model": Model(at=datetime(2026, 1, 2))}) == b'{"model":{"when":"2026-01-02T00:00:00"}}'


def test_msgspecs_structs_are_json() -> None:
    """A struct is encoded as msgspec does it, by the names that it has there."""
    import msgspec

    class Struct(msgspec.Struct, rename="camel"):
        made_at: datetime

    assert encode([Struct(datetime(2026, 1, 2))]) == b'[{"madeAt":"2026-01-02T00:00:00"}]'


class Own:
    """Nothing that JSON has."""


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Own(), "content is of type Own, which JSON has nothing for"),
        ({"items": [1, {"price": Own()}]}, "content['items'][1]['price'] is of type Own"),
        ([Item("a", Own())], "content[0]['when'] is of type Own"),  # type: ignore[arg-type]
        ({"a": b"x"}, "content['a'] is of type bytes, which JSON has nothing for; decode it, or use base64"),
        ({"a": Own}, "content['a'] is of type type, which JSON has nothing for; is an instance of it meant?"),
        ([OSError()], "write str() around it"),
        ({"a": {(1, 2): 3}}, "content['a'] has the key (1, 2), of type tuple; JSON's keys are text"),
        ({"a": [math.nan]}, "content['a'][0] is nan, and JSON has no such number"),
        ([Decimal("Infinity")], "content[0] is inf, and JSON has no such number"),
        (LOOP, "Circular reference"),
    ],
    ids=named,
)
def test_what_json_has_nothing_for_is_named_with_its_place(value: Any, message: str) -> None:
    """The message says what it is, and where in the content."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        JSONResponse(value)


@pytest.mark.parametrize("result", [{"id": ID}, [ID], MappingProxyType({"id": ID})], ids=["dict", "list", "mapping"])
async def test_a_result_may_have_them_too(result: Any) -> None:
    """Dicts, lists and other mappings that a handler returns are encoded alike."""

    async def handler(request: Any) -> Any:
        return result

    answer = await call(Router([Route("/", handler)]))
    assert str(ID).encode() in answer.body
    assert answer.header(b"content-type") == b"application/json"
