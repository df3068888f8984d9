"""Where it listens: several addresses, other people's sockets, systemd's; and who learns that it does."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from microasgi_server import Config, StartupError, notify, serve
from microasgi_server.inherited import handed_over
from microasgi_server.listening import bound_sockets, client_of
from microasgi_server.places import Place, is_permissions, is_place, place

from tests.harness import GET, Client, Served, serving

pytestmark = pytest.mark.anyio


async def who(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the scope's two addresses."""
    body = f"{scope['client']} {scope['server']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def listening(**options: Any) -> AsyncIterator[list[str]]:
    """The addresses at which an app is served, as long as the block lasts."""
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(serve, who, Config(lifespan="off", **options))
        tasks.cancel_scope.cancel()


async def answer(client: Client) -> str:
    async with client:
        await client.send(GET)
        return (await client.response()).body.decode()


async def connect(address: str) -> Client:
    return await Served(address, anyio.Event(), anyio.Event()).connect()


# Addresses.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:80", Place("127.0.0.1", 80)),
        (":0", Place("", 0)),
        ("localhost:65535", Place("localhost", 65535)),
        ("[::1]:8000", Place("::1", 8000)),
        ("unix:a b.sock", Place(path="a b.sock")),
    ],
)
def test_a_place_is_read(text: str, expected: Place) -> None:
    """An address of each kind stands for what is bound."""
    assert place(text) == expected


@pytest.mark.parametrize("text", ["", "8000", "::1:8000", "[::1]", "a:65536", "a:-1", "a:\u0661", "unix:", "[]:1", 8000])
def test_what_is_no_place_is_refused(text: Any) -> None:
    """Anything else is no address to listen on."""
    assert not is_place(text)


def test_permissions() -> None:
    """A file's permissions are three octal digits in a text: a number of code's would be read as decimal by whoever looks at it."""
    assert [is_permissions(value) for value in ("666", "600", "0666", "698", 0o666, "")] == [True, True, False, False, False, False]


async def test_a_host_may_be_in_brackets() -> None:
    """An IPv6 address as host is taken as in a URL, too."""
    async with listening(host="[::1]", port=0) as (address,):
        assert address.startswith("http://[::1]:")


async def test_it_listens_on_several_addresses(tmp_path: Path) -> None:
    """Every `bind` is served, a unix socket and IPv6 among them, and host and port aren't."""
    path = tmp_path / "app.sock"
    async with listening(bind=["127.0.0.1:0", "[::1]:0", f"unix:{path}"], host="nowhere.invalid") as addresses:
        assert [address.rpartition(":")[0] for address in addresses] == ["http://127.0.0.1", "http://[::1]", "unix"]
        assert (await answer(await connect(addresses[0]))).startswith("('127.0.0.1', ")
        with socket.socket(socket.AF_INET6) as sock:
            sock.connect(("::1", int(addresses[1].rpartition(":")[2])))
            sock.setblocking(False)
            assert (await answer(Client(sock))).startswith("('::1', ")
        assert await answer(await connect(addresses[2])) == f"None ('{path}', None)"
    assert not path.exists()


@pytest.mark.parametrize("mode", ["600", "666"])
async def test_a_unix_socket_has_its_permissions(mode: str, tmp_path: Path) -> None:
    """Who may connect to a unix socket is said by `uds_permissions`, whatever the umask."""
    path = tmp_path / "app.sock"
    before = os.umask(0o027)
    try:
        async with serving(who, uds=str(path), uds_permissions=mode):
            assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
    finally:
        os.umask(before)


@pytest.mark.parametrize("shared", [True, False])
def test_a_port_is_shared_if_that_is_wanted(shared: bool) -> None:
    """With `reuse_port` two servers listen on the same port; without it the second is told so in a line."""
    with bound_sockets(Config(port=0, reuse_port=shared)) as (first,):
        first.listen()
        second = bound_sockets(Config(port=first.getsockname()[1], reuse_port=shared))
        if shared:
            with second as (sock,):
                assert sock.getsockname() == first.getsockname()
        else:
            with pytest.raises(StartupError, match="the port is in use"), second:
                pass


def test_an_ipv4_client_of_a_socket_for_both_kinds_is_shown_as_such() -> None:
    """systemd binds one socket for both kinds of addresses, and logs and rules are about 10.0.0.7, not ::ffff:10.0.0.7."""
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener,
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])),
        listener.accept()[0] as accepted,
    ):
        client = client_of(accepted.getpeername())
    assert client is not None
    assert client[0] == "127.0.0.1"
    assert client_of(("fe80::1%eth0", 1, 0, 2)) == ("fe80::1%eth0", 1)


# Other people's sockets.


async def test_a_socket_is_inherited_by_its_number() -> None:
    """A socket with a number is served, and stays open for whoever has bound it."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        for _ in range(2):
            async with listening(fd=[sock.fileno()]) as (address,):
                assert address == f"http://127.0.0.1:{sock.getsockname()[1]}"
                assert (await answer(await connect(address))).startswith("('127.0.0.1', ")
        assert not os.get_inheritable(sock.fileno())


async def test_an_abstract_unix_socket_is_inherited() -> None:
    """A unix socket that has no file is one, too, and shown as systemd writes it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0microasgi-test-{os.getpid()}")
        async with listening(fd=[sock.fileno()]) as addresses:
            assert addresses == [f"unix:@microasgi-test-{os.getpid()}"]
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(sock.getsockname())
                client.setblocking(False)
                assert await answer(Client(client)) == "None None"


