"""Departures under a Sentry with all its defaults; prints the errors that it would report, and handlers that did not stop.

python -m tests.foreign.with_sentry
"""

import asyncio
import json
import sys

import sentry_sdk

from tests.foreign.arrangements import OURS, REQUESTS, STOPPED, Collecting, Spans, Stay, all_leave, middlewares


async def main() -> None:
    transport = Collecting()
    sentry_sdk.init("http://key@127.0.0.1:9/1", transport=transport, traces_sample_rate=1.0)
    notes = []
    for server in ("ours", "uvicorn"):
        for place in ("inside", "around"):
            wraps = middlewares(Spans())["http"]
            stays = {path: Stay() for path in REQUESTS if path != "/body"}  # which this Sentry reads whole before the handler
            app = OURS["CancelOnDisconnect"](stays, *((wraps, []) if place == "inside" else ([], wraps)))
            await all_leave(server, app, stays)
            notes += [(server, place, path, stay.notes) for path, stay in stays.items() if stay.notes not in STOPPED]
    errors = [error.get("logentry") or error["exception"]["values"][-1]["type"] for error in transport.errors]
    json.dump({"errors": errors, "notes": notes}, sys.stdout, default=str)


if __name__ == "__main__":
    asyncio.run(main())
