"""The least that answers at all: an `asyncio.Protocol` that reads nothing of what it is asked. What is left is the event loop."""

import asyncio
import sys

from benchmarks.apps import work

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n\r\n%b" % (len(work.TOKEN), work.TOKEN)


class Constant(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = transport.write  # type: ignore[attr-defined]  # uvloop's is no `asyncio.Transport`

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self._write(ANSWER)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Constant, "127.0.0.1", port)
    await server.serve_forever()


def main(port: str, loop: str) -> None:
    """Answer on 127.0.0.1, until SIGTERM."""
    if loop == "uvloop":
        import uvloop

        uvloop.run(_serve(int(port)))
    else:
        asyncio.run(_serve(int(port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
