"""The ladders in the documents, which are what the commands above them print.

`python -m tests.ladders` runs them, which takes some fifteen seconds on a quiet machine, and writes what they print between the marks of
every document; `python -m tests.ladders --print` only prints it.
"""

import re
import subprocess
import sys
from collections.abc import Mapping

from tests.documents import DOCUMENTS, ROOT

APPS = ROOT / "tests" / "inspector" / "apps"

COMMANDS: Mapping[str, str] = {
    "ours": "microasgi trace shop:routes GET /report/2024 --leave-after 1s",
    "uvicorn": "microasgi trace starlette_shop:app GET /report/2024 --leave-after 1s --server uvicorn --patience 10s",
}
"""The post's experiment, on our server and on another."""

END = "<!-- end of ladder -->"


def begin(name: str) -> str:
    """The mark above a ladder."""
    return f"<!-- ladder {name} -->"


def marked(text: str) -> dict[str, str]:
    """The ladders in a document, by their names."""
    return dict(re.findall(rf"^<!-- ladder (\w+) -->\n(.*?)^{END}$", text, re.MULTILINE | re.DOTALL))


def with_ladders(text: str, blocks: Mapping[str, str]) -> str:
    """The document with its ladders made anew."""
    for name in marked(text):
        before, mark, rest = text.partition(f"{begin(name)}\n")
        text = f"{before}{mark}{blocks[name]}{END}{rest.partition(END)[2]}"
    return text


def block(name: str) -> str:
    """A ladder as a document shows it, made by its command."""
    program, *arguments = COMMANDS[name].split()
    command = [sys.executable, "-m", program, *arguments]
    done = subprocess.run(command, cwd=APPS, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    return f"```text\n$ {COMMANDS[name]}\n{done.stdout}```\n"


def main() -> None:
    """Write them, or print them."""
    blocks = {name: block(name) for name in COMMANDS}
    if "--print" in sys.argv[1:]:
        print(*blocks.values(), sep="\n")
        return
    for document in DOCUMENTS:
        path = ROOT / document
        path.write_text(with_ladders(path.read_text(), blocks))


if __name__ == "__main__":
    main()
