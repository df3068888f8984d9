"""What a lesson is, and what it promises.

A lesson is a file that is read from top to bottom, and a module of tests. Its docstring has three paragraphs: the title, the idea in one
sentence, and a question whose answer is to be guessed before one reads on. Then come experiments, each a test. At its end stand

    BREAK         one change, by which an assertion must fail: it is tried, so that no `assert` is there for show
    READ_NEXT     where this project's own code does what the lesson is about
"""

import ast
import importlib
import inspect
import tokenize
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import anyio
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent

Experiment = Callable[[], Awaitable[None] | None]


@dataclass(frozen=True)
class Break:
    """One change, and what must fail then.

    old, new: what is written instead of what; `old` is there once.
    fails: the assertion, as it stands in the lesson.
    file: what is changed, in this repository; else the lesson itself.
    """

    old: str
    new: str
    fails: str
    file: str = ""


@dataclass(frozen=True)
class Place:
    """A class or function of this project: `Place("microasgi/routing.py", "Router.__call__")`."""

    file: str
    name: str

    @property
    def line(self) -> int:
        """Where its definition begins.

        :raises LookupError: there is none
        """
        body = ast.parse((ROOT / self.file).read_text()).body
        line = 0
        for part in self.name.split("."):
            named = [node for node in body if isinstance(node, Definition) and node.name == part]
            if not named:
                raise LookupError(f"{self.file} has no {self.name}")
            line, body = named[0].lineno, named[0].body
        return line

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.name}"


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Lesson:
    """One of the ten.

    number: its place, from 1.
    file: where it is written.
    """

    number: int
    file: Path

    def __str__(self) -> str:
        return f"lesson {self.number}"

    @property
    def name(self) -> str:
        """The module's."""
        return f"{__package__}.{self.file.stem}"

    @property
    def source(self) -> str:
        return self.file.read_text()

    def paragraphs(self) -> list[str]:
        """The docstring's: title, idea, question."""
        return (ast.get_docstring(ast.parse(self.source)) or "").split("\n\n")

    @property
    def title(self) -> str:
        """Its own, without a full stop."""
        return self.paragraphs()[0].rstrip(".")

    @property
    def idea(self) -> str:
        """What it is about, in one sentence."""
        return self.paragraphs()[1]

    @property
    def question(self) -> str:
        """What to guess before one reads on."""
        return self.paragraphs()[2]

    def needs(self) -> str:
        """Why it can't be run here, if it can't."""
        mark: pytest.MarkDecorator | None = getattr(self.load(), "pytestmark", None)
        return str(mark.kwargs["reason"]) if mark is not None and mark.args[0] else ""

    def code_lines(self) -> int:
        """Lines with code on them: neither empty, nor comments, docstrings or imports, nor the two lists at the end."""
        quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING}
        lines: set[int] = set()
        with tokenize.open(self.file) as text:
            for token in tokenize.generate_tokens(text.readline):
                if token.type not in quiet:
                    lines |= set(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(ast.parse(self.source)):
            if isinstance(node, ast.Module | Definition) and ast.get_docstring(node) is not None:
                lines -= _lines(node.body[0])
            if isinstance(node, ast.Import | ast.ImportFrom) or (isinstance(node, ast.Assign) and _is_at_the_end(node)):
                lines -= _lines(node)
        return len(lines)

    def load(self) -> ModuleType:
        """The module, as it is now."""
        return importlib.import_module(self.name)


def _is_at_the_end(node: ast.Assign) -> bool:
    return ast.unparse(node.targets[0]) in ("BREAK", "READ_NEXT")


def _lines(node: ast.stmt) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def lessons() -> list[Lesson]:
    """All of them, in order."""
    return [Lesson(int(file.stem.split("_")[1]), file) for file in sorted(FOLDER.glob("lesson_*.py"))]


def experiments(module: ModuleType) -> Iterator[Experiment]:
    """A lesson's, in order."""
    for name, value in vars(module).items():
        if name.startswith("test_") and inspect.isfunction(value):
            yield value


def run(experiment: Experiment) -> None:
    """Run one, on asyncio if it is asynchronous."""
    if inspect.iscoroutinefunction(experiment):
        anyio.run(experiment)
    else:
        experiment()
