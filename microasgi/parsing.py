"""The request's body as a whole: gathered up to a limit, and read as JSON, into a type if one is given.

Types are the business of other libraries. Whichever knows the type reads it, and says what is wrong where:

    msgspec.Struct, or a type with one in it    msgspec
    a pydantic model, or a type with one in it  pydantic
    any other type, a dataclass for one         pydantic if it is installed, else msgspec, else plain.py for the simplest dataclasses

What isn't JSON is answered with 400, and JSON that isn't the type with 422 and `{"detail": [{"loc": ["body", "items", 0], "msg": …}]}`.
RFC 9110 §15.5.14 has 413, and §15.5.21 has 422.
"""

import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import lru_cache
from typing import Any, NoReturn, TypeVar, get_args

from microasgi.datastructures import Headers
from microasgi.exceptions import HTTPException
from microasgi.plain import Mismatch, reader_of

Model = TypeVar("Model")
Read = Callable[[bytes], Any]


LIMITS = "microasgi.limits"
"""The extension that has the limits of a request, the server's or ours (limits.py)."""


def allowed(body: bytes, extensions: Mapping[str, Any] | None) -> bytes:
    """A body that middleware has read already, if it has no more bytes than the scope's extensions say by now.

    :raises HTTPException: 413, if it has
    """
    limit = (extensions or {}).get(LIMITS, {}).get("body", 0)
    if 0 < limit < len(body):
        refuse_longer_than(limit)
    return body


async def gather(stream: AsyncGenerator[bytes, None], headers: Headers, limit: int | None) -> bytes:
    """All that the stream has. Parameters and exceptions are those of `bounded`."""
    if limit is None:
        return b"".join([chunk async for chunk in stream])
    return b"".join([chunk async for chunk in bounded(stream, headers, limit)])


async def bounded(stream: AsyncGenerator[bytes, None], headers: Headers, limit: int) -> AsyncGenerator[bytes, None]:
    """The stream, as long as it has no more than so many bytes.

    :raises HTTPException: 413, if it has more. Where the Content-Length says so, nothing is read
    """
    async with aclosing(stream):
        size = 0
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            refuse_longer_than(limit)
        async for chunk in stream:
            size += len(chunk)
            if size > limit:
                refuse_longer_than(limit)
            yield chunk


def refuse_longer_than(limit: int) -> NoReturn:
    """:raises HTTPException: 413"""
    raise HTTPException(413, f"the request's body is longer than {limit} bytes, which is what is taken here")


def parse_json(body: bytes, model: Any = None) -> Any:
    """The body, read as JSON.

    :param model: the type to make of it; None: whatever is there
    :raises HTTPException: 400, it isn't JSON; 422, it isn't what the model says, and why
    :raises TypeError: nothing that is installed can read such a model
    """
    read: Read = json.loads if model is None else _reader(model)
    try:
        return read(body)
    except Mismatch as error:
        raise HTTPException(422, error.faults) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the request's body is not JSON: {error}") from error


@lru_cache(maxsize=1024)
def _reader(model: Any) -> Read:
    """What reads a body into the model. It raises Mismatch, or a ValueError if the body isn't JSON."""
    parts = set(_parts(model))
    makers = [_of_msgspec, _of_pydantic] if any(hasattr(part, "__struct_fields__") for part in parts) else [_of_pydantic, _of_msgspec]
    for make in makers:
        try:
            return make(model)
        except ModuleNotFoundError as error:
            if error.name not in ("msgspec", "pydantic"):
                raise
    return reader_of(model)


def _parts(model: Any) -> Iterator[Any]:
    """The type, and the types in it: of `list[Item] | None` list, Item and None."""
    yield model
    for part in get_args(model):
        if isinstance(part, type) or get_args(part):
            yield from _parts(part)


def _of_pydantic(model: Any) -> Read:
    import pydantic

    adapter = pydantic.TypeAdapter(model)

    def read(body: bytes) -> Any:
        try:
            return adapter.validate_json(body)
        except pydantic.ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            if faults[0]["type"] == "json_invalid" and not faults[0]["loc"]:
                raise ValueError(faults[0]["msg"].removeprefix("Invalid JSON: ")) from None
            raise Mismatch([{"loc": ["body", *fault["loc"]], "msg": fault["msg"], "type": fault["type"]} for fault in faults]) from error

    return read


def _of_msgspec(model: Any) -> Read:
    import msgspec

    decoder = msgspec.json.Decoder(model)

    def read(body: bytes) -> Any:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `$")
            raise Mismatch([{"loc": ["body", *_steps(path.removesuffix("`"))], "msg": message}]) from error
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from error

    return read


def _steps(path: str) -> Iterator[str | int]:
    """The steps of a path as msgspec writes it: of `.items[0].name`, items, 0 and name."""
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", path):
        yield name if name else int(index) if index.isdigit() else index