def test_what_cant_be_inherited_is_a_line(tmp_path: Path) -> None:
    """A number of nothing, of a file, of a datagram socket, of a connection or of no network's socket is said to be that."""
    one, other = socket.socketpair()
    with (
        one,
        other,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as kernel,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        open(tmp_path / "file", "w") as file,
    ):
        for number, words in [
            (987654, "nothing is open there"),
            (file.fileno(), "it is open, but no socket"),
            (datagrams.fileno(), "ListenStream="),
            (one.fileno(), "Accept=no"),
            (kernel.fileno(), "neither for TCP nor a unix socket"),
        ]:
            with pytest.raises(StartupError, match=f"can't listen on fd {number}: .*{words}"), bound_sockets(Config(fd=[number])):
                pass
            if number < 987654:
                os.fstat(number)  # it is still open


@pytest.mark.parametrize(
    ("environment", "numbers"),
    [
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, [3, 4]),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, []),
        ({"LISTEN_FDS": "2"}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, []),
        ({"LISTEN_PID": "7"}, []),
        ({}, []),
    ],
)
def test_systemds_sockets_are_those_for_this_process(environment: dict[str, str], numbers: list[int]) -> None:
    """What systemd hands over counts from 3 on, and belongs to one process."""
    assert [*handed_over(environment, 7)] == numbers


ACTIVATED = """
import os, socket, sys
from microasgi_server.command.main import main
for number, own in enumerate([int(text) for text in sys.argv[1].split(",")], 3):
    os.dup2(own, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(number - 2), "LISTEN_FDNAMES": "web:local"}
main(["tests.server.test_sockets:who", "--lifespan", "off", *sys.argv[2:]])
"""


@contextmanager
def activated(tmp_path: Path, listeners: Sequence[socket.socket], *options: str) -> Iterator[tuple[Any, Callable[[], list[str]]]]:
    """A service with these sockets of systemd's: its process, and what gives the next that it tells the service manager."""
    path = tmp_path / f"notify-{uuid4().hex[:6]}"  # 108 bytes are the most, and a worker has a folder of its own above this one
    numbers = [listener.fileno() for listener in listeners]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NOTIFY_SOCKET": str(path)}
    command = [sys.executable, "-c", ACTIVATED, ",".join(map(str, numbers)), *options]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        with subprocess.Popen(command, env=environment, pass_fds=numbers, stderr=subprocess.DEVNULL) as server:
            try:
                yield server, lambda: manager.recv(1000).decode().splitlines()
            finally:
                server.kill()


def ask(sock: socket.socket) -> str:
    """One request on a connection of its own, and its answer's body."""
    with sock:
        sock.settimeout(20)
        sock.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return sock.makefile("rb").read().decode().partition("\r\n\r\n")[2]


def test_workers_share_systemds_sockets_and_a_restart_refuses_nobody(tmp_path: Path) -> None:
    """All sockets are served; a roll and a stop are told; who comes between two services waits for the second."""
    path = str(tmp_path / "app.sock")
    with socket.create_server(("127.0.0.1", 0)) as web, socket.socket(socket.AF_UNIX) as local:
        local.bind(path)
        local.listen()
        ready = ["READY=1", f"STATUS=Serving on http://127.0.0.1:{web.getsockname()[1]}, unix:{path}"]
        with activated(tmp_path, [web, local], "--workers", "1") as (server, told):
            assert told() == ready
            assert ask(socket.create_connection(web.getsockname())).startswith("('127.0.0.1', ")
            server.send_signal(signal.SIGHUP)
            assert [line.partition("=")[0] for line in told()] == ["RELOADING", "MONOTONIC_USEC"]
            assert told() == ready
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                assert ask(client) == f"None ('{path}', None)"
            server.terminate()
            assert told()[0] == "STOPPING=1"
            assert server.wait(20) == 0
        between = socket.create_connection(web.getsockname())
        with activated(tmp_path, [web, local], "--workers", "1") as (server, told):
            assert ask(between).startswith("('127.0.0.1', ")


def test_a_service_is_activated_and_says_when_it_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    """A socket of systemd's is served without an option; the service manager hears that it is ready, and that it stops."""
    with socket.create_server(("127.0.0.1", 0)) as listener, activated(tmp_path, [listener]) as (server, told):
        port = listener.getsockname()[1]
        assert told() == ["READY=1", f"STATUS=Serving on http://127.0.0.1:{port}"]
        assert ask(socket.create_connection(("127.0.0.1", port))).startswith("('127.0.0.1', ")
        server.terminate()
        assert told()[0] == "STOPPING=1"
        assert server.wait(20) == 0


def test_nobody_is_told_where_nobody_listens(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without NOTIFY_SOCKET nothing is sent; an abstract one is found; one that is gone is a line in the log, and no more."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.tell("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"\0microasgi-{os.getpid()}"
        manager.bind(name)
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name[1:])
        notify.ready(["http://a", "unix:b"])
        assert manager.recv(1000) == b"READY=1\nSTATUS=Serving on http://a, unix:b"
    assert caplog.records == []
    notify.stopping()
    assert [record.getMessage() for record in caplog.records] == [
        "The socket in NOTIFY_SOCKET can't be told STOPPING=1: Connection refused"
    ]
