"""What tests of the benchmarks share: a server that does as a test wants, and a progress that remembers."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that treats one connection after the other so, as long as the block lasts."""

    def accept() -> None:
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            with sock, suppress(OSError):
                serve(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Does it come true in this time?"""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Told:
    """A `Progress` that keeps what is missing."""

    def __init__(self) -> None:
        self.absent: list[tuple[str, str]] = []

    def total(self, steps: int) -> None:
        pass

    def began(self, step: str) -> None:
        pass

    def ended(self) -> None:
        pass

    def missing(self, what: str, remedy: str) -> None:
        self.absent.append((what, remedy))
