"""An event in words: a table. Each row says between which lanes it happens, what is read in the ladder, why, and by which rule.

What stands between backticks in a label is code, or bytes. The rules are told in our own words, with the section to read.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from microasgi.inspector.told import LANES, Shown

CLIENT, SOCKET, SERVER, ASGI, HANDLER = range(5)
"""The lanes as a ladder shows them, by their place in `Lane`."""

HEADINGS = ("client", "wire", "server", "ASGI", "handler")

Facts = dict[str, Any]


class Spec(NamedTuple):
    """A rule that it rests on: where it stands, and what it says, in our words."""

    document: str
    section: str
    says: str


class Words(NamedTuple):
    """An event, told.

    frm, to: the lanes between which it happens.
    why: a sentence or two on what it means.
    """

    frm: int
    to: int
    label: str
    why: str = ""
    spec: Spec | None = None


HTTP = "ASGI HTTP spec 2.5"
RECEIVING_DISCONNECT = Spec(HTTP, "Disconnect - receive event", "receive() gives it once the client is gone, or the response is complete.")
SENDING_TO_NOBODY = Spec(HTTP, "Disconnected Client - send exception", "send() on a closed connection raises an OSError, from 2.4 on.")
TEAR_DOWN = Spec("RFC 9112", "§9.6 Tear-down", "A server may take a half-closed connection for one that is closed.")
FRAMING = Spec("RFC 9112", "§2.1 Message Format", "A head is lines up to an empty one; only behind it is a request whole enough to act on.")
CONNECTION_SCOPE = Spec(HTTP, "HTTP Connection Scope", "The app is called once for each request, with a scope of its own.")
START = Spec(HTTP, "Response Start - send event", "Status and headers; at least one body message has to follow.")
BODY = Spec(HTTP, "Response Body - send event", "A piece of the body, and whether there is more to come.")
EXTENSION = Spec("microasgi", "extension microasgi.disconnect", "Who subscribes is called once, at once, in the loop's thread.")

_PARTED = "its kernel sends a FIN behind all that it still has to send."
_CLOSES = {
    "FIN": ("close()", f"The client leaves: {_PARTED}"),
    "RST": ("close() with a RST", "The client leaves: its kernel sends a reset, and what was unsent is lost. A reset stands in no queue."),
    "goodbye": ("says goodbye (1001)", "The client sends a close frame, as a page does that is left (RFC 6455 §7.1.1)."),
    "half": ("shutdown(SHUT_WR)", f"The client shuts its sending side: {_PARTED} It would still read."),
    "leave": ("leaves", "The client of the test leaves. There is no socket in between: the news is there at once."),
}


def told(event: Shown) -> Words:
    """What to say of an event. What nobody has words for is called by its name."""
    known = WORDS.get((event["lane"], event["what"]))
    if known is None:
        lane = LANES.index(event["lane"])
        return Words(lane, lane, event["what"])
    return known(event["facts"])


def size(count: int) -> str:
    return f"{count:,} byte" + ("" if count == 1 else "s")


def _first_line(data: Facts) -> str:
    """How the bytes begin, if that can be read."""
    line = bytes.fromhex(data["bytes"]).partition(b"\r\n")[0].decode("latin-1")
    return f" `{line[:60]}`" if line and line.isascii() and line.isprintable() else ""


def _bytes(frm: int, to: int, verb: str, why: str) -> Callable[[Facts], Words]:
    return lambda facts: Words(frm, to, verb.format(size(facts["data"]["size"])) + _first_line(facts["data"]), why)


def _fixed(frm: int, to: int, label: str, why: str = "", spec: Spec | None = None) -> Callable[[Facts], Words]:
    """Words that differ by nothing but what stands in braces."""
    return lambda facts: Words(frm, to, label.format_map(_Facts(facts)), why, spec)


class _Facts(dict[str, Any]):
    """A fact that isn't told is shown as a question."""

    def __missing__(self, name: str) -> str:
        return "?"


def _close(facts: Facts) -> Words:
    return Words(CLIENT, CLIENT, *_CLOSES.get(facts.get("way", "FIN"), _CLOSES["FIN"]))


def _lost(facts: Facts) -> Words:
    why = facts.get("why") or ""
    if is_reset(why):
        return Words(CLIENT, SOCKET, "RST: the socket broke", "The kernel said ECONNRESET.")
    return Words(SOCKET, SOCKET, "the socket is closed", why or "The file descriptor is gone.")


def is_reset(why: str) -> bool:
    """Whether a connection was lost by a reset, by what is said of it."""
    return "RST" in why or "reset" in why


def _opened(facts: Facts) -> Words:
    client = facts.get("client")
    by = f" by {client[0]}:{client[1]}" if isinstance(client, list | tuple) and len(client) > 1 else ""
    why = "The loop has accepted a connection, and made a Connection for it. There is no task before a request's head is whole."
    return Words(CLIENT, SOCKET, f"connection made{by}", why)


