"""A loop that stands still, seen from beside it: each time by its line, however the questions fall."""

import threading
import time
from typing import Any

import anyio
import pytest
from anyio.lowlevel import current_token

from microasgi.inspector.page.beats import INTERVAL, LEAST, Beats
from tests.conftest import LOOPS
from tests.harness import eventually

pytestmark = pytest.mark.anyio

TIMES = 8


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return LOOPS[request.param]


def stand_still(seconds: float) -> tuple[float, float]:
    began = time.perf_counter()
    time.sleep(seconds)
    return began, time.perf_counter()


async def test_every_block_is_named() -> None:
    """A block of half a second or more is seen each time, and by nothing but its line, wherever in a beat it begins."""
    beats = Beats(current_token(), threading.get_ident())
    blocks = []
    for number in range(TIMES):
        await anyio.sleep(INTERVAL * number / TIMES)  # wherever that is in a beat
        blocks.append(stand_still(0.6))
    await eventually(lambda: all(silence.ended is not None for silence in beats.silences()[-1:]))
    for began, ended in blocks:
        silences = [each for each in beats.silences() if each.began < ended and (each.ended or ended) > began]
        longest = max(silences, key=lambda each: (each.ended or ended) - each.began)
        assert longest.place is not None
        assert longest.place.at.endswith(" in stand_still")
        assert longest.place.line == "time.sleep(seconds)"
        assert longest.place.caller.endswith(" in test_every_block_is_named")
        assert longest.shown(0.0).during(1000 * began, 1000 * ended) >= 1000 * LEAST
