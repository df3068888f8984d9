"""What is asked of a server by requests."""

from collections.abc import Iterator

from microasgi.lint.probes.behaviours import INVALID, SOON
from microasgi.lint.probes.peer import NotOfferedError, Peer
from microasgi.lint.probes.probe import also
from microasgi.lint.rule import Level, Moment, Side, Spec, rule, shown

SCOPE = "HTTP Connection Scope"

STOPPED = "a cancellation"


@also("H-4")
def path_and_query(peer: Peer) -> Iterator[str]:
    """A path with percent-encoding in it, and a query string."""
    with peer.ask("answer", "/caf%C3%A9/a%20b%2Fc?x=%20&y=?") as asked:
        told = asked.told("request")
    for name, wanted in (("path", "/caf\xe9/a b/c"), ("raw_path", "/caf%C3%A9/a%20b%2Fc"), ("query", "x=%20&y=?")):
        if told[name] != wanted and not (name == "raw_path" and told[name] is None):
            yield f"asked for /caf%C3%A9/a%20b%2Fc?x=%20&y=?, {name} is {shown(told[name])}"


@also("H-3")
def old_version(peer: Peer) -> Iterator[str]:
    """A request of HTTP/1.0."""
    with peer.ask("answer", version="1.0") as asked:
        told = asked.told("request")
    if told["http_version"] != "1.0":
        yield f"asked with HTTP/1.0, http_version is {shown(told['http_version'])}"


@also("H-2")
def small_method(peer: Peer) -> Iterator[str]:
    """A method in small letters, which a server may refuse."""
    with peer.ask("answer", method="get") as asked:
        if asked.answer().status < 300 and (told := asked.told("request"))["method"] != "GET":
            yield f"asked with get, method is {shown(told['method'])}"


@rule("H-30", Spec.WWW, SCOPE, Level.ERROR, Side.SERVER, Moment.PROBED)
def fields_come_as_they_were_sent(peer: Peer) -> Iterator[str]:
    """Header fields come with their values, in order for each name, and as often as they were sent."""
    sent = [("X-Twice", "first"), ("Accept", "a/b"), ("X-Twice", "second"), ("X-Empty", "")]
    with peer.ask("answer", fields=sent) as asked:
        fields = [(name.lower(), value) for name, value in asked.told("request")["fields"]]
    for name in ("x-twice", "accept", "x-empty"):
        came = [value for own, value in fields if own == name]
        wanted = [value for own, value in sent if own.lower() == name]
        if came != wanted:
            yield f"{name} was sent as {shown(wanted)}, and came as {shown(came)}"


@rule("H-31", Spec.WWW, SCOPE, Level.ERROR, Side.SERVER, Moment.PROBED)
def chunks_come_as_a_body(peer: Peer) -> Iterator[str]:
    """A body in chunks comes as plain bytes."""
    body = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n"
    with peer.ask("answer", method="POST", fields=[("Transfer-Encoding", "chunked")], body=body) as asked:
        told = asked.told("request")
    if told["body"] != "hello world":
        yield f"'hello world' in chunks came as {shown(told['body'])}"


@rule("H-32", Spec.WWW, "Disconnect", Level.WARN, Side.SERVER, Moment.PROBED)
def asking_on_is_answered(peer: Peer) -> Iterator[str]:
    """Who calls `receive()` behind a response, or a disconnect, gets `http.disconnect`, each time, and isn't left waiting."""
    with peer.ask("ask_on", method="POST", fields=[("Content-Length", "2")], body=b"hi") as asked:
        asked.answer()
        told = asked.told("behind")
        if asked.has_told("early"):
            yield f"behind the whole request came {shown(asked.told('early')['got'])}"
    if told["got"] != ["http.disconnect"] * 2:
        yield f"behind the response came {' and '.join(told['got'])}, each within {SOON:g} s"


@also("H-32")
def asking_on_when_left(peer: Peer) -> Iterator[str]:
    """The same behind a disconnect."""
    with peer.ask("wait") as asked:
        asked.told("began")
    if (again := asked.told("left")["again"]) != "http.disconnect":
        yield f"behind 'http.disconnect' came {again} within {SOON:g} s"


@rule("H-33", Spec.WWW, "Disconnect", Level.ERROR, Side.SERVER, Moment.PROBED)
def leaving_is_told(peer: Peer) -> Iterator[str]:
    """An app that waits in `receive()` gets `http.disconnect` when its client closes the connection."""
    with peer.ask("wait") as asked:
        asked.told("began")
    asked.told("left")
    yield from ()


@rule("H-34", Spec.WWW, "Disconnected Client", Level.WARN, Side.SERVER, Moment.PROBED)
def sending_on_raises(peer: Peer) -> Iterator[str]:
    """From version 2.4 on, `send()` raises an OSError when the client has left; before, it may pass over what is sent."""
    with peer.ask("wait") as asked:
        asked.told("began")
    told = asked.told("sent")
    if _raises(told["version"]) and not {"OSError", STOPPED} & {*told["came"]}:
        yield f"a start and a body, sent to nobody, raised {' and '.join(told['came'])}, and spec_version is {told['version']}"


@rule("H-39", Spec.WWW, "Disconnected Client", Level.NOTE, Side.SERVER, Moment.PROBED)
def an_error_is_raised_and_nobody_cancelled(peer: Peer) -> Iterator[str]:
    """From version 2.4 on, an app that sends to nobody gets an OSError, and isn't cancelled instead."""
    with peer.ask("wait") as asked:
        asked.told("began")
    told = asked.told("sent")
    if _raises(told["version"]) and STOPPED in told["came"]:
        yield f"a start and a body, sent to nobody, were answered with {' and '.join(told['came'])}"


