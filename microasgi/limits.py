"""How long a request's body may be, as a route or a router says.

    on microasgi's server    scope["extensions"]["microasgi.limits"]["body"] = limit; it answers 413, and the client counts as gone
    on any other server      the extension is put there, and `receive()` counts; past the limit it raises HTTPException(413)

The innermost opinion is the one that holds when the body is asked for.
"""

from microasgi.asgi import Message, Receive, Scope
from microasgi.exceptions import HTTPException
from microasgi.parsing import LIMITS


def check_limit(limit_body: object) -> None:
    """Check what a route or a router says of the body; None is no opinion.

    :raises ValueError: it isn't a number of bytes
    """
    if limit_body is not None and (not isinstance(limit_body, int) or isinstance(limit_body, bool) or limit_body < 0):
        raise ValueError(f"limit_body is a number of bytes, or 0 for as many as come, not {limit_body!r}")


def limit_body(limit: int, scope: Scope, receive: Receive) -> Receive:
    """Let a request's body have at most `limit` bytes, 0 for as many as come: the `receive()` to read it with."""
    extensions = scope.get("extensions") or {}
    allowance = extensions.get(LIMITS)
    if allowance is None:
        allowance = {}
        scope["extensions"] = {**extensions, LIMITS: allowance}
        receive = _counting(allowance, scope, receive)
    allowance["body"] = limit
    return receive


def _counting(allowance: dict[str, int], scope: Scope, receive: Receive) -> Receive:
    """`receive()`, which compares what comes, or the length that the head tells, with the allowance."""
    told = next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
    received = 0

    def check(length: int) -> None:
        if 0 < allowance["body"] < length:
            raise HTTPException(413, f"the request's body has at most {allowance['body']} bytes here")

    async def counting_receive() -> Message:
        nonlocal received
        check(told)
        message = await receive()
        received += len(message.get("body", b""))
        check(received)
        return message

    return counting_receive
