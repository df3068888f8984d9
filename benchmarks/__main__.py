"""The command: `python -m benchmarks [PART ...]`."""

import argparse
import sys
from dataclasses import replace

from benchmarks import load, report
from benchmarks.errors import BenchmarkError
from benchmarks.parts import PARTS, Settings, run
from benchmarks.processes import check_platform

QUICK = Settings(rounds=1, seconds=0.3, warm_up=0.1, idle_connections=100, settling=0.1)
"""Enough to see that everything works, and to mean nothing."""


def main() -> None:
    """Measure, and print. Ends with exit code 1 if something kept it from measuring; a missed target is a result like any other."""
    arguments = _parser().parse_args()
    settings = QUICK if arguments.quick else Settings(wrk=load.find_wrk())
    given = {name: getattr(arguments, name) for name in ("rounds", "seconds") if getattr(arguments, name) is not None}
    settings = replace(settings, **given)
    names = arguments.parts or [part.name for part in PARTS]
    try:
        check_platform()
        print(report.circumstances(settings), flush=True)
        for part in PARTS:
            if part.name in names:
                print(f"\n{report.results(part, run(part, settings, _progress))}", flush=True)
    except BenchmarkError as error:
        raise SystemExit(f"error: {error}") from None
    if arguments.quick:
        print("\n--quick only shows that the benchmarks work. Its numbers mean nothing.")


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what microasgi costs beside other servers. Takes some minutes; let nothing else run meanwhile.",
        epilog="parts: " + "; ".join(f"{part.name}: {part.question}" for part in PARTS),
    )
    # `choices` would reject the empty list that stands for all.
    parser.add_argument("parts", nargs="*", metavar="PART", type=_part, help=f"{', '.join(part.name for part in PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"turns for each contestant (default: {defaults.rounds})")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"of load in each turn (default: {defaults.seconds:g})")
    parser.add_argument("--quick", action="store_true", help="only see whether it all works, in seconds; the numbers mean nothing")
    return parser


def _part(name: str) -> str:
    if name not in [part.name for part in PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part {name!r}")
    return name


if __name__ == "__main__":
    main()
