"""The part `throughput`: what it makes of its data."""

from benchmarks.measuring import Data, Run
from benchmarks.parts import throughput
from benchmarks.parts import throughput_prices as prices
from benchmarks.parts.throughput_contest import BODIES, DUELS, FRAMEWORKS_ON_SERVERS, HELLO, SERVERS_ALONE, UPLOAD, workloads
from benchmarks.parts.throughput_standings import ahead, of_bodies, of_duels, of_servers, of_those_ahead
from benchmarks.sampling import Sample, Samples, identifier, plain
from tests.benchmarks.harness import Told

OURS, H11, GRANIAN = "bare/microasgi/uvloop", "bare/uvicorn-h11/uvloop", "bare/granian/uvloop"


def hello(stack: str, number: int, requests: int, cpu: float = 1.0, busy: float = 0.5) -> Sample:
    """A second of hello-world."""
    return Sample(stack, HELLO.name, number, requests, 1.0, requests * 160, cpu, busy)


def data(*samples: Sample) -> Data:
    return {"samples": plain(samples), "wrk": True}


THREE = data(
    *(hello(OURS, number, requests) for number, requests in enumerate((10_000, 13_000, 15_000))),
    *(hello(H11, number, 10_000, 1.25) for number in range(3)),
    *(hello(GRANIAN, number, 26_000, 0.8, busy=0.97) for number in range(3)),
)


def test_a_duel_is_decided_by_the_median_of_its_rounds() -> None:
    """Requests a second are what the target is about; CPU time stands beside it, and only what was measured is judged."""
    (target,) = throughput.targets(THREE)
    assert (target.wanted, target.met) == ("at least 1.25", True)
    assert target.measured == "1.30 (1.00 to 1.50); CPU time 0.62 (0.53 to 0.80)"
    assert not throughput.targets(data(*(hello(name, 0, 10_000) for name in (OURS, H11))))[0].met


def test_a_server_that_the_generator_could_not_load_is_marked() -> None:
    """Where the generator was the limit, the figure is only a lower bound, and says so."""
    rows = [list(row) for row in of_duels(Samples(THREE)).rows]
    assert rows[0][:4] == ["bare ASGI, uvloop", "uvicorn h11", "13,000 / 77", "10,000 / 125"]
    assert rows[1][3] == "≥ 26,000 / 31"
    assert "≥: the load generator used more than 90%" in of_duels(Samples(THREE)).note
    assert "≥" not in of_duels(Samples(data(hello(OURS, 0, 10_000), hello(H11, 0, 10_000)))).note


def test_who_is_ahead_is_said() -> None:
    """Every stack that did more than ours on the same loop is named, in the table and on the page; where there is none, that is said."""
    assert [(stack.server, more) for stack, more, _ in ahead(Samples(THREE), HELLO, "uvloop", SERVERS_ALONE)] == [("granian", 2.0)]
    assert [list(row) for row in of_those_ahead(Samples(THREE)).rows] == [["bare: hello", "uvloop", "granian 2.00 (0.40)"]]
    assert "* servers of bare ASGI: on uvloop granian 2.00\n* frameworks: nobody\n" in throughput.page(THREE)
    assert throughput.claim(THREE).endswith(" bare ASGI, uvloop, 1.30 times uvicorn h11, 0.50 times granian.")


def test_a_large_body_counts_in_bytes() -> None:
    """An upload is told in megabytes a second, and CPU seconds for a gigabyte."""
    table = of_bodies(Samples(data(Sample(OURS, UPLOAD.name, 0, 500, 1.0, 500_000_000, 0.75, 0.5))))
    assert [list(row) for row in table.rows] == [["microasgi, uvloop", "500 / 1.50", "", ""]]


def test_a_failure_stands_where_the_figure_would() -> None:
    """What failed isn't left out: its cell says so, a table tells why, and a duel without a result misses its target."""
    found = data(hello(OURS, 0, 10_000), Sample(H11, HELLO.name, 0, failure="7 of 9 answers were no success"))
    assert [row[1] for row in of_servers(Samples(found)).rows] == ["10,000 / 100", "failed"]
    assert list(throughput.tables(found)[-1].rows) == [("bare ASGI on uvicorn h11, uvloop", "hello", "7 of 9 answers were no success")]
    assert [target.met for target in throughput.targets(found)] == [False]
    assert set(throughput.figures(found)) == {"throughput"}


def test_every_duel_has_its_place_in_the_full_tables() -> None:
    """Who takes turns is also shown among all the others, so that a plain hello isn't measured twice or shown never."""
    for duel in DUELS:
        assert {duel.ours, duel.theirs} <= set(SERVERS_ALONE + FRAMEWORKS_ON_SERVERS)
        assert duel.ours.loop == duel.theirs.loop
    assert all(HELLO in workloads(stack) for stack in SERVERS_ALONE + FRAMEWORKS_ON_SERVERS)
    assert all(body in workloads(stack) for stack in SERVERS_ALONE for body in BODIES)


def test_the_price_of_a_request_is_judged_by_the_median_of_its_rounds() -> None:
    """CPU time is what counts, whatever the requests a second; a pair that wasn't tried isn't listed, and older data have none at all."""
    log = [f"bare/{server}-logging/asyncio" for server in ("microasgi", "uvicorn-httptools")]
    cheap = [hello(log[0], number, 9_000, cpu) for number, cpu in enumerate((0.5, 0.63, 0.9))]
    priced = THREE | {"prices": plain([*cheap, *(hello(log[1], number, 9_000) for number in range(3))])}
    target = throughput.targets(priced)[-1]
    assert target.what == (
        "CPU time of a request, bare ASGI, hello, with the access log, asyncio, as a multiple of uvicorn httptools with its access log"
    )
    assert (target.wanted, target.measured, target.met) == ("at most 0.70", "0.63 (0.50 to 0.90)", True)
    assert len(throughput.targets(priced)) == len(throughput.targets(THREE)) + 1
    assert next(list(row) for row in prices.table(priced).rows)[2:] == ["70.0", "111.1", "0.63 (0.50 to 0.90)", "0.7", "3"]
    line = "bare ASGI, hello, with the access log, against uvicorn httptools with its access log 0.63 on asyncio."
    assert f": {line}\n" in throughput.page(priced)
    assert "CPU time of a request" not in throughput.page(THREE)
    failed = THREE | {"prices": plain([hello(log[0], 0, 9_000), Sample(log[1], HELLO.name, 0, failure="it was ill")])}
    assert [target.met for target in throughput.targets(failed)][1:] == [False]
    assert next(iter(throughput.tables(failed)[-1].rows))[2] == "it was ill"


def test_every_price_is_taken_side_by_side() -> None:
    """Who is compared runs in the same heat, with the same workload and on the same loop, and on both loops."""
    heats = [({identifier(stack) for stack in stacks}, workload) for stacks, workload in prices.heats(Run(Told()))]
    for price in prices.PRICES:
        assert any(
            {identifier(price.ours), identifier(price.theirs)} <= stacks and workload == price.workload for stacks, workload in heats
        )
        assert price.ours.loop == price.theirs.loop
    assert len(prices.PRICES) == 14
    assert len(heats) == 10
