"""A listening socket closes, and nobody who was connected by then is lost."""

import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from microasgi_server import Config, sealing, serve
from microasgi_server.listening import bound_sockets
from microasgi_server.sealing import Bound, seal

from tests.harness import GET, Served

linux = pytest.mark.skipif(sys.platform != "linux", reason="no other system drops what would begin a connection")


async def no_content(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def connects(address: Any, family: int) -> bool:
    with socket.socket(family) as sock:
        sock.settimeout(0.1)
        try:
            sock.connect(address)
        except OSError:
            return False
        return True


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_behind_a_sealed_door_are_those_who_came_before(host: str) -> None:
    """A sealed socket makes no more connections, and those that it has made are whole."""
    with bound_sockets(Config(host=host, port=0)) as (listener,), socket.socket(listener.family) as early:
        listener.listen()
        early.connect(listener.getsockname())
        seal([listener])
        assert not connects(listener.getsockname(), listener.family)
        accepted, _ = listener.accept()
        with accepted:
            early.sendall(GET)
            assert accepted.recv(100) == GET
            accepted.sendall(b"hello")
            accepted.close()
            assert early.recv(100) == b"hello"
            assert early.recv(100) == b""


def test_a_sealed_unix_socket_has_no_file(tmp_path: Path) -> None:
    """Its file goes, unless it is another's by now, and who has connected is there."""
    path = tmp_path / "app.sock"
    with bound_sockets(Config(uds=str(path))) as (listener,), socket.socket(socket.AF_UNIX) as early:
        listener.listen()
        early.connect(str(path))
        seal([listener])
        assert not path.exists()
        path.touch()  # a successor has the path
        seal([listener])
        listener.accept()[0].close()
        assert early.recv(1) == b""
    assert path.exists()


def test_what_was_handed_over_is_not_sealed(tmp_path: Path) -> None:
    """A socket of systemd's waits for the next server: whoever comes between the two is let in."""
    with socket.create_server(("127.0.0.1", 0)) as kept:
        with bound_sockets(Config(fd=[kept.fileno()])) as (listener,):
            assert not isinstance(listener, Bound)
            seal([listener])
        assert connects(kept.getsockname(), socket.AF_INET)


@linux
@pytest.mark.anyio
async def test_a_server_that_stops_lets_nobody_else_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it accepts who is connected, nobody gets a connection that nobody would accept."""
    monkeypatch.setattr(sealing, "SETTLING", 0.5)
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        config = Config(port=0, lifespan="off")
        (address,) = await tasks.start(lambda *, task_status: serve(no_content, config, stop=stop, task_status=task_status))
        served = Served(address, stop, stop)
        async with await served.connect() as early:
            stop.set()
            await anyio.wait_all_tasks_blocked()
            with socket.socket() as late:
                late.setblocking(False)
                with pytest.raises(BlockingIOError):
                    late.connect(("127.0.0.1", served.port))
                with anyio.move_on_after(0.1) as waiting:
                    await anyio.wait_writable(late)
            await early.send(GET)
            assert (await early.response()).status == 204
    assert waiting.cancelled_caught
