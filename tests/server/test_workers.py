"""Several processes that serve one app, as whoever starts them and whoever asks them sees it: real processes, signals and sockets."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from microasgi_server import Config, TargetError
from microasgi_server.workers.wear import Wear, memory_used

import microasgi
from tests.certificates import Files
from tests.framework.test_cli import PATIENCE, Running, check_refusal, environment, run, say, script, serving
from tests.harness import refuses_connections, unsuspicious
from tests.needs import needs_package, path_of

APP = """
import os, sys, time, anyio
from contextlib import asynccontextmanager
from microasgi import Request, Router

@asynccontextmanager
async def lifespan(app):
    yield
    if os.environ.get("BREAKS_AT_THE_END"):
        raise LookupError("no more")

routes = Router(lifespan=lifespan)
VERSION = "old"

@routes.get("/pid")
async def pid(request: Request) -> str:
    return f"{os.getpid()} {VERSION}"

@routes.get("/slow")
async def slow(request: Request) -> str:
    sys.stdout.write(f"slow in {os.getpid()}\\n")  # in one piece: other workers write there, too
    await anyio.sleep(float(request.query_params.get("seconds", "0.3")))
    return str(os.getpid())

@routes.get("/block")
async def block(request: Request) -> None:
    time.sleep(60)  # here
"""

BROKEN = {
    "syntax": ("def (:\n", "importing 'broken' failed: SyntaxError: "),
    "crashes": (
        "import os\nos.kill(os.getpid(), 11)\n",
        r"Worker \d \(process \d+\) was ended by SIGSEGV \(.*/broken\.py, line 2 in <module>\S*.*\) before it could serve",
    ),
}


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two workers, for tests that leave as many behind, with the code as it was."""
    directory = tmp_path_factory.mktemp("workers")
    (directory / "main.py").write_text(APP)
    with serving(directory, "main:routes", "--workers", "2") as running:
        yield running


@pytest.fixture
def code(server: Running) -> Iterator[Path]:
    """The file that these workers import. It is put back, for those that come later."""
    file = server.directory / "main.py"
    yield file
    file.write_text(APP)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"after {PATIENCE} s it still isn't so: {what}"
        time.sleep(0.01)


def started(said: str) -> list[int]:
    """Every worker that was ever started, in the log's order."""
    return [int(pid) for pid in re.findall(r"^INFO: Worker \d+ is process (\d+)$", said, re.MULTILINE)]


def settled(server: Running, count: int, since: int = 0) -> list[int]:
    """Those that serve, once there are so many and no other, of whom the first so many that were ever started are none."""

    def now() -> bool:
        said = server.stderr
        came = said.count("]: Serving on ") + said.count("was to replace another, but has failed")
        old, new = started(said)[:since], started(said)[since:]
        return sum(map(lives, new)) == count and not any(map(lives, old)) and came >= len(old) + len(new)

    until(now, f"{count} serve, and they are new")
    return alive(server)


def alive(server: Running) -> list[int]:
    return [pid for pid in started(server.stderr) if lives(pid)]


def lives(pid: int) -> bool:
    """Whether this process runs. One that its new parent has yet to notice doesn't."""
    try:
        os.kill(pid, 0)
        return not Path("/proc/self/stat").exists() or Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@contextmanager
def asking(server: Running, path: str) -> Iterator[list[bytes]]:
    """Ask over and over, on a connection that is kept as long as the server keeps it. Gives the answers."""
    answers: list[bytes] = []
    done = threading.Event()
    port = urlsplit(server.address).port
    failures: list[BaseException] = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            while not done.is_set():
                connection.request("GET", path)
                answers.append(connection.getresponse().read())
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_rolling_restart_brings_new_code_and_loses_no_request(server: Running, code: Path) -> None:
    """SIGHUP replaces every worker by one that has imported the app again; whoever asks meanwhile is answered, also who has begun."""
    settled(server, 2)
    before = len(started(server.stderr))
    code.write_text(APP.replace('"old"', '"newer"'))
    with asking(server, "/pid") as answers, asking(server, "/slow") as slow:
        until(lambda: answers and slow, "requests are answered")
        server.process.send_signal(signal.SIGHUP)
        new = settled(server, 2, since=before)
        so_far = len(answers)
        until(lambda: len(answers) > so_far + 10, "the new ones answer")
    assert {*answers[-4:]} <= {f"{pid} newer".encode() for pid in new}
    assert {line.split()[1] for line in answers} == {b"old", b"newer"}
    assert "ERROR" not in server.stderr
    assert "Traceback" not in server.stderr