def _congested(facts: Facts) -> Words:
    label = f"congested: {facts['unsent']:,} bytes unsent" if "unsent" in facts else "congested"
    return Words(SOCKET, SOCKET, label, "The client takes too little: the app's next send() waits.")


def _phase(facts: Facts) -> Words:
    row = facts.get("row")
    why = f"Row {facts['old']}, column {row}, of the table of phases." if row else ""
    spec = None
    if facts["new"] == "DONE":
        why += " The last byte is handed over: from here on nothing can cancel this request."
    if facts["new"] == "GONE":
        why, spec = "The client left first. From here on send() raises, and receive() says http.disconnect.", RECEIVING_DISCONNECT
    return Words(SERVER, SERVER, f"phase {facts['old']} → {facts['new']}", why.strip(), spec)


def _head(facts: Facts) -> Words:
    why = "The head is whole and checked. An exchange begins in phase WAITING, and a task is made for it."
    return Words(SOCKET, SERVER, f"the head is whole `{facts['line']}`" if facts.get("line") else "the head is whole", why, FRAMING)


def _subscribed(facts: Facts) -> Words:
    why = "Who wants to know of a departure leaves a callback: an entry in a dict, no task. On other servers it takes a task in receive()."
    return Words(HANDLER, ASGI, f"subscribe({facts.get('who', '')})", why, EXTENSION)


def _tells(facts: Facts) -> Words:
    why = "Whoever subscribed is told, once, in this very call: no task, no queue, no poll."
    return Words(SERVER, ASGI, f"{facts.get('who', 'the callback')}() is called", why, EXTENSION)


def _sends(facts: Facts) -> Words:
    message = facts["message"]
    kind = message["type"].removeprefix("http.")
    why = "The app sends. The exchange looks up which step this is, and whether its phase allows it."
    nobody = ", to nobody" if facts.get("dropped") else ""
    if kind == "response.start":
        return Words(HANDLER, ASGI, f"send {kind} {message.get('status')}{nobody}", why, START)
    if kind == "response.body":
        body, last = message.get("body") or {}, not message.get("more_body")
        return Words(HANDLER, ASGI, f"send {kind} {size(body.get('size', 0))}{', the last' if last else ''}{nobody}", why, BODY)
    return Words(HANDLER, ASGI, f"send {kind}{nobody}", why)


def _receives(facts: Facts) -> Words:
    message = facts["message"]
    if message["type"] == "http.disconnect":
        why = "The news as ASGI has it: only who asks hears it."
        return Words(ASGI, HANDLER, "receive() gives http.disconnect", why, RECEIVING_DISCONNECT)
    body = message.get("body")
    more = f" {size(body['size'])}" if isinstance(body, dict) else ""
    return Words(ASGI, HANDLER, f"receive() gives {message['type'].removeprefix('http.')}{more}")


def _raised_in_send(facts: Facts) -> Words:
    error = str(facts.get("error", "")).partition(":")[0]
    return Words(ASGI, HANDLER, f"send() raises {error}", "There is nobody to send to.", SENDING_TO_NOBODY)


def _whose(facts: Facts) -> str:
    """Which of the request's tasks: its own has no name."""
    return f"task {facts['task']} " if facts.get("task") else ""


def _waits(facts: Facts) -> Words:
    line = f" `{facts['line']}`" if isinstance(facts.get("line"), str) and facts["line"] else ""
    why = "The task has given the loop its turn. This is the innermost line of your own code."
    return Words(HANDLER, HANDLER, f"{_whose(facts)}waits at {facts.get('at') or '?'}{line}", why)


def _thrown(facts: Facts) -> Words:
    error = str(facts.get("error", "an exception")).partition(":")[0]
    at = f" at {facts['at']}" if facts.get("at") else ""
    why = "The await raises. `finally` and `async with` run; `except Exception` lets a cancellation pass."
    return Words(HANDLER, HANDLER, f"{_whose(facts)}{error}{at}", why)


def _stage(facts: Facts) -> Words:
    return Words(HANDLER, HANDLER, f"delivery {facts['old']} → {facts['new']}", (facts.get("means") or "").capitalize())


def _finishes(facts: Facts) -> Words:
    at = f" `{facts['written']}`" if facts.get("written") else ""
    why = f'{facts.get("by") or "Its route, or a Router around it,"} says `on_disconnect="finish"`: a departure doesn\'t stop this handler.'
    return Words(HANDLER, HANDLER, f"is meant to finish, whoever leaves{at}", why[:1].upper() + why[1:])


def _given_up(facts: Facts) -> Words:
    seconds = f"{facts['seconds']:g} s" if isinstance(facts.get("seconds"), int | float) else "its seconds"
    why = "What came behind the first cancellation took too long: from now on every await raises, until the handler has ended."
    return Words(HANDLER, HANDLER, f"the grace of {seconds} is over: cancelled for good", why)


