"""Lessons are about one loop, and need no marks."""

import inspect
from typing import Any

import pytest


@pytest.fixture
def anyio_backend() -> Any:
    """Asyncio, the one that everybody has."""
    return "asyncio", {"use_uvloop": False}


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: Any) -> None:
    """Have anyio's plugin run the experiments that are asynchronous."""
    if collector.istestfunction(obj, name) and inspect.iscoroutinefunction(obj):
        pytest.mark.anyio(obj)
