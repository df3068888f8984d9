"""Our server with other limits than an operator can choose: `python -m benchmarks.apps.limited APP PORT LOOP NAME=NUMBER ...`."""

import importlib
import logging
import sys
from typing import Any, get_args

from microasgi_server import Config, Limits, run
from microasgi_server.options import Loop


def main(app: str, port: str, loop: str, *limits: str) -> None:
    """Serve, without an access log."""
    module, _, name = app.partition(":")
    chosen = next(each for each in get_args(Loop) if each == loop)
    numbers: dict[str, Any] = {name: int(value) for name, _, value in (limit.partition("=") for limit in limits)}
    logging.basicConfig(level=logging.WARNING)
    run(getattr(importlib.import_module(module), name), Config(port=int(port), loop=chosen, access_log=False, limits=Limits(**numbers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
