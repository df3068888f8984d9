"""The part `overhead`: what it makes of its data, and that what it compares differs in nothing but the promise."""

import pytest

from benchmarks.apps import microasgi as app
from benchmarks.apps import work
from benchmarks.measuring import Data
from benchmarks.parts import overhead
from benchmarks.sampling import Sample, plain
from tests.harness import GET, serving

HUNDRED = (100.0, 100.0, 100.0)


def data(*, protected: tuple[float, ...], waiting: tuple[float, ...] = (), delivery: float = 9.0) -> Data:
    """As if these were the µs of a request in each round with the promise, on our server and asyncio; without it, it is a hundred.

    waiting: where the handler waits once.
    """
    rounds = [("microasgi", "hello", protected), ("microasgi-unprotected", "hello", HUNDRED)]
    if waiting:
        rounds += [("microasgi", "one that waits once", waiting), ("microasgi-unprotected", "one that waits once", HUNDRED)]
    samples = [
        Sample(f"{name}/microasgi/asyncio", handler, number, 10_000, 1.0, 1, cost / 100, 0.5)
        for name, handler, costs in rounds
        for number, cost in enumerate(costs)
    ]
    in_process = {"asyncio": {"a handler that waits once": {"bare": [6.0], "delivery": [6.0 + delivery], "whole protection": [17.0]}}}
    return {"samples": plain(samples), "in process": in_process}


@pytest.mark.parametrize(
    ("protected", "delivery", "met"),
    [((102.0, 150.0, 102.5), 12.0, [True, True]), ((102.0, 102.6, 112.0), 12.1, [False, False])],
)
def test_the_median_of_the_rounds_decides(protected: tuple[float, ...], delivery: float, met: list[bool]) -> None:
    """A target is met if the median of the rounds is within it, and only what was measured is judged."""
    assert [target.met for target in overhead.targets(data(protected=protected, delivery=delivery))] == met


def test_only_what_was_measured_is_shown() -> None:
    """Every pair that was measured has a row with both costs and the ratio; the others have none."""
    pairs, stacks, in_process = overhead.tables(data(protected=(105.0, 110.0, 120.0)))
    assert [list(row) for row in pairs.rows] == [
        ["the promise, in microasgi", "our server, asyncio", "hello", "110.0", "100.0", "10.0 (5.0 to 20.0)", "1.10 (1.05 to 1.20)", "3"]
    ]
    assert [row[0] for row in stacks.rows] == ["microasgi on microasgi, asyncio", "microasgi without the promise on microasgi, asyncio"]
    assert [list(row) for row in in_process.rows] == [
        ["asyncio, a handler that waits once", "6.0 (6.0 to 6.0)", "9.0 (9.0 to 9.0)", "11.0 (11.0 to 11.0)"]
    ]


def test_each_handler_has_its_own_target() -> None:
    """A handler that waits once is judged beside the one that doesn't, and told from it by its name."""
    promise = overhead.targets(data(protected=(102.0, 102.0, 102.0), waiting=(115.0, 115.0, 115.0)))[:2]
    assert [(target.what.rpartition(": ")[2], target.met) for target in promise] == [("hello", True), ("one that waits once", False)]


def test_the_page_tells_a_missed_target() -> None:
    """The page's sentence follows the data: it says for each handler on how many loops the target was met."""
    told = overhead.page(data(protected=(102.0, 102.0, 102.0), waiting=(115.0, 115.0, 115.0)))
    assert "`hello`: met on every loop; `one that waits once`: met on 0 of 1 loops." in told
    assert overhead.claim(data(protected=(102.0, 102.0, 102.0))).endswith(": asyncio 2.0 µs, 1.02 times.")
    assert "| one that waits once | 115.0 | 100.0 | 15.0 (15.0 to 15.0) | 1.15 (1.15 to 1.15) |" in told


def test_what_failed_is_told() -> None:
    """A stack without a result shows as failed, with the reason, and its target is missed."""
    found = data(protected=())
    found["samples"] += plain([Sample("microasgi/microasgi/asyncio", "hello", 0, failure="it was ill")])
    pairs, stacks, _ = overhead.tables(found)
    assert list(pairs.rows[0])[3:7] == ["failed"] * 4
    assert "microasgi on microasgi, asyncio: hello: it was ill" in stacks.note
    assert [target.met for target in overhead.targets(found)] == [False, True]
    assert set(overhead.figures(found)) == {"overhead"}


@pytest.mark.anyio
async def test_the_router_without_the_promise_answers_as_the_one_with_it() -> None:
    """What is compared does the same."""
    for router in (app.app, app.unprotected):
        async with serving(router) as served, await served.connect() as client:
            for target, body in ((b"/", work.TOKEN), (b"/once", b"once")):
                await client.send(GET.replace(b" / ", b" %b " % target))
                response = await client.response()
                assert (response.status, response.body) == (200, body)
