"""The benchmarks' part `deployment`: its clients leave as they should by whatever carries them, and what it tells is what its data say."""

import socket
import ssl
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.clients.carried import MULTIPLEXED, Multiplexed, Neighbour, Secured
from benchmarks.clients.leaving import RAN_ON, WAYS, Guest, How
from benchmarks.measuring import Data, Run
from benchmarks.parts import deployment, deployment_leaving
from benchmarks.parts.deployment import ONCE, PART, PRICES, RACES
from benchmarks.parts.deployment_leaving import ALL, CARRIERS, by_carrier, everything
from benchmarks.pricing import heats
from benchmarks.running import make_certificate
from benchmarks.sampling import Sample, identifier, plain
from benchmarks.stacks import CERTIFICATE, KEY, SERVERS
from tests.benchmarks.harness import Told, listening, within
from tests.needs import demand_package, needs_program


def leave_in(guest: Guest) -> None:
    """Send all, and go."""
    while guest.push():
        pass
    guest.leave()
    assert guest.left is not None


@needs_program("openssl")
@pytest.mark.parametrize(
    ("name", "goodbye", "stays"),
    [("FIN", False, False), ("half-close", False, True), ("close_notify", True, True), ("close_notify, FIN", True, False)],
)
def test_a_goodbye_is_said_where_it_is_the_way(name: str, goodbye: bool, stays: bool, tmp_path: Path) -> None:
    """Over TLS a client that leaves by close_notify ends the session in order, and others don't; it keeps its socket if that is the way."""
    make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / CERTIFICATE, tmp_path / KEY)
    heard: list[object] = []

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as session:
            try:
                while data := session.recv(4096):
                    heard.append(data)
                heard.append("goodbye")
            except ssl.SSLEOFError:
                heard.append("nothing")

    with listening(serve) as port:
        guest = Secured.arrive(port, name, "token", 1)
        with closing(guest.sock):
            leave_in(guest)
            assert (guest.sock.fileno() >= 0) is stays
    request, ending = heard
    assert isinstance(request, bytes)
    assert request.startswith(b"GET /wait?token=token&seconds=1 HTTP/1.1\r\n")
    assert ending == ("goodbye" if goodbye else "nothing")


@pytest.mark.parametrize(("name", "frames"), [("RST_STREAM", ["RequestReceived", "StreamReset"]), ("FIN", ["RequestReceived", "end"])])
def test_a_request_of_http2_can_be_given_up(name: str, frames: list[str]) -> None:
    """Who gives up a request resets its stream and keeps the connection; else the connection is what ends."""
    demand_package("h2")
    from h2.config import H2Configuration
    from h2.connection import H2Connection

    speaker = H2Connection(H2Configuration(client_side=False))
    seen: list[str] = []

    def serve(sock: socket.socket) -> None:
        while data := sock.recv(4096):
            seen.extend(type(event).__name__ for event in speaker.receive_data(data))
        seen.append("end")

    with listening(serve) as port:
        guest = Multiplexed.arrive(port, name, "token", 1)
        with closing(guest.sock):
            leave_in(guest)
            assert (guest.sock.fileno() >= 0) is (name == "RST_STREAM")
            assert within(10, lambda: seen[-1:] == [frames[-1]])
    assert [name for name in seen if name in ("RequestReceived", "StreamReset", "end")][: len(frames)] == frames


def test_a_neighbour_comes_by_a_file(tmp_path: Path) -> None:
    """On a unix socket the request is the same, and its end is seen."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        guest = Neighbour.call(tmp_path / "socket", "stray byte", "token", 1)
        server = listener.accept()[0]
        with closing(server):
            leave_in(guest)
            received = b""
            while data := server.recv(4096):
                received += data
    assert received.startswith(b"GET /wait?token=token&seconds=1 HTTP/1.1\r\n")
    assert received.endswith(b"\r\n\r\nG")


def test_everybody_can_leave_in_the_eight_ways() -> None:
    """Each carrier has all of them but a unix socket, which knows no RST; each way has a column, and each carrier's server is known."""
    hows: set[How] = {way.how for way in WAYS.values()}
    assert hows == {"FIN", "RST", "half-close"}
    for carrier in CARRIERS:
        assert set(WAYS) - set(carrier.names) == ({"RST"} if carrier.name == "a unix socket" else set())
        assert set(carrier.names) <= set(ALL)
        assert carrier.server in SERVERS
    assert {name: sent.how for name, sent in MULTIPLEXED.items() if name in WAYS} == {name: way.how for name, way in WAYS.items()}


