"""One request and its response, as the app sees them: ASGI messages on one side, an encoder of bytes on the other.

A response is in one `Phase`, and `phases.TRANSITIONS` says how it moves. `leave` and `fail` do what that table does not hold.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

from microasgi_server.asgi import Message, Scope
from microasgi_server.errors import AppError, Refusal
from microasgi_server.exchange import Address
from microasgi_server.extensions import Allowance, Functions
from microasgi_server.http1.answers import answer
from microasgi_server.http1.encoder import ResponseEncoder
from microasgi_server.http1.fields import Field
from microasgi_server.http1.limits import Limits
from microasgi_server.http1.phases import BODY, DONE, GONE, LAST_BODY, START, STARTED, STREAMING, TRANSITIONS, WAITING, Step
from microasgi_server.http1.rare import hint, rare_step
from microasgi_server.http1.request_head import Head
from microasgi_server.presence import CLIENT_CLOSED_REQUEST, Presence


class Exchange(Presence):
    """One request and its response, seen from the app's side: `exchange.Exchange` for HTTP/1.1. Made by `Protocol`, one at a time.

    Most requests have no body, and most clients stay: what only these change is the class's own until then.

    head: the request's, checked.
    phase: how far the response is. Only `send`, `fail` and `leave` change it.
    ahead: bytes of the request's body that have arrived and were not taken yet: the look-ahead.
    closing: as `Presence` has it, and as the request, the app or the shell says; the response's head says so, too, if it can.
    """

    ahead = 0
    _awaits_go_ahead = False  # whether the client holds its body back
    _pieces: list[bytes] | tuple[()] = ()  # of the body, `ahead` bytes in all
    _encoder: ResponseEncoder  # from the response's start on
    _taken = False  # whether the app has the whole body
    _last_body = LAST_BODY  # what ends the body: else LAST_BODY_BEFORE_TRAILERS, which the response's head announced

    def __init__(self, head: Head, identity: Callable[[], list[Field]], limits: Limits) -> None:
        self.head = head
        self.phase = WAITING
        self.body_complete = head.length == 0
        self._identity = identity
        self._limits = limits
        self._allowance: Allowance = {"body": limits.body}
        if head.closes:
            self.closing = True
        if head.expects:
            self._awaits_go_ahead = True

    def __repr__(self) -> str:
        return f"<Exchange {self.line!r} {self.phase.name}>"

    @property
    def line(self) -> str:
        return self.head.line

    def scope(self, client: Address, server: tuple[str, int | None] | None, root_path: str, state: dict[str, Any]) -> Scope:
        """The ASGI scope (ASGI HTTP spec, HTTP Connection Scope).

        `path` and `raw_path` include `root_path`, as the spec's `root_path` asks of a server behind a prefix.
        """
        head = self.head
        raw_path = head.raw_path
        path = raw_path.decode()
        if "%" in path:
            path = unquote(path)
        if root_path and path != "*":  # the asterisk is no path
            path = root_path + path
            raw_path = quote(root_path).encode() + raw_path
        disconnect = Functions()
        disconnect.subscribe = self.subscribe
        shutdown = Functions()
        shutdown.subscribe = self.subscribe_shutdown
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1" if head.version == b"1.1" else "1.0",
            "method": head.method.decode(),
            "path": path,
            "raw_path": raw_path,
            "query_string": head.query,
            "root_path": root_path,
            "headers": head.fields,
            "client": client,
            "server": server,
            "scheme": "http",
            "state": state,
            "extensions": {
                "http.response.early_hint": {},
                "http.response.trailers": {},
                "microasgi.disconnect": disconnect,
                "microasgi.shutdown": shutdown,
                "microasgi.limits": self._allowance,
            },
        }

    # The request: what `receive()` answers.

    def take(self) -> Message | None:
        """The next ASGI message for the app, or None: there is none yet.

        After a disconnect, and after the response, it is `http.disconnect`, every time (ASGI HTTP spec, Disconnect). When the server stops
        it is that for who streams and has taken the whole body, too: nothing else can be asked for.

        :raises Refusal: 413, for a body that is longer than the app allows, as soon as that is known
        """
        streams = self.phase is STREAMING and not self.handed_over
        if self.phase is DONE or self.phase is GONE or self.parted or (self.stopping and self._taken and streams):
            return {"type": "http.disconnect"}
        if self.head.length != 0 and (most := self._allowance.get("body")) and (self.head.length or self.received) > most:
            raise Refusal(413, f"a request's body has at most {most} bytes here (RFC 9110 §15.5.14)")
        if self._pieces or (self.body_complete and not self._taken):
            body = b"".join(self._pieces)
            self._forget()
            self._taken = self.body_complete
            return {"type": "http.request", "body": body, "more_body": not self.body_complete}
        return None

    def arrived(self, data: bytes) -> None:
        """The next piece of the body is here. Behind the response, and behind the client, nobody wants it any more."""
        self._awaits_go_ahead = False  # it didn't
        self.received += len(data)
        if self.phase is not DONE and self.phase is not GONE:
            pieces = self._pieces = self._pieces or []
            if pieces and len(pieces[-1]) < self._limits.crumb:
                pieces[-1] += data
            else:
                pieces.append(data)
            self.ahead += len(data)

    def _forget(self) -> None:
        self._pieces = ()
        self.ahead = 0

    def asked(self) -> bytes:
        """The `100 Continue` that the client waits for, once; else nothing. Due when the app asks for the body (RFC 9110 §10.1.1)."""
        if not self._awaits_go_ahead or self.body_complete or (self.phase is not WAITING and self.phase is not STARTED):
            return b""
        self._awaits_go_ahead = False
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    # The response: what `send()` does.

    def send(self, message: Message) -> bytes:
        """Turn one ASGI message into the bytes to write now: often none, as the head waits for the first body message.

        Once the client has left there are none, whatever the message.

        :raises AppError: the message is malformed, or doesn't belong here; nothing of it is on the wire
        """
        before, kind = self.phase, message.get("type")
        if before is GONE:
            self._drop(message)
            return b""
        if kind == "http.response.body":
            step = BODY if message.get("more_body", False) else self._last_body
        else:
            step = START if kind == "http.response.start" else rare_step(message)
        phase = TRANSITIONS[before].get(step)
        if phase is None:
            raise AppError(f"{message['type']!r} can't be sent now: the response is {before.name}")
        try:
            if step is START:
                data = self._start(message)
            elif before is STARTED:
                closes = self.closing or (not self.body_complete and self._must_close())
                data = self._encoder.first(message, step, self._identity(), closes)
                self.closing = closes or self._encoder.head.closes
            elif before is STREAMING:
                data = self._encoder.body(message, step)
            else:
                data = hint(self.head, message) if before is WAITING else self._encoder.trailers(message, step)
        except (TypeError, ValueError) as error:  # parts that aren't what ASGI says, or that HTTP doesn't allow
            raise AppError(f"{message['type']!r} can't be sent: {error}") from error
        self.phase = phase
        if phase is DONE:
            self.fulfil()
            if self._pieces:
                self._forget()
        return data

    def _drop(self, message: Message) -> None:
        """Nobody gets it. Whether it is the last of its response is worth knowing all the same."""
        with suppress(AppError, TypeError, ValueError):
            if message.get("type") == "http.response.start":
                self._encoder = ResponseEncoder(self.head, message)
            elif message.get("type") == "http.response.body" and hasattr(self, "_encoder"):
                self._encoder.body(message, BODY)

    @property
    def handed_over(self) -> bool:
        """Also where the head told the body's length, and all of it is on its way: apps may say later that this was all."""
        begun = self.phase is not WAITING and self.phase is not STARTED and hasattr(self, "_encoder")
        return self.complete or (begun and self._encoder.whole)

    def _start(self, message: Message) -> bytes:
        """The head is held back until the first of the body: until then, it can still become a 500."""
        self._encoder = encoder = ResponseEncoder(self.head, message)
        self.status = encoder.head.status
        self._last_body = Step.LAST_BODY_BEFORE_TRAILERS if message.get("trailers", False) else LAST_BODY
        return b""

    def fail(self) -> bytes | None:
        """A clean 500 if nothing of a response is on the wire yet; None if there is, and only closing is left."""
        if self.handed_over and not self.complete:
            self.phase = DONE
            self.fulfil()
            return b""
        if self.phase is not WAITING and self.phase is not STARTED:
            return None
        self.phase = WAITING
        return answer(self.send, 500, b"Internal Server Error\n")

    def leave(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> bool:
        if self.phase is DONE or self.phase is GONE:
            return False
        if self.handed_over:
            self.parted = True
            return False
        self.phase = GONE
        self._forget()
        return super().leave(why, status)

    def _must_close(self) -> bool:
        """Whether this connection can't be used again, as the client should learn from the head (RFC 9112 §9.6).

        A client that waits for its 100 and gets a final answer may or may not send the body after all: nobody could tell
        the body from the next request. And a long body that the app didn't want costs more to read than a new connection.
        """
        if self._awaits_go_ahead:
            return True
        return (self.head.length or 0) - self.received > self._limits.drain
