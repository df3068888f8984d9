"""Probing: our server passes on every loop, servers that break rules are found out, and the command tells of it."""

import sys
from pathlib import Path

import pytest

from microasgi.lint import RULES, Finding, Level, Side
from microasgi.lint.__main__ import main
from microasgi.lint.document import document
from microasgi.lint.probes.probe import all_probes
from microasgi.lint.probes.probing import Report, probe
from microasgi.lint.probes.server import KNOWN, ProbeError, arguments
from microasgi.lint.rule import Moment

SLOPPY = """
import sys
from importlib import import_module

import anyio
from microasgi_server import run

name, port = sys.argv[1:]
module, _, attribute = name.partition(":")
app = getattr(import_module(module), attribute)


async def sloppy(scope, receive, send):
    gone = False

    async def hear():
        nonlocal gone
        if gone:
            await anyio.sleep_forever()
        message = await receive()
        gone = message["type"] == "http.disconnect"
        return message

    async def say(message):
        try:
            await send(message)
        except Exception:
            pass

    if scope["type"] != "http":
        raise NotImplementedError
    headers = [(name.title(), value) for name, value in dict(scope["headers"]).items()]
    wrong = {"http_version": "HTTP/1.1", "path": scope["raw_path"].decode(), "client": ["127.0.0.1", "1"], "headers": headers}
    try:
        await app({**scope, **wrong, "extensions": {}}, hear, say)
    except Exception:
        await say({"type": "http.response.body"})


run(sloppy, port=int(port), lifespan="off")
"""
"""A server that breaks rules: it has no lifespan, no WebSockets, and few manners."""

WRONG = {"H-3", "H-4", "H-7", "H-9", "H-30", "H-32", "A-10", "A-11"}


LACKING = {"E-12", "L-15", "W-17"}


@pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=pytest.mark.slow), "trio"])  # uvloop's transport is asyncio's
def test_our_server_passes(loop: str) -> None:
    """Nothing above a note is found in our server, and it has all that a probe is about."""
    report = probe(f"python -m microasgi_server {{app}} --port {{port}} --loop {loop}")
    assert [str(finding) for finding in report.findings if finding.rule.level > Level.NOTE] == []
    assert report.not_offered == []


def test_a_sloppy_server_is_found_out(tmp_path: Path) -> None:
    """A server that breaks rules is told which, and what it doesn't have isn't held against it."""
    (tmp_path / "sloppy.py").write_text(SLOPPY)
    report = probe(f"python {tmp_path / 'sloppy.py'} {{app}} {{port}}", [*WRONG, *LACKING])
    assert {finding.rule.id for finding in report.findings} >= WRONG
    assert {rule.id for rule, _ in report.not_offered} == LACKING


def test_every_probe_says_what_it_asks() -> None:
    """Each has a docstring, and each rule for a client has a probe."""
    probed = all_probes()
    assert all(ask.__doc__ for _, ask in probed)
    assert {rule.id for rule, _ in probed} >= {rule.id for rule in RULES.values() if Moment.PROBED in rule.moments}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nginx", "a server is a command with {app} and {port} in it, or one of microasgi, uvicorn"),
        ("no-such-program {app} {port}", "there is no program 'no-such-program' here"),
    ],
)
def test_what_is_no_server_is_named(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command is one line, and the exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["--server", command])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_server_that_ends_is_quoted() -> None:
    """What doesn't serve is no server with faults: what it said is shown."""
    with pytest.raises(ProbeError, match="it said: no port for me"):
        probe(f"{sys.executable} -c \"print('no port for me')\" {{app}} {{port}}")


def test_the_names_are_commands() -> None:
    """Every known name has an app and a port."""
    assert all("{app}" in command and "{port}" in command for command in KNOWN.values())
    assert arguments("microasgi", 1234)[1:] == ["-m", "microasgi_server", "microasgi.lint.probes.app:app", "--port", "1234"]


def test_the_document_is_up_to_date() -> None:
    """ASGI.md has every rule, as the code says it."""
    page = Path(__file__).parents[2] / "microasgi" / "ASGI.md"
    assert page.read_text() == document(), "run: python -m microasgi.lint --rules > microasgi/ASGI.md"


def test_it_reports_on_a_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prints what was found, what couldn't be asked, and ends with 1 if there was an error."""
    for report, code, words in (
        (Report(), 0, "nothing found"),
        (
            Report([_finding("H-9")], [(RULES["E-12"], "trailers")]),
            1,
            "ERROR H-9, by the server: wrong (ASGI HTTP & WebSocket, HTTP Connection",
        ),
        (Report([_finding("H-3")]), 0, "WARN H-3"),
    ):
        monkeypatch.setattr("microasgi.lint.__main__.probe", lambda _, report=report: report)
        with pytest.raises(SystemExit) as ended:
            main(["--server", "uvicorn"])
        assert ended.value.code == code
        assert words in capsys.readouterr().out


def _finding(id: str) -> Finding:
    return Finding(RULES[id], Side.SERVER, "wrong", "asked by a client")
