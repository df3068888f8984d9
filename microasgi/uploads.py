"""A file that a client sends in a form: in memory while it is small, else in a temporary file, which is never touched in the event loop."""

import weakref
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from typing import IO, Any, TypeVar, cast

from anyio import to_thread

from microasgi.datastructures import Headers

Result = TypeVar("Result")

_STEP = 256 * 1024
"""Bytes that are written at once: a thread costs about as much as writing them."""


class UploadFile:
    """A file of a form, to be read from its beginning.

    It is closed with the form (`async with request.form()`), by `close()`, or when nobody holds it any more. Its temporary file has
    no name, and goes when it is closed.

        form = await request.form()
        photo = form["photo"]
        assert isinstance(photo, UploadFile)  # a browser's form might have a text there
        start = await photo.read(1000)

    file: the file itself, for libraries that want one. On disk, it blocks.
    size: its length in bytes.
    filename: what the client calls it. It may be a path, empty, or anything else: never open a file by that name.
    headers: the part's own fields, content-type for one.
    """

    def __init__(self, file: IO[bytes], *, filename: str, headers: Headers, size: int, in_memory: bool) -> None:
        self.file = file
        self.filename = filename
        self.headers = headers
        self.size = size
        self._in_memory = in_memory
        weakref.finalize(self, file.close)

    def __repr__(self) -> str:
        return f"<UploadFile {self.filename!r}, {self.size} bytes{', closed' if self.file.closed else ''}>"

    @property
    def content_type(self) -> str | None:
        """What the client says that it is."""
        return self.headers.get("content-type")

    async def read(self, size: int = -1) -> bytes:
        """The next so many bytes; all that are left if it is negative."""
        return await self._do(self.file.read, size)

    async def seek(self, offset: int) -> None:
        """Go on reading at so many bytes from the beginning."""
        await self._do(self.file.seek, offset)

    async def close(self) -> None:
        """Close it. It may be closed already."""
        await self._do(self.file.close)

    async def _do(self, call: Callable[..., Result], *args: Any) -> Result:
        return call(*args) if self._in_memory else await to_thread.run_sync(call, *args)


class Spool:
    """A file that is arriving.

    :param filename: as it will be in the `UploadFile`
    :param headers: as they will be
    :param memory: how many bytes may stay in memory; all go to disk if there are more
    """

    def __init__(self, filename: str, headers: Headers, memory: int) -> None:
        self.size = 0
        self._filename = filename
        self._headers = headers
        self._memory = max(memory, 1)  # 0 would be without a limit
        self._pending = bytearray()
        self._file = SpooledTemporaryFile(max_size=self._memory)  # noqa: SIM115 (it lasts as long as the form)

    @property
    def in_memory(self) -> bool:
        return self.size <= self._memory

    async def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._pending += chunk
        if len(self._pending) >= _STEP:
            await self._flush(at_end=False)

    async def finish(self) -> UploadFile:
        """It is here, whole."""
        await self._flush(at_end=True)
        file = cast("IO[bytes]", self._file)
        return UploadFile(file, filename=self._filename, headers=self._headers, size=self.size, in_memory=self.in_memory)

    def close(self) -> None:
        """It won't be wanted."""
        self._file.close()

    async def _flush(self, *, at_end: bool) -> None:
        pending, self._pending = self._pending, bytearray()

        def write() -> None:
            self._file.write(pending)
            if at_end:
                self._file.seek(0)

        if self.in_memory:
            write()
        else:
            await to_thread.run_sync(write)
