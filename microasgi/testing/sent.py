"""From a call's arguments, which are httpx's, to the request that goes out: target, fields and body."""

import json as json_library
import mimetypes
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote, urlencode

Pairs = Mapping[str, Any] | Sequence[tuple[str, Any]]
"""Names and values, where a name may have several: as pairs, or with a list for a value."""

FileContent = bytes | str | IO[bytes] | IO[str]
File = FileContent | tuple[str | None, FileContent] | tuple[str | None, FileContent, str]
"""What a file's field sends: its content, or its name and content, or these and its media type."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_METHODS_WITH_CONTENT = {"POST", "PUT", "PATCH"}


@dataclass(frozen=True)
class Sent:
    """A request as it goes out.

    method: in capitals.
    path: percent-encoded.
    query: percent-encoded, without its question mark.
    headers: the fields, names in lower case.
    content: the body.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    content: bytes


def sent(
    method: str,
    url: str,
    defaults: Pairs,
    *,
    params: Pairs | str | None = None,
    content: bytes | str | None = None,
    data: Pairs | None = None,
    files: Pairs | None = None,
    json: Any = None,
    headers: Pairs | None = None,
) -> Sent:
    """The request that these arguments describe; they mean what they mean in httpx.

    :param url: path and query; what a browser would encode is encoded
    :param defaults: fields that are sent unless `headers` has one of that name
    :param params: more of the query
    :param content: the body as it is; or `json`, or `data` or `files` or both of these
    :raises ValueError: the URL isn't a path, or a field has a character that HTTP doesn't allow
    :raises TypeError: there is more than one body; `data` and `files` are one, a form
    """
    if not url.startswith("/"):
        raise ValueError(f"a test client's URL is a path and a query, as in /items?page=2, not {url!r}")
    path, _, query = url.partition("#")[0].partition("?")
    more = params if isinstance(params, str) else urlencode(_texts(params or {}))
    kind, body = _body(content, data, files, json)
    own = _fields(headers or {})
    names = {name for name, _ in own}
    fields = [field for field in _fields(defaults) if field[0] not in names] + own
    names = {name for name, _ in fields}
    if kind is not None and "content-type" not in names:
        fields.append(("content-type", kind))
    if (body or method.upper() in _METHODS_WITH_CONTENT) and not names & {"content-length", "transfer-encoding"}:
        fields.append(("content-length", str(len(body))))
    # What is encoded already stays as it is.
    query = "&".join(part for part in (quote(query, safe="%/?:@!$&'()*+,;=~"), more) if part)
    return Sent(method.upper(), quote(path, safe="%/:@!$&'()*+,;=~"), query, fields, body)


def _body(content: bytes | str | None, data: Pairs | None, files: Pairs | None, json: Any) -> tuple[str | None, bytes]:
    """The media type that goes without saying, and the bytes."""
    bodies = {"content": content, "data": data, "files": files, "json": json}
    given = [name for name, value in bodies.items() if value is not None]
    if len(given) > 1 and given != ["data", "files"]:
        raise TypeError(f"a request has one body, and not {' and '.join(given)}: only data and files go together, as one form")
    if json is not None:
        return "application/json", json_library.dumps(json).encode()
    if isinstance(data, str | bytes):
        raise TypeError("data is a form, as in {'name': 'value'}; a body as it is goes into content")
    if files:
        return _multipart(data or {}, files)
    if data is not None:
        return "application/x-www-form-urlencoded", urlencode(_texts(data)).encode()
    return None, content.encode() if isinstance(content, str) else content or b""


def _multipart(data: Pairs, files: Pairs) -> tuple[str, bytes]:
    """A form with files (RFC 7578), its names escaped as browsers do."""
    boundary = secrets.token_hex(16)
    parts = bytearray()
    for name, text in _texts(data):
        parts += f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"\r\n\r\n'.encode() + text.encode() + b"\r\n"
    for name, file in _pairs(files):
        filename, content, kind = _file(file)
        parts += f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"'.encode()
        parts += f'; filename="{_escaped(filename)}"'.encode() if filename is not None else b""
        parts += f"\r\nContent-Type: {kind}\r\n\r\n".encode() + content + b"\r\n"
    return f"multipart/form-data; boundary={boundary}", bytes(parts) + f"--{boundary}--\r\n".encode()


def _file(file: Any) -> tuple[str | None, bytes, str]:
    """Its name, content and media type."""
    name, content, *kind = file if isinstance(file, tuple) else (getattr(file, "name", "upload"), file)
    if hasattr(content, "read"):
        if content.seekable():
            content.seek(0)  # the same request may be sent again and again
        content = content.read()
    if not isinstance(content, bytes | str):
        raise TypeError(f"a file is bytes, a text or an open file, or a tuple of name, content and media type, not {file!r}")
    name = name.replace("\\", "/").rpartition("/")[2] if isinstance(name, str) else None
    guessed = mimetypes.guess_type(name)[0] if name else None
    return name, content.encode() if isinstance(content, str) else content, kind[0] if kind else guessed or "application/octet-stream"


def _escaped(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _pairs(given: Pairs) -> Iterable[tuple[str, Any]]:
    for name, value in given.items() if isinstance(given, Mapping) else given:
        yield from ((name, item) for item in value) if isinstance(value, list) else ((name, value),)


def _texts(given: Pairs) -> list[tuple[str, str]]:
    """Truth and nothing as httpx writes them, and everything else as `str` does."""
    words = {True: "true", False: "false", None: ""}
    return [(name, words[value] if value is None or isinstance(value, bool) else str(value)) for name, value in _pairs(given)]


def _fields(given: Pairs) -> list[tuple[str, str]]:
    fields = [(name.lower(), value) for name, value in _pairs(given)]
    for name, value in fields:
        if not _NAME.fullmatch(name) or not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValueError(f"HTTP allows no such header field: {name!r}: {value!r}")
    return fields
