"""The benchmarks as a whole: every part runs, tells what it should, and leaves nothing behind. No number is checked."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report, stacks
from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Data, Part, Run
from benchmarks.parts import PARTS
from benchmarks.processes import tree
from benchmarks.running import ROOT, get, notes, running
from benchmarks.stacks import Stack
from tests.benchmarks.harness import Told, within

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the benchmarks read /proc, which only Linux has")

MARK = "TESTED_BY"
"""An environment variable, by which whatever a run has started is found, whoever its parent is now."""

BARE = Stack("bare", "microasgi", "asyncio")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "benchmarks", *map(str, arguments)]


def marked(mark: str) -> list[int]:
    """The processes with this mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """The command, run to its end, and nothing is left of it."""
    mark = os.urandom(8).hex()
    done = subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, MARK: mark},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert within(5, lambda: not marked(mark))
    return done


def flat(text: str) -> str:
    """Without line breaks: they depend on the terminal."""
    return " ".join(text.split())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_tells_what_it_has_measured(part: Part, tmp_path: Path) -> None:
    """A part prints its tables and the circumstances, writes all its files, leaves no process, and can draw the same files again."""
    done = run(part.name, "--quick", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    result = report.load(part, tmp_path)
    told = flat(done.stdout)
    assert all(flat(f"{name}: {value}") in told for name, value in result["circumstances"].items())
    assert all(flat(table.title) in told for table in part.tables(result["data"]))
    written = contents(tmp_path)
    assert written.keys() == {f"{part.name}.{kind}" for kind in ("json", "md", "svg", "png")}
    assert len(written[f"{part.name}.json"]) < 200_000
    for name in written.keys() - {f"{part.name}.json"}:
        (tmp_path / name).unlink()
    assert run(part.name, "--redraw", "--output", tmp_path).returncode == 0
    assert contents(tmp_path) == written


@pytest.mark.parametrize(
    ("part", "number", "processes"),
    [
        pytest.param("overhead", signal.SIGINT, 1, id="Ctrl+C while a server is born"),
        pytest.param("overhead", signal.SIGTERM, 3, id="SIGTERM under load"),
        pytest.param("disconnect", signal.SIGINT, 5, id="Ctrl+C while threads start servers"),
    ],
)
def test_a_signal_ends_all(part: str, number: signal.Signals, processes: int, tmp_path: Path) -> None:
    """Whenever Ctrl+C or SIGTERM comes, everything that runs is stopped first; the message and the exit code tell which it was."""
    mark = os.urandom(8).hex()
    with subprocess.Popen(
        command(part, "--quick", "--output", tmp_path),
        cwd=ROOT,
        env={**os.environ, MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() != ""  # the first step
            assert within(30, lambda: len(tree(process.pid)) > processes)
            process.send_signal(number)
            process.send_signal(number)  # some press twice
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert said.endswith(f"{signal.strsignal(number)}: all servers are stopped, and the parts that were complete are saved\n")
    assert "Traceback" not in said
    assert within(5, lambda: not marked(mark))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["helo"], "there is no part 'helo'"),
        (["--rounds", "0"], "'0' is not a positive number"),
        (["--quick", "--readme"], "--quick gives no result for a README"),
    ],
)
def test_a_wrong_command_is_refused(arguments: list[str], why: str) -> None:
    """What doesn't exist or makes no sense is a wrong command, and the message says why."""
    done = run(*arguments)
    assert done.returncode == 2
    assert why in done.stderr


def test_what_was_not_measured_cannot_be_drawn(tmp_path: Path) -> None:
    """Without results there is nothing to draw again, and the message says how to get them."""
    done = run("overhead", "--redraw", "--output", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path}/overhead.json doesn't exist; measure first: python -m benchmarks overhead\n"


def test_a_server_runs_as_long_as_its_block() -> None:
    """A stack has answered before its block begins, and is gone when it has ended, however it ends."""
    with running(BARE) as server:
        assert get(server.port, "/").startswith(b"hello from ")
        assert notes(server.port) == {"notes": {}, "counts": {"began": 0, "finished": 0, "stopped": 0}}
    assert tree(server.pid) == []
    with pytest.raises(LookupError), running(BARE) as server:
        raise LookupError
    assert tree(server.pid) == []
    with running(BARE, gracefully=False) as server:
        pass
    assert tree(server.pid) == []


