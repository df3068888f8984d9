"""What comes of a part: tables in the terminal and in Markdown, the data in JSON, plots in SVG and PNG, and its place in two READMEs."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Data, Part, Table, Target
from benchmarks.running import ROOT

RESULTS = ROOT / "benchmarks" / "results"

Result = dict[str, Any]
"""What is kept of one run of a part: `part`, `date`, `command`, `quick`, `seconds`, `circumstances`, `missing`, and the part's `data`."""


def save(part: Part, result: Result, folder: Path) -> None:
    """Write PART.json, and what can be made of it: PART.md and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    redraw(part, result, folder)


def load(part: Part, folder: Path) -> Result:
    """What an earlier run has saved.

    :raises BenchmarkError: there is none
    """
    path = folder / f"{part.name}.json"
    try:
        result: Result = json.loads(path.read_text())
    except FileNotFoundError:
        raise BenchmarkError(f"{path} doesn't exist; measure first: python -m benchmarks {part.name}") from None
    return result


def redraw(part: Part, result: Result, folder: Path) -> None:
    """Make the Markdown and the plots again."""
    (folder / f"{part.name}.md").write_text(markdown(part, result))
    for name, figure in part.figures(result["data"]).items():
        for kind in ("svg", "png"):
            # Neither the date nor a random id: the same data make the same file.
            metadata = {"Date": None} if kind == "svg" else {}
            figure.savefig(folder / f"{name}.{kind}", metadata=metadata, bbox_inches="tight", dpi=120)


def show(part: Part, result: Result, console: Console) -> None:
    """Print a part's tables, its targets, and what is missing in it."""
    for table in part.tables(result["data"]):
        # Outside of the grid, which may be too narrow for them.
        console.print(f"\n{table.title}", style="bold", markup=False, highlight=False)
        console.print(_rich(table))
        if table.note:
            console.print(table.note, markup=False, highlight=False)
    for target in part.targets(result["data"]):
        verdict = Text("met", "green") if target.met else Text("MISSED", "bold red")
        console.print(f"{target.what}: {target.measured}, wanted {target.wanted}:", verdict, highlight=False)
    for line in _missing(result):
        console.print(Text(line, "yellow"))


def markdown(part: Part, result: Result) -> str:
    """A part's page."""
    about = result["circumstances"]
    lines = [f"# {part.name}", "", part.question, ""]
    lines += [f"Measured on {result['date']} with `{result['command']}`, in {result['seconds']:.0f} s."]
    if result["quick"]:
        lines += ["", "**Only to show that it works: with --quick the numbers mean nothing.**"]
    for table in part.tables(result["data"]):
        lines += ["", f"## {table.title}", "", *described(table)]
    if targets := part.targets(result["data"]):
        rows = [(target.what, target.wanted, target.measured, "met" if target.met else "**missed**") for target in targets]
        lines += ["", "## Targets", "", *grid(("what", "wanted", "measured", ""), rows)]
    lines += [f"\n![{name}]({name}.svg)" for name in part.figures(result["data"])]
    lines += ["", "## Circumstances", "", *(f"* {name}: {value}" for name, value in about.items())]
    lines += [f"* {line}" for line in _missing(result)]
    return "\n".join(lines) + "\n"


def described(table: Table) -> list[str]:
    """A table and its note in Markdown, line by line."""
    return [*grid(table.columns, table.rows), *(["", table.note] if table.note else [])]


def section(table: Table) -> list[str]:
    """The same below its title, for a page."""
    return [f"**{table.title}**", "", *described(table)]


def verdict(targets: Sequence[Target]) -> str:
    """Which of them are met, in a sentence; nothing if there are none."""
    if not targets:
        return ""
    missed = [f"{target.what}: {target.measured}, wanted {target.wanted}" for target in targets if not target.met]
    met = f"Targets met: {len(targets) - len(missed)} of {len(targets)}."
    return f"{met} Missed: {'; '.join(missed)}." if missed else met


def grid(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A Markdown table, line by line."""
    head = list(columns)
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


@dataclass(frozen=True)
class Document:
    """A text in which results have their places, each between `<!-- benchmarks: NAME -->` and `<!-- end -->`.

    told: what this document tells of a part: which of its functions that is.
    source: what stands below, with the fields of a result.
    """

    path: Path
    told: Callable[[Part], Callable[[Data], str] | None]
    source: str


README = Document(ROOT / "README.md", lambda part: part.claim, " ([more](benchmarks/README.md#{part}), {date})")
PAGE = Document(ROOT / "benchmarks" / "README.md", lambda part: part.page, "\n\n*Made by `{command}` on {date}.*")


def write_documents(parts: Sequence[Part], folder: Path) -> None:
    """Put what the parts have to tell between their markers, in README.md and in benchmarks/README.md.

    :raises BenchmarkError: a result or a marker is missing, or the result is only that of a --quick run
    """
    filled = {document.path: with_results(document, document.path.read_text(), parts, folder) for document in (README, PAGE)}
    for path, text in filled.items():
        path.write_text(text)


def with_results(document: Document, text: str, parts: Iterable[Part], folder: Path) -> str:
    """The document's text, with what stands between a part's markers made anew."""
    for part in parts:
        tell = document.told(part)
        if tell is None:
            continue
        result = load(part, folder)
        if result["quick"]:
            raise BenchmarkError(f"{part.name} was only run with --quick: that is no result for a README")
        begin = f"<!-- benchmarks: {part.name} -->"
        text = with_place(document.path, text, begin, f"{tell(result['data'])}{document.source.format(**result)}")
    return text


def with_place(path: Path, text: str, begin: str, shown: str) -> str:
    """A document's text, with this shown between a mark and the next end.

    :raises BenchmarkError: there isn't one such place
    """
    pieces = re.split(rf"{re.escape(begin)}.*?<!-- end -->", text, flags=re.DOTALL)
    if len(pieces) != 2:
        raise BenchmarkError(f"{path.relative_to(ROOT)} has {len(pieces) - 1} places marked {begin}; it must have one")
    return f"{begin}\n{shown}\n<!-- end -->".join(pieces)


def _rich(table: Table) -> RichTable:
    shown = RichTable()
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if number == 0 else "right")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _missing(result: Result) -> list[str]:
    return [f"not measured: {what}; to have it measured: {remedy}" for what, remedy in result["missing"]]
