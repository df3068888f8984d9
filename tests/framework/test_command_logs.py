"""What `microasgi serve` writes and where, and the environment that it takes its options from."""

import json
import re
from pathlib import Path

import pytest
from microasgi_server.command.environment import read

from tests.framework.test_cli import Running, check_refusal, say, serving

APP = """
import logging
from microasgi import Router

logging.getLogger("microasgi.shop").warning("nobody asks yet")
routes = Router()

@routes.get("/")
async def home(request):
    logging.getLogger("shop").warning("sold\\nout", extra={"item": "tea", "odd": {1}})
    return "hello"

@routes.get("/fail")
async def fail(request):
    raise LookupError("no\\nsettings")
"""

TO_A_FILE = {
    "formatters": {"json": {"()": "microasgi_server.log_formats.JSONFormatter"}},
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "app.log", "formatter": "json"}},
    "root": {"handlers": ["file"], "level": "INFO"},
}

TO_A_FILE_AS_INI = """
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys = plain
[logger_root]
handlers = file
level = INFO
[handler_file]
class = FileHandler
args = ("app.log",)
formatter = plain
[formatter_plain]
format = %(name)s: %(message)s
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def ask(server: Running, path: str = "/") -> int:
    return server.get(path, headers={"X-Request-ID": "4711", "User-Agent": 'a "test"'})[0]


def test_json_has_an_object_a_line(app_dir: Path) -> None:
    """With `--log-format json` each line is an object: fields for the access log, an app's extras, tracebacks, and the request's id."""
    chosen = '{client} "{line}" {status} {duration} {bytes} {request_id} {user_agent} {referer}'
    arguments = ["--log-format", "json", "--access-log-format", chosen, "--access-log-quiet", "/healthz"]
    with serving(app_dir, "main:routes", *arguments) as server:
        assert [ask(server), ask(server, "/fail")] == [200, 500]
        server.wait_for(r'"status": 500')
        lines = [json.loads(line) for line in server.stderr.splitlines()]
    unasked, serving_on, sold, asked, failed, answered = lines
    assert (unasked["level"], unasked["logger"], unasked["message"]) == ("WARNING", "microasgi.shop", "nobody asks yet")
    assert serving_on["message"].startswith("Serving on")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", serving_on["time"])
    assert "request_id" not in serving_on
    assert (sold["message"], sold["request_id"], sold["item"], sold["odd"]) == ("sold\nout", "4711", "tea", "{1}")
    assert (asked["line"], asked["status"], asked["user_agent"]) == ("GET / HTTP/1.1", 200, 'a "test"')
    assert isinstance(asked["duration"], float)
    assert "referer" not in asked
    assert "LookupError: no\nsettings" in failed["exception"]
    assert (answered["status"], answered["request_id"]) == (500, "4711")


def test_text_has_the_id_behind_the_message(app_dir: Path) -> None:
    """With `--request-id` whatever is logged for a request ends with its id, the usual line of the access log, too."""
    with serving(app_dir, "main:routes", "--request-id") as server:
        ask(server)
        server.wait_for(r"^INFO: .* 200 .* \[4711\]$")
        assert "WARNING: sold\nout [4711]" in server.stderr


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("log.json", json.dumps(TO_A_FILE), '"logger": "microasgi_server.access", "message": "127'),
        ("log.ini", TO_A_FILE_AS_INI, "microasgi_server.access: 127"),
    ],
    ids=["json", "ini"],
)
def test_a_file_configures_the_log(app_dir: Path, name: str, text: str, line: str) -> None:
    """`--log-config` has Python's own configuration instead of ours: nothing goes to stderr that it doesn't send there."""
    (app_dir / name).write_text(text)
    with serving(app_dir, "main:routes", "--log-config", name, "--log-level", "error") as server:
        ask(server)
        assert server.stop() == 0
        assert line in (app_dir / "app.log").read_text()
        assert "INFO" not in server.stderr


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.json", None, "none.json, which is to configure logging, can't be read: No such file or directory"),
        ("bad.json", "{", "bad.json is no configuration of Python's logging: Expecting property name"),
        ("list.json", "[]", "list.json is no configuration of Python's logging: it is not an object"),
        ("class.json", '{"handlers": {"a": {"class": "no.such"}}}', "Unable to configure handler 'a'"),
        ("bad.ini", "level = INFO", "bad.ini is no configuration of Python's logging: File contains no section headers"),
        ("empty.ini", "", "empty.ini, which is to configure logging, has no section or name 'formatters'"),
    ],
    ids=["missing", "no JSON", "no object", "no class", "no ini", "empty ini"],
)
def test_a_file_that_configures_nothing_is_refused(app_dir: Path, name: str, text: str | None, words: str) -> None:
    """What is wrong with it is said in one line."""
    if text is not None:
        (app_dir / name).write_text(text)
    done = say(app_dir, "serve", "main:routes", "--log-config", name)
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


# The environment.


def test_options_come_from_the_environment(app_dir: Path) -> None:
    """Each option has a variable; a file adds some, for the app, too; a command line wins over both, and the environment over the file."""
    (app_dir / "main.py").write_text("""
