"""What we read of anyio, asyncio and trio isn't promised by anybody: what happens when a name is gone."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio._backends import _asyncio as anyios

from microasgi import CancelOnDisconnect, Router
from microasgi.asgi import Message
from microasgi.cli import main
from microasgi.promise import anyio_scopes, asyncio_tasks, unknown

CACHES = (anyio_scopes.missing, asyncio_tasks.missing, unknown.missing)

GONE: dict[str, tuple[Any, str]] = {
    "anyio's _task_states": (anyios, "_task_states"),
    "anyio's _deliver_cancellation": (anyios.CancelScope, "_deliver_cancellation"),
    "anyio's _restart_cancellation_in_parent": (anyios.CancelScope, "_restart_cancellation_in_parent"),
    "anyio's _parent_scope": (anyios.CancelScope, "_parent_scope"),
    "asyncio's _fut_waiter": (asyncio_tasks, "asyncio"),
    "asyncio's _enter_task": (asyncio.tasks, "_enter_task"),
    "asyncio's _abort": (asyncio.TaskGroup, "_abort"),
}


class OtherTask:
    """asyncio's module, with tasks that keep what they wait for elsewhere."""

    Task = object
    TaskGroup = asyncio.TaskGroup
    tasks = asyncio.tasks


@pytest.fixture(params=GONE)
def gone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """One name is gone, and nobody has looked yet."""
    owner, name = GONE[request.param]
    if owner is asyncio_tasks:
        monkeypatch.setattr(owner, name, OtherTask)
    elif request.param == "anyio's _parent_scope":  # an attribute of each scope, which is made by the class

        class Elsewhere(anyios.CancelScope):
            def __getattribute__(self, attribute: str) -> Any:
                if attribute == "_parent_scope":
                    raise AttributeError(attribute)
                return super().__getattribute__(attribute)

        monkeypatch.setattr(anyios, "CancelScope", Elsewhere)
    else:
        monkeypatch.delattr(owner, name)
    for cache in CACHES:
        cache.cache_clear()
    yield request.param
    monkeypatch.undo()
    for cache in CACHES:
        cache.cache_clear()


def test_nothing_is_missing_here() -> None:
    """With the versions that the suite runs on, every name is there."""
    assert unknown.missing() == ()


def test_what_is_missing_is_said_once(gone: str, caplog: pytest.LogCaptureFixture) -> None:
    """One warning names what is gone, and what that costs."""
    for _ in range(2):
        assert gone in unknown.missing()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert gone in record.getMessage()
    assert "only a handler's own task has a grace" in record.getMessage()


def test_the_version_says_which_way_is_in_use(gone: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`microasgi --version` tells what a departure does with the anyio and the Python that are there."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert "only a handler's own task has a grace" in capsys.readouterr().out


@pytest.mark.anyio
@pytest.mark.parametrize("wrap", [False, True], ids=["Router", "CancelOnDisconnect"])
async def test_it_is_said_at_startup(wrap: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The warning comes when the app starts, not with its first request."""
    monkeypatch.setattr(anyio_scopes, "missing", lambda: ("anyio's something",))
    unknown.missing.cache_clear()
    try:
        app = CancelOnDisconnect(Router()) if wrap else Router()
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, Any]:
            return {"type": next(messages)}

        async def send(message: Message) -> None:
            await anyio.lowlevel.checkpoint()

        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    finally:
        monkeypatch.undo()
        unknown.missing.cache_clear()
    assert ["anyio's something" in record.getMessage() for record in caplog.records] == [True]
