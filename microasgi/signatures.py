"""What a function takes, as far as it tells."""

import inspect
from collections.abc import Callable
from typing import Any


def name_of(function: Any) -> str:
    """What a function is called, for a message."""
    return getattr(function, "__name__", None) or repr(function)


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """What a function takes; None if it doesn't tell, as some builtins and Sentry's middleware don't."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """The names of what it takes."""
    signature = signature_of(function)
    return list(signature.parameters) if signature is not None else []


def check_arguments(function: Callable[..., Any], names: list[str], what: str, how: str, hint: str = "") -> None:
    """It can be called with as many arguments as there are names, which are the usual ones.

    :raises TypeError: it can't
    """
    signature = signature_of(function)
    if signature is None:
        return
    try:
        signature.bind(*names)
    except TypeError as error:
        shown = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
        told = signature.replace(parameters=shown, return_annotation=signature.empty)
        # Who takes nothing is told what to write: "too many arguments" is how its caller sees it.
        written = hint or ("" if shown else f"; write {name_of(function)}({', '.join(names)})")
        raise TypeError(f"{what}{told} must be callable {how}{f': {error}' if shown else ''}{written}") from None


def is_for(function: Callable[..., Any], kind: str) -> bool:
    """Whether the first of what it takes is annotated with a class of this name, or one that is derived from it."""
    signature = signature_of(function)
    first = next(iter(signature.parameters.values()), None) if signature is not None else None
    annotation = first.annotation if first is not None else None
    if isinstance(annotation, str):  # as all are under `from __future__ import annotations`
        name = annotation.strip("'\"")
        return name.replace(".", "").isidentifier() and name.rpartition(".")[2] == kind
    return any(each.__name__ == kind for each in getattr(annotation, "__mro__", ()))
