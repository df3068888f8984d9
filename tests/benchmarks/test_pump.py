"""`benchmarks.pump`: what it compares differs in nothing but the promise, and what it says of its figures."""

import pytest

from benchmarks import pump
from benchmarks.load import Workload
from tests.conftest import LOOPS
from tests.harness import call


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"]], ids=["asyncio"])
@pytest.mark.parametrize("handler", pump.HANDLERS, ids=lambda handler: handler.name)
async def test_the_apps_answer_alike(handler: Workload) -> None:
    """With the promise and without, every handler gives the same answer."""
    body = b"x" * handler.body
    plain, protected = [
        await call(pump.make_app(protected=protected), "POST" if body else "GET", handler.target, body=[body])
        for protected in (False, True)
    ]
    assert plain == protected
    assert (plain.status, plain.complete) == (200, True)


def test_a_ratio_is_taken_within_its_round() -> None:
    """A row tells plain Starlette's median, and of each other the median, smallest and largest of the rounds' ratios."""
    costs = {"never waits": {pump.PLAIN: [100.0, 200.0, 50.0], pump.OURS: [110.0, 240.0, 50.0]}}
    title, row = pump.report("uvicorn", costs).splitlines()
    assert title == "uvicorn"
    assert row.split("   ", 1)[1].strip() == "Starlette  100.0 µs   this one 1.10 (1.00 to 1.20)"
