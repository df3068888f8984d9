"""`python -m tests.lessons`: which lessons there are. With a number, one is run, and says what happened."""

import argparse
import sys
import textwrap

from tests.lessons.breaking import broken
from tests.lessons.form import ROOT, Break, Lesson, experiments, lessons, run

WIDTH = 100


def main(arguments: list[str]) -> int:
    """The command's exit code."""
    parser = argparse.ArgumentParser("python -m tests.lessons", description="Learn ASGI from this code, in ten lessons.")
    parser.add_argument("number", nargs="?", help="which lesson to run; without it, they are listed")
    parser.add_argument("--break", dest="breaks", action="store_true", help="make the change by which the lesson no longer holds")
    given = parser.parse_args(arguments)
    shelf = {str(lesson.number): lesson for lesson in lessons()}
    if given.number is None:
        for lesson in shelf.values():
            print(f"{lesson.number:2}  {lesson.title}\n{prose(lesson.paragraphs()[1])}")
        print("\nOpen a lesson, guess, and run it: python -m tests.lessons 1")
        return 0
    if given.number not in shelf:
        print(f"There is no lesson {given.number!r}: write a number from 1 to {len(shelf)}.", file=sys.stderr)
        return 2
    lesson = shelf[given.number]
    print(f"{lesson.number}  {lesson.title} ({lesson.file.relative_to(ROOT)})\n")
    if given.breaks:
        show_broken(lesson)
    else:
        show(lesson)
    return 0


def show(lesson: Lesson) -> None:
    """Run a lesson, and tell what happens."""
    _, idea, question = lesson.paragraphs()
    print(f"{prose(idea)}\n\n{prose(question)}\n")
    module = lesson.load()
    for experiment in experiments(module):
        print(f"* {experiment.__doc__}")
        run(experiment)
    print(f"\n    Break it: python -m tests.lessons {lesson.number} --break\n\n    Read next:")
    for place in module.READ_NEXT:
        print(f"        {place}")


def show_broken(lesson: Lesson) -> None:
    """Make its change, and tell what fails."""
    change: Break = lesson.load().BREAK
    print(f"    In {change.file or 'this lesson'}, instead of\n\n{code(change.old)}\n\n    write\n\n{code(change.new)}\n")
    broken(lesson, change)
    print(f"    and it fails at\n\n{code(change.fails)}\n\n    It was done, in memory only.")


def prose(text: str) -> str:
    return textwrap.indent(textwrap.fill(text, WIDTH), " " * 4)


def code(text: str) -> str:
    return textwrap.indent(text.strip("\n"), " " * 8)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
