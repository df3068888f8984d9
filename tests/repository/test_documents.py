"""What the READMEs show is so: their examples run, their links lead somewhere, and their tables are the code's."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from microasgi_server import Config, Limits
from microasgi_server.options import LIMITS

from microasgi import Route, Router
from microasgi.testing import Client
from tests.documents import DOCUMENTS, ROOT, Section, anchors, conversation, curl, links, read, sections
from tests.harness import serving
from tests.ladders import marked
from tests.needs import needs_package

pytestmark = pytest.mark.anyio

README = "README.md"

ELSEWHERE = {(README, README), (README, "Writing handlers that may stop")}
"""Sections whose examples `test_readme.py` runs: they take time, or names, for granted."""

NEEDS = {"fastapi": needs_package("fastapi")}
"""What some examples import that may be missing."""

WITH_EXAMPLES = [
    pytest.param(section, id=str(section), marks=[mark for package, mark in NEEDS.items() if f"from {package} " in section.text])
    for document in DOCUMENTS
    for section in sections(document)
    if section.python() and (document, section.title) not in ELSEWHERE
]

ELSEWHERE_RUN = re.compile(r"^microasgi(_server)?\.run\(|^from main import ", re.MULTILINE).search
"""Examples that serve until Ctrl+C, for `test_readme.py`, too; and files of tests, for pytest."""

WORDS = 2000


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("section", WITH_EXAMPLES)
async def test_the_examples_run(section: Section, anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example is Python that runs; its tests pass, its apps answer, and what curl shows is what it gets."""
    names: dict[str, Any] = {}
    tried = 0
    for language, text in section.blocks():
        if language == "python" and not ELSEWHERE_RUN(text):
            before = names
            names = {**before, "__name__": "main"}
            exec(compile(text, str(section), "exec", dont_inherit=True), names)
            tried += text.count("\n    assert ")
            monkeypatch.setitem(sys.modules, "main", module(names))
            for test in new_tests(before, names):
                await test()
                tried += 1
            if names.get("app") is not before.get("app"):
                async with serving(names["app"]) as served:
                    assert (await curl(served, "curl localhost:8000/")).status < 500
                    tried += 1
        elif language == "console":
            async with serving(names["routes"]) as served:
                for command, answer in conversation(text):
                    assert (await curl(served, command)).body.decode().rstrip("\n") == answer.rstrip("\n"), command
                    tried += 1
    assert tried or not names.keys() & {"routes", "app"}, "nothing is asked of what this section makes"


def module(names: dict[str, Any]) -> ModuleType:
    """A module that has these names."""
    made = ModuleType("main")
    made.__dict__.update(names)
    return made


def new_tests(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Any]:
    for name, value in after.items():
        if name.startswith("test_") and value is not before.get(name):
            yield value


def test_files_of_tests_run_as_they_are(tmp_path: Path) -> None:
    """What imports from `main.py` is a file of tests: pytest runs it with microasgi's plugin, without a configuration."""
    every = [section.python() for document in DOCUMENTS for section in sections(document)]
    pairs = [(app, tests) for examples in every for app, tests in pairwise(examples) if "from main import " in tests]
    assert len(pairs) >= 2
    for number, (app, tests) in enumerate(pairs):  # side by side, to start pytest once
        (tmp_path / f"main{number}.py").write_text(app)
        (tmp_path / f"test_main{number}.py").write_text(tests.replace("from main import ", f"from main{number} import "))
    plugins = ["-p", "anyio.pytest_plugin", "-p", "microasgi.testing.plugin"]  # and no others, of whatever else is installed
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "-c", os.devnull, f"--rootdir={tmp_path}", str(tmp_path)]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


MISTAKES: list[dict[str, Any]] = [
    {},
    {"content": b"\xff{"},
    *({"content": body} for body in (b"null", b"5", b'"name"', b"[]", b'["name"]', b'{"name": null}', b'{"name": []}', b'{"other": "x"}')),
    *({"json": {name: 5}} for name in ("id", "name", "photo", "price")),
    *({"data": fields} for fields in ({"other": "x"}, {"photo": "x"})),
    *({"files": {field: ("x", b"x")}} for field in ("name", "other")),
    *({"headers": {name: "x"}} for name in ("last-event-id", "range", "cookie", "accept", "content-type")),
    {"params": {"loud": "", "tag": "", "page": "x"}},
]
"""What a client may send by mistake, as a request of the test's client."""

VALUES = ("1", "99999", "x")
"""What it may put into a path."""

WITH_ROUTES = [
    pytest.param(section, id=str(section))
    for document in DOCUMENTS
    for section in sections(document)
    if re.search(r"^@routes\.(get|post|put)\(", "".join(section.python()), re.MULTILINE)
    and section.title != "Writing handlers that may stop"
]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("section", WITH_ROUTES)
async def test_no_example_fails_by_a_clients_mistake(section: Section) -> None:
    """Every handler that is shown answers what it can't use, or stops: nothing that it raises reaches the server."""
    asked = 0
    for number, text in enumerate(section.python()):
        names: dict[str, Any] = {"__name__": "main"}
        if "routes = Router(" in text:
            exec(compile(text, f"{section}, {number}", "exec", dont_inherit=True), names)
            asked += await ask_by_mistake(names["routes"])
    assert asked


