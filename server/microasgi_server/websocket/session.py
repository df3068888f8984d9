"""One conversation, as the app sees it: ASGI messages on one side, frames on the other.

It begins as the HTTP request that asked for it, and a denial is that request's response. `states.py` says how it moves; nothing else
does. What the tables do not hold: an app that fails before it has accepted answers with a 500, and one that returns or fails later says
goodbye.

What is *in hand* decides how a goodbye ends: `states.Hand`.
"""

from collections import deque
from typing import Any

from microasgi_server.asgi import Message, Scope
from microasgi_server.errors import AppError, Refusal
from microasgi_server.exchange import Address
from microasgi_server.http1.answers import answer
from microasgi_server.http1.exchange import Exchange
from microasgi_server.http1.fields import Field
from microasgi_server.http1.limits import Limits
from microasgi_server.http1.phases import WAITING
from microasgi_server.presence import CLIENT_CLOSED_REQUEST
from microasgi_server.websocket.closing import Close, Code, check_close
from microasgi_server.websocket.farewells import Farewells
from microasgi_server.websocket.frames import Frames
from microasgi_server.websocket.handshake import Handshake
from microasgi_server.websocket.messages import content_of, step_of
from microasgi_server.websocket.states import (
    ARRIVALS,
    CLOSING,
    CONNECTING,
    DENYING,
    DONE,
    OPEN,
    TRANSITIONS,
    Arrival,
    Hand,
    Phase,
    Step,
)

SWITCHING_PROTOCOLS = 101
UNBROKEN = 4
"""Messages to one client until the loop gets a turn, which costs as much as one. At a fifth to a broken socket asyncio warns."""

_FORBIDDEN = b"Forbidden\n"