def _raises(version: str) -> bool:
    return tuple(map(int, version.split("."))) >= (2, 4)


@rule("H-35", Spec.WWW, "Disconnected Client", Level.WARN, Side.SERVER, Moment.PROBED)
def its_own_error_is_no_error(peer: Peer) -> Iterator[str]:
    """What `send()` has raised because the client left, and the app has let out, is not logged as an error."""
    with peer.ask("let_it_out") as asked:
        asked.told("began")
    asked.told("left")
    with peer.ask("answer") as next_one:  # behind which the server has seen the end of the other one
        next_one.answer()
    if not asked.has_told("silent") and "in let_it_out" in peer.server.said():
        yield "a traceback in the log"


@rule("H-36", Spec.WWW, "Response Start", Level.ERROR, Side.SERVER, Moment.PROBED)
def framing_is_its_own(peer: Peer) -> Iterator[str]:
    """A `Transfer-Encoding` of the app's is passed over: the response is framed once, as the server does it."""
    with peer.ask("frame") as asked:
        answer = asked.answer()
    codings = [*answer.all("transfer-encoding"), *answer.all("content-length")]
    if len(codings) > 1 or answer.body != b"well":
        yield f"the response came with {shown(codings)} and the body {shown(answer.body)}"


@rule("H-37", Spec.WWW, "Response Start", Level.ERROR, Side.SERVER, Moment.PROBED)
def fields_go_as_they_were_given(peer: Peer) -> Iterator[str]:
    """The header fields of a response keep their order, and their number."""
    with peer.ask("keep_order") as asked:
        answer = asked.answer()
    ours = [(name.lower(), value) for name, value in answer.fields if name.lower() in ("set-cookie", "x-one")]
    wanted = [("set-cookie", "a=1"), ("x-one", "1"), ("set-cookie", "b=2"), ("x-one", "2")]
    if ours != wanted:
        yield f"{shown(wanted)} came as {shown(ours)}"


@rule("H-38", Spec.WWW, "Response Body", Level.ERROR, Side.SERVER, Moment.PROBED)
def a_piece_goes_at_once(peer: Peer) -> Iterator[str]:
    """What the app has sent of a body is on its way before the app sends more."""
    with peer.ask("stream") as asked:
        if b"piece" not in asked.bytes_until(b"piece", SOON):
            yield f"a piece of the body wasn't there after {SOON:g} s"


@rule("H-40", Spec.WWW, "Response Body", Level.NOTE, Side.SERVER, Moment.PROBED)
def what_is_behind_the_end_is_passed_over(peer: Peer) -> Iterator[str]:
    """A message behind the end of a response is passed over: `send()` doesn't raise, and nothing of it goes out."""
    with peer.ask("send_behind") as asked:
        answer, told = asked.answer(), asked.told("came")
    if told["of"] != "nothing":
        yield f"a body behind the end was answered with {told['of']}"
    if answer.body != b"well":
        yield f"a body behind the end came out: {shown(answer.body)}"


@rule("E-12", Spec.EXTENSIONS, "HTTP Trailers", Level.ERROR, Side.SERVER, Moment.PROBED)
def trailers_arrive(peer: Peer) -> Iterator[str]:
    """A server that offers trailers sends them to a client that has asked for them with `TE: trailers`."""
    with peer.ask("trail", fields=[("TE", "trailers")]) as asked:
        if not asked.told("offered")["is_so"]:
            raise NotOfferedError("http.response.trailers")
        if b"x-end: here" not in asked.bytes_until(b"0\r\nx-end: here\r\n", SOON).lower():
            yield "the trailers didn't come"


@rule("A-10", Spec.MAIN, "Error Handling", Level.ERROR, Side.SERVER, Moment.PROBED)
def a_failure_ends_the_response(peer: Peer) -> Iterator[str]:
    """When an app raises, the server ends its connection; a response that has begun doesn't look complete."""
    with peer.ask("fail_first") as asked:
        if (answer := asked.answer()).status not in (0, 500):
            yield f"an app that raised at once was answered for with {answer.status}"
    with peer.ask("fail_between") as asked:
        answer = asked.answer()
    if answer.complete:
        yield f"a response whose app raised in the middle of it looks complete: {shown(answer.body)}"


@rule("A-11", Spec.MAIN, "Error Handling", Level.WARN, Side.SERVER, Moment.PROBED)
def what_is_invalid_is_refused(peer: Peer) -> Iterator[str]:
    """`send()` raises when it is given what is no message: of an unknown type, without what it needs, or with wrong types."""
    for what in INVALID:
        with peer.ask("send_invalid", argument=what) as asked:
            if asked.told("came")["of"] == "nothing":
                yield f"it takes {what}"


@rule("A-12", Spec.MAIN, "Error Handling", Level.WARN, Side.SERVER, Moment.PROBED)
def what_is_new_is_taken(peer: Peer) -> Iterator[str]:
    """A message may have more in it than the server knows: `send()` doesn't raise for that."""
    with peer.ask("send_extra") as asked:
        told = asked.told("came")["of"]
    if told != ["nothing"] * 2:
        yield f"messages with another entry raised {' and '.join(told)}"
