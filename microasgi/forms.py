"""Forms: what `request.form()` reads (RFC 7578; WHATWG URL, §5).

    multipart/form-data                  by the package multipart, in the extra `forms`
    application/x-www-form-urlencoded    by the standard library
    anything else                        an empty form

A form comes whole or not at all: one that breaks a limit is answered with 413, one that is malformed or ends early with 400, and when
its client leaves in the middle of it, nobody gets it. Its files are closed then.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypedDict
from urllib.parse import parse_qsl

from anyio import CancelScope, to_thread

from microasgi.datastructures import Headers, MultiMapping
from microasgi.exceptions import HTTPException
from microasgi.parsing import bounded, gather
from microasgi.uploads import Spool, UploadFile

Stream = AsyncGenerator[bytes, None]


class FormLimits(TypedDict, total=False):
    """What a form may have; all are given by name, to `request.form()`.

    max_files: how many files; 100 if not given. Each may be a temporary file, open all the time.
    max_fields: how many other fields; 1000.
    max_part_size: bytes of one field's name and value, and of a file that stay in memory; 1 MiB. Larger files go to disk.
    max_memory: bytes of the whole form in memory; 16 MiB. When they are used up, all further files go to disk, and a field is refused.
    limit: bytes of the whole body, on disk, too; without a limit if not given.
    """

    max_files: int
    max_fields: int
    max_part_size: int
    max_memory: int
    limit: int | None


_DEFAULTS: FormLimits = {"max_files": 100, "max_fields": 1000, "max_part_size": 1 << 20, "max_memory": 16 << 20, "limit": None}


class FormData(MultiMapping[str | UploadFile]):
    """A form's fields, in order: text, or an UploadFile. A key may have several; looked up by key, it answers with the last one."""

    async def close(self) -> None:
        """Close its files."""
        for _, value in self._pairs:
            if isinstance(value, UploadFile):
                await value.close()


class Keeper(Protocol):
    """Who keeps a form that was read, for whoever asks again."""

    form: FormData | None


class FormReading:
    """A form that is about to be read: `await` it, or open it with `async with`, which closes its files at the end.

    It knows its keeper, and no keeper knows it: a request holds no cycle, and what was uploaded goes when the request does.

    :raises TypeError: a limit has none of the names in FormLimits
    :raises HTTPException: when it is read: 413, a limit is broken; 400, it is malformed
    :raises ClientDisconnect: when it is read: the client left in the middle of it
    :raises RuntimeError: when it is read: it is multipart, and the package for that is missing; or the body was streamed already
    """

    def __init__(self, headers: Headers, stream: Callable[[], Stream], limits: FormLimits, keeper: Keeper) -> None:
        if unknown := limits.keys() - _DEFAULTS.keys():
            raise TypeError(f"a form has no limit {min(unknown)!r}; there are {', '.join(_DEFAULTS)}")
        self._headers = headers
        self._stream = stream
        self._limits: FormLimits = {**_DEFAULTS, **limits}
        self._keeper = keeper

    def __await__(self) -> Generator[Any, Any, FormData]:
        return self._read().__await__()

    async def __aenter__(self) -> FormData:
        return await self

    async def __aexit__(self, *_: object) -> None:
        form = self._keeper.form
        if form is not None:
            with CancelScope(shield=True):
                await form.close()

    if not TYPE_CHECKING:  # to type checkers it is an error already

        def __getitem__(self, name):
            raise TypeError(f"the form has yet to be read: write (await request.form())[{name!r}]")

        def __iter__(self, *_):
            raise TypeError("the form has yet to be read: write await request.form()")

        __contains__ = __iter__

        def __getattr__(self, name):
            if hasattr(FormData, name):
                raise AttributeError(f"the form has yet to be read: write (await request.form()).{name}", name=name, obj=self)
            return object.__getattribute__(self, name)  # raises what there is to raise

    async def _read(self) -> FormData:
        form = self._keeper.form
        if form is None:
            media_type = self._headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type == "multipart/form-data":
                form = await _read_multipart(self._headers, self._stream(), self._limits)
            elif media_type == "application/x-www-form-urlencoded":
                form = await _read_urlencoded(self._headers, self._stream(), self._limits)
            else:
                form = FormData([])
            self._keeper.form = form
        return form