async def ask_by_mistake(routes: Router) -> int:
    """Make each of the mistakes on each route; how many requests that were."""
    asked = 0
    async with Client(routes) as client:
        for route in (route for route in routes.routes if isinstance(route, Route)):
            for method, mistake, value in itertools.product(route.methods, MISTAKES, VALUES[: 1 + 2 * ("{" in route.path)]):
                path = re.sub(r"\{.*?\}", value, route.path)
                async with client.open(method, path, **mistake) as call:
                    with anyio.move_on_after(0.05):  # of one that has no end, or is long about it, this is enough
                        assert (await call.finish()).status_code != 500, (path, mistake)
                asked += 1
    return asked


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    """Every link into the repository leads to a file, and to a heading in it if it names one."""
    for path, anchor in links(document):
        assert path.exists() or path.with_suffix(".json").exists(), path  # an sdist has only what plots are drawn from
        assert not anchor or anchor in anchors(path), f"{path} has no heading for #{anchor}"


def test_the_readme_is_read_in_minutes() -> None:
    """It has at most 2,000 words, beside the two ladders: what is longer has a page of its own."""
    text = read(README)
    for ladder in marked(text).values():
        text = text.replace(ladder, "")
    assert len(text.split()) <= WORDS


def test_a_fence_says_what_it_is() -> None:
    """Every fenced block names one of the kinds that are known here, so that no example hides from the tests."""
    for document in DOCUMENTS:
        opened = re.findall(r"^```(\w*)", read(document), re.MULTILINE)[::2]
        assert set(opened) <= {"python", "console", "shell", "text"}, document


# Tables of server/README.md.


def rows(title: str, table: int = 0) -> list[list[str]]:
    """A table below a heading of the server's page, without its head."""
    (section,) = (section for section in sections("server/README.md") if section.title == title)
    lines = re.findall(r"(?:^\|.*\|\n)+", section.text, re.MULTILINE)[table].splitlines()
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_refusal_is_in_the_table() -> None:
    """Each status with which the server refuses a request stands in its page, and no other."""
    sources = "".join(path.read_text() for path in sorted((ROOT / "server/microasgi_server").rglob("*.py")))
    constants = dict(re.findall(r"^([A-Z_]+) = (\d{3})$", sources, re.MULTILINE))
    used = {constants.get(status, status) for status in re.findall(r"(?:Refusal|_refuse)\(([A-Z_]+|\d{3}),", sources)}
    used |= set(re.findall(r"status = (\d{3}) if", sources)) | {"501"}  # which h11 says of a coding that it doesn't know
    assert {status for status, _ in rows("What it refuses")} == used


def test_the_table_of_times_has_the_codes_numbers() -> None:
    """Every timeout of the options is in the table, and each number there is the default."""
    told = {name: seconds for name, seconds, *_ in rows("How long it waits")}
    assert {name for name in (field.name for field in fields(Config)) if name.startswith("timeout_")} <= told.keys()
    for name, seconds in told.items():
        value = getattr(Limits(), name.removeprefix("Limits.")) if name.startswith("Limits.") else getattr(Config(), name)
        assert seconds == f"{value:g} s", name


def test_the_table_of_limits_has_the_codes_numbers() -> None:
    """Each limit there is one of `Limits`, with its default."""
    told = {name: number for option, name, number, _ in rows("What it refuses", table=1)}
    assert told.keys() == {"request_line", "fields", "head", "body"}
    for name, number in told.items():
        assert number.partition(" ")[0].replace(",", "") == str(getattr(Limits(), name))


def test_the_table_of_a_websockets_limits_has_the_codes_numbers() -> None:
    """All options of a WebSocket are there, each with its limit and that limit's default."""
    told = [(option, name, number.split(" ")[0].replace(",", "")) for option, name, number, _ in rows("WebSockets")]
    options = [option for option in LIMITS if option.name.startswith("ws_")]
    assert told == [(option.flag, option.limit, f"{getattr(Limits, option.limit) or 'off'}".removesuffix(".0")) for option in options]


@pytest.mark.parametrize(
    ("title", "files"),
    [
        ("nginx", ["nginx.conf"]),
        ("HAProxy", ["haproxy.cfg"]),
        ("systemd", ["microasgi.socket", "microasgi.service"]),
        ("Kubernetes", ["kubernetes.yaml"]),
    ],
)
def test_the_lines_of_configurations_are_the_files(title: str, files: list[str]) -> None:
    """Each line that the server's page shows of a configuration stands in a file that the tests use, in the same order."""
    (section,) = (section for section in sections("server/README.md") if section.title == title)
    lines = iter("".join((ROOT / "tests/deployment" / name).read_text() for name in files).splitlines())
    for shown in filter(None, section.blocks()[0][1].splitlines()):
        assert shown in lines, shown


def test_documents_lie_where_they_are_listed() -> None:
    """No README is left out."""
    tracked = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("[!.]*/README.md")} | {README}
    assert tracked <= set(DOCUMENTS)
    assert all(Path(ROOT / document).exists() for document in DOCUMENTS)
