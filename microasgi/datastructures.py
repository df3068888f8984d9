"""What a request is made of: headers, query, cookies, state. Read-only, but for state."""

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from microasgi.addresses import URL
from microasgi.checks import encode_header

Value = TypeVar("Value")


class NoSuchKey(KeyError):
    """A KeyError that says which keys there are, to who reads it: `get` and `in` raise many that nobody does."""

    def __init__(self, key: object, there: Collection[str]) -> None:
        super().__init__(key)
        self._there = there

    def __reduce__(self) -> Any:  # to another process goes the key alone
        return KeyError, self.args

    def __str__(self) -> str:
        keys = [*map(repr, islice(self._there, 21))]
        it_has = ", ".join([*keys[:20], *(["…"] if len(keys) > 20 else [])]) or "nothing"
        return f"{type(self._there).__name__} has no {self.args[0]!r}; it has {it_has}"


class MultiMapping(Mapping[str, Value]):
    """A mapping whose keys may have several values, in order. Looked up by key, it answers with the last one.

    :param pairs: the keys and values, in order
    """

    def __init__(self, pairs: Iterable[tuple[str, Value]]) -> None:
        self._pairs = list(pairs)
        self._last = dict(self._pairs)

    def __getitem__(self, key: str) -> Value:
        try:
            return self._last[key]
        except KeyError:
            raise NoSuchKey(key, self) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)

    def getlist(self, key: str) -> list[Value]:
        """All values of `key`, in order; empty if there is none."""
        return [value for name, value in self._pairs if name == key]

    def multi_items(self) -> list[tuple[str, Value]]:
        """All pairs, in order."""
        return list(self._pairs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._pairs!r})"


class QueryParams(MultiMapping[str]):
    """A URL's query, decoded: `?tag=a&tag=b` has two values for `tag`."""

    def __init__(self, query: bytes | str) -> None:
        text = query.decode("latin-1") if isinstance(query, bytes) else query
        super().__init__(parse_qsl(text, keep_blank_values=True))


class Headers(Mapping[str, str]):
    """HTTP header fields: names in any case, several values for one name. Looked up by name, it answers with the first.

    :param raw: the fields as ASGI has them, names in lower case
    """

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self.raw = list(raw)

    def __getitem__(self, key: str) -> str:
        name = key.lower().encode("latin-1", "replace")
        for field, value in self.raw:
            if field == name:
                return value.decode("latin-1")
        raise NoSuchKey(key, self)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in iter(self)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self.raw))

    def __len__(self) -> int:
        return len({name for name, _ in self.raw})

    def getlist(self, key: str) -> list[str]:
        """All values of the field `key`, in order; empty if there is none."""
        name = key.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for field, value in self.raw if field == name]

    def multi_items(self) -> list[tuple[str, str]]:
        """All fields, in order."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw]

    def __repr__(self) -> str:
        return f"Headers({self.multi_items()!r})"


class MutableHeaders(Headers, MutableMapping[str, str]):
    """A response's header fields. Setting one takes the place of all of its name; `append` adds another of it.

    :param raw: the list that is changed
    """

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self.raw = raw

    def __setitem__(self, key: str, value: str | URL) -> None:
        name, encoded = encode_header(key, value)
        places = [place for place, (field, _) in enumerate(self.raw) if field == name]
        if places:
            self.raw[places[0]] = name, encoded
            for place in reversed(places[1:]):
                del self.raw[place]
        else:
            self.raw.append((name, encoded))

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise NoSuchKey(key, self)
        name = key.lower().encode("latin-1")
        self.raw[:] = [field for field in self.raw if field[0] != name]

    def append(self, key: str, value: str | URL) -> None:
        """Add a field, beside those of its name that are there."""
        self.raw.append(encode_header(key, value))

    def __repr__(self) -> str:
        return f"MutableHeaders({self.multi_items()!r})"


class State:
    """What the lifespan yielded, and what middleware and handlers add for one request, as attributes."""

    _values: MutableMapping[str, Any]

    def __init__(self, values: MutableMapping[str, Any]) -> None:
        object.__setattr__(self, "_values", values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"the state has no {name!r}; it has {', '.join(map(repr, self._values)) or 'nothing'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self._values[name]
        except KeyError:
            raise AttributeError(f"the state has no {name!r}") from None


def parse_cookies(header: str) -> dict[str, str]:
    """The cookies of a `Cookie` field (RFC 6265 §5.4). What isn't a pair is passed over; of two with one name, the first counts."""
    cookies: dict[str, str] = {}
    for part in header.split(";"):
        name, equals, value = part.partition("=")
        name, value = name.strip(), value.strip()
        if equals and name:
            if len(value) >= 2 and value[0] == value[-1] == '"':
                value = value[1:-1]
            cookies.setdefault(name, value)
    return cookies