def test_where_the_new_code_fails_the_old_workers_serve_on(server: Running, code: Path) -> None:
    """A rolling restart with code that can't be imported is given up, with a line that says why."""
    before = settled(server, 2)
    code.write_text("def (:\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(r"^ERROR: Worker 1 \(process \d+\) was to replace another, but has failed: importing 'main' failed: SyntaxError.*")
    assert int(server.get("/pid")[1].split()[0]) in before
    assert alive(server) == before


def test_there_can_be_more_and_fewer(server: Running) -> None:
    """SIGTTIN adds a worker, SIGTTOU ends the one that came last."""
    before = settled(server, 2)
    server.process.send_signal(signal.SIGTTIN)
    assert settled(server, 3)[:2] == before
    server.process.send_signal(signal.SIGTTOU)
    assert settled(server, 2) == before


def test_a_worker_that_is_killed_takes_only_its_own_requests_with_it(server: Running) -> None:
    """What another worker does goes on, and there are as many as before."""
    both = settled(server, 2)
    with server.connect() as sock:
        said = len(re.findall(r"^slow in \d+\n", server.stdout, re.MULTILINE))
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        until(lambda: len(re.findall(r"^slow in \d+\n", server.stdout, re.MULTILINE)) > said, "it has begun")
        (victim,) = {*both} - {int(server.stdout.split()[-1])}
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"^ERROR: Worker \d \(process {victim}\) was ended by SIGKILL; another starts$")
        assert b" 200 " in sock.makefile("rb").read()
    assert victim not in settled(server, 2)
    assert re.search(r'^INFO \[worker [12]\]: \S+ - "GET /slow HTTP/1\.1" 200 ', server.stderr, re.MULTILINE)


def test_a_handler_in_a_worker_stops_when_its_client_leaves(server: Running) -> None:
    """The promise is each worker's own."""
    settled(server, 2)
    server.leave("/slow?leaving", after=r"^slow in \d+$")
    server.wait_for(r'^INFO \[worker [12]\]: \S+ - "GET /slow\?leaving HTTP/1\.1" 499 .* cancelled: the client closed its side \(FIN\)$')


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it takes a thread's turn, which nobody has promised a time for")
def test_a_killed_supervisor_leaves_nothing_behind(server: Running) -> None:
    """Without a supervisor no worker lives for long, and the port is free. (The last test with these workers.)"""
    everyone = settled(server, 2)
    server.process.kill()
    until(lambda: not any(map(lives, everyone)), "all are gone")
    with socket.create_server(("127.0.0.1", urlsplit(server.address).port or 0)):
        pass


