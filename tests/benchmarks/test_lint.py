"""What `python -m benchmarks.lint` has found, and that the page shows it."""

import json
import sys

import pytest

from benchmarks import lint
from benchmarks.errors import BenchmarkError
from microasgi.lint import RULES

RESULT = json.loads(lint.FILE.read_text())


def test_the_page_shows_the_results() -> None:
    """What stands between the marks is what is made of results/lint.json, and its words are those of today's rules."""
    text = lint.PAGE.read_text()
    assert lint.with_result(text, RESULT) == text, "run: python -m benchmarks.lint --redraw"


def test_ours_keep_to_the_rules() -> None:
    """Neither our server, on any loop, nor a Router does anything that is more than a note; and whatever was broken is still a rule."""
    ours = [each for each in RESULT["servers"] + RESULT["apps"] if each["name"].startswith("microasgi")]
    assert len(ours) == 4
    assert {found["level"] for each in ours for found in each["found"]} <= {"NOTE"}
    assert {found["rule"] for each in RESULT["servers"] + RESULT["apps"] for found in each["found"]} <= RULES.keys()


def test_an_app_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One app's answers, as a line of JSON."""
    monkeypatch.setattr(sys, "argv", ["lint", "--app", "microasgi"])
    lint.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["name"] == "microasgi"
    assert {found["level"] for found in told["found"]} <= {"NOTE"}


def test_a_page_without_a_place_is_named() -> None:
    """A page that has no place for the results is left alone."""
    with pytest.raises(BenchmarkError, match=r"README\.md has 0 places marked <!-- lint -->"):
        lint.with_result("nothing", RESULT)
