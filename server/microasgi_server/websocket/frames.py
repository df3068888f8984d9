"""Bytes to messages and back (RFC 6455 §5). This is the one file that knows `websockets`, whose parser needs neither socket nor loop.

Of that it uses the frames, not the handshake: the request has been read already. It answers pings and close frames by itself; what that
makes it say is in `replies`. What it leaves to us: to put fragments together, and to see whether text is UTF-8.
"""

from functools import lru_cache

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from microasgi_server.websocket.closing import Close, Code


class Frames:
    """One conversation's frames, in both directions.

    extensions: what was agreed on, as a field of the handshake says it; empty, if nothing was.
    """

    def __init__(self, max_size: int, offered: str, window: int) -> None:
        """:param max_size: bytes of a message, after inflating
        :param offered: what the client says of extensions
        :param window: as `Limits.deflate`
        """
        self._parser = parser = ServerProtocol(state=OPEN, max_size=max_size)
        self._kind = Opcode.BINARY  # of the message that is incomplete
        self._pieces = bytearray()
        self.extensions = ""
        if offered and window:
            parser.available_extensions = [_deflate(window)]
            try:
                agreed, parser.extensions = parser.process_extensions(Headers([("Sec-WebSocket-Extensions", offered)]))
            except InvalidHandshake:  # RFC 7692 §5: what can't be understood is declined
                return
            self.extensions = agreed or ""

    def receive(self, data: bytes) -> list[str | bytes | Close]:
        """Take what the socket gave: whole messages, and at the end perhaps the client's goodbye, or the rule it has broken."""
        parser = self._parser
        parser.receive_data(data)
        found: list[str | bytes | Close] = []
        for frame in parser.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.CLOSE:
                close = parser.close_rcvd
                assert close is not None
                found.append(Close(close.code, close.reason))
            elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                try:
                    message = self._join(frame)
                except UnicodeDecodeError:
                    parser.fail(Code.INVALID, "a text message is UTF-8")
                    found.append(Close(Code.INVALID, "a text message is UTF-8", broken=True))
                    return found
                if message is not None:
                    found.append(message)
        if parser.parser_exc is not None and parser.close_sent is not None:  # what came before the error is there all the same
            found.append(Close(parser.close_sent.code, parser.close_sent.reason, broken=True))
        return found

    def _join(self, frame: Frame) -> str | bytes | None:
        """The message that ends with this frame, if one does. Text is judged when it is whole (RFC 6455 §8.1)."""
        if frame.opcode is not Opcode.CONT:
            self._kind = frame.opcode
            if frame.fin:
                return str(frame.data, "utf-8") if frame.opcode is Opcode.TEXT else bytes(frame.data)
        self._pieces += frame.data
        if not frame.fin:
            return None
        data, self._pieces = self._pieces, bytearray()
        return data.decode() if self._kind is Opcode.TEXT else bytes(data)

    def message(self, content: str | bytes) -> bytes:
        """One message, in one frame."""
        if isinstance(content, str):
            self._parser.send_text(content.encode())
        else:
            self._parser.send_binary(content)
        return self.replies()

    def ping(self) -> bytes:
        """Ask whether the client is there."""
        self._parser.send_ping(b"")
        return self.replies()

    def close(self, close: Close) -> bytes:
        """Say goodbye. After that nothing but control frames may be sent."""
        self._parser.send_close(close.code, close.reason)
        return self.replies()

    def replies(self) -> bytes:
        """What is to be said since the last time."""
        return b"".join(self._parser.data_to_send())


@lru_cache
def _deflate(window: int) -> ServerPerMessageDeflateFactory:
    """permessage-deflate (RFC 7692), for both directions. zlib's default takes 128 KiB more, and compresses JSON hardly better."""
    return ServerPerMessageDeflateFactory(
        server_max_window_bits=window, client_max_window_bits=window, compress_settings={"memLevel": max(1, window - 7)}
    )