async def _read_urlencoded(headers: Headers, stream: Stream, limits: FormLimits) -> FormData:
    limit = limits["limit"]
    body = await gather(stream, headers, limits["max_memory"] if limit is None else min(limit, limits["max_memory"]))
    if body.count(b"&") >= limits["max_fields"]:
        _refuse(f"the form has too many fields: {limits['max_fields']} at most")
    pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    for name, value in pairs:
        if len(name) + len(value) > limits["max_part_size"]:
            _refuse_part(name, limits)
    return FormData(pairs)


async def _read_multipart(headers: Headers, stream: Stream, limits: FormLimits) -> FormData:
    try:
        from multipart import MultipartError, ParserLimitReached, PushMultipartParser, parse_options_header
    except ImportError as error:
        raise RuntimeError("to read a multipart form, install multipart>=2: it is in the extra microasgi[forms]") from error
    limit = limits["limit"]
    parts = _Parts(limits)
    try:
        async with aclosing(stream if limit is None else bounded(stream, headers, limit)) as chunks:
            with PushMultipartParser(parse_options_header(headers["content-type"])[1].get("boundary", "")) as parser:
                async for chunk in chunks:
                    for event in parser.parse(chunk):
                        await parts.take(event)
    except BaseException as error:
        with CancelScope(shield=True):
            await to_thread.run_sync(parts.close)
        if isinstance(error, MultipartError):
            status = 413 if isinstance(error, ParserLimitReached) else 400
            raise HTTPException(status, f"the form can't be read: {error}") from error
        raise
    return FormData(parts.pairs)


class _Parts:
    """The parts of a multipart form, as far as they have come.

    pairs: the names and values of those that are whole.
    """

    def __init__(self, limits: FormLimits) -> None:
        self.pairs: list[tuple[str, str | UploadFile]] = []
        self._limits = limits
        self._memory = limits["max_memory"]  # that is left
        self._counts = {Spool: 0, _Field: 0}
        self._name = ""
        self._part: Spool | _Field | None = None

    async def take(self, event: Any) -> None:
        """What the parser found: a part's head, a piece of its content, or None, its end."""
        if isinstance(event, bytes):
            assert self._part is not None
            await self._part.write(event)
        elif event is None:
            assert self._part is not None
            self.pairs.append((self._name, await self._part.finish()))
            self._memory -= self._part.size if self._part.in_memory else 0
            self._part = None
        else:
            self._begin(event)

    def close(self) -> None:
        """Nobody wants them."""
        if self._part is not None:
            self._part.close()
        for _, value in self.pairs:
            if isinstance(value, UploadFile):
                value.file.close()

    def _begin(self, head: Any) -> None:
        """A part begins: a file if it has a filename, be it empty, as browsers send it where none was chosen."""
        is_field = head.filename is None
        kind, most, plural = (_Field, self._limits["max_fields"], "fields") if is_field else (Spool, self._limits["max_files"], "files")
        self._counts[kind] += 1
        if self._counts[kind] > most:
            _refuse(f"the form has too many {plural}: {most} at most")
        self._name = head.name
        if is_field:
            self._part = _Field(head.name, self._limits, self._memory)
        else:
            fields = Headers([(name.lower().encode(), value.encode()) for name, value in head.headerlist])
            self._part = Spool(head.filename, fields, min(self._limits["max_part_size"], self._memory))


class _Field:
    """A field that is arriving."""

    in_memory = True

    def __init__(self, name: str, limits: FormLimits, memory: int) -> None:
        self._name = name
        self._limits = limits
        self._memory = memory
        self._content = bytearray()

    @property
    def size(self) -> int:
        return len(self._content)

    async def write(self, chunk: bytes) -> None:
        self._content += chunk
        if self.size > self._limits["max_part_size"]:
            _refuse_part(self._name, self._limits)
        if self.size > self._memory:
            _refuse(f"the form has more than {self._limits['max_memory']} bytes to be kept in memory")

    async def finish(self) -> str:
        """Its text: UTF-8, as RFC 7578 §5.1.2 has it for everybody, or else what never fails."""
        try:
            return self._content.decode()
        except UnicodeDecodeError:
            return self._content.decode("latin-1")

    def close(self) -> None:
        """There is nothing to close."""


def _refuse_part(name: str, limits: FormLimits) -> NoReturn:
    _refuse(f"the form's field {name[:100]!r} is longer than {limits['max_part_size']} bytes")


def _refuse(what: str) -> NoReturn:
    raise HTTPException(413, what)
