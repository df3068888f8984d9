"""What is asked of a server by WebSockets. One that answers handshakes like other requests has none, and needn't."""

from collections.abc import Iterator

from microasgi.lint.probes.behaviours import SOON
from microasgi.lint.probes.frames import Opcode, Socket
from microasgi.lint.probes.peer import NotOfferedError, Peer
from microasgi.lint.rule import Level, Moment, Side, Spec, rule, shown


@rule("W-17", Spec.WWW, "Connect", Level.ERROR, Side.SERVER, Moment.PROBED)
def the_handshake_waits(peer: Peer) -> Iterator[str]:
    """The handshake is not completed before the app has accepted; it has the subprotocol and the header fields that the app gives."""
    with Socket(peer, "converse") as ws:
        ws.asked.sock.settimeout(5)
        head = ws.head()
        if " 101" not in head.partition("\r\n")[0]:
            raise NotOfferedError("WebSockets")
        if not ws.asked.has_told("accepting"):
            yield "the handshake was complete before the app had accepted"
        for line in ("sec-websocket-protocol: chat", "x-accepted: yes"):
            if line not in head:
                yield f"the app has accepted with {line!r}, which isn't there"
        if (offered := ws.asked.told("connect")["offered"]) != ["chat", "other"]:
            yield f"the client has offered chat and other, subprotocols is {shown(offered)}"


@rule("W-18", Spec.WWW, "Close", Level.ERROR, Side.SERVER, Moment.PROBED)
def a_close_is_a_403(peer: Peer) -> Iterator[str]:
    """An app that closes instead of accepting is answered for with 403."""
    _opened(peer)
    with Socket(peer, "deny") as ws:
        line = ws.head().partition("\r\n")[0]
    if " 403" not in line:
        yield f"the answer was {shown(line)}"


@rule("W-19", Spec.WWW, "WebSocket", Level.WARN, Side.SERVER, Moment.PROBED)
def messages_are_whole(peer: Peer) -> Iterator[str]:
    """A message in several frames comes as one, text as str and binary as bytes; pings are the server's business."""
    with Socket(peer, "converse").open() as ws:
        ws.send(Opcode.TEXT, b"hel", final=False)
        ws.send(Opcode.PING, b"?")
        ws.send(Opcode.CONTINUATION, b"lo")
        frames = [ws.receive(), ws.receive()]
        if sorted(frame.opcode for frame in frames if frame) != [Opcode.TEXT, Opcode.PONG]:
            yield f"a message in two frames, with a ping between them, was answered with {shown(frames)}"
        elif (told := ws.asked.told("heard"))["text"] != "hello":
            yield f"'hello' in two frames came as {shown(told)}"
        ws.send(Opcode.BINARY, b"\0\xff")
        if (frame := ws.receive()) is None or frame != (Opcode.BINARY, b"\0\xff"):
            yield f"two bytes were answered with {shown(frame)}"


@rule("W-20", Spec.WWW, "Disconnect", Level.WARN, Side.SERVER, Moment.PROBED)
def no_code_is_1005(peer: Peer) -> Iterator[str]:
    """A client that closes without a code counts as one that has said 1005; one that has said something is quoted."""
    with Socket(peer, "converse").open() as ws:
        ws.send(Opcode.CLOSE)
        if (code := ws.asked.told("left")["code"]) != 1005:
            yield f"a close without a code came as {shown(code)}"
    with Socket(peer, "converse").open() as ws:
        ws.send(Opcode.CLOSE, b"\x0f\xa0bye")
        if (code := ws.asked.told("left")["code"]) != 4000:
            yield f"a close with the code 4000 came as {shown(code)}"


@rule("W-21", Spec.WWW, "Disconnect", Level.ERROR, Side.SERVER, Moment.PROBED)
def vanishing_is_told(peer: Peer) -> Iterator[str]:
    """An app that waits in `receive()` gets `websocket.disconnect` when the connection is lost."""
    with Socket(peer, "converse").open() as ws:
        ws.asked.told("accepted")
    ws.asked.told("left")
    yield from ()


@rule("W-22", Spec.WWW, "Close", Level.ERROR, Side.SERVER, Moment.PROBED)
def the_apps_code_goes_out(peer: Peer) -> Iterator[str]:
    """A close of the app's goes to the client with the app's code."""
    with Socket(peer, "close").open() as ws:
        frame = ws.receive()
    if frame is None or frame.opcode != Opcode.CLOSE or frame.payload[:2] != b"\x0f\xa1":
        yield f"a close with the code 4001 came out as {shown(frame)}"


@rule("W-23", Spec.WWW, "Websocket Connection Scope", Level.ERROR, Side.SERVER, Moment.PROBED)
def a_failure_closes(peer: Peer) -> Iterator[str]:
    """When the app raises, the WebSocket is closed."""
    with Socket(peer, "fail_open").open() as ws:
        ws.asked.sock.settimeout(SOON * 3)
        frame = ws.receive()
        if frame is None and not _is_closed(ws):
            yield "it is open three seconds after the app has raised"


@rule("W-24", Spec.EXTENSIONS, "Websocket Denial Response", Level.ERROR, Side.SERVER, Moment.PROBED)
def a_denial_is_sent(peer: Peer) -> Iterator[str]:
    """A server that offers it sends the response that an app gives instead of a WebSocket."""
    _opened(peer)
    with Socket(peer, "answer_instead") as ws:
        if not ws.asked.told("offered")["is_so"]:
            raise NotOfferedError("websocket.http.response")
        answer = ws.asked.answer()
    if (answer.status, answer.body) != (418, b"tea"):
        yield f"418 and 'tea' came as {answer.status} and {shown(answer.body)}"


def _opened(peer: Peer) -> None:
    """Ask whether the server has WebSockets at all.

    :raises NotOfferedError: it hasn't
    """
    with Socket(peer, "close").open():
        pass


def _is_closed(ws: Socket) -> bool:
    try:
        return ws.asked.sock.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
