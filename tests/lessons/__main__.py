"""`python -m tests.lessons`: which lessons there are. With a number, one is run, and says what happened."""

import argparse
import os
import sys

from tests.lessons.form import Lesson, lessons
from tests.lessons.showing import prose, show, show_broken


def main(arguments: list[str]) -> int:
    """The command's exit code."""
    parser = argparse.ArgumentParser("python -m tests.lessons", description="Learn ASGI from this code, in ten lessons.")
    parser.add_argument("number", nargs="?", help="which lesson to run; without it, they are listed")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--timeline", action="store_true", help="show what happens on the wire, in the server, and in the handler")
    how.add_argument("--break", dest="breaks", action="store_true", help="make the change by which the lesson no longer holds")
    given = parser.parse_args(arguments)
    shelf = {str(lesson.number): lesson for lesson in lessons()}
    if given.number is None:
        list_all(list(shelf.values()))
        return 0
    lesson = shelf.get(given.number.lstrip("0"))
    if lesson is None:
        print(f"There is no lesson {given.number!r}: write a number from 1 to {len(shelf)}.", file=sys.stderr)
        return 2
    if given.breaks:
        show_broken(lesson)
    else:
        show(lesson, timeline=given.timeline)
    return 0


def list_all(shelf: list[Lesson]) -> None:
    for lesson in shelf:
        print(f"{lesson.number:2}  {lesson.title}\n{prose(lesson.idea)}")
    print("\nOpen a lesson, guess, and run it: python -m tests.lessons 1")


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)
