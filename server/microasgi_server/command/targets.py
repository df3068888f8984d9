"""From `module:attribute` to an ASGI app, with a clear word where that fails.

`load` finds what is named, and `checked_app` says whether it is an app. Between the two, a framework may make an app of what was found.
"""

import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

from microasgi_server.asgi import ASGIApp
from microasgi_server.errors import TargetError


def load_app(target: Any, *, factory: bool = False, app_dir: str = ".") -> ASGIApp:
    """The app that is `target`, or that it names.

    :raises TargetError: as `load` and `checked_app` do
    """
    return checked_app(load(target, factory=factory, app_dir=app_dir), described(target, factory=factory), factory=factory)


def load(target: Any, *, factory: bool = False, app_dir: str = ".") -> Any:
    """What `target` names, imported; whatever is no name is itself what is meant.

    :param target: `module:attribute`; the attribute may have dots
    :param factory: call what is found, without arguments, and take what it returns
    :param app_dir: the directory to import from
    :raises TargetError: there is no such module or attribute, or importing it or calling it fails
    """
    directory = Path(app_dir).resolve()
    found = _imported(target, app_dir, directory) if isinstance(target, str) else target
    return _make(found, named(target), directory) if factory else found


def named(target: Any) -> str:
    """What a message calls it."""
    return repr(target) if isinstance(target, str) else "what is to be served"


def described(target: Any, *, factory: bool = False) -> str:
    """How a sentence about it begins."""
    return f"{named(target)} {'returned' if factory else 'is'}"


def _imported(target: str, app_dir: str, directory: Path) -> Any:
    module_name, _, attribute = target.partition(":")
    if not _is_dotted(module_name) or not _is_dotted(attribute):
        hint = "; the directory goes into --app-dir" if "/" in module_name else ""
        raise TargetError(f"{target!r} is not of the form module:attribute, as in main:routes or package.module:app{hint}")
    if not directory.is_dir():
        raise TargetError(f"--app-dir {app_dir}: there is no such directory")
    return _attribute(_module(module_name, directory), attribute, target)


def _is_dotted(text: str) -> bool:
    return all(name.isidentifier() for name in text.split("."))


def _module(name: str, directory: Path) -> ModuleType:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise TargetError(f"importing {name!r} failed: {_describe(error, directory)}") from error
        raise TargetError(f"there is no module {error.name!r}{_where(error.name, directory)}") from None
    except (Exception, SystemExit) as error:
        raise TargetError(f"importing {name!r} failed: {_describe(error, directory)}") from error


def _where(name: str, directory: Path) -> str:
    """Where a module was looked for, and what is there instead."""
    parent, _, own = name.rpartition(".")
    if not parent:
        near = _nearest(own, (module.name for module in pkgutil.iter_modules([str(directory)])))
        return f" in {directory}, nor where Python looks{near or '; is it in another directory? Then say --app-dir'}"
    path = getattr(sys.modules.get(parent), "__path__", None)
    if path is None:
        file = f"; write {parent}:…, without .py" if own == "py" else ""
        return f": {parent!r} is a module, and not a package with modules in it{file}"
    return _nearest(own, (module.name for module in pkgutil.iter_modules(path)), f"{parent}.")


def _attribute(module: ModuleType, path: str, target: str) -> Any:
    found: Any = module
    gone = target.partition(":")[0] + ":"
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            owner = f"module {module.__name__!r}" if found is module else repr(gone)
            raise TargetError(f"{owner} has no attribute {name!r}{_instead(found, name)}") from None
        gone += name if gone.endswith(":") else f".{name}"
    return found


def _instead(owner: Any, name: str) -> str:
    """What was meant, perhaps: a name that is near, a module of that name, or something that looks like an app."""
    names = [own for own in dir(owner) if not own.startswith("_")]
    if near := _nearest(name, names):
        return near
    if isinstance(owner, ModuleType):
        if hasattr(owner, "__path__") and find_spec(f"{owner.__name__}.{name}") is not None:
            return f", but there is a module {owner.__name__}.{name}; write {owner.__name__}.{name}:…"
        if apps := [f"{own!r}, which is {a(value)}" for own in names if _looks_like_an_app(value := getattr(owner, own))]:
            return f"; did you mean {', or '.join(apps)}?"
    return ""


def _looks_like_an_app(value: Any) -> bool:
    """Whether it is an instance of something that can be called as an app is: a function may be anything, and a type that is written
    as `Callable[…]` or `T` is none.
    """
    is_type = isinstance(value, type) or get_origin(value) is not None or type(value).__module__ in ("typing", "typing_extensions")
    return callable(value) and not is_type and not inspect.isroutine(value) and _takes(value, 3)


def _make(factory: Any, name: str, directory: Path) -> Any:
    """What the factory returns."""
    if not callable(factory):
        raise TargetError(f"{name} can't be called: it is {a(factory)}; leave --factory away")
    if not _takes(factory, 0):
        hint = "it takes arguments, and a factory is called without any"
        raise TargetError(f"{name} is no factory: {'it is an app already; leave --factory away' if _takes(factory, 3) else hint}")
    try:
        made = factory()
    except (Exception, SystemExit) as error:
        raise TargetError(f"calling {name} failed: {_describe(error, directory)}") from error
    if inspect.iscoroutine(made):
        made.close()
        raise TargetError(f"{name} is async, and a factory is called before there is an event loop; make it a plain function")
    return made


def checked_app(found: Any, beginning: str, *, factory: bool = False, wanted: str = "an ASGI app") -> ASGIApp:
    """What was found, if it is an app.

    :param beginning: how a sentence about it begins, as `described` says it
    :param factory: whether a factory returned it
    :param wanted: what could have been served
    :raises TargetError: it is something else
    """
    kind = f"{beginning} {a(found)}"
    if isinstance(found, type) and not hasattr(found, "__await__"):  # one with it is an app for a single call, as Starlette's endpoints
        raise TargetError(f"{kind}, and not an app; {_instance(found, factory=factory or not _takes(found, 0))}")
    if not callable(found):
        raise TargetError(f"{kind}, and not {wanted}")
    if not _takes(found, 3):
        hint = ""
        if not factory and _takes(found, 0):
            hint = "; is it a factory? Then say --factory"
        elif not factory and _takes(found, 1):
            hint = "; is it a handler? Then name the router or the app that it is on"
        raise TargetError(f"{kind}, and not an ASGI app: those take scope, receive and send{hint}")
    return found  # type: ignore[no-any-return]


def _instance(found: type, *, factory: bool) -> str:
    """What to do about a class."""
    return f"make an instance of it, as in app = {found.__name__}(…), and name that{'' if factory else ', or say --factory'}"


def _takes(found: Any, count: int) -> bool:
    """Whether it can be called with so many arguments. What doesn't tell, as some builtins don't, is believed to."""
    try:
        inspect.signature(found).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def a(found: Any) -> str:
    """What sort of thing it is, with its article."""
    name = "class" if isinstance(found, type) else type(found).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _nearest(name: str, names: Iterable[str], prefix: str = "") -> str:
    near = get_close_matches(name, list(names), 1)
    return f"; did you mean {prefix + near[0]!r}?" if near else ""


def _describe(error: BaseException, directory: Path) -> str:
    """The error in one line, with the places in the user's own code that led to it, the innermost first; else where it happened."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in frame.filename]
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(directory) and "site-packages" not in frame.filename]
    places = [f"{frame.filename}, line {frame.lineno}" for frame in reversed(own or frames[-1:])]
    return f"{text} ({'; from '.join(places)})" if places else text
