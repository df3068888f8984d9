"""The public names: all are there, none is loaded before one is asked for, and a wrong one is told."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import microasgi_server
import pytest

import microasgi
from tests.framework.test_cli import environment

PACKAGES = [microasgi, microasgi_server]


def said(program: str, directory: Path) -> list[str]:
    """What a program prints, in an interpreter of its own; the last line of its traceback, if it ends with one."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=directory, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.split() if done.returncode == 0 else done.stderr.splitlines()[-1:]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_each_public_name_is_there(package: ModuleType, tmp_path: Path) -> None:
    """Whoever takes all of them gets all, whichever of a package's modules was imported before; and a completion finds them unasked."""
    name = package.__name__
    assert set(said(f"import {name}; print(*dir({name}))", tmp_path)) >= {*package.__all__}
    taken = f"import {name}.public; from {name} import *; print(*sorted(name for name in globals() if name[0] != '_'))"
    assert said(taken, tmp_path) == sorted([*package.__all__, name])
    hidden = f"import types, {name}.public; print(*[name for name in {name}.__all__ if type(getattr({name}, name)) is types.ModuleType])"
    assert said(hidden, tmp_path) == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_nothing_is_loaded_before_it_is_asked_for(package: ModuleType, tmp_path: Path) -> None:
    """A package alone is there at once, so that its command can catch a Ctrl+C; one name brings all, and none is left for a request."""
    name = package.__name__
    loaded = f"import sys, {name}; print(*[module for module in sys.modules if module.startswith(('anyio', '{name}.'))])"
    assert said(loaded, tmp_path) == []
    first = package.__all__[0]
    rest = f"import {name}; {name}.{first}; print(*[name for name in {name}.__all__ if name not in vars({name})])"
    assert said(rest, tmp_path) == (["run"] if package is microasgi else [])


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("from microasgi import TestClient", "ImportError: microasgi has no 'TestClient'; write from microasgi.testing import Client"),
        ("from microasgi import FastAPI", "ImportError: microasgi has no 'FastAPI'; write from microasgi import Router"),
        ("import microasgi; microasgi.Reqest", "has no attribute 'Reqest'. Did you mean: 'Request'?"),
        ("import microasgi_server; microasgi_server.Confg", "has no attribute 'Confg'. Did you mean: 'Config'?"),
    ],
)
def test_a_name_that_there_is_not_is_told(program: str, words: str, tmp_path: Path) -> None:
    """What other frameworks have here, and what is a slip, gets a word on what to write."""
    assert words in said(program, tmp_path)[0]


def test_who_only_asks_is_told_no() -> None:
    """`hasattr`, which Python's own import asks for each module that it is to find, has an answer."""
    assert not hasattr(microasgi, "no_such_name")
    assert not hasattr(microasgi_server, "no_such_name")
