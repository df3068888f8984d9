"""Bytes to messages and back (RFC 6455 §5). This is the one file that knows `websockets`, whose parser needs neither socket nor loop.

Of that it uses the frames, not the handshake: the request has been read already. It answers pings and close frames by itself; what that
makes it say is in `replies`. What it leaves to us: to put fragments together, and to see whether text is UTF-8.

Most frames are alike: a whole message, not compressed, in one read; or a pong. These are taken here, at a quarter of the parser's price. Of
all others it gets every byte, as it comes, and it alone says what is wrong. A client that sends none has no parser, which takes a KiB.
"""

from functools import lru_cache

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from microasgi_server.websocket.closing import Close, Code
from microasgi_server.websocket.spans import span, unmasked

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without C
    from websockets.utils import apply_mask

_COMMON = _TEXT, _BINARY, _PONG = bytes((0x80 | Opcode.TEXT, 0x80 | Opcode.BINARY, 0x80 | Opcode.PONG))
_MASKED = 0x80
_SHORT = 125
"""Bytes of a control frame (RFC 6455 §5.5)."""

Found = str | bytes | Close


class Frames:
    """One conversation's frames, in both directions.

    extensions: what was agreed on, as a field of the handshake says it; empty, if nothing was.
    """

    __slots__ = ("_kind", "_max_size", "_owed", "_parser", "_pieces", "_unknown", "extensions")

    def __init__(self, max_size: int, offered: str, window: int) -> None:
        """:param max_size: bytes of a message, after inflating
        :param offered: what the client says of extensions
        :param window: as `Limits.deflate`
        """
        self._parser: ServerProtocol | None = None  # as long as it has nothing to do
        self._max_size = max_size
        self._kind: Opcode | None = None  # of the message that is incomplete
        self._pieces = bytearray()
        self._owed = 0  # bytes that the parser has yet to get of the frame that it reads
        self._unknown = b""  # a frame's first bytes, as long as they don't say where it ends
        self.extensions = ""
        if offered and window:
            parser = self._called()
            parser.available_extensions = [_deflate(window)]
            try:
                agreed, parser.extensions = parser.process_extensions(Headers([("Sec-WebSocket-Extensions", offered)]))
            except InvalidHandshake:  # RFC 7692 §5: what can't be understood is declined
                return
            self.extensions = agreed or ""

    def _called(self) -> ServerProtocol:
        """The parser, from the first time on that it has something to do."""
        if self._parser is None:
            self._parser = ServerProtocol(state=OPEN, max_size=self._max_size)
        return self._parser

    def __del__(self) -> None:
        """Break a cycle: the parser holds a generator that holds the parser, and what came last, until somebody collects garbage."""
        if self._parser is not None:
            self._parser.parser.close()

    def receive(self, data: bytes) -> list[Found]:
        """Take what the socket gave: whole messages, and at the end perhaps the client's goodbye, or the rule it has broken."""
        if self._unknown:
            data, self._unknown = self._unknown + data, b""
        found: list[Found] = []
        at, end = 0, len(data)
        while at < end:
            if not self._owed:
                frame = span(data, at)
                if frame is None:
                    self._unknown = data[at:]
                    break
                payload, following = frame
                if following <= end and (messages := self._taken(data, at, payload, following)) is not None:
                    found += messages
                    at = following
                    continue
                self._owed = following - at
            read = data[at : at + self._owed]
            at += len(read)
            self._owed -= len(read)
            if self._read(read, found):
                break
        return found

    def _taken(self, data: bytes, at: int, payload: int, end: int) -> list[str | bytes] | None:
        """What this frame comes to: a message, or nothing, as a pong does. None if it is for the parser to see."""
        first = data[at]
        if first not in _COMMON or not data[at + 1] & _MASKED or self._kind is not None or end - payload > self._max_size:
            return None
        if first == _PONG:
            return [] if end - payload <= _SHORT else None
        content = apply_mask(data[payload:end], data[payload - 4 : payload])
        try:
            return [content if first == _BINARY else content.decode()]
        except UnicodeDecodeError:
            return None

    def _read(self, data: bytes, found: list[Found]) -> bool:
        """Give the parser more, and collect what comes of that. True if nothing can come after it."""
        parser = self._called()
        parser.receive_data(data)
        for frame in parser.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.CLOSE:
                close = parser.close_rcvd
                assert close is not None
                found.append(Close(close.code, close.reason))
                return True
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                try:
                    message = self._join(frame)
                except UnicodeDecodeError:
                    parser.fail(Code.INVALID, "a text message is UTF-8")
                    found.append(Close(Code.INVALID, "a text message is UTF-8", broken=True))
                    return True
                if message is not None:
                    found.append(message)
        if parser.parser_exc is None or parser.close_sent is None:
            return False
        found.append(Close(parser.close_sent.code, parser.close_sent.reason, broken=True))  # behind what came before the error
        return True

    def _join(self, frame: Frame) -> str | bytes | None:
        """The message that ends with this frame, if one does. Text is judged when it is whole (RFC 6455 §8.1)."""
        if frame.opcode is not Opcode.CONT:
            self._kind = frame.opcode
            if frame.fin:
                self._kind = None
                return str(frame.data, "utf-8") if frame.opcode is Opcode.TEXT else bytes(frame.data)
        self._pieces += frame.data
        if not frame.fin:
            return None
        data, kind, self._pieces, self._kind = self._pieces, self._kind, bytearray(), None
        return data.decode() if kind is Opcode.TEXT else bytes(data)

    def message(self, content: str | bytes) -> bytes:
        """One message, in one frame."""
        opcode, data = (Opcode.TEXT, content.encode()) if isinstance(content, str) else (Opcode.BINARY, content)
        if not self.extensions:
            return unmasked(opcode, data)
        self._called().send_frame(Frame(opcode, data))
        return self.replies()

    def ping(self) -> bytes:
        """Ask whether the client is there."""
        return unmasked(Opcode.PING, b"")

    def close(self, close: Close) -> bytes:
        """Say goodbye. After that nothing but control frames may be sent."""
        self._called().send_close(close.code, close.reason)
        return self.replies()

    def replies(self) -> bytes:
        """What is to be said since the last time."""
        return b"".join(self._parser.data_to_send()) if self._parser is not None else b""


@lru_cache
def _deflate(window: int) -> ServerPerMessageDeflateFactory:
    """permessage-deflate (RFC 7692), for both directions. zlib's default takes 128 KiB more, and compresses JSON hardly better."""
    return ServerPerMessageDeflateFactory(
        server_max_window_bits=window, client_max_window_bits=window, compress_settings={"memLevel": max(1, window - 7)}
    )
