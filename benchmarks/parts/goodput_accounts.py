"""What became of a server's clients, and for whom its slots worked: the arithmetic of `goodput`, without I/O."""

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import mean, median
from typing import Any

from benchmarks.clients.patience import Outcome, Phase
from benchmarks.measuring import Data, percentile

PROMPT = 0.02
"""Seconds that one client in a hundred may come late: a tenth of what the least patient one has."""

STRETCHED = 1.05
"""How much longer than it should the work may take on average in most stacks. That is the machine, and takes as much of the capacity."""


def account(visits: Sequence[Outcome], notes: Mapping[str, Mapping[str, Any]], zero: float, seconds: int) -> Data:
    """What became of one server's clients, and for whom its slots worked until the last of them had come.

    Work is for nobody if its client had no answer of it: it left before, or while, or between the work's end and the answer's arrival.

    visits: all to this server.
    notes: the handlers', by token.
    zero: the time that seconds count from.

    :return: answered, nobody: by the second; served: clients; failed: visits; used: slot-seconds; queued: handlers that still ran for
        nobody at the end; work: how long the work took where it went to its end
    """
    answered = [visit for visit in visits if visit.phase == Phase.ANSWERED]
    tokens = {visit.token for visit in answered}
    left = {visit.token for visit in visits if visit.phase == Phase.LEFT and visit.ended - zero <= seconds}
    nobody, used = [0.0] * seconds, 0.0
    for token, note in notes.items():
        if "worked" in note and note["ended"] is not None and 0 <= (ended := note["ended"] - zero) < seconds:
            used += note["worked"]
            if token not in tokens:
                nobody[int(ended)] += note["worked"]
    whole = [note["worked"] for note in notes.values() if "worked" in note and note["how"] == "finished"] or [0.0]
    return {
        "answered": per_second([visit.ended - zero for visit in answered], seconds),
        "nobody": [round(each, 2) for each in nobody],
        "served": len({token.partition(".")[0] for token in tokens}),
        "failed": sum(visit.phase == Phase.FAILED for visit in visits),
        "used": round(used, 1),
        "queued": sum(token in left and (note["ended"] is None or note["ended"] - zero > seconds) for token, note in notes.items()),
        "work": {"mean": round(mean(whole), 4), "p99": round(percentile(whole, 0.99), 4)},
    }


def per_second(times: Sequence[float], seconds: int) -> list[int]:
    """How many of them are in each second."""
    counts = [0] * seconds
    for moment in times:
        if 0 <= moment < seconds:
            counts[int(moment)] += 1
    return counts


def recovery(answered: Sequence[int], data: Data) -> int | None:
    """The first second after the burst since which each has had answers for at least half of the clients. None: there is none."""
    poor = [second for second, count in enumerate(answered) if count < data["rate"] / 2]
    since = max([ceil(data["burst"][1]), *(second + 1 for second in poor)])
    return since if since < len(answered) else None


def doubts(variant: Data, work: float) -> list[str]:
    """The reasons, if there are any, not to trust a variant: the clients or the machine haven't kept up.

    work: the seconds that a piece of it should take.
    """
    reasons = []
    if variant["lag"]["p99"] > PROMPT:
        reasons.append(f"one client in a hundred came at least {1000 * variant['lag']['p99']:.0f} ms late")
    if (took := median(stack["work"]["mean"] for stack in variant["stacks"])) > STRETCHED * work:
        reasons.append(f"{1000 * work:.0f} ms of work took {1000 * took:.0f} ms on average")
    return reasons