def test_killed_behind_a_unix_socket_with_tls(app_dir: Path, certificates: Files) -> None:
    """A worker is killed, and its successor is there; the supervisor is killed, nothing lives on, and the next server has the same path."""
    files = ("--ssl-certfile", certificates.certificate, "--ssl-keyfile", certificates.key)
    options = ("main:routes", "--workers", "2", "--uds", "app.sock", *files)
    with serving(app_dir, *options, port=False) as server:
        victim, other = settled(server, 2)
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"^ERROR: Worker \d \(process {victim}\) was ended by SIGKILL; another starts$")
        everyone = settled(server, 2)
        assert other in everyone
        server.process.kill()
        until(lambda: not any(map(lives, everyone)), "all are gone")
    assert (app_dir / "app.sock").exists()
    with serving(app_dir, *options, port=False) as server:
        settled(server, 2)
        with unsuspicious().wrap_socket(server.connect(), server_hostname="localhost") as sock:
            sock.sendall(b"GET /pid HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            assert b" 200 " in sock.makefile("rb").read()
        assert server.stop() == 0
    assert not (app_dir / "app.sock").exists()


@pytest.mark.parametrize(("number", "loop"), [(signal.SIGINT, "trio"), (signal.SIGTERM, "asyncio")])
def test_a_signal_to_all_processes_ends_them_gracefully(app_dir: Path, number: signal.Signals, loop: str) -> None:
    """Ctrl+C reaches the whole terminal and systemd's SIGTERM the whole service: workers that hear it twice still finish their requests."""
    with serving(app_dir, "main:routes", "--workers", "1", "--loop", loop, "--uds", "app.sock", port=False) as server:
        settled(server, 1)
        with server.connect() as sock:
            sock.sendall(b"GET /slow?seconds=1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            server.wait_for(r"^slow in \d+$")
            for pid in started(server.stderr):
                os.kill(pid, number)
            if number == signal.SIGTERM:  # the worker knows it by now, and hears it once more
                server.wait_for(r"^INFO \[worker 1\]: Waiting up to 10 s for 1 running request")
            server.process.send_signal(number)
            assert b" 200 " in sock.makefile("rb").read()
        assert server.process.wait(PATIENCE) == 0
    assert not (app_dir / "app.sock").exists()


def test_a_second_signal_cancels_requests_and_the_lifespan_still_has_its_say(app_dir: Path) -> None:
    """As with one process: whoever waits gets a 503, and an app whose lifespan fails makes the exit code 1, with a line for why."""
    with serving(app_dir, "main:routes", "--workers", "1", BREAKS_AT_THE_END="1") as server:
        settled(server, 1)
        with server.connect() as sock:
            sock.sendall(b"GET /slow?seconds=9 HTTP/1.1\r\nHost: test\r\n\r\n")
            server.wait_for(r"^slow in \d+$")
            server.process.send_signal(signal.SIGINT)
            server.wait_for("SIGINT: stopping; once more stops at once")
            port = urlsplit(server.address).port or 0
            until(lambda: refuses_connections(port), "who comes now is sent elsewhere, rather than kept waiting for a reset")
            server.process.send_signal(signal.SIGINT)
            assert b" 503 " in sock.makefile("rb").read()
        assert server.process.wait(PATIENCE) == 1
    assert "LookupError: no more" in server.stderr
    assert re.search("^error: worker 1: ", server.stderr, re.MULTILINE)


def test_a_worker_that_hangs_is_killed_and_the_log_says_where_it_stood(app_dir: Path) -> None:
    """A handler that blocks the event loop costs its worker its life, and one line leads to the code."""
    with serving(app_dir, "main:routes", "--workers", "1", "--timeout-worker", "0.5") as server:
        settled(server, 1)
        with server.connect() as sock:
            sock.sendall(b"GET /block HTTP/1.1\r\nHost: test\r\n\r\n")
            line = APP[: APP.index("# here")].count("\n") + 1
            server.wait_for(
                r"^ERROR: Worker 1 \(process \d+\) didn't turn its event loop for 0\.5 s, and was killed "
                rf"\({app_dir}/main\.py, line {line} in block; from .*\); another starts$"
            )
        assert server.get("/pid")[0] == 200


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="nothing here is as full as Linux's /dev/full")
@pytest.mark.parametrize("options", [[], ["--workers", "1"]], ids=["alone", "workers"])
def test_a_full_disk_changes_no_exit_code(app_dir: Path, options: list[str]) -> None:
    """What ended in order has 0, also where neither the log nor anything else could be written."""
    command = [sys.executable, "-m", "microasgi", "serve", "main:routes", "--uds", "app.sock", *options]
    with open("/dev/full", "wb") as full, subprocess.Popen(command, cwd=app_dir, env=environment(), stdout=full, stderr=full) as process:
        try:
            server = Running(process, app_dir)

            def answers() -> bool:
                with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
                    sock.connect(str(app_dir / "app.sock"))
                    sock.sendall(b"GET /slow?seconds=0 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                    return b"HTTP/1.1 " in sock.makefile("rb").read()
                return False

            until(answers, "it serves")
            assert server.stop(signal.SIGTERM) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("how", BROKEN)
def test_a_worker_that_cannot_start_ends_all_with_one_line(app_dir: Path, how: str) -> None:
    """There is no loop of restarts, and none of several workers that say the same."""
    code, words = BROKEN[how]
    (app_dir / "broken.py").write_text(code)
    done = run(app_dir, "serve", "broken:routes", "--workers", "2", "--log-level", "warning", "--port", "0")
    assert re.fullmatch(f"error: {words}.*\n", done.stderr)
    assert done.returncode == 1


@needs_package("prometheus_client")
def test_a_worker_that_has_served_enough_is_replaced_and_its_numbers_are_its_own(app_dir: Path) -> None:
    """Its successor serves before it goes, so that no request waits. The metrics of each place are at a port, with its number in them."""
    quick = ("--timeout-worker", "2")  # it looks twice a second then
    with serving(app_dir, "main:routes", "--workers", "1", "--limit-max-requests", "3", "--metrics-port", "0", *quick) as server:
        numbers = r"^INFO \[worker 1\]: Metrics are at (http://127\.0\.0\.1:\d+/metrics)$"
        at, address = server.wait_for(numbers + r"[^$]*Serving on (http://127\.0\.0\.1:\d+) ").groups()
        (first,) = settled(server, 1)

        def ask() -> bytes:
            with urllib.request.urlopen(f"{address}/pid") as answer:
                return bytes(answer.read())

        assert [ask() for _ in range(3)] == [f"{first} old".encode()] * 3
        with urllib.request.urlopen(at) as answer:
            assert b'microasgi_responses_total{status="2xx",worker="1"} 3.0\n' in answer.read()
        server.wait_for(rf"^INFO: Worker 1 \(process {first}\) has served 3 requests: another takes over$")
        (second,) = settled(server, 1, since=1)
        assert ask() == f"{second} old".encode()


@needs_package("prometheus_client")
def test_each_worker_has_a_port_for_its_metrics_or_none_starts(app_dir: Path) -> None:
    """A place without one is refused before anything starts."""
    done = say(app_dir, "serve", "main:routes", "--workers", "2", "--metrics-port", "65535", "--port", "0")
    assert done.stderr == "error: there is no port 65536 for the metrics of worker 2; choose a lower --metrics-port\n"


def test_when_a_worker_is_worn() -> None:
    """By requests, age or memory, each with its reason; without limits never."""
    now, served = 0.0, 0

    def wear(**limits: float) -> Wear:
        return Wear(Config(workers=1, **limits), lambda: served, lambda: now)  # type: ignore[arg-type]

    unlimited, old, busy = wear(), wear(limit_worker_age=100), wear(limit_max_requests=10, limit_max_requests_jitter=5)
    assert not any(one.reason() for one in (unlimited, old, busy))
    now, served = 99.9, 9
    assert not any(one.reason() for one in (unlimited, old, busy))
    now, served = 110.0, 15
    assert old.reason() == "is older than 100 s"
    assert re.fullmatch("has served 1[0-5] requests", busy.reason())
    assert unlimited.reason() == ""
    assert re.fullmatch(r"takes \d+ bytes of memory", wear(limit_worker_memory=memory_used() // 2).reason())
    assert wear(limit_worker_memory=memory_used() * 2).reason() == ""


MEMORY = """
from microasgi_server.workers.wear import memory_used
before = memory_used()
taken = b"x" * (32 << 20)
print(before, memory_used())
"""


def test_memory_in_use_is_what_is_in_use() -> None:
    """It grows by what is taken, in a process that has nothing left over from others."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=60)
    before, after = map(int, done.stdout.split())
    assert after > before + (16 << 20)


ORPHAN = """
import os, socket, sys
from microasgi_server.workers import orphans
orphans._ask_the_system = lambda: False  # as where the system doesn't do it
channel = socket.socket(fileno=int(sys.argv[1]))
orphans.die_with(int(sys.argv[2]), channel)
channel.send(b"here")
while True:
    pass
"""


@pytest.mark.parametrize("late", [False, True])
def test_elsewhere_an_orphan_ends_with_its_channel(late: bool) -> None:
    """Where no system call does it, a worker ends when its supervisor's end of the channel closes, or has done so before."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with ours, theirs:
        parent = 1 if late else os.getpid()
        command = [sys.executable, "-c", ORPHAN, str(theirs.fileno()), str(parent)]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        assert ours.recv(4) == (b"" if late else b"here")
    assert process.wait(PATIENCE) == -signal.SIGKILL


PROGRAM = """
import os, signal, sys, urllib.request
import microasgi, microasgi_server

def ask(addresses):
    print(urllib.request.urlopen(addresses[0] + "/pid").read().decode().split()[1], flush=True)
    os.kill(os.getpid(), signal.SIGINT)

microasgi.run("main:routes", port=0, workers=1, started=ask)
microasgi_server.run("main:routes", microasgi_server.Config(port=0, workers=1), started=ask)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_a_program_can_have_workers_and_goes_on_behind_them(app_dir: Path) -> None:
    """`run` serves with workers as the command does, tells the addresses, and leaves the signals as they were."""
    done = script(app_dir, PROGRAM)
    assert (done.returncode, done.stdout.split()) == (0, ["old", "old", "True"]), done.stderr


@pytest.mark.parametrize("options", [{"workers": 2}, {"reload": True}])
def test_only_what_has_a_name_can_be_imported_by_others(options: dict[str, object]) -> None:
    """An app that is an object is refused, with what to write instead."""
    with pytest.raises(TargetError, match=rf"^{next(iter(options))} needs the app's name, as in run\('main:app', …\)"):
        microasgi.run(microasgi.Router(), port=0, **options)  # type: ignore[arg-type]


def test_what_only_makes_sense_for_workers_says_so(app_dir: Path) -> None:
    """A limit whose consequence is another worker is refused where there is none."""
    done = say(app_dir, "serve", "main:routes", "--limit-worker-age", "60")
    check_refusal(done, 1, "--limit-worker-age needs workers")


@pytest.mark.slow
def test_wrk_sees_no_rolling_restart(app_dir: Path) -> None:
    """Under full load, for ten seconds with five restarts, there is no failed request, and nothing but statuses of 200."""
    wrk = path_of("wrk")
    with serving(app_dir, "main:routes", "--workers", "2", "--no-access-log") as server:
        settled(server, 2)
        load = subprocess.Popen([wrk, "-t1", "-c16", "-d10", f"{server.address}/pid"], stdout=subprocess.PIPE, text=True)
        for times in range(1, 6):
            server.process.send_signal(signal.SIGHUP)
            settled(server, 2, since=2 * times)
        said, _ = load.communicate(timeout=60)
        assert server.stop(signal.SIGTERM) == 0
    assert "requests in 10" in said
    assert "Socket errors" not in said
    assert "Non-2xx" not in said
