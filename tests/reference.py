"""The reference of every public name, made of signatures and docstrings as they stand in the source.

`python -m tests.reference` writes it into microasgi/README.md, between its marks; a test holds it there.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import microasgi_server

import microasgi
import microasgi.lint
import microasgi.testing

PAGE = Path(__file__).parents[1] / "microasgi" / "README.md"

BEGIN, END = "<!-- reference -->", "<!-- end -->"

MODULES: tuple[ModuleType, ...] = (microasgi, microasgi.testing, microasgi.lint, microasgi_server)

_OURS = tuple(module.__name__ for module in MODULES)

_ATTRIBUTE = re.compile(r"^(\w+(?:, \w+)*): (?=\S)", re.MULTILINE)

_FIELD = re.compile(r"^:(param|raises|returns)(?: (\w+))?: ", re.MULTILINE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public() -> Iterator[tuple[ModuleType, str, Any]]:
    """Every public name: its module, itself, and what it stands for."""
    for module in MODULES:
        for name in module.__all__:
            yield module, name, getattr(module, name)


def reference() -> str:
    """All of it, in Markdown."""
    parts = []
    for module in MODULES:
        entries = [_entry(name, value) for owner, name, value in public() if owner is module]
        parts.append("\n\n".join([f"### From `{module.__name__}`", *entries]))
    return "\n\n".join(parts)


def with_reference(text: str) -> str:
    """The page with the reference made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"error: {PAGE.name} has no place for the reference: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def _entry(name: str, value: Any) -> str:
    node = _syntax(name, value)
    lines = [f"#### {name}", "", "```python", *_signature(name, node), "```", "", _markdown(documentation(name, value))]
    if isinstance(node, ast.ClassDef):
        members = [_member(each) for each in _members(value)]
        lines += ["", "Its members:", "", *members] if members else []
    return "\n".join(lines)


def documentation(name: str, value: Any) -> str:
    """Its docstring; that of a type's alias is the text below it."""
    if inspect.isroutine(value) or isinstance(value, type):
        return inspect.cleandoc(vars(value).get("__doc__") or "" if isinstance(value, type) else value.__doc__ or "")
    _, below = _alias(name)
    text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def _syntax(name: str, value: Any) -> ast.stmt:
    if inspect.isroutine(value) or isinstance(value, type):
        return ast.parse(inspect.cleandoc(f"\n{inspect.getsource(value)}")).body[0]
    return _alias(name)[0]


def _alias(name: str) -> tuple[ast.stmt, ast.stmt | None]:
    """Where a name that is neither a class nor a function gets its value, and the statement behind that."""
    for module in MODULES:
        for file in sorted(Path(str(module.__file__)).parent.rglob("*.py")):
            body = ast.parse(file.read_text()).body
            for node, below in zip(body, [*body[1:], None], strict=True):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
                if any(ast.unparse(target) == name for target in targets):
                    return node, below
    raise LookupError(name)


def _signature(name: str, node: ast.stmt) -> list[str]:
    """How it is called, a parameter a line if there are many."""
    if isinstance(node, ast.ClassDef):
        body = node.body
        makers = [each for each in body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        if makers:
            return _call(name, _parameters(makers[0])[1:])
        fields = [each for each in body if isinstance(each, ast.AnnAssign) and not ast.unparse(each.target).startswith("_")]
        is_data = any(ast.unparse(each).startswith("dataclass") for each in node.decorator_list)
        bases = ", ".join(map(ast.unparse, node.bases))
        return _call(name, [ast.unparse(field) for field in fields]) if is_data or "NamedTuple" in bases else [f"class {name}({bases})"]
    if not isinstance(node, Function):
        return [ast.unparse(node)]
    kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return _call(f"{kind}{name}", _parameters(node))


def _call(name: str, parameters: list[str]) -> list[str]:
    whole = f"{name}({', '.join(parameters)})"
    return [whole] if len(whole) <= 100 else [f"{name}(", *(f"    {parameter}," for parameter in parameters), ")"]


def _parameters(node: Function) -> list[str]:
    """Each as it is written, `self` too."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    found = [_parameter(each, default) for each, default in zip(plain, defaults, strict=True)]
    if given.vararg:
        found.append(f"*{ast.unparse(given.vararg)}")
    elif given.kwonlyargs:
        found.append("*")
    found += [_parameter(each, default) for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return found + ([f"**{ast.unparse(given.kwarg)}"] if given.kwarg else [])


def _parameter(parameter: ast.arg, default: ast.expr | None) -> str:
    equals = " = " if parameter.annotation else "="
    return ast.unparse(parameter) + (f"{equals}{ast.unparse(default)}" if default else "")


def _members(cls: type) -> Iterator[Function]:
    """Its public methods and properties, and those of what it is made of, if neither that nor what that is part of has an entry."""
    others = [value for _, _, value in public() if value is not cls]  # one is a dict
    told = {part for base in cls.__mro__ if base in others for part in base.__mro__}
    seen: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith(_OURS) or base in told:
            continue
        node = _syntax(base.__name__, base)
        assert isinstance(node, ast.ClassDef)
        for each in node.body:
            if isinstance(each, Function) and not (each.name.startswith("_") or each.name in seen or _is_overload(each)):
                seen.add(each.name)
                yield each


def _is_overload(node: Function) -> bool:
    """Whether it is for type checkers; the one behind it has the docstring."""
    return any(ast.unparse(each) == "overload" for each in node.decorator_list)


def _member(node: Function) -> str:
    """One line of a list, and what goes with it."""
    is_property = any("property" in ast.unparse(each) for each in node.decorator_list)
    kind = "await " if isinstance(node, ast.AsyncFunctionDef) and not _is_iterated(node) else ""
    called = f"{node.name}" if is_property else f"{kind}{node.name}({', '.join(_parameters(node)[1:])})"
    doc = _markdown(inspect.cleandoc(ast.get_docstring(node) or ""))
    return f"* `{called}`" + (": " + re.sub(r"\n(?!\n)", "\n  ", doc) if doc else "")


def _is_iterated(node: ast.AsyncFunctionDef) -> bool:
    return node.returns is not None and ast.unparse(node.returns).startswith(("AsyncGenerator", "AsyncIterator"))


def _markdown(doc: str) -> str:
    """A docstring's paragraphs, fields as a list, and examples as code."""
    paragraphs = re.split(r"\n\s*\n(?=\S)", doc)  # not inside an example
    return "\n\n".join(_paragraph(piece) for paragraph in paragraphs for piece in _apart(paragraph))


def _apart(paragraph: str) -> Iterator[str]:
    """The text, and the example behind it."""
    text, gap, example = paragraph.partition("\n\n    ")
    yield text
    if gap:
        yield f"```python\n{dedent(f'    {example}').rstrip()}\n```"


def _paragraph(text: str) -> str:
    if text.startswith("```"):
        return text
    text = _FIELD.sub(lambda found: "* " + (f"{_SAID[found[1]]}`{found[2]}`: " if found[2] else f"{_SAID[found[1]]}: "), text)
    return _ATTRIBUTE.sub(r"* `\1`: ", text)


_SAID = {"param": "", "raises": "raises ", "returns": "returns"}


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text()))