class Session(Farewells):
    """One WebSocket: `exchange.Exchange` for RFC 6455. Made by `Protocol`, from the request that asks for it.

    request: the handshake, as the HTTP exchange that it was.
    phase: how far it is.
    close: what it ended with, or will; with the code 1006 as long as nobody has said goodbye.
    ahead: bytes that have arrived and were not taken, or not answered, yet. Not of an incomplete message, or a large one had no room; nor
        of one that somebody waits for, who is about to take it.
    """

    body_complete = False  # as long as it lasts
    _taken_connect = False
    _hand = Hand.EMPTY
    _awaited = False  # whether the app has asked for a message when there was none
    _unbroken = 0  # messages that were sent, since the loop has had its turn
    _returned = False
    _stopped = False  # whether it was the server that ended it

    def __init__(self, request: Exchange, handshake: Handshake, identity: list[Field], limits: Limits) -> None:
        super().__init__()
        self.phase = CONNECTING
        self.close = Close(Code.ABNORMAL)
        self.request = request
        self._handshake = handshake
        self._frames = Frames(limits.message, handshake.extensions, limits.deflate, limits.crumb)
        self._identity = identity
        self._limits = limits
        self._untaken: deque[str | bytes] = deque()
        self._size = 0  # bytes, or characters, of what is untaken
        self._due = b""  # what the client is to hear
        request.closing = True  # a denial ends the connection: who asked for the upgrade may have gone on in frames

    def __repr__(self) -> str:
        return f"<Session {self.line!r} {self.phase.name}>"

    @property
    def line(self) -> str:
        return self.request.line

    @property
    def ahead(self) -> int:
        untaken = self._untaken
        size = self._size - len(untaken[0]) if self._awaited and untaken else self._size
        return len(self._due) + (self._limits.look_ahead if len(untaken) >= self._limits.messages else size)

    @property
    def attended(self) -> bool:
        """Always: `send()` raises when the client has left, whoever sends (ASGI WebSocket spec 2.4)."""
        return True

    @property
    def converses(self) -> bool:
        return self.phase is OPEN

    @property
    def over(self) -> bool:
        return self.phase is Phase.GONE or self.phase is Phase.ENDING

    @property
    def close_code(self) -> int:
        return self.close.code if self.status == SWITCHING_PROTOCOLS else 0

    @property
    def left(self) -> bool:
        return not self._stopped

    def scope(self, client: Address, server: tuple[str, int | None] | None, root_path: str, state: dict[str, Any]) -> Scope:
        """The ASGI scope (ASGI WebSocket spec, Connection Scope): the request's, in other words."""
        scope = self._handshake.scope(self.request.scope(client, server, root_path, state))
        scope["extensions"] = {
            "websocket.http.response": {},
            "microasgi.disconnect": {"subscribe": self.subscribe},
            "microasgi.shutdown": {"subscribe": self.subscribe_shutdown},
        }
        return scope

    # What comes from the client.

    def arrived(self, data: bytes) -> None:
        """Bytes came.

        :raises Refusal: they came before the handshake was answered (RFC 6455 §4.1)
        """
        self.received += len(data)
        if self.phase is CONNECTING:
            raise Refusal(400, "a client waits for the answer to its handshake before it sends more (RFC 6455 §4.1)")
        if self.phase is not OPEN and self.phase is not CLOSING:
            return
        for found in self._frames.receive(data):
            if isinstance(found, Close):
                self._closed_by_client(found)
            elif self.phase is OPEN:
                self._untaken.append(found)
                self._size += len(found)
        self._due += self._frames.replies()

    def _closed_by_client(self, close: Close) -> None:
        if self.phase is CLOSING:
            self._arrive(Arrival.VANISHED if close.broken else Arrival.GOODBYE)
        elif close.broken:
            self.close = Close(Code.ABNORMAL, f"{close.code}: {close.reason}")
            self.leave(f"the client broke the protocol: {close.reason} ({close.code})")
        else:
            self.close = close
            self._say_goodbye(f"the client closed ({close.code})" if close.code != Code.NO_STATUS else "the client closed")

    def _say_goodbye(self, why: str) -> None:
        busy = bool(self._untaken) or self._hand is Hand.MESSAGE or (self._hand is Hand.ANSWERED and self.sending)
        self._arrive(Arrival.EARLY_GOODBYE if busy else Arrival.GOODBYE)
        self.part(busy, why)

    def _arrive(self, arrival: Arrival) -> None:
        self.phase = ARRIVALS[self.phase][arrival]

    def leave(self, why: str, status: int = CLIENT_CLOSED_REQUEST) -> bool:
        """The client has vanished: what it said before is dropped, unless somebody is content with it. After a goodbye nobody can."""
        if Arrival.VANISHED not in ARRIVALS[self.phase]:
            return False
        self._arrive(Arrival.VANISHED)
        self._stopped = status != CLIENT_CLOSED_REQUEST
        left = super().leave(why, self.status if self.status == SWITCHING_PROTOCOLS else status)
        if not self.content:
            self._drop()
        return left

    def _drop(self) -> None:
        self._untaken.clear()
        self._size = 0

    def shut_down(self) -> list[Exception]:
        """The server stops, and says so to its clients; then it is as if they had said goodbye."""
        faults = super().shut_down()
        if self.phase is CONNECTING:
            self._due += self.refuse(503, "the server stops")
            self.leave("the server stopped", 503)
        elif self.phase is OPEN:
            self._due += self.refuse(503, "the server stops")
            self._stopped = True
            self._say_goodbye("the server stopped")
        return faults

    # What `receive()` answers.

    def take(self) -> Message | None:
        self._hand = Hand.EMPTY
        self._awaited = False
        if not self._taken_connect and not self.gone:
            self._taken_connect = True
            return {"type": "websocket.connect"}
        if self._untaken:
            content = self._untaken.popleft()
            self._size -= len(content)
            self._hand = Hand.MESSAGE
            return {"type": "websocket.receive", "text" if isinstance(content, str) else "bytes": content}
        if self.gone or self.complete:
            return {"type": "websocket.disconnect", "code": int(self.close.code), "reason": self.close.reason}
        self._awaited = True
        self._unbroken = 0
        return None

    def replies(self) -> bytes:
        due, self._due = self._due, b""
        return due

    def refuse(self, status: int, reason: str) -> bytes:
        """The last words of a server that won't go on: a response if there can be one, or else a goodbye."""
        if self.phase is OPEN:
            self.close = Close(Code.RESTART, "the server stops")
            return self._frames.close(self.close)
        if self.phase is not CONNECTING and self.phase is not DENYING:
            return b""
        self.request.phase = WAITING  # the head that is held back never was
        return self._answer(status, reason.encode() + b"\n")

    def ping(self) -> bytes:
        return self._frames.ping()

    def give_up(self, why: str) -> bytes:
        self.close = Close(Code.ABNORMAL, f"{Code.FAILED.value}: {why}")  # the client has said no goodbye (RFC 6455 §7.1.5)
        return self._frames.close(Close(Code.FAILED, why))

    # What `send()` does.

    def send(self, message: Message) -> bytes:
        if self.gone:
            return b""
        step, kind = step_of(message), message["type"]
        phase = TRANSITIONS[self.phase].get(step)
        if phase is None:
            raise AppError(f"{kind!r} can't be sent now: the WebSocket is {self.phase.name}")
        try:
            data = self._encode(message, step)
        except (TypeError, ValueError) as error:
            raise AppError(f"{kind!r} can't be sent: {error}") from error
        self._move(phase)
        return data

    def _encode(self, message: Message, step: Step) -> bytes:
        match step:
            case Step.SEND:
                content = content_of(message)
                self._hand = Hand.ANSWERED if self._hand is Hand.MESSAGE else Hand.EMPTY
                return self._frames.message(content)
            case Step.ACCEPT:
                agreed = self._frames.extensions
                head = self._handshake.answer(message.get("subprotocol"), agreed, message.get("headers") or (), self._identity)
                self.status = SWITCHING_PROTOCOLS
                return head
            case Step.CLOSE if self.phase is CONNECTING:
                return self._answer(403, _FORBIDDEN)
            case Step.CLOSE:
                close = check_close(message.get("code", int(Code.NORMAL)), message.get("reason") or "")
                data = self._frames.close(close)
                self.close = close
                return data
        data = self.request.send({**message, "type": str(message["type"]).removeprefix("websocket.")})
        self.status = self.request.status
        return data

    def _answer(self, status: int, text: bytes) -> bytes:
        """A whole response instead of the upgrade."""
        self.status = status
        return answer(self.request.send, status, text)

    def _move(self, phase: Phase) -> None:
        self.phase = phase
        if phase is CLOSING or phase is DONE:
            self.fulfil()
            self._drop()

    def yields(self) -> bool:
        self._unbroken = (self._unbroken + 1) % UNBROKEN if self.phase is OPEN else 0
        return not self._unbroken

    def ends(self) -> bool:
        """To return is to say goodbye, once the WebSocket is open."""
        self._returned = True
        return self.phase is OPEN or super().ends()

    def fail(self) -> bytes | None:
        if self.phase is OPEN:
            self.close = Close(Code.NORMAL) if self._returned else Close(Code.FAILED, "the server failed")
            data = self._frames.close(self.close)
            self._move(CLOSING)
            return data
        data = self.request.fail() or b""
        if not data:
            return None
        self.status = self.request.status
        self._move(DONE)
        return data
