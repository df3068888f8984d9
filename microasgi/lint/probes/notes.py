"""What the app has to tell: lines of JSON in a file, appended by whatever process runs it, and read by the prober."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VARIABLE = "MICROASGI_LINT_NOTES"
"""The environment variable that names the file."""

LIFESPAN = "MICROASGI_LINT_LIFESPAN"
"""The one that says how the app's lifespan is to go: `lives`, `raises`, or `fails`."""

PATIENCE = 4.0
"""Seconds after which what was to be noted has not happened."""

Note = dict[str, Any]


class Notes:
    """The file, from either side.

    :param path: of a file that exists
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def add(self, token: str, what: str, **facts: Any) -> None:
        """One write a line, so that nobody's lines mix (write(2), O_APPEND)."""
        line = json.dumps({"token": token, "what": what, **facts}) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def all(self, what: str) -> Iterator[Note]:
        """All of that kind so far."""
        for line in self.path.read_text().splitlines():
            note: Note = json.loads(line)
            if note["what"] == what:
                yield note

    def find(self, token: str, what: str) -> Note | None:
        """The first of a request's, if it is there."""
        return next((note for note in self.all(what) if note["token"] == token), None)

    def wait(self, token: str, what: str, patience: float = PATIENCE) -> Note | None:
        """The first of a request's, as soon as it is there; None, if it doesn't come."""
        deadline = time.monotonic() + patience
        while (note := self.find(token, what)) is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return note
