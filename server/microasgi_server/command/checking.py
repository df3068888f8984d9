"""`--check`: what would be served, and where, without serving it."""

import argparse
from collections.abc import Iterator

from microasgi_server import metrics
from microasgi_server.certificates import certificates_of
from microasgi_server.command.levels import LOGGER
from microasgi_server.command.parser import config_fields
from microasgi_server.command.run import chosen_config, prepare
from microasgi_server.config import Config
from microasgi_server.inherited import inherited
from microasgi_server.kinds import FLAG
from microasgi_server.listening import places
from microasgi_server.options import Option
from microasgi_server.signals import chosen_loop

CHECK = Option("check", FLAG, "load TARGET, check the options, print what would be served, and exit")


def checked_config(arguments: argparse.Namespace, *loggers: str) -> Config:
    """The options that were chosen. Nothing is bound: a server that is to be replaced may hold the addresses.

    :param loggers: to set up; not given, the server's own
    :raises StartupError: a certificate can't be used, an extra isn't installed, a file configures nothing, or what is to be inherited
        isn't there
    """
    chosen = chosen_config(None, config_fields(arguments))
    names = ("log_level", "log_format", "log_config")
    config = prepare(chosen, **{name: getattr(arguments, name) for name in names}, loggers=loggers or (LOGGER,))
    if config.metrics_port is not None:
        metrics.demand()
    certificates_of(config)
    for number in config.fd:
        inherited(number).close()
    return config


def plan(config: Config) -> Iterator[str]:
    """In a line each: where it listens, and who is in front."""
    scheme = "https" if config.ssl_certfile else "http"
    for number in config.fd:
        yield f"it listens on fd {number}"
    for host, port, path in places(config):
        if path:
            yield f"it listens at unix:{path}, with the permissions {config.uds_permissions}"
        else:
            yield f"it listens at {scheme}://{f'[{host}]' if ':' in host else host or '*'}:{port or '(a free port)'}"
    yield f"it runs on {chosen_loop(config)}, with the lifespan {config.lifespan}"
    if config.workers is not None:
        yield f"it starts {config.workers} worker{'s' if config.workers > 1 else ''}"
    if config.reload:
        yield "it starts again when a file is saved"
    peers = ", ".join(config.forwarded_allow_ips) or "nobody"
    if config.proxy_headers:
        yield f"it believes {', '.join(config.proxy_fields)} of {peers}"
    if config.proxy_protocol:
        yield f"it wants the PROXY protocol of {peers}"
    if (config.proxy_headers or config.proxy_protocol) and "*" in config.forwarded_allow_ips:
        yield "it believes everybody: who reaches it past the proxy can claim any address"
    if config.allowed_hosts:
        yield f"it answers to {', '.join(config.allowed_hosts)}"
