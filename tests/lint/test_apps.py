"""An app by itself: called as a good server would, which is what `Lint` says of that server, too."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from microasgi import CancelOnDisconnect, Request, Router, StreamingResponse
from microasgi.lint import Level, Lint, apps
from microasgi.lint.__main__ import main
from microasgi.lint.apps import AppError, examine, usual

pytestmark = pytest.mark.anyio

routes = Router()


@routes.get("/items/{id:int}")
async def item(request: Request) -> dict[str, int]:
    return {"id": request.path_params["id"]}


@routes.post("/count")
async def count(request: Request) -> StreamingResponse:
    async def counted() -> Any:
        async for piece in request.stream():
            yield str(len(piece))

    return StreamingResponse(counted())


@routes.get("/crash")
async def crash(request: Request) -> None:
    raise ZeroDivisionError


class Wrong:
    """Breaks a rule for each path."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        start = {"type": "http.response.start", "status": 200, "headers": [(b"Server", b"x")]}
        await send({**start, "headers": []} if scope["path"] != "/" else start)
        if scope["path"] == "/":
            await send({"type": "http.response.body"})


def old(scope: Any) -> Any:
    """An app of ASGI 2."""
    return old


async def test_a_router_is_clean() -> None:
    """A Router keeps to the rules wherever it is asked, and each of its routes is."""
    examined = await examine(routes, usual(routes))
    assert [str(finding) for finding in examined.findings] == []
    assert {key: examined.answers[key] for key in ("GET /items/1", "POST /count", "GET /count", "BREW /", "websocket /")} == {
        "GET /items/1": 200,
        "POST /count": 200,
        "GET /count": 405,
        "BREW /": 404,
        "websocket /": 403,
    }
    assert isinstance(examined.answers["GET /crash"], ZeroDivisionError)


def test_routes_are_found_in_middleware() -> None:
    """Who wraps an app has it asked for the same."""
    assert usual(CancelOnDisconnect(Lint(routes))) == usual(routes)


async def test_what_an_app_does_wrong_is_its_own() -> None:
    """Each rule that the app has broken is found, by the app alone, also those that only a server can ask for."""
    examined = await examine(Wrong(), usual(None, ["/more"]), Level.NOTE)
    assert {(finding.rule.id, finding.side.value) for finding in examined.findings} == {
        ("H-19", "app"),
        ("H-26", "app"),
        ("L-9", "app"),
        ("W-16", "app"),
        ("A-14", "app"),
    }


async def test_an_app_of_asgi_2_is_named() -> None:
    """An app that takes only a scope is told so, and asked nothing else."""
    app: Any = old
    examined = await examine(app, usual(app))
    assert [finding.rule.id for finding in examined.findings] == ["A-13"]
    assert examined.answers == {}


async def test_a_failed_startup_is_told() -> None:
    """Who doesn't start isn't asked anything."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(AppError, match="the app's startup failed: no database"):
        await examine(app, usual(app))


@pytest.mark.parametrize(("steps", "what"), [(0, "startup"), (1, "shutdown")])
async def test_a_lifespan_that_hangs_is_told(steps: int, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't waited for any longer than is sensible."""
    monkeypatch.setattr(apps, "LIFESPAN", 0.05)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(steps if scope["type"] == "lifespan" else 0):
            await receive()
            await send({"type": "lifespan.startup.complete"})
        if scope["type"] == "lifespan":
            await anyio.sleep_forever()

    with pytest.raises(AppError, match=f"the app's {what} has taken more than 0.05 s"):
        await examine(app, [])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["apps:routes"], 0, "nothing found"),
        (["apps:routes", "--level", "note", "--backend", "trio"], 0, "NOTE A-9, by the app"),
        (["apps:wrong", "--path", "/"], 1, "ERROR H-19, by the app: headers has [b'Server']"),
        (["apps:listed"], 0, "conversations"),
        (["apps:nothing"], 2, "error: 'apps:nothing' can't be loaded"),
        (["apps"], 2, "error: an app is named module:attribute, as in main:app, not 'apps'"),
        (["broken:app"], 2, "error: 'broken:app' can't be loaded: ZeroDivisionError: division by zero"),
        (["apps:number"], 2, "error: 'apps:number' is no ASGI app, but int"),
        (["apps:routes", "--rules"], 2, "say what to look at"),
        ([], 2, "say what to look at"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command looks at an app by its name, prints what it has found, and ends with 1 for an error of the app's, 2 for one of ours."""
    (tmp_path / "apps.py").write_text(
        "from tests.lint.test_apps import routes, Wrong\nwrong = Wrong()\nnumber = 3\nlisted = routes.routes\n"
    )
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert int(ended.value.code or 0) == code
    said = capsys.readouterr()
    assert words in said.out + said.err
