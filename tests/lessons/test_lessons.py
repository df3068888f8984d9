"""The lessons keep their form, each breaks as it says, and the command shows them."""

import ast
import subprocess
import sys

import pytest

from tests.lessons.__main__ import main
from tests.lessons.breaking import StillHolds, broken, changed
from tests.lessons.form import FOLDER, ROOT, Break, Lesson, experiments, lessons

CODE = 80
FIRST = [("wire", "in"), ("core", "head"), ("asgi", "call"), ("handler", "wait")]
LESSONS = lessons()
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=str)


def test_they_are_numbered() -> None:
    """There are ten, and they are numbered without a gap."""
    assert [lesson.number for lesson in LESSONS] == list(range(1, 11))


@each_lesson
def test_a_lesson_has_its_form(lesson: Lesson) -> None:
    """A title as the file has it, an idea in one sentence, a question, experiments that say their rule; at most 80 lines of code."""
    title, idea, question = lesson.paragraphs()
    words = "".join(letter if letter.isalnum() else " " for letter in title.lower()).split()
    assert lesson.file.stem == f"lesson_{lesson.number:02}_{'_'.join(words)}"
    assert idea.count(". ") == 0
    assert idea.endswith(".")
    assert question.startswith("Predict: ")
    assert question.endswith("?")
    assert all(experiment.__doc__ for experiment in experiments(lesson.load()))
    assert lesson.code_lines() <= CODE


@each_lesson
def test_where_to_read_on_exists(lesson: Lesson) -> None:
    """What a lesson says to read next is there."""
    assert lesson.load().READ_NEXT
    for place in lesson.load().READ_NEXT:
        assert place.line


@each_lesson
def test_a_lesson_breaks_as_it_says(lesson: Lesson) -> None:
    """The change at the end of a lesson makes the assertion fail that it names, and no other."""
    if why := lesson.needs():
        pytest.skip(why)
    broken(lesson, lesson.load().BREAK)


def test_a_change_that_breaks_nothing_is_found() -> None:
    """A lesson that holds after its change, or fails elsewhere, or has nothing to be changed, is a fault."""
    first = LESSONS[0]
    with pytest.raises(StillHolds, match="nothing does"):
        broken(first, Break('b"a cup "', 'b"a cup  "[:-1]', "assert waited_for == []"))
    with pytest.raises(StillHolds, match="KeyError"):
        broken(first, Break('message["more_body"]', 'message["more"]', "assert waited_for == []"))
    with pytest.raises(LookupError, match="0 times"), changed(first.file, "nowhere to be found" * 2, ""):
        pass


def test_a_change_leaves_nothing_behind() -> None:
    """Behind a change, every module is the one that it was before."""
    first = LESSONS[0]
    modules, module = dict(sys.modules), first.load()
    broken(first, module.BREAK)
    assert {name: module for name, module in sys.modules.items() if name in modules} == modules
    assert getattr(sys.modules[__package__], first.file.stem) is module


def test_every_lesson_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a number, the command lists the lessons' titles."""
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"{lesson.number:2}  {lesson.title}" in shown for lesson in LESSONS)


def test_a_lesson_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With a number, the command tells the idea and the question, what each experiment shows, how to break it, and where to read on."""
    assert main(["1"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("Predict: ", "* An app can be called by hand", "Break it: ", "call.py:"))
    assert main(["1", "--break"]) == 0
    assert "No file was changed" in capsys.readouterr().out


def test_a_lessons_timeline_is_shown() -> None:
    """With `--timeline` the command tells what a tapped server does while the lesson runs."""
    command = [sys.executable, "-m", "tests.lessons", "07", "--timeline"]  # on its own: the tap stays
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    wire, core, asgi, handler = (done.stdout.find(f"  {lane:8}{what}") for lane, what in FIRST)
    assert 0 < wire < core < asgi < handler, done.stdout


@pytest.mark.parametrize("number", ["0", "11", "four"])
def test_a_lesson_that_is_not_there_is_no_traceback(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that no lesson has is answered with those that there are."""
    assert main([number]) == 2
    assert capsys.readouterr().err == f"There is no lesson {number!r}: write a number from 1 to {len(LESSONS)}.\n"


def test_lessons_stand_by_themselves() -> None:
    """A lesson's experiments take no fixtures: it runs without pytest."""
    for file in FOLDER.glob("lesson_*.py"):
        tests = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert not [node.name for node in tests if node.name.startswith("test_") and node.args.args]
