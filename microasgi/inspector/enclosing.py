"""The statement of the app's own that holds a cancellation off, or takes it: found in its source, around the line that waits."""

import ast
import linecache
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

_CATCHES = re.compile(r"\b(BaseException|CancelledError|Cancelled|get_cancelled_exc_class)\b")
_SHIELDS = re.compile(r"\bshield\s*=\s*True\b")


def catching(chain: Sequence[str], files: Mapping[str, str]) -> str:
    """The `except` that has taken a cancellation, or the `suppress`, as `shop.py:30: except BaseException:`; empty, if none is seen.

    :param chain: where it was raised, as `shop.py:28 in attempt`, the outermost first
    :param files: paths, by names
    """
    return _found(chain, files, _catches)


def shielding(chain: Sequence[str], files: Mapping[str, str]) -> str:
    """The `with` that shields what waits there, likewise."""
    return _found(chain, files, _shields)


def _found(chain: Sequence[str], files: Mapping[str, str], matches: Callable[[ast.stmt, int], int]) -> str:
    for step in reversed(chain):
        name, _, number = step.partition(" ")[0].rpartition(":")
        path = files.get(name)
        if path is None or not number.isdigit():
            continue
        for node in _around(path, int(number)):
            line = matches(node, int(number))
            if line:
                return f"{name}:{line}: {linecache.getline(path, line).strip()}"
    return ""


def _around(path: str, line: int) -> Iterator[ast.stmt]:
    """The statements that this line is in, the innermost first, up to its function."""
    nodes = (node for node in ast.walk(_tree(path)) if isinstance(node, ast.stmt))
    found = [node for node in nodes if node.lineno <= line <= (node.end_lineno or node.lineno)]
    for node in reversed(found):  # `walk` goes from the outside in
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        yield node


@lru_cache(maxsize=32)
def _tree(path: str) -> ast.Module:
    """What the file says; nothing, if it is no Python."""
    try:
        return ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return ast.parse("")


def _catches(node: ast.stmt, line: int) -> int:
    match node:
        case ast.Try() | ast.TryStar() if node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0):
            for handler in node.handlers:
                if _takes(handler.type) and not any(isinstance(inner, ast.Raise) for inner in ast.walk(handler)):
                    return handler.lineno
        case ast.With():
            for item in node.items:
                if "suppress" in ast.unparse(item.context_expr) and _takes(item.context_expr):
                    return node.lineno
    return 0


def _takes(kind: ast.expr | None) -> bool:
    return kind is None or bool(_CATCHES.search(ast.unparse(kind)))


def _shields(node: ast.stmt, line: int) -> int:
    if isinstance(node, ast.With | ast.AsyncWith) and any(_SHIELDS.search(ast.unparse(item.context_expr)) for item in node.items):
        return node.lineno
    return 0
