"""A lesson, with one change in it or in the code that it is about: the assertion that is named must fail then."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from tests.lessons.form import FOLDER, ROOT, Break, Lesson, experiments, run

LESSONS = ("tests.lessons.lesson_",)
ALL = ("microasgi", "microasgi_server", "tests.harness", *LESSONS)
"""What is imported once more while something of it is changed; everything else is as it was."""


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

    def __init__(self, changed: Changed, afresh: tuple[str, ...]) -> None:
        self._changed = changed
        self._afresh = afresh

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name.startswith(self._afresh) else None
        if spec is None or spec.origin != self._changed.path:
            return None
        self._changed.name, spec.loader = name, self._changed
        return spec


@contextmanager
def changed(file: Path, old: str, new: str) -> Iterator[str]:
    """The lessons are imported afresh in this block, and the packages if need be; this file with `new` for `old`. Gives its text."""
    loader = Changed(file, old, new)
    afresh = LESSONS if file.parent == FOLDER else ALL
    finder = Finder(loader, afresh)
    before = {name: module for name, module in sys.modules.items() if name.startswith(afresh)}
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield loader.text
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith(afresh)]:
            del sys.modules[name]
        sys.modules.update(before)


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