import os
from microasgi import Router
routes = Router()

@routes.get("/where/{rest:path}")
async def where(request):
    return os.environ["TEA"] + " " + request.scope["root_path"]
""")
    (app_dir / "app.env").write_text("TEA='green # tea'\nMICROASGI_PORT=2\nMICROASGI_ROOT_PATH=/file\n")
    variables = {"MICROASGI_PORT": "1", "MICROASGI_ROOT_PATH": "/env", "MICROASGI_HEADER": "A: b\nC: d", "MICROASGI_UDS": ""}
    with serving(app_dir, "main:routes", "--env-file", "app.env", "--no-access-log", port=True, **variables) as server:
        assert server.get("/where/") == (200, b"green # tea /env")
        with server.connect() as sock:
            sock.sendall(b"GET /where/ HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert b"\r\nA: b\r\nC: d\r\n" in answer
        assert "GET /where" not in server.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"MICROASGI_PORT": "many"}, "MICROASGI_PORT is a number from 0 to 65535, not 'many'; see: microasgi serve --help"),
        ({"MICROASGI_ACCESS_LOG": "perhaps"}, "MICROASGI_ACCESS_LOG is on or off, not 'perhaps'"),
        (
            {"MICROASGI_HEADER": "A: b\nConnection: close"},
            "MICROASGI_HEADER is a list of NAME: VALUE (in the environment a line each), none of which frames a response",
        ),
        ({"MICROASGI_ENV_FILE": "none.env"}, "none.env can't be read: No such file or directory"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_variable_is_named(app_dir: Path, changes: dict[str, str], words: str) -> None:
    """An error says where the value came from."""
    check_refusal(say(app_dir, "serve", "main:routes", **changes), 2, words)


def test_a_variable_of_no_option_is_warned_of(app_dir: Path) -> None:
    """A slip isn't ignored in silence; a command that doesn't serve has fewer options, and no opinion on the others."""
    variables = {"MICROASGI_PROT": "80", "MICROASGI_TEA": "", "MICROASGI_ROOT_PATH": "/a", "MICROASGI": "", "MICROASGI_WORKRES": "4"}
    done = say(app_dir, "serve", "main:routes", "--check", **variables)
    assert (done.returncode, done.stderr.splitlines()) == (
        0,
        [
            "warning: the variable MICROASGI_PROT is no option's, and ignored; did you mean MICROASGI_PORT?",
            "warning: the variable MICROASGI_TEA is no option's, and ignored",
            "warning: the variable MICROASGI_WORKRES is no option's, and ignored; did you mean MICROASGI_WORKERS?",
        ],
    )
    assert say(app_dir, "routes", "main:routes", MICROASGI_PROT="80").stderr == ""


def test_a_file_of_variables_is_read(tmp_path: Path) -> None:
    """Names, values with and without quotes, comments, and nothing that is expanded."""
    file = tmp_path / "app.env"
    file.write_text("# tea\n\n A = b c \nexport B=\"x'#y\"\nC=\nD='$A'\nA=again\n")
    assert read(str(file)) == {"A": "again", "B": "x'#y", "C": "", "D": "$A"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tea", "line 2 of {} is not NAME=VALUE: 'tea'"),
        ("2A=b", "line 2 of {} is not NAME=VALUE: '2A=b'"),
        ("A B=c", "line 2 of {} is not NAME=VALUE: 'A B=c'"),
        ("A='b", "line 2 of {} has a quote that doesn't end with the line"),
        ("A='b' # c", "line 2 of {} has a quote that doesn't end with the line"),
        ("A=\0", "line 2 of {} has a NUL in it"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, words: str) -> None:
    """A file with something else in it isn't read half."""
    file = tmp_path / "app.env"
    file.write_text(f"A=b\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(words.format(file))):
        read(str(file))
