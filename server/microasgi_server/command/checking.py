"""`--check`: what would be served, and where, without serving it."""

import argparse
from collections.abc import Iterator

from microasgi_server import metrics
from microasgi_server.certificates import certificates_of
from microasgi_server.command.parser import config_fields
from microasgi_server.command.run import chosen_config, prepare
from microasgi_server.config import Config
from microasgi_server.inherited import inherited
from microasgi_server.listening import places
from microasgi_server.options import FLAG, Option
from microasgi_server.signals import chosen_loop

CHECK = Option("check", FLAG, "load TARGET, check the options, print what would be served, and exit")


def checked_config(arguments: argparse.Namespace, *loggers: str) -> Config:
    """The options that were chosen. Nothing is bound: a server that is to be replaced may hold the addresses.

    :raises StartupError: an extra isn't installed, a file configures nothing, a certificate or key can't be used, or what is to be
        inherited isn't there
    """
    chosen = chosen_config(None, config_fields(arguments))
    config = prepare(chosen, arguments.log_level, arguments.log_format, arguments.log_config, *loggers)
    if config.metrics_port is not None:
        metrics.demand()
    certificates_of(config)
    for number in config.fd:
        inherited(number).close()
    return config


def plan(config: Config) -> Iterator[str]:
    """In a line each: where it listens, and who is in front."""
    scheme = "http" if config.ssl_certfile is None else "https"
    for number in config.fd:
        yield f"it listens on fd {number}"
    for host, port, path in places(config):
        if path:
            yield f"it listens at unix:{path}, with the permissions {config.uds_permissions}"
        else:
            yield f"it listens at {scheme}://{f'[{host}]' if ':' in host else host or '*'}:{port or '(a free port)'}"
    yield f"it runs on {chosen_loop(config)}, with the lifespan {config.lifespan}"
    peers = ", ".join(config.forwarded_allow_ips) or "nobody"
    if config.proxy_headers:
        yield f"it believes {', '.join(config.proxy_fields)} of {peers}"
    if config.proxy_protocol:
        yield f"it wants the PROXY protocol of {peers}"
    if (config.proxy_headers or config.proxy_protocol) and "*" in config.forwarded_allow_ips:
        yield "it believes everybody: who reaches it past the proxy can claim any address"
    if config.allowed_hosts:
        yield f"it answers to {', '.join(config.allowed_hosts)}"
