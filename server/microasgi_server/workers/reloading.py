"""What a developer saves: the files of an app, watched by watchfiles (the extra `reload`)."""

import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from importlib.util import cache_from_source, find_spec
from pathlib import Path, PurePath

from microasgi_server.errors import StartupError

IGNORED = {"__pycache__", "node_modules", "site-packages", "venv"}
"""Directories in which nobody saves what an app is made of; nor in those whose names begin with a dot, as .git and .venv do."""

QUIET = 20
"""Milliseconds without a change after which one is reported: editors write a file in several steps, and people several files."""

LONGEST = 200
"""Milliseconds after which it is reported anyhow."""


def demand() -> None:
    """Make sure that the library is there.

    :raises StartupError: it isn't installed
    """
    if find_spec("watchfiles") is None:
        raise StartupError("reload needs watchfiles; install it with: pip install 'microasgi[reload]'")


NAMED = 3
"""Files that a line of the log names."""


class Watched:
    """Which files count.

    directories: where they are.
    """

    def __init__(self, directories: Sequence[str], patterns: Sequence[str]) -> None:
        """
        :raises StartupError: there is no such directory
        """
        for name in directories:
            if not Path(name).is_dir():
                raise StartupError(f"there is no directory {name!r} to watch")
        self.directories = list(dict.fromkeys(Path(name).resolve() for name in directories))
        self._patterns = ["*.py", *patterns]

    def has(self, path: str) -> bool:
        """Whether this file is one of them."""
        return any(self._counts(PurePath(path).relative_to(here)) for here in self.directories if PurePath(path).is_relative_to(here))

    def _counts(self, path: PurePath) -> bool:
        if any(part in IGNORED or part.startswith(".") for part in path.parts):
            return False
        return any(fnmatch(str(path) if "/" in pattern else path.name, pattern) for pattern in self._patterns)


class Changes:
    """What has been saved, as a thread tells it that waits for it.

    sock: has a byte when there is something.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._paths: deque[str] = deque()

    def add(self, paths: Iterable[str]) -> None:
        """These files have changed."""
        self._paths.extend(paths)

    def take(self) -> list[str]:
        """Their paths, each once."""
        with suppress(BlockingIOError):
            self.sock.recv(4096)
        return list(dict.fromkeys(self._paths.popleft() for _ in range(len(self._paths))))


@contextmanager
def changes(watched: Watched) -> Iterator[Changes]:
    """The files that change as long as the block lasts."""
    from watchfiles import watch

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    found, stop = Changes(ours), threading.Event()

    def run() -> None:
        for changed in watch(
            *watched.directories,
            watch_filter=lambda _, path: watched.has(path),
            debounce=LONGEST,
            step=QUIET,
            stop_event=stop,
            rust_timeout=LONGEST,
            raise_interrupt=False,
        ):
            found.add(sorted(path for _, path in changed))
            with suppress(OSError):  # it is full, which is as good
                theirs.send(b".")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with ours, theirs:
        try:
            yield found
        finally:
            stop.set()
            thread.join()


def named(paths: Sequence[str]) -> str:
    """What a log calls them."""
    some = ", ".join(os.path.relpath(path) for path in paths[:NAMED])
    return some if len(paths) <= NAMED else f"{some} and {len(paths) - NAMED} more"


def forget_compiled(paths: Sequence[str]) -> None:
    """Remove what Python has compiled of these files.

    It takes that for a file's own as long as size and second of the change are the same, and who saves twice in a second may change
    nothing but a letter.
    """
    for path in paths:
        if path.endswith(".py"):
            with suppress(OSError, NotImplementedError):  # it isn't there, or Python compiles into no file
                Path(cache_from_source(path)).unlink()


def are_imported(paths: Sequence[str]) -> bool:
    """Whether this process has imported one of these files, so that a worker that waits for its job has, too."""
    ours = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return not ours.isdisjoint(paths)
