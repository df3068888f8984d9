"""What is asked of a server by its app's lifespan: each probe has a server of its own, and sees it come and go."""

from collections.abc import Iterator

from microasgi.lint.probes.behaviours import SOON
from microasgi.lint.probes.notes import PATIENCE
from microasgi.lint.probes.peer import NotOfferedError, Peer
from microasgi.lint.probes.server import STOPPING, started
from microasgi.lint.rule import Level, Moment, Side, Spec, rule

NONE = "no lifespan"


@rule("L-13", Spec.LIFESPAN, "Scope", Level.ERROR, Side.SERVER, Moment.PROBED)
def an_app_without_is_served(peer: Peer) -> Iterator[str]:
    """An app that raises when it is called with a lifespan is served without one."""
    with started(peer.command, "raises") as server:
        if not server.wait_until_it_accepts():
            yield f"it doesn't serve: {_last_line(server.said())}"
            return
        with Peer(server, peer.command).ask("answer") as asked:
            if (answer := asked.answer()).body != b"well":
                yield f"it answers with {answer.status}"


@rule("L-14", Spec.LIFESPAN, "Startup Failed", Level.WARN, Side.SERVER, Moment.PROBED)
def a_failed_startup_is_the_end(peer: Peer) -> Iterator[str]:
    """A server whose app's startup has failed says why, and exits."""
    with started(peer.command, "fails") as server:
        server.wait_until_it_accepts()  # which it should not
        if server.notes.wait("", "startup", SOON) is None:
            raise NotOfferedError(NONE)
        if not server.has_ended(PATIENCE):
            yield f"it runs {PATIENCE:g} s later, and {'accepts' if server.accepts() else 'accepts nothing'}"
        if "the probe says no" not in server.said():
            yield "it doesn't say what the app has said"


@rule("L-15", Spec.LIFESPAN, "Shutdown Complete", Level.ERROR, Side.SERVER, Moment.PROBED)
def a_shutdown_is_told_and_awaited(peer: Peer) -> Iterator[str]:
    """A server that is asked to end (SIGTERM) tells the app, and waits for its answer."""
    with started(peer.command, "lives") as server:
        if not server.wait_until_it_accepts():
            raise AssertionError(f"it doesn't serve: {_last_line(server.said())}")
        if server.notes.wait("", "startup", SOON) is None:
            raise NotOfferedError(NONE)
        with Peer(server, peer.command).ask("answer") as asked:
            asked.answer()
        if not server.stop():
            yield f"it runs {STOPPING:g} s after SIGTERM"
        if server.notes.find("", "shutdown") is None:
            yield "there was no 'lifespan.shutdown'"
        elif server.notes.find("", "stopped") is None:
            yield "it has ended before the app had answered the shutdown"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
