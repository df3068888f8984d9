"""A dataclass out of JSON without anybody's help: names and plain values are checked, and what can't be checked is refused at once."""

import dataclasses
import json
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

Fault = dict[str, Any]

_TAKEN: dict[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (float, int),
    bool: (bool,),
    type(None): (type(None),),
    list: (list,),
    dict: (dict,),
    Any: (object,),
}
"""What a field may say, and the JSON values that it takes. True and false are bool alone, though Python has them for int, too."""


class Mismatch(Exception):
    """JSON that isn't what the type says: the client's fault, and answered as such.

    faults: where and what, one for each: `{"loc": ["body", "age"], "msg": "…"}`.
    """

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults


def reader_of(model: Any) -> Callable[[bytes], Any]:
    """What reads JSON into the dataclass. Of what it reads, names that the dataclass doesn't have are passed over.

    :raises TypeError: it is no dataclass, or a field says more than can be checked here
    """
    if not (isinstance(model, type) and dataclasses.is_dataclass(model)):
        raise TypeError(
            f"to read JSON into {_told(model)}, install pydantic or msgspec; without them it can be a dataclass of plain values"
        )
    hints = get_type_hints(model)
    fields = {field.name: field for field in dataclasses.fields(model) if field.init}
    taken = {name: _taken(model, name, hints[name]) for name in fields}
    required = {
        name for name, field in fields.items() if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def read(body: bytes) -> Any:
        content = json.loads(body)
        if not isinstance(content, dict):
            raise Mismatch([{"loc": ["body"], "msg": f"an object is wanted, not {_kind(content)}"}])
        given = {name: content[name] for name in fields if name in content}
        wrong = {name: "it is missing" for name in fields if name in required and name not in given}
        wrong |= {
            name: f"{_told(hints[name])} is wanted, not {_kind(value)}" for name, value in given.items() if not _fits(value, taken[name])
        }
        if wrong:
            raise Mismatch([{"loc": ["body", name], "msg": message} for name, message in wrong.items()])
        try:
            return model(**given)
        except ValueError as error:  # of its `__post_init__`
            raise Mismatch([{"loc": ["body"], "msg": str(error)}]) from error

    return read


def _taken(model: type, name: str, hint: Any) -> tuple[type, ...]:
    """The Python types of the JSON values that a field takes."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if not all(option in _TAKEN for option in options):
        raise TypeError(f"{model.__name__}.{name} is {_told(hint)}: to check that, install pydantic or msgspec")
    return tuple(taken for option in options for taken in _TAKEN[option])


def _fits(value: Any, taken: tuple[type, ...]) -> bool:
    return type(value) in taken or object in taken


def _told(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _kind(value: Any) -> str:
    """What JSON calls it."""
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
