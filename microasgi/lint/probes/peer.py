"""The client of a server that is probed: bare sockets, because libraries behave."""

import http.client
import os
import socket
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field

from microasgi.lint.probes.notes import PATIENCE, Note
from microasgi.lint.probes.server import Server


class NotOfferedError(Exception):
    """The server doesn't have what a probe is about, and needn't."""


@dataclass
class Answer:
    """A response, as far as it came.

    complete: whether it has come to an end that its framing has named.
    """

    status: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False

    def all(self, name: str) -> list[str]:
        """The values of all fields with this name."""
        return [value for own, value in self.fields if own.lower() == name]


class Asked:
    """A request that is on its way.

    token: names it in the app's notes.
    """

    def __init__(self, server: Server, token: str, method: str) -> None:
        self.token = token
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self._server, self._method = server, method

    def told(self, what: str, patience: float = PATIENCE) -> Note:
        """What the app has noted.

        :raises AssertionError: it hasn't
        """
        note = self._server.notes.wait(self.token, what, patience)
        if note is None:
            raise AssertionError(f"the app has no word of {what!r} to say after {patience:g} s")
        return note

    def has_told(self, what: str) -> bool:
        """Whether the app has noted this by now."""
        return self._server.notes.find(self.token, what) is not None

    def answer(self) -> Answer:
        """Read the response. One that is broken off comes with `complete=False`, and none at all with the status 0."""
        answer = Answer()
        response = http.client.HTTPResponse(self.sock, method=self._method)
        with closing(response), suppress(OSError, http.client.HTTPException):
            response.begin()
            answer.status, answer.fields = response.status, response.getheaders()
            framed = response.chunked or response.length is not None
            try:
                answer.body = response.read()
                answer.complete = framed
            except http.client.IncompleteRead as error:
                answer.body = error.partial
        return answer

    def bytes_until(self, what: bytes, patience: float = PATIENCE) -> bytes:
        """What comes, until this is in it, or nothing comes any more."""
        got = b""
        self.sock.settimeout(patience)
        with suppress(OSError):
            while what not in got and (data := self.sock.recv(65536)):
                got += data
        return got

    def __enter__(self) -> "Asked":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


@dataclass(frozen=True)
class Peer:
    """Asks a server that runs.

    command: by which another one like it is started.
    """

    server: Server
    command: str

    def ask(
        self,
        behaviour: str,
        target: str = "/",
        *,
        method: str = "GET",
        version: str = "1.1",
        fields: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        argument: str = "",
    ) -> Asked:
        """Send a request that wants the app to behave so. The fields are sent as they are, behind our own."""
        asked = Asked(self.server, os.urandom(8).hex(), method)
        own = [("Host", "localhost"), ("X-Behaviour", behaviour), ("X-Token", asked.token), ("X-Argument", argument)]
        lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in (*own, *fields)), "", ""]
        with suppress(OSError):  # a server that doesn't want it says so, or has nothing to say
            asked.sock.sendall("\r\n".join(lines).encode("latin-1") + body)
        return asked
