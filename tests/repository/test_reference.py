"""The reference of public names: it is complete, up to date, and every name is seen in use."""

import ast
import re
from textwrap import dedent

import pytest

from tests.documents import DOCUMENTS, sections
from tests.reference import PAGE, documentation, public, reference, with_reference

NAMES = [pytest.param(name, value, id=f"{module.__name__}.{name}") for module, name, value in public()]

EXAMPLES = "\n".join(text for document in DOCUMENTS for section in sections(document) for text in section.python())
"""All Python in the documents, which runs in `test_documents.py`."""


def test_the_reference_is_up_to_date() -> None:
    """What microasgi/README.md says of public names is what their docstrings say."""
    text = PAGE.read_text()
    assert with_reference(text) == text, "run: python -m tests.reference"


def test_what_is_overloaded_is_shown_with_its_docstring() -> None:
    """Of several signatures of a method it is the one that says what it does."""
    assert "* `await json(model: Any = None, *, limit: int | None = None)`: The body, read as JSON." in reference()


@pytest.mark.parametrize(("name", "value"), NAMES)
def test_every_public_name_has_a_docstring_of_its_own(name: str, value: object) -> None:
    """Each says what it is: a class isn't content with its base's words."""
    assert documentation(name, value)


@pytest.mark.parametrize(("name", "value"), NAMES)
def test_every_public_name_is_seen_in_use(name: str, value: object) -> None:
    """Each is in an example that runs, or has one in its docstring."""
    shown = examples(documentation(name, value))
    assert re.search(rf"\b{name}\b", EXAMPLES) or any(name in example for example in shown)
    for example in shown:
        ast.parse(example)


def examples(doc: str) -> list[str]:
    """The indented pieces of a docstring that stand alone."""
    return [dedent(f"    {piece}") for piece in re.findall(r"\n\n    (.*?)(?=\n\n\S|\Z)", doc, re.DOTALL)]
