"""A lesson on a terminal: its idea and its question, then what each experiment shows."""

import logging
import textwrap
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from microasgi_server.taps import Event

from tests.lessons.breaking import broken
from tests.lessons.form import ROOT, Break, Lesson, experiments, run
from tests.tapping import RING, tap_everything

WIDTH = 100
ENOUGH = 60
"""Lines of a timeline; of a longer one, the middle is left out."""


def show(lesson: Lesson, *, timeline: bool) -> None:
    """Run a lesson, and tell what happens.

    :param timeline: tell all that happens in servers of ours, too
    """
    print(f"{heading(lesson)}\n\n{prose(lesson.idea)}\n\n{prose(lesson.question)}\n")
    if why := lesson.needs():
        print(f"    It can't be run here: {why}.")
        return
    _have_no_logs()
    module = lesson.load()
    if timeline and not hasattr(module, "tapped"):  # else it does so itself
        tap_everything()
    for experiment in experiments(module):
        print(f"* {experiment.__doc__}")
        began = time.perf_counter()
        run(experiment)
        for line in folded(list(told(event for event in RING.events() if event.at >= began))):
            print(f"  {line}"[:WIDTH])
    print(f"\n    Break it: python -m tests.lessons {lesson.number} --break\n\n    Read next:")
    for place in module.READ_NEXT:
        print(f"        {place}")


def show_broken(lesson: Lesson) -> None:
    """Make its change, and tell what fails."""
    _have_no_logs()
    change: Break = lesson.load().BREAK
    print(f"{heading(lesson)}\n\n    In {change.file or 'this lesson'}, instead of\n\n{code(change.old)}\n")
    print(f"    write\n\n{code(change.new)}\n")
    broken(lesson, change)
    print(f"\n    and it fails at\n\n{code(change.fails)}\n\n    No file was changed: try it yourself.")


def told(events: Iterable[Event]) -> Iterator[str]:
    """Events as lines: milliseconds from the first, the lane, what it was. Many of a kind are one line."""
    first: float | None = None
    for (lane, what), group in groupby(events, key=lambda event: (event.lane, event.what)):
        event, *others = group
        first = event.at if first is None else first
        yield f"{(event.at - first) * 1000:9.3f}  {lane:8}{what} {_brief(event.facts)}"
        if others:
            yield f"{'':11}{lane:8}… and {len(others)} more like this"


def folded(lines: list[str]) -> list[str]:
    """The lines, or the first and the last of them."""
    if len(lines) <= ENOUGH:
        return lines
    half = ENOUGH // 2
    return [*lines[:half], f"… {len(lines) - 2 * half} lines more …", *lines[-half:]]


def _brief(facts: dict[str, Any]) -> str:
    words = [f"{value['size']} bytes" if name == "data" else f"{name}: {value}" for name, value in facts.items() if name != "task"]
    return ", ".join(words)


def _have_no_logs() -> None:
    """What goes wrong on purpose needs no traceback."""
    for name in ("microasgi", "microasgi_server"):
        logging.getLogger(name).addHandler(logging.NullHandler())


def heading(lesson: Lesson) -> str:
    return f"{lesson.number}  {lesson.title} ({lesson.file.relative_to(ROOT)})"


def prose(text: str) -> str:
    return textwrap.indent(textwrap.fill(text, WIDTH), " " * 4)


def code(text: str) -> str:
    return textwrap.indent(text.strip("\n"), " " * 8)
