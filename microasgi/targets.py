"""From `module:attribute` on the command line to an ASGI app, with a clear word where that fails."""

import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from microasgi.asgi import ASGIApp
from microasgi.routing import Mount, Route, Router


class TargetError(Exception):
    """The target can't be served. The message is for the person who typed it."""


def load_app(target: str, *, factory: bool = False, app_dir: str = ".") -> ASGIApp:
    """Import the app that `target` names.

    :param target: `module:attribute`; the attribute may have dots
    :param factory: call what is found, without arguments, and take what it returns
    :param app_dir: the directory to import from
    :raises TargetError: there is no such module or attribute, importing it fails, or it is not an app
    """
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise TargetError(f"{target!r} is not of the form module:attribute, as in main:routes")
    found = _attribute(_module(module_name, app_dir), attribute, target)
    if factory:
        if not callable(found):
            raise TargetError(f"{target!r} can't be called: it is {_a(found)}; leave --factory away")
        try:
            found = found()
        except Exception as error:
            raise TargetError(f"calling {target!r} failed: {_describe(error)}") from error
    return _app(found, target, factory=factory)


def _module(name: str, app_dir: str) -> ModuleType:
    directory = str(Path(app_dir).resolve())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise TargetError(f"importing {name!r} failed: {_describe(error)}") from error
        hint = _nearest(error.name, _modules(app_dir))
        raise TargetError(f"no module {error.name!r} in {directory} or where Python looks{hint}") from error
    except Exception as error:
        raise TargetError(f"importing {name!r} failed: {_describe(error)}") from error


def _attribute(module: ModuleType, path: str, target: str) -> Any:
    found: Any = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            names = [own for own in dir(found) if not own.startswith("_")]
            raise TargetError(f"module {module.__name__!r} has no attribute {path!r}{_nearest(name, names)}") from None
    return found


def _app(found: Any, target: str, *, factory: bool) -> ASGIApp:
    if isinstance(found, list | tuple) and found and all(isinstance(route, Route | Mount) for route in found):
        return Router(found)
    kind = f"{target!r} {'returned' if factory else 'is'} {_a(found)}"
    if not callable(found) or isinstance(found, type):
        raise TargetError(f"{kind}, and not an ASGI app or a list of routes")
    try:
        inspect.signature(found).bind(None, None, None)
    except TypeError:
        hint = "; is it a factory? Then say --factory" if not factory and _takes_nothing(found) else ""
        raise TargetError(f"{kind}, and not an ASGI app: those take scope, receive and send{hint}") from None
    except ValueError:
        pass  # it doesn't tell
    return found  # type: ignore[no-any-return]


def _takes_nothing(found: Any) -> bool:
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


def _a(found: Any) -> str:
    name = "class" if isinstance(found, type) else type(found).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _modules(app_dir: str) -> Iterable[str]:
    return [module.name for module in pkgutil.iter_modules([app_dir])]


def _nearest(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _describe(error: BaseException) -> str:
    """The error in one line, with the place in the user's code where it happened."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, SyntaxError):
        return text
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames[1:] else text
