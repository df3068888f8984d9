"""The ladders in the documents: they are there, and of the commands above them."""

import pytest

from tests.documents import DOCUMENTS, read
from tests.ladders import COMMANDS, END, begin, marked, with_ladders


@pytest.mark.parametrize("name", COMMANDS)
def test_both_ladders_are_shown(name: str) -> None:
    """The post's experiment on our server and on another, each as its command prints it: `python -m tests.ladders` made them."""
    shown = [ladders[name] for document in DOCUMENTS if name in (ladders := marked(read(document)))]
    assert shown
    for ladder in shown:
        lines = ladder.splitlines()
        assert lines[:3] == ["```text", f"$ {COMMANDS[name]}", "     ms client wire server ASGI handler"]
        assert max(map(len, lines[2:])) <= 80
        assert "✕" in ladder
        assert "The client left at" in ladder


def test_ladders_are_made_anew_between_their_marks() -> None:
    """What stands around stays."""
    page = f"above\n\n{begin('ours')}\nold\n{END}\n\nbelow\n"
    assert with_ladders(page, {"ours": "new\n"}) == page.replace("old", "new")
