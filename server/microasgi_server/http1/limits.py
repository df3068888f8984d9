"""What a connection may cost: every number of bytes and seconds that isn't the operator's to choose, with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Numbers of bytes, of things, and of seconds.

    :param head: bytes of a request's head; also of a chunked body's trailers
    :param request_line: bytes of its first line; RFC 9112 §3 wants 8,000 at least
    :param fields: fields of a head; browsers behind proxies send some 40
    :param chunk_line: bytes of the line in front of a chunk; extensions, which nobody uses, make it longer than a few
    :param framing: bytes of a chunked body that are no content, beside as many as the content's own: who sends more makes us work
        for nothing. One-byte chunks pass it after some 30,000
    :param look_ahead: bytes read ahead of the app (body not asked for, requests behind this one) before reading pauses
    :param drain: bytes of an unread request body worth reading to keep a connection: about what a new connection costs
    :param linger: seconds that a client which is still sending gets to read the last response (RFC 9112 §9.6)
    :param flush: seconds that a client gets to take what is still unsent when the connection closes: 64 KiB at most
    :param stall: seconds in which a client has to take at least something of a complete response that waits for it
    :param cleanup: seconds, at the end of a shutdown, for the cleanup of requests that were told to stop
    :param kept_tasks: tasks that may wait for a next request where tasks are dear, on trio. A waiting one takes 5 KiB
    :param look: seconds between two looks at all deadlines; short timeouts make it less
    """

    head: int = 64 * 1024
    request_line: int = 16 * 1024
    fields: int = 100
    chunk_line: int = 4096
    framing: int = 128 * 1024
    look_ahead: int = 64 * 1024
    drain: int = 256 * 1024
    linger: float = 1.0
    flush: float = 10.0
    stall: float = 30.0
    cleanup: float = 5.0
    kept_tasks: int = 1_000
    look: float = 1.0
