"""The command: `python -m benchmarks [PART ...]`."""

import argparse
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Self

try:
    import matplotlib
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
except ImportError as error:
    raise SystemExit(f"error: {error.name} is not installed; the benchmarks need more than microasgi: pip install -e '.[bench]'") from None

from benchmarks import report
from benchmarks.errors import BenchmarkError
from benchmarks.interruption import Interrupted, ending_all
from benchmarks.machine import check_platform, circumstances
from benchmarks.measuring import Part, Run
from benchmarks.parts import PARTS


def main() -> None:
    """Measure, print and save. A missed target is a result like any other; exit code 1 means that something kept it from measuring."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.quick and arguments.readme:
        parser.error("--quick gives no result for a README")
    parts = [part for part in PARTS if part.name in (arguments.parts or [part.name for part in PARTS])]
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "microasgi"  # the same data make the same file
    try:
        if arguments.redraw:
            for part in parts:
                report.redraw(part, report.load(part, arguments.output or report.RESULTS), arguments.output or report.RESULTS)
        else:
            check_platform()
            with ending_all():
                _measure(parts, arguments)
        if arguments.readme:
            report.write_documents(parts, arguments.output or report.RESULTS)
    except BenchmarkError as error:
        raise SystemExit(f"error: {error}") from None
    except Interrupted as signal:
        print(f"{signal}: all servers are stopped, and the parts that were complete are saved", file=sys.stderr)
        raise SystemExit(128 + signal.number) from None  # as shells tell it


def _measure(parts: list[Part], arguments: argparse.Namespace) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    # What a quick run has "measured" must not replace results.
    folder = arguments.output or (Path(tempfile.mkdtemp(prefix="microasgi-benchmarks-")) if arguments.quick else report.RESULTS)
    about = circumstances()
    console.print(*(f"{name}: {value}\n" for name, value in about.items()), sep="", highlight=False)
    if float(about["load at the start"]) > int(about["cores"]) / 2:
        console.print("This machine is busy with something else: wait until it is quiet, or don't trust the result.", style="yellow")
    for part in parts:
        console.print(f"\n[bold]{part.name}[/]: {part.question}", highlight=False)
        began = time.monotonic()
        with Bar(part.name) as progress:
            data = part.measure(Run(progress, arguments.quick, arguments.rounds))
        result: report.Result = {
            "part": part.name,
            "date": date.today().isoformat(),
            "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
            "quick": arguments.quick,
            "seconds": time.monotonic() - began,
            "circumstances": about,
            "missing": progress.absent,
            "data": data,
        }
        report.save(part, result, folder)
        report.show(part, result, console)
    console.print(f"\nTables, data and plots are in {folder}", highlight=False)
    if arguments.quick:
        console.print("--quick only shows that the benchmarks work. Its numbers mean nothing.")


class Bar:
    """The progress bar of one part, on stderr. Where that isn't a terminal, a line for each step."""

    def __init__(self, name: str) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[step]}"),
        )
        self._console = Console(stderr=True)
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task: TaskID = self._bar.add_task(name, total=None, step="")
        self.absent: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._bar.stop()

    def total(self, steps: int) -> None:
        self._bar.update(self._task, total=steps)

    def began(self, step: str) -> None:
        self._bar.update(self._task, step=step)
        if not self._console.is_terminal:
            print(step, file=sys.stderr, flush=True)

    def ended(self) -> None:
        self._bar.advance(self._task)

    def missing(self, what: str, remedy: str) -> None:
        self.absent.append((what, remedy))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure microasgi beside what people use. All of it takes half an hour; let nothing else run meanwhile.",
        epilog="parts: " + "; ".join(f"{part.name}: {part.question}" for part in PARTS),
    )
    # `choices` would reject the empty list that stands for all.
    parser.add_argument("parts", nargs="*", metavar="PART", type=_part, help=f"{', '.join(part.name for part in PARTS)} (default: all)")
    parser.add_argument(
        "--rounds", type=_rounds, metavar="N", help="turns for each contestant, where a part takes turns (default: the part's)"
    )
    parser.add_argument("--quick", action="store_true", help="only see whether it all works, in seconds; the numbers mean nothing")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where results go (default: benchmarks/results; with --quick, a temporary one)"
    )
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing: make tables and plots again from the results that are there"
    )
    parser.add_argument("--readme", action="store_true", help="put the results into README.md and benchmarks/README.md, too")
    return parser


def _part(name: str) -> str:
    if name not in [part.name for part in PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part {name!r}")
    return name


def _rounds(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


if __name__ == "__main__":
    main()
