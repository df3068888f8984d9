"""The READMEs and what stands beside them: their sections, examples and links.

```python     runs, and knows what the section has defined before it
```console    what curl is told by a server of the `routes` above: `$ curl …`, and the answer
```shell      what to type; nobody runs it here
```text       what is shown
"""

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.harness import Response, Served
from tests.reference import BEGIN, END

ROOT = Path(__file__).parents[1]

DOCUMENTS = ["README.md", *(f"{folder}/README.md" for folder in ("microasgi", "server", "tests", "benchmarks"))]
DOCUMENTS += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").glob("*.md"))

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_HEADING = re.compile(r"^##+ (.*)$", re.MULTILINE)

_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Section:
    """What stands below a heading, up to the next one; a document's beginning has its name for a title."""

    document: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}: {self.title}"

    def blocks(self) -> list[tuple[str, str]]:
        """Every fenced block: its language, and what is in it."""
        return _FENCE.findall(self.text)

    def python(self) -> list[str]:
        """Its Python examples."""
        return [text for language, text in self.blocks() if language == "python"]


def read(document: str) -> str:
    return (ROOT / document).read_text()


def sections(document: str) -> Iterator[Section]:
    """The document's, without the reference: that shows how things are called, which is no example."""
    text = re.sub(rf"{BEGIN}.*?{END}", "", read(document), flags=re.DOTALL)
    blank = _FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)  # a comment in there is no heading
    starts = [0, *(found.start() for found in _HEADING.finditer(blank)), len(text)]
    for start, end in pairwise(starts):
        heading = _HEADING.match(text, start)
        yield Section(document, heading[1] if heading else document, text[start:end])


def links(document: str) -> Iterator[tuple[Path, str]]:
    """Where it points to in this repository: the file, and the heading's anchor, if any."""
    for target in _LINK.findall(_FENCE.sub("", read(document))):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (ROOT / document).parent / path if path else ROOT / document, anchor


def anchors(path: Path) -> set[str]:
    """What a link to this document may name: its headings, as forges spell them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def conversation(console: str) -> Iterator[tuple[str, str]]:
    """The commands in a console, and what each prints."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, answer = part.partition("\n")
        yield command, answer


def _curl() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("curl")
    parser.add_argument("url")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-d", dest="data")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-b", dest="cookies")
    return parser


async def curl(served: Served, command: str) -> Response:
    """What the server answers to a curl command."""
    program, *arguments = shlex.split(command)
    assert program == "curl", command
    asked = _curl().parse_args(arguments)
    body = (asked.data or "").encode()
    fields = ["Host: localhost:8000", *asked.headers, *([f"Cookie: {asked.cookies}"] if asked.cookies else [])]
    if asked.data is not None:
        fields.append(f"Content-Length: {len(body)}")
        if not any(field.lower().startswith("content-type:") for field in fields):
            fields.append("Content-Type: application/x-www-form-urlencoded")  # as curl has it
    method = asked.method or ("GET" if asked.data is None else "POST")
    head = "\r\n".join([f"{method} {asked.url.removeprefix('localhost:8000')} HTTP/1.1", *fields, "\r\n"])
    async with await served.connect() as client:
        await client.send(head.encode() + body)
        return await client.response(method.encode())