def row(carrier: str, loop: str, *samples: float | str) -> Data:
    return {"carrier": carrier, "loop": loop, "ways": {"FIN": list(samples)}, "lag": 0.1}


def data(*rows: Data, samples: tuple[Sample, ...] = ()) -> Data:
    return {"departures": {"clients": 2, "seconds": 3.0, "rows": list(rows)}, "samples": plain(samples)}


def test_every_client_counts() -> None:
    """A target is met if all handlers have ended in time, on all loops, and the tables show the slowest of them."""
    good = data(row("TLS", "asyncio", 0.3, 0.5), row("TLS", "trio", 0.4, 99.0))
    (target,) = PART.targets(good)
    assert (target.measured, target.met) == ("4 of 4, the last after 99 ms", True)
    assert list(by_carrier(good["departures"]).rows) == [("TLS", "0.5 (99)", *[""] * (len(ALL) - 1))]
    assert [line[:3] for line in everything(good["departures"]).rows] == [("TLS", "asyncio", "0.4 (0.5)"), ("TLS", "trio", "50 (99)")]
    assert [target.met for target in PART.targets(data(row("TLS", "asyncio", 0.3, 101.0)))] == [False]
    (missed,) = PART.targets(data(row("TLS", "asyncio", 0.3, RAN_ON)))
    assert (missed.measured, missed.met) == ("1 of 2, the last after 0.3 ms", False)


def test_prices_and_races_are_judged_by_their_medians() -> None:
    """Of a stream a megabyte counts, of two workers the requests a second; what wasn't tried isn't judged."""

    def sample(stack: str, workload: str, requests: int, cpu: float) -> Sample:
        return Sample(stack, workload, 0, requests, 1.0, requests * 1_000_000, cpu, 0.5)

    stream, race = PRICES[2], RACES[-1]
    samples = (
        sample(identifier(stream.ours), stream.workload.name, 500, 0.6),
        sample(identifier(stream.theirs), stream.workload.name, 500, 0.5),
        sample(identifier(race.ours), race.workload.name, 1200, 1.0),
        sample(identifier(race.theirs), race.workload.name, 1000, 1.0),
    )
    found = data(samples=samples)
    assert [(target.what.split(",")[0], target.measured, target.met) for target in PART.targets(found)] == [
        ("CPU time of a megabyte", "1.20 (1.20 to 1.20)", False),
        ("requests/s", "1.20 (1.20 to 1.20)", True),
    ]
    prices, races = (list(table.rows) for table in PART.tables(found)[1:3])
    assert prices[0][2:5] == ("1200.0", "1000.0", "1.20 (1.20 to 1.20)")
    assert races[0][1:5] == ("Starlette on uvicorn httptools, two workers", "1,200", "1,000", "1.20 (1.20 to 1.20)")
    assert "Targets met: 1 of 2." in deployment.page(found)


def test_who_is_compared_runs_side_by_side() -> None:
    """Every price and every race is taken in one heat, on one loop."""
    found = [({*stacks}, workload) for stacks, workload in heats(Run(Told()), [*PRICES, *RACES])]
    for pair in [*PRICES, *RACES]:
        assert pair.ours.loop == pair.theirs.loop
        assert any({pair.ours, pair.theirs} <= stacks and pair.workload == workload for stacks, workload in found)
    assert ONCE.needs_wrk


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without proxies, h2 and openssl, each carrier says what would help, and what is left can be tried."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(deployment_leaving, "path_of", lambda program: None)
    monkeypatch.setattr(deployment_leaving, "missing_packages", lambda names: [name for name in names if name == "h2"])
    told = Told()
    assert [carrier.name for carrier in deployment_leaving.present(Run(told))] == ["TCP", "a unix socket"]
    assert ("leaving by nginx, HTTP/1.1", "apt-get install nginx-light") in told.absent
    assert ("leaving by HAProxy, HTTP/2", "apt-get install haproxy") in told.absent
    assert ("leaving by TLS", "apt-get install openssl") in told.absent
