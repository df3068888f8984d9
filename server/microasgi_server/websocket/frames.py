"""Bytes to messages and back (RFC 6455 §5). This is the one file that knows `websockets`, whose parser needs neither socket nor loop.

Of that it uses the frames, not the handshake: the request has been read already. It answers pings and close frames by itself; what that
makes it say is in `replies`. What it leaves to us: to put fragments together, and to see whether text is UTF-8.

Most frames are alike: a whole message, not compressed; or a pong. These are taken here, at a quarter of the parser's price, also where a
long one comes in several reads. Of all others it gets every byte, as it comes, and it alone says what is wrong. A client that sends none
has no parser, which takes a KiB.
"""

from functools import lru_cache

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from microasgi_server.http1.limits import Limits
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


class Partial:
    """A whole message in one frame, of which not all is here.

    Each piece is unmasked when it comes: the processor has it at hand then, and it is short. For what is long, Python asks the system for
    memory time and again, and the system takes longer to give it than all that is done with it: a message should be there as few times as
    can be.

    head: the frame's first bytes, up to the payload.
    owed: bytes that are still to come.
    """

    __slots__ = ("_crumb", "_mask", "_pieces", "head", "owed")

    def __init__(self, head: bytes, owed: int, crumb: int) -> None:
        self.head = head
        self._crumb = crumb
        self.owed = owed
        self._mask = head[-4:]  # as it is to be laid on the next piece
        self._pieces: list[bytes] = []

    def add(self, masked: bytes) -> None:
        pieces, turn = self._pieces, len(masked) % 4
        piece = apply_mask(masked, self._mask)
        if pieces and len(pieces[-1]) < self._crumb:
            pieces[-1] += piece
        else:
            pieces.append(piece)
        self._mask = self._mask[turn:] + self._mask[:turn]
        self.owed -= len(masked)

    def content(self) -> bytes:
        return b"".join(self._pieces)


class Frames:
    """One conversation's frames, in both directions.

    extensions: what was agreed on, as a field of the handshake says it; empty, if nothing was.
    """

    __slots__ = ("_crumb", "_kind", "_max_size", "_owed", "_parser", "_partial", "_pieces", "_unknown", "extensions")

    def __init__(self, max_size: int, offered: str, window: int, crumb: int = Limits.crumb) -> None:
        """:param max_size: bytes of a message, after inflating
        :param offered: what the client says of extensions
        :param window, crumb: as `Limits.deflate` and `Limits.crumb`
        """
        self._crumb = crumb
        self._parser: ServerProtocol | None = None  # as long as it has nothing to do
        self._max_size = max_size
        self._kind: Opcode | None = None  # of the message that is incomplete
        self._pieces = bytearray()
        self._owed = 0  # bytes that the parser has yet to get of the frame that it reads
        self._partial: Partial | None = None  # the frame of which we have taken some
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
        at, end, over = 0, len(data), False
        while at < end and not over:
            if self._owed:
                read = data[at : at + self._owed]
                at += len(read)
                self._owed -= len(read)
                over = self._read(read, found)
            elif self._partial is not None:
                read = data[at : at + self._partial.owed]
                at += len(read)
                over = self._go_on(self._partial, read, found)
            elif (frame := span(data, at)) is None:
                self._unknown = data[at:]
                break
            else:
                payload, following = frame
                if not self._is_common(data, at, following - payload):
                    self._owed = following - at
                elif following <= end:
                    over = self._take(data[at:payload], apply_mask(data[payload:following], data[payload - 4 : payload]), found)
                    at = following
                elif payload <= end:
                    self._partial = Partial(data[at:payload], following - payload, self._crumb)
                    at = payload
                else:
                    self._unknown = data[at:]
                    break
        return found

    def _is_common(self, data: bytes, at: int, length: int) -> bool:
        """Whether the parser need not see this frame, as far as its head says."""
        first = data[at]
        if first not in _COMMON or not data[at + 1] & _MASKED:
            return False
        return length <= _SHORT if first == _PONG else length <= self._max_size and self._kind is None

    def _go_on(self, partial: Partial, masked: bytes, found: list[Found]) -> bool:
        """More of a frame is here. True if nothing can come after it."""
        partial.add(masked)
        if partial.owed:
            return False
        self._partial = None
        return self._take(partial.head, partial.content(), found)

    def _take(self, head: bytes, content: bytes, found: list[Found]) -> bool:
        """A common frame is here: collect what it comes to. True if nothing can come after it."""
        try:
            if head[0] != _PONG:
                found.append(content if head[0] == _BINARY else content.decode())
        except UnicodeDecodeError:
            return self._read(head + apply_mask(content, head[-4:]), found)
        return False

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
