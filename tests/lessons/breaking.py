"""A lesson, with one change in it or in the code that it is about: the assertion that is named must fail then."""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from tests.lessons.form import ROOT, Break, Lesson, experiments, run

Afresh = Callable[[str], bool]
"""Which modules are imported once more while something is changed; all others are as they were."""


def afresh(file: Path) -> Afresh:
    """The lessons; and if it is our code that is changed, its package, and what the lessons have from that."""
    package = file.relative_to(ROOT).as_posix().removeprefix("server/").partition("/")[0]
    names = [f"{__package__}.lesson_", *(["tests.harness", f"{package}."] if package != "tests" else [])]
    return lambda name: f"{name}.".startswith(tuple(names))


class StillHolds(Exception):
    """The change was made, and what it should break holds all the same, or something else has failed."""


class Changed(SourceFileLoader):
    """Loads one file with other words in it. The file itself stays as it is."""

    def __init__(self, file: Path, old: str, new: str) -> None:
        super().__init__(file.stem, str(file))
        text, break_it, rest = file.read_text().partition("\nBREAK = ")  # which quotes it, in a lesson
        if text.count(old) != 1:
            raise LookupError(f"{file.relative_to(ROOT)} has {text.count(old)} times what is to be changed: {old!r}")
        self.text = text.replace(old, new) + break_it + rest

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Finder(MetaPathFinder):
    """Finds that file, when it is imported."""

    def __init__(self, changed: Changed) -> None:
        self._changed = changed

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not self._changed.path.endswith(f"{name.rpartition('.')[2]}.py"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin != self._changed.path:
            return None
        self._changed.name, spec.loader = name, self._changed
        return spec


@contextmanager
def changed(file: Path, old: str, new: str) -> Iterator[str]:
    """In this block the lessons are imported afresh, and the changed package; this file with `new` for `old`. Gives its text."""
    loader = Changed(file, old, new)
    finder, is_afresh = Finder(loader), afresh(file)
    before = _forgotten(is_afresh)
    sys.meta_path.insert(0, finder)
    try:
        yield loader.text
    finally:
        sys.meta_path.remove(finder)
        _forgotten(is_afresh)
        _remember(before)


def _forgotten(is_afresh: Afresh) -> dict[str, ModuleType]:
    """Forget modules as if nobody had imported them. They are also attributes of the packages that they are in."""
    found = {name: sys.modules.pop(name) for name in list(sys.modules) if is_afresh(name)}
    for name in found:
        package, _, own = name.rpartition(".")
        if package in sys.modules:
            vars(sys.modules[package]).pop(own, None)
    return found


def _remember(modules: dict[str, ModuleType]) -> None:
    sys.modules.update(modules)
    for name, module in modules.items():
        package, _, own = name.rpartition(".")
        if package:
            setattr(sys.modules[package], own, module)


def broken(lesson: Lesson, change: Break) -> None:
    """Make the change, and run the lesson until it fails as it must.

    :raises StillHolds: it doesn't
    """
    file = ROOT / change.file if change.file else lesson.file
    with changed(file, change.old, change.new) as text:
        lines = (lesson.source if change.file else text).splitlines()
        for experiment in experiments(importlib.import_module(lesson.name)):
            try:
                run(experiment)
            except Exception as error:
                failed = [lines[line - 1].strip() for line in _failed_at(error, str(lesson.file))]
                if failed == [change.fails]:
                    return
                raise StillHolds(f"{change.fails!r} should fail; what fails is {failed or repr(error)}") from error
    raise StillHolds(f"{change.fails!r} should fail, and nothing does")


def _failed_at(error: BaseException, file: str) -> list[int]:
    """The lines of a lesson whose assertions have failed: one, unless something else has gone wrong."""
    if isinstance(error, BaseExceptionGroup):
        return [line for inner in error.exceptions for line in _failed_at(inner, file)]
    traceback, line = error.__traceback__, 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == file:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return [line] if line and isinstance(error, AssertionError) else []
