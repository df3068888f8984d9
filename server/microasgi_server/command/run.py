"""`run`: what the command does, for a program."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from microasgi_server.access import usual
from microasgi_server.asgi import ASGIApp
from microasgi_server.command.levels import LOG_FORMAT, LOG_LEVEL, LOGGER, explained, set_up_logging
from microasgi_server.command.log_config import configure
from microasgi_server.command.targets import load_app
from microasgi_server.config import Config
from microasgi_server.errors import OptionError, ShutdownError, StartupError, TargetError
from microasgi_server.inherited import handed_over
from microasgi_server.options import LIMITS
from microasgi_server.signals import demand_loop, run_until_signal
from microasgi_server.workers.job import Job


def run(
    target: ASGIApp | str,
    config: Config | None = None,
    *,
    factory: bool = False,
    app_dir: str = ".",
    log_level: str | None = None,
    log_format: str = "text",
    log_config: str | None = None,
    started: Callable[[list[str]], object] | None = None,
    **options: Any,
) -> None:
    """Serve an app in an event loop of its own until SIGINT or SIGTERM, as the command does: `run("main:app", port=8080)`.

    The first signal stops it gracefully, as `serve` tells; a second one at once, and even then the lifespan shutdown runs. One that
    comes before the server accepts cancels the app's startup, and Ctrl+C goes on as a KeyboardInterrupt then.

    The process is the server's: its garbage collector leaves alone what exists by now (`gc.freeze`), and comes more rarely than
    Python's default. What the app's lifespan sets instead stays. The log goes to stderr, unless logging is configured already.

    With `workers` or `reload` in the options the app is served by other processes (`workers`), each of which imports it: the target must
    be a name then. This one takes their place for signals, and for `started`, which is called once all accept.

    :param target: an ASGI 3 application, or `module:attribute` that names one
    :param config: the options
    :param factory: call what the target is or names, without arguments, and serve what it returns
    :param app_dir: the directory to import from
    :param log_level: `critical`, `error`, `warning`, `info`, `debug` or `trace`; without it `info`, unless logging is configured already
    :param log_format: `text`, or `json` for an object a line; not where logging is configured already
    :param log_config: a file for Python's logging.config, instead of both
    :param started: called with the bound addresses, as `serve` gives them, once the server accepts
    :param options: fields of `Config` and limits such as `limit_body`, instead of those in `config`
    :raises TargetError: there is no such app
    :raises StartupError: the loop isn't installed, the address can't be bound, the app's startup failed; uncaught, it is a line and exit 1
    :raises ValueError: an option has a value that it may not have
    :raises TypeError: there is no such option
    """
    set_up = partial(prepare, log_level=log_level, log_format=log_format, log_config=log_config)
    load = partial(load_app, target, factory=factory, app_dir=app_dir)
    start(Job(set_up, load, chosen_config(config, options), app_dir), target, started)


def start(job: Job, target: Any, started: Callable[[list[str]], object] | None) -> None:
    """Serve an app, in this process or in several of their own.

    :param target: the app, or its name
    :raises TargetError: there is no such app, or it has no name, by which other processes could import it
    :raises StartupError: it can't be served
    """
    with telling():
        _start(job, target, started)


def _start(job: Job, target: Any, started: Callable[[list[str]], object] | None) -> None:
    config = job.set_up(job.config)
    alone = config.workers is None and not config.reload
    for name in ("limit_worker_memory", "limit_worker_age", "spare_worker"):
        if alone and getattr(config, name):
            raise OptionError(f"{name} needs workers: nobody would start another process instead of this one")
    if alone:
        run_until_signal(job.load(), config, started=started)
    elif not isinstance(target, str):
        option = "reload" if config.workers is None else "workers"
        raise TargetError(f"{option} needs the app's name, as in run('main:app', …): each process imports it for itself")
    else:
        from microasgi_server.workers.supervisor import supervise  # which others needn't load

        supervise(job, config, started)


@contextmanager
def telling() -> Iterator[None]:
    """What ends a server is one line and exit code 1 to a program that doesn't catch it. To who does, it is the error that it is.

    Python itself tells a SystemExit so. It only becomes one out here: in an event loop that would be another thing.
    """
    try:
        yield
    except (StartupError, ShutdownError) as error:
        kind = type(error)

        class Told(kind, SystemExit):  # type: ignore[misc, valid-type]
            code = property(lambda self: f"error: {explained(self, 'log_level=' + repr('debug'))}")

            def __reduce__(self) -> Any:  # a process that hands it to another one has no other class to name
                return kind, self.args

        Told.__name__, Told.__qualname__, Told.__module__ = kind.__name__, kind.__qualname__, kind.__module__
        raise Told(*error.args).with_traceback(error.__traceback__) from error.__cause__


def chosen_config(config: Config | None, options: dict[str, Any]) -> Config:
    """The options, with some of them instead of those in `config`.

    :raises TypeError: there is no such option
    :raises ValueError: one has a value that it may not have
    """
    names = [field.name for field in fields(Config)] + [option.name for option in LIMITS]
    for name in options:
        if name not in names:
            near = get_close_matches(name, names, 1)
            raise TypeError(f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else ""))
    config = config or Config()
    limits = {option.limit: option.check(options.pop(option.name), option.name) for option in LIMITS if option.name in options}
    return replace(config, **{"limits": replace(config.limits, **limits), **options})


def prepare(
    config: Config, *, log_level: str | None, log_format: str, log_config: str | None, loggers: Sequence[str] = (LOGGER,)
) -> Config:
    """What comes before the app is even imported; gives the options as the log wants them, and with the sockets that systemd hands over.

    :param loggers: to set up
    :raises StartupError: the loop isn't installed, or the file configures nothing
    :raises ValueError: there is no such level or format
    """
    if log_level is not None:
        LOG_LEVEL.check(log_level, "log_level")
    LOG_FORMAT.check(log_format, "log_format")
    demand_loop(config)
    config = replace(config, fd=config.fd or tuple(handed_over(os.environ, os.getpid())))
    if log_config is not None:
        configure(log_config)
        return config
    set_up_logging(log_level, loggers, log_format)
    return replace(config, access_log_format=usual(config.access_log_format)) if log_format == "json" else config
