"""A worker's process before it has its job: one that waits for it, and what meets one that isn't that far yet."""

import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from microasgi_server import Config
from microasgi_server.workers.channel import Surroundings, be_told, tell
from microasgi_server.workers.child import Child
from microasgi_server.workers.job import Job
from microasgi_server.workers.spare import Spare
from microasgi_server.workers.wakeups import waking

from tests.deployment.faults import children
from tests.framework.test_cli import PATIENCE, Running, check_refusal, environment, run, say, serving
from tests.server.test_workers import APP, alive, lives, settled, started, until


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def job() -> Job:
    """One that nobody gets to do here."""
    return Job(set_up=lambda config: config, load=lambda: None, config=Config())  # type: ignore[arg-type, return-value]


def spare(server: Running) -> int:
    """The process that waits, once there is one."""

    def waiting() -> set[int]:
        return {*children(server.process.pid)} - {*started(server.stderr)}

    until(lambda: len(waiting()) == 1, "one waits")
    return waiting().pop()


def test_a_spare_takes_the_place_of_who_dies(app_dir: Path) -> None:
    """The next one waits after that; if it is killed, too, another does."""
    with serving(app_dir, "main:routes", "--workers", "1", "--spare-worker") as server:
        for _ in range(2):
            (worker,) = settled(server, 1)
            broken = spare(server)
            os.kill(broken, signal.SIGKILL)  # it isn't given a job
            until(lambda: not lives(broken), "it is gone")  # noqa: B023
            ready = spare(server)
            os.kill(worker, signal.SIGKILL)
            until(lambda: ready in alive(server), "it has the place")  # noqa: B023
            assert server.get("/pid")[0] == 200
        assert server.stop(signal.SIGTERM) == 0
        assert not lives(ready)
    assert len(re.findall("^ERROR", server.stderr, re.MULTILINE)) == 2


def test_a_rolling_restart_uses_no_spare(app_dir: Path) -> None:
    """What that has imported may be older than what is on the disk by now."""
    with serving(app_dir, "main:routes", "--workers", "1", "--spare-worker") as server:
        settled(server, 1)
        old = spare(server)
        server.process.send_signal(signal.SIGHUP)
        assert settled(server, 1, since=1) != [old]
        assert not lives(old)


def test_without_being_asked_for_none_waits(app_dir: Path) -> None:
    """It takes memory; and without workers it would wait for nothing."""
    with serving(app_dir, "main:routes", "--workers", "1") as server:
        settled(server, 1)
        server.process.send_signal(signal.SIGTTOU)
        server.wait_for(r"^INFO: SIGTTOU: 1 worker\(s\)$")  # it has looked what there is to do meanwhile
        assert children(server.process.pid) == alive(server)
    check_refusal(say(app_dir, "serve", "main:routes", "--spare-worker"), 1, "--spare-worker needs workers")


def test_a_spare_is_taken_once() -> None:
    """Whoever comes next has a new one, and one that is dismissed ends."""
    spare = Spare(job())
    spare.prepare()
    first = spare.take()
    spare.prepare()
    second = spare.take()
    assert first.process.pid != second.process.pid
    for child in (first, second):
        child.kill()
        assert child.ended
    spare.prepare()
    spare.dismiss()
    spare.dismiss()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["SIGINT", "SIGHUP"])
def test_a_terminal_signal_is_nothing_to_who_is_just_being_born(number: signal.Signals) -> None:
    """Its interpreter hasn't begun when the signal comes: it goes on to where it would be given its job, and says nothing."""
    child = Child(job())
    child.process.send_signal(number)
    child.close()
    assert child.process.wait(PATIENCE) == 0


def test_what_is_held_back_for_a_child_is_not_lost() -> None:
    """Who starts one hears all signals afterwards."""
    child = Child(job())
    child.kill()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []).isdisjoint({signal.SIGINT, signal.SIGHUP})


PARENT = """
import time
from microasgi_server import Config
from microasgi_server.workers.channel import Surroundings, be_told, tell
from microasgi_server.workers.child import Child
from microasgi_server.workers.job import Job

def load(): ...
load.__module__ = "endless"
print(Child(Job(load, load, Config())).process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends once it has imported all that it waits for")
def test_whoever_still_imports_ends_with_its_supervisor(tmp_path: Path) -> None:
    """A worker that isn't there yet doesn't outlive it either: it might hold the port, which was handed to it."""
    (tmp_path / "endless.py").write_text("import time\nprint('imported', flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "imported\n"
        parent.kill()
        until(lambda: not lives(pid), "it has ended")


def test_a_signal_wakes_from_the_first_moment_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes as soon as its handler is there, before the next signal has one, is found by who waits for the socket."""
    real = signal.signal

    def hasty(number: int, handler: Any) -> Any:
        before = real(number, handler)
        if handler not in (signal.SIG_DFL, before):
            signal.raise_signal(number)
        return before

    monkeypatch.setattr(signal, "signal", hasty)
    with waking([signal.SIGUSR1]) as wakeups:
        assert select.select([wakeups.sock], [], [], 0)[0] == [wakeups.sock]
        assert list(wakeups.take()) == [signal.SIGUSR1]


STOPPED_AT_ONCE = "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"


def test_an_app_that_ends_itself_is_no_loop(app_dir: Path) -> None:
    """A worker that is ended by SIGTERM while it starts is replaced, and the second one ends all."""
    (app_dir / "ends.py").write_text(STOPPED_AT_ONCE)
    done = run(app_dir, "serve", "ends:routes", "--workers", "1", "--port", "0")
    assert re.search(r"^ERROR: Worker 1 \(process \d+\) was ended by SIGTERM; another starts$", done.stderr, re.MULTILINE)
    assert re.search(r"^error: Worker 1 \(process \d+\) was ended by SIGTERM before it could serve$", done.stderr, re.MULTILINE)
    assert done.returncode == 1


def test_sockets_that_find_no_room_are_not_overlooked() -> None:
    """A worker that may have no more descriptors hears so, rather than to serve on none of the sockets that it was to have."""
    ours, theirs = socket.socketpair()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ours, theirs, socket.socket() as sock:
        tell(ours, Surroundings(os.getpid(), [], [], []), [sock])
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                be_told(theirs)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


SHORT = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
async def app(scope, receive, send): ...
"""


def test_what_the_system_has_no_room_for_is_one_line(app_dir: Path) -> None:
    """A worker that can't begin its loop says why, without a traceback."""
    (app_dir / "short.py").write_text(SHORT)
    done = run(app_dir, "serve", "short:app", "--workers", "1", "--loop", "asyncio", "--port", "0", "--log-level", "warning")
    check_refusal(done, 1, "the system has no room for it: Too many open files")
