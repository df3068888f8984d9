"""JSON of what handlers have at hand: dataclasses, Pydantic's and msgspec's models, times, UUIDs, enums, decimals, sets.

It is what FastAPI makes of them. NaN and infinity, which no JSON has, and bytes, which are text only by chance, are refused.
"""

import dataclasses
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Any
from uuid import UUID


def _decimal(value: Decimal) -> int | float:
    """A number: whole as it is, else the nearest that a float has."""
    exponent = value.as_tuple().exponent
    return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)


_TYPES: dict[type, Callable[[Any], Any]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: timedelta.total_seconds,
    UUID: str,
    Decimal: _decimal,
    PurePath: str,
    **dict.fromkeys((IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network), str),
    Enum: lambda value: value.value,
    **dict.fromkeys((set, frozenset, deque), list),
    Mapping: dict,
}

_HINTS: dict[type, str] = {
    bytes: "decode it, or use base64",
    BaseException: "write str() around it",
    type: "is an instance of it meant?",
}


def encode(content: Any) -> bytes:
    """Content as JSON, in UTF-8.

    :raises TypeError: there is something in it that JSON has no word for; the message says what, and where
    :raises ValueError: there is a NaN or an infinity in it, or it contains itself
    """
    try:
        return _dump(content)
    except (TypeError, ValueError) as error:
        try:
            plain = _plain(content, "")
        except RecursionError:
            raise error from None
    return _dump(plain)


def _dump(content: Any) -> bytes:
    text = _encoder.encode(content)
    return text.encode(errors="backslashreplace")  # half of a surrogate pair, which JSON may carry and UTF-8 may not, stays escaped


def _known(value: Any) -> Any:
    """One value that JSON doesn't know as one that it does; what is in it comes later."""
    if (dump := getattr(value, "model_dump", None)) is not None and not isinstance(value, type):
        return dump(mode="json", by_alias=True)
    if hasattr(type(value), "__struct_fields__"):
        import msgspec  # it is there, as the value is

        return msgspec.to_builtins(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for kind, convert in _TYPES.items():
        if isinstance(value, kind):
            return convert(value)
    raise TypeError(f"JSON has nothing for {type(value).__name__}")


_encoder = json.JSONEncoder(default=_known, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _plain(value: Any, place: str) -> Any:
    """The value with nothing in it but what JSON knows: keys, too. Slower, and knows where it is."""
    if isinstance(value, dict):
        return {_key(key, place): _plain(inner, f"{place}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{place}[{index}]") for index, inner in enumerate(value)]
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, float):
        raise ValueError(f"content{place} is {value!r}, and JSON has no such number; write None, or a text")
    try:
        known = _known(value)
    except TypeError:
        hint = next((f"; {hint}" for kind, hint in _HINTS.items() if isinstance(value, kind)), "")
        raise TypeError(f"content{place} is of type {type(value).__name__}, which JSON has nothing for{hint}") from None
    return _plain(known, place)


def _key(key: Any, place: str) -> Any:
    """A key that JSON takes."""
    if key is None or isinstance(key, str | int | float):
        return key
    try:
        known = _known(key)
    except TypeError:
        known = None
    if not isinstance(known, str | int | float):
        raise TypeError(f"content{place} has the key {key!r}, of type {type(key).__name__}; JSON's keys are text")
    return known
