"""What a connection may cost: every number of bytes, of things and of seconds, with its reason.

Operators choose the first four (`--limit-request-line`, `--limit-request-fields`, `--limit-header-size`, `--limit-body`), and those of a
WebSocket (`--ws-max-size` and its like). The others are for who knows why.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Numbers of bytes, of things, and of seconds.

    :param request_line: bytes of a request's first line, its end included; RFC 9112 §3 wants 8,000 at least, and proxies send as much
    :param fields: fields of a head; browsers behind proxies send some 40
    :param head: bytes of a head, the request line included; also of a chunked body's trailers
    :param body: bytes of a request's body, as long as the app says nothing else (`microasgi.limits`); 0 is as many as come
    :param chunk_line: bytes of the line in front of a chunk; extensions, which nobody uses, make it longer than a few
    :param framing: bytes of a chunked body that are no content, beside as many as the content's own: who sends more makes us work
        for nothing. One-byte chunks pass it after some 30,000
    :param look_ahead: bytes read ahead of the app (body not asked for, requests behind this one) before reading pauses
    :param drain: bytes of an unread request body worth reading to keep a connection: about what a new connection costs
    :param linger: seconds that a client which is still sending gets to read the last response (RFC 9112 §9.6)
    :param flush: seconds that a client gets to take what is still unsent when the connection closes: 64 KiB at most
    :param body_rate: bytes of a body that must come in each second that the app waits for it, on the average over `body_window`; 0 is
        any number. What is slower is no upload, but somebody who wants to hold a connection
    :param write_rate: the same of a response: bytes that a client must take in each second in which more is written than it has taken; 0
        is any number
    :param body_window: seconds of such waiting over which both are judged
    :param farewell: seconds, at the beginning of a shutdown, in which a connection without a request may still bring one that was on its
        way: about the longest way there is. So long a connection must have been idle, too, before it is closed to make room
    :param cleanup: seconds, at the end of a shutdown, for the cleanup of requests that were told to stop
    :param cancelled: seconds behind that for those that were cancelled, by force now; who goes on then is left behind
    :param message: bytes of a WebSocket's message, after inflating: what one client can have us hold
    :param messages: of a WebSocket's that nobody has asked for, at which reading pauses, however short they are
    :param deflate: bits of the window in which a WebSocket's messages are compressed, 9 to 15, if the client offers it (RFC 7692); 0: they
        are not. 12 take 38 KiB a connection, three times all else
    :param startup: seconds that the app's startup may take until the log says what is waited for
    :param ping: seconds in which a WebSocket's client has sent nothing, until it is asked whether it is there
    :param pong: seconds that it has for any sign of life then
    :param read: bytes to read at once, where that is ours to say: hardly more than the look-ahead that they may end up in, but enough for a
        WebSocket's message of 64 KiB with its head
    :param write: bytes to offer to the system at once, of what it didn't take before, where that is ours to say
    :param unsent: bytes that a client has yet to take at which it counts as congested, and who sends has to wait
    :param crumb: bytes below which a piece of a body is joined to the next: one that comes byte by byte must not cost an object for each
    :param accept: connections to accept at a time, before those that are open get their turn
    :param collect: new objects after which `run` lets Python look for garbage in cycles, and after how many such looks it looks through the
        survivors, too. Python's own (700, or 2,000 from 3.13 on) makes it walk through thousands of waiting requests again and again, which
        costs more than serving them. Survivors are mostly connections that were open at the moment, and asyncio's leave a cycle behind
    :param kept_tasks: tasks that may wait for a next request where tasks are dear, on trio. A waiting one takes 5 KiB
    :param keepalive: of a client to which nothing is sent, and that says nothing: after how many seconds the system asks whether it is
        there, how many seconds apart it repeats that, and how often in vain until it is gone; 0 first never asks
    :param look: seconds between two looks at all deadlines; short timeouts make it less
    :raises ValueError: a limit is negative, or can't be 0 and is
    """

    request_line: int = 8190
    fields: int = 100
    head: int = 32 * 1024
    body: int = 100 * 1024 * 1024
    chunk_line: int = 4096
    framing: int = 128 * 1024
    look_ahead: int = 64 * 1024
    drain: int = 256 * 1024
    linger: float = 1.0
    flush: float = 10.0
    body_rate: int = 240
    write_rate: int = 240
    body_window: float = 60.0
    farewell: float = 0.5
    cleanup: float = 5.0
    cancelled: float = 1.0
    message: int = 16 * 1024 * 1024
    messages: int = 64
    deflate: int = 0
    startup: float = 2.0
    ping: float = 20.0
    pong: float = 20.0
    read: int = 66 * 1024
    write: int = 256 * 1024
    unsent: int = 64 * 1024
    crumb: int = 4096
    accept: int = 100
    collect: tuple[int, int] = (50_000, 2)
    kept_tasks: int = 1_000
    keepalive: tuple[int, int, int] = (30, 10, 3)
    look: float = 1.0

    def __post_init__(self) -> None:
        for name in ("request_line", "fields", "head", "body"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"the limit {name} is not negative, but it is {getattr(self, name)}")
        for name in ("message", "messages", "ping", "pong"):
            if not getattr(self, name) > 0:
                raise ValueError(f"the limit {name} is more than 0, but it is {getattr(self, name)}")
        if self.deflate and not 9 <= self.deflate <= 15:
            raise ValueError(f"the limit deflate is 0, or a window of 9 to 15 bits (RFC 7692 §7.1.2), not {self.deflate}")