def test_a_server_that_cannot_start_is_told_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends at once is an error that shows what it said."""
    monkeypatch.setitem(stacks.FRAMEWORKS, "bare", replace(stacks.FRAMEWORKS["bare"], app="bare:no_such_app"))
    with (
        pytest.raises(BenchmarkError, match=r"(?s)bare ASGI on microasgi, asyncio doesn't answer .* said: .*no attribute 'no_such_app'"),
        running(BARE),
    ):
        pass


def test_a_stranger_on_the_port_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose answer isn't this run's own token is refused: it may have been there before, or be something else."""
    stranger = replace(stacks.SERVERS["microasgi"], command="http.server {port} --bind 127.0.0.1 --directory benchmarks")
    monkeypatch.setitem(stacks.SERVERS, "microasgi", stranger)
    with pytest.raises(BenchmarkError, match=r"doesn't answer on port \d+ as it should"), running(BARE):
        pass


def result(part: str, *, quick: bool = False) -> report.Result:
    return {"part": part, "date": "2026-01-31", "command": f"python -m benchmarks {part}", "quick": quick, "seconds": 1.0} | {
        "circumstances": {"cores": "2"},
        "missing": [],
        "data": {"answer": 42},
    }


def _tell(data: Data) -> str:
    return rf"It is {data['answer']}, not \1."


FAKE = Part("fake", "How much?", lambda run: {}, lambda data: [], page=_tell, claim=_tell)
"""A part whose words would mean something to a careless substitution."""


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that can't run here isn't skipped in silence: it is named, with the command that gets it, and the others go on."""
    monkeypatch.setitem(stacks.FRAMEWORKS, "starlette", replace(stacks.FRAMEWORKS["starlette"], package="microasgi-no-such-package"))
    absent, told = Stack("starlette", "microasgi", "asyncio"), Told()
    assert absent.missing == ["microasgi-no-such-package"]
    assert Run(told).installed([absent, BARE]) == [BARE]
    assert told.absent == [("Starlette on microasgi, asyncio", "pip install microasgi-no-such-package")]
    line = "* not measured: Starlette on microasgi, asyncio; to have it measured: pip install microasgi-no-such-package\n"
    assert line in report.markdown(FAKE, {**result("fake"), "missing": told.absent})


def test_contestants_take_turns() -> None:
    """Everyone has one turn in every round, and every other round goes backwards."""
    assert list(Run(Told()).turns("ab", 3)) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    assert list(Run(Told(), rounds=1).turns("ab", 3)) == [(0, "a"), (0, "b")]


README = "before\n<!-- benchmarks: fake -->\nold\n<!-- end -->\nbetween\n<!-- benchmarks: other -->\nkept\n<!-- end -->\nafter\n"

SOURCES = {
    report.README: " ([more](benchmarks/README.md#fake), 2026-01-31)",
    report.PAGE: "\n\n*Made by `python -m benchmarks fake` on 2026-01-31.*",
}

every_document = pytest.mark.parametrize("document", SOURCES, ids=lambda document: document.path.relative_to(ROOT).as_posix())


@every_document
def test_a_document_is_filled(document: report.Document, tmp_path: Path) -> None:
    """What a part has to tell stands between its markers afterwards, with its source, and nothing else has changed."""
    (tmp_path / "fake.json").write_text(json.dumps(result("fake")))
    filled = README.replace("old", f"It is 42, not \\1.{SOURCES[document]}")
    silent = replace(FAKE, name="silent", page=None, claim=None)
    assert report.with_results(document, README, [FAKE, silent], tmp_path) == filled
    assert report.with_results(document, filled, [FAKE], tmp_path) == filled


@every_document
@pytest.mark.parametrize(
    ("text", "quick", "why"),
    [
        (README, True, "fake was only run with --quick"),
        ("none", False, r"README\.md has 0 places marked <!-- benchmarks: fake -->; it must have one"),
        (README * 2, False, r"README\.md has 2 places"),
    ],
    ids=["quick", "no place", "two places"],
)
def test_a_document_is_left_alone(document: report.Document, tmp_path: Path, text: str, quick: bool, why: str) -> None:
    """A quick run's numbers are no result for a README, and a marker that is missing or there twice is an error."""
    (tmp_path / "fake.json").write_text(json.dumps(result("fake", quick=quick)))
    with pytest.raises(BenchmarkError, match=why):
        report.with_results(document, text, [FAKE], tmp_path)


@every_document
def test_the_committed_documents_show_the_committed_results(document: report.Document) -> None:
    """What each says between every part's markers is what this part makes of the results in benchmarks/results."""
    text = document.path.read_text()
    assert report.with_results(document, text, PARTS, report.RESULTS) == text
    assert text.count("<!-- benchmarks: ") == len([part for part in PARTS if document.told(part) is not None])
