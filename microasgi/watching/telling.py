"""What `microasgi_server.taps` takes from who has more to tell. This package doesn't know it, and finds it in the scope."""

from collections.abc import Callable
from types import CodeType
from typing import Any

EXTENSION = "microasgi.tap"
"""Where the request's voice is: `scope["extensions"]["microasgi.tap"]["tell"]`."""

Source = tuple[CodeType, int]
"""A place in the code: the instruction's offset in it."""

Tell = Callable[[str, str, Source | None, dict[str, Any]], object]
"""Lane, what, where in the code, and plain facts."""

SHOWN = 256


def error_text(error: BaseException) -> str:
    """An exception, by its type and what it says: as the tap has it, to which facts come as they are. A test holds the two together."""
    try:
        text = str(error)[:SHOWN]
    except Exception:  # one that can't even say what it is
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
