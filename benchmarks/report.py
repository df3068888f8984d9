"""What is printed: the circumstances, the samples, the ratios."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from statistics import median

from benchmarks.contestants import Contestant
from benchmarks.load import describe
from benchmarks.parts import Pair, Part, Sample, Settings


def circumstances(settings: Settings) -> str:
    """Everything that a reader needs to know before comparing with another machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = os.getloadavg()[0]
    versions = []
    for package in ("microasgi", "anyio", "h11", "uvloop", "trio", "uvicorn", "hypercorn"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    lines = [
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.release()} on {platform.machine()},"
        f" {cores} cores, load {busy:.2f} at the start",
        ", ".join(versions),
        f"{settings.rounds} rounds; load: {settings.connections} keep-alive connections for {settings.seconds:g} s,"
        f" after {settings.warm_up:g} s of warm-up; idle: {settings.idle_connections} connections",
        f"load from {describe(settings.wrk)}",
    ]
    if cores is not None and busy > cores / 2:
        lines.append("This machine is busy with something else: wait until it is quiet, or don't trust the result.")
    return "\n".join(lines)


def results(part: Part, samples: dict[Contestant, list[Sample]]) -> str:
    """One part's tables."""
    lines = [f"{part.name}: {part.question}", ""]
    width = max(len(contestant.name) for contestant in samples)
    for contestant, own in samples.items():
        costs = [sample.cost for sample in own]
        line = f"  {contestant.name:<{width}}  {median(costs):8.1f} {part.unit}  ({min(costs):.1f} to {max(costs):.1f})"
        throughputs = [sample.throughput for sample in own if sample.throughput is not None]
        lines.append(line + (f"  {median(throughputs):9,.0f} requests/s" if throughputs else ""))
    lines.append("")
    lines.extend(_ratio(pair, samples) for pair in part.pairs)
    return "\n".join(lines)


def _ratio(pair: Pair, samples: dict[Contestant, list[Sample]]) -> str:
    ratios = [first.cost / second.cost for first, second in zip(samples[pair.first], samples[pair.second], strict=True)]
    middle = median(ratios)
    verdict = "met" if middle <= pair.target else "MISSED"
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    return f"  {pair.first.name} / {pair.second.name}: {middle:.2f} {spread}, target at most {pair.target:.2f}: {verdict}"