def _ended(what: str, why: str) -> Callable[[Facts], Words]:
    def words(facts: Facts) -> Words:
        error = f" {str(facts['error']).partition(':')[0]}" if facts.get("error") else ""
        return Words(HANDLER, HANDLER, f"{_whose(facts)}{what}{error}", why)

    return words


_WEIGHTS = {
    "ERROR": "The spec says *must* there, or leaves no other form.",
    "WARN": "The spec says *should* there, or asks for it without a word on what else may be.",
}
_FINDING = ("rule", "side", "level", "document", "section", "says")


def _found(facts: Facts) -> Words:
    detail = " `{}`".format(facts["detail"].replace("`", "'")) if facts.get("detail") else ""
    rule, side, level, document, section, says = (str(facts.get(name, "?")) for name in _FINDING)
    return Words(ASGI, ASGI, f"{rule}, by the {side}{detail}", _WEIGHTS.get(level, ""), Spec(document, section, says))


WORDS: dict[tuple[str, str], Callable[[Facts], Words]] = {
    ("client", "connect"): _fixed(CLIENT, CLIENT, "connect()", "The kernel accepts it; the server hears of that a moment later."),
    ("client", "send"): _bytes(
        CLIENT, CLIENT, "send {}", "The client hands them to its kernel. When the server reads them is another matter."
    ),
    ("client", "stops reading"): _fixed(CLIENT, CLIENT, "reads nothing from here on", "What it is sent stays in the kernels."),
    ("client", "close"): _close,
    ("client", "received"): _bytes(SOCKET, CLIENT, "gets {}", "The client reads what has come."),
    ("client", "watches no longer"): _fixed(CLIENT, CLIENT, "nobody watches any longer", "The handler has not come to its end."),
    ("client", "closed by the server"): _fixed(SOCKET, CLIENT, "the server has closed ({how})", "There is no more to read."),
    ("wire", "open"): _opened,
    ("wire", "in"): _bytes(CLIENT, SOCKET, "{} in", "The loop has read the socket, and hands it to Connection.received."),
    ("wire", "FIN"): _fixed(CLIENT, SOCKET, "FIN: the read gave no more", "The client will send no more.", TEAR_DOWN),
    ("wire", "out"): _bytes(SERVER, SOCKET, "{} out", "One write. What the kernel doesn't take now is kept by the transport."),
    ("wire", "congested"): _congested,
    ("wire", "drained"): _fixed(SOCKET, SOCKET, "drained", "The client has taken enough: send() goes on."),
    ("wire", "pause"): _fixed(
        SERVER,
        SOCKET,
        "reading pauses",
        "More has come than the app asks for. EPOLLRDHUP still tells.",
    ),
    ("wire", "resume"): _fixed(SERVER, SOCKET, "reading goes on", "There is room again."),
    ("wire", "shut"): _fixed(SERVER, SOCKET, "shut_write()", "The server says that it sends no more, and reads on for a while."),
    ("wire", "close"): _fixed(SERVER, SOCKET, "close()", "The server closes its side."),
    ("wire", "abort"): _fixed(SERVER, SOCKET, "abort()", "The server closes at once; what is unsent is dropped."),
    ("wire", "lost"): _lost,
    ("core", "head"): _head,
    ("core", "phase"): _phase,
    ("core", "hang_up"): _fixed(SOCKET, SERVER, "hang_up: {why}", "The connection tells the exchange."),
    ("core", "refused"): _fixed(SERVER, SERVER, "refused: {status} {reason}", "The server answers by itself; the app hears nothing of it."),
    ("asgi", "call"): _fixed(SERVER, ASGI, "app(scope, receive, send)", "The call has a task and a context of its own.", CONNECTION_SCOPE),
    ("asgi", "subscribe"): _subscribed,
    ("asgi", "told"): _tells,
    ("asgi", "receive?"): _fixed(HANDLER, ASGI, "receive()", "Somebody in the app asks for the next message."),
    ("asgi", "receive"): _receives,
    ("asgi", "send"): _sends,
    ("asgi", "send raised"): _raised_in_send,
    ("asgi", "lint"): _found,
    ("asgi", "end"): _fixed(HANDLER, ASGI, "the app has returned", "The call is over. Nothing outside it has noticed a cancellation."),
    ("handler", "wait"): _waits,
    ("handler", "go on"): lambda facts: Words(HANDLER, HANDLER, f"{_whose(facts)}goes on", "What it waited for is there."),
    ("handler", "thrown"): _thrown,
    ("handler", "raised"): _ended("ends with", "The exception has left the task."),
    ("handler", "returned"): _ended("has returned", "The task's work is done."),
    ("handler", "detached"): _fixed(HANDLER, HANDLER, "task {task} {name} lives on", "The app has returned, and left this task behind."),
    ("handler", "stage"): _stage,
    ("handler", "policy"): _finishes,
    ("handler", "grace is over"): _given_up,
    ("handler", "child"): _fixed(HANDLER, HANDLER, "begins task {task} {name}", "A task of this request: a departure reaches it, too."),
}
