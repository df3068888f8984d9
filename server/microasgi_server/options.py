"""The server's options in one table: what each may be, and how a command line and the environment call it.

`Config` checks its fields by this table, and the commands' parsers are made of it: a new field of `Config` is one more row here. Whoever
gives a wrong value hears the same sentence, whether it came from code or from a command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from microasgi_server.kinds import (
    BYTES,
    BYTES_OR_ANY,
    COUNT,
    FLAG,
    HEADERS,
    HOSTS,
    INTERVAL,
    LIMIT,
    LINE,
    NAMES,
    NUMBERS,
    OPTIONAL_PORT,
    PATH,
    PATHS,
    PEERS,
    PERMISSIONS,
    PLACES,
    PORT,
    PREFIX,
    PROXY_FIELDS,
    SECONDS,
    SECONDS_OR_ANY,
    SECRET,
    SIZE,
    SOME,
    TEXT,
    WINDOW,
    Kind,
    choice,
)

Loop = Literal["auto", "asyncio", "uvloop", "trio"]
LifespanMode = Literal["auto", "on", "off"]
LifespanFailure = Literal["continue", "stop"]
Demand = Literal["none", "optional", "required"]


@dataclass(frozen=True)
class Option:
    """A row of the table.

    name: as code calls it; of `Config`, a field.
    kind: what its values may be.
    help: what it means, for a command's help, without the default.
    limit: the field of `Limits` that it is; empty: it is a field of `Config`.
    """

    name: str
    kind: Kind
    help: str
    limit: str = ""

    @property
    def flag(self) -> str:
        """As a command line calls it."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """As the environment calls it."""
        return f"MICROASGI_{self.name.upper()}"

    def check(self, value: Any, called: str) -> Any:
        """The value, if it may be this option's.

        :param called: the option, as who gave the value calls it
        :raises ValueError: it may not
        """
        if not self.kind.admits(value):
            raise ValueError(f"{called} is {self.kind.wanted}, not {value!r}")
        return value

    def read(self, text: str, called: str) -> Any:
        """The value that a text stands for, checked.

        :raises ValueError: it stands for none
        """
        try:
            value = self.kind.read(text)
            valid = self.kind.admits(value)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"{called} is {self.kind.wanted}, not {text!r}")
        return value


Groups = Mapping[str, tuple[Option, ...]]
"""Options under the headings of a command's help."""

GROUPS: Groups = {
    "where it listens": (
        Option("host", TEXT, "address to listen on; 0.0.0.0 is every one"),
        Option("port", PORT, "0 picks a free one and prints it"),
        Option("uds", PATH, "listen on a unix socket instead of host and port"),
        Option("uds_permissions", PERMISSIONS, "of a unix socket's file; who may write to it may connect"),
        Option("bind", PLACES, "one more address to listen on, as HOST:PORT, [IPv6]:PORT or unix:PATH, instead of host and port"),
        Option("fd", NUMBERS, "one more socket to listen on, by its number, from whoever has started this, instead of host and port"),
        Option("reuse_port", FLAG, "let other processes listen on the same port, too (SO_REUSEPORT)"),
        Option("backlog", COUNT, "connections that the system holds until they are accepted"),
    ),
    "how it runs the app": (
        Option("loop", choice(*get_args(Loop)), "auto is uvloop if installed, else asyncio"),
        Option("lifespan", choice(*get_args(LifespanMode)), "startup and shutdown of the app: auto if it has one, on if it must work"),
        Option("on_lifespan_failure", choice(*get_args(LifespanFailure)), "what follows if the lifespan fails while the app is served"),
        Option("workers", LIMIT, "processes that serve, under one that replaces them; without it this one serves alone"),
        Option("spare_worker", FLAG, "keep one more process that waits, to be there sooner when a worker dies"),
        Option("root_path", PREFIX, "what a proxy in front strips from paths, as in /api"),
    ),
    "who is in front of it": (
        Option("proxy_headers", FLAG, "take client and scheme from what a proxy says in X-Forwarded-For and -Proto"),
        Option("forwarded_allow_ips", PEERS, "the proxies that are believed; unix is who comes by a unix socket, * everybody"),
        Option("proxy_fields", PROXY_FIELDS, "what to believe them: fields that they always set, whatever their clients have sent"),
        Option("proxy_protocol", FLAG, "have each of their connections begin with the PROXY protocol, version 1 or 2"),
        Option("allowed_hosts", HOSTS, "the names that the app is asked for; the answer to others is 421"),
    ),
    "what it says": (
        Option("access_log", FLAG, "a line for each request"),
        Option("access_log_format", LINE, "what that line says, as in '{client} {status} {duration} {user_agent}'"),
        Option("access_log_quiet", PATHS, "no line for requests for this path that go well, as health checks do"),
        Option("request_id", FLAG, "give each request an id, the client's X-Request-ID or a new one: in logs, scope and response"),
        Option("header", HEADERS, "one more field for every response"),
        Option("metrics_port", OPTIONAL_PORT, "numbers for Prometheus on a port of their own, at the same host; 0 picks a free one"),
        Option("server_header", FLAG, "have a Server in every response"),
        Option("date_header", FLAG, "have a Date in every response"),
    ),
    "how it encrypts": (
        Option("ssl_certfile", PATH, "the server's certificate, in PEM: TLS on every address"),
        Option("ssl_keyfile", PATH, "the certificate's key, if it isn't in the same file"),
        Option("ssl_keyfile_password", SECRET, "decrypts the key; safer in the environment than here"),
        Option("ssl_ca_certs", PATH, "who may sign clients' certificates, in PEM"),
        Option("ssl_cert_reqs", choice(*get_args(Demand)), "whether clients must have a certificate"),
        Option("ssl_ciphers", TEXT, "cipher suites of TLS 1.2, as OpenSSL lists them"),
    ),
    "how long it waits": (
        Option("timeout_handshake", SECONDS, "how long TLS's handshake may take"),
        Option("timeout_header", SECONDS, "how long a request's head may take"),
        Option("timeout_body", SECONDS, "how long nothing may come of a request's body that the app asks for"),
        Option("timeout_write", SECONDS, "how long a client may take nothing of its response, a stream's either"),
        Option("timeout_keep_alive", SECONDS, "how long a connection may be idle"),
        Option("timeout_graceful_shutdown", SECONDS, "how long requests may go on after Ctrl+C"),
        Option("timeout_lifespan", SECONDS, "how long the shutdown of the app's lifespan may take"),
        Option("timeout_worker", SECONDS, "how long a worker's event loop may be blocked before it is killed; 0: as long as it likes"),
    ),
    "how much it takes on": (
        Option("limit_concurrency", LIMIT, "requests that run at once; one more gets a 503"),
        Option("limit_connections", LIMIT, "open connections; idle ones make room, and others wait"),
        Option("limit_max_requests", LIMIT, "requests that are served before the server stops, to be started again"),
        Option("limit_max_requests_jitter", COUNT, "up to so many more, at random, so that not all servers stop at once"),
        Option("limit_worker_memory", BYTES_OR_ANY, "memory that a worker may have in use before another takes over"),
        Option("limit_worker_age", SECONDS_OR_ANY, "how long a worker may serve before another takes over"),
    ),
    "while developing": (
        Option("reload", FLAG, "start again when a file of the app's changes; needs watchfiles"),
        Option("reload_dir", NAMES, "one more directory to watch, beside that of the app"),
        Option("reload_include", NAMES, "one more pattern of files to watch, beside *.py, as in '*.html'"),
    ),
    "what clients may do": (
        Option("limit_request_line", BYTES, "of a request's first line; longer ones are answered with 414", "request_line"),
        Option("limit_request_fields", COUNT, "header fields of a request; more are answered with 431", "fields"),
        Option("limit_header_size", BYTES, "of a request's head; larger ones are answered with 431", "head"),
        Option("limit_body", BYTES, "of a body, unless the app says otherwise; longer ones are answered with 413; 0: any", "body"),
        Option("ws_max_size", SIZE, "of a WebSocket's message, after inflating; longer ones are answered with 1009", "message"),
        Option("ws_max_queue", SOME, "of its messages that the app hasn't asked for; then reading pauses", "messages"),
        Option("ws_ping_interval", INTERVAL, "how long a WebSocket's client may say nothing until it is asked for a sign of life", "ping"),
        Option("ws_ping_timeout", INTERVAL, "how long it then has for one until it counts as gone", "pong"),
        Option("ws_per_message_deflate", WINDOW, "compress a WebSocket's messages, if the client offers it; on: 12, 0: off", "deflate"),
        Option("half_close", FLAG, "serve clients that shut their sending side; they count as gone otherwise"),
        Option("receive_buffer", BYTES, "what the kernel may hold for a client whose data nobody reads; 0 is the kernel's choice"),
    ),
}

OPTIONS = tuple(option for group in GROUPS.values() for option in group if not option.limit)
"""One for each field of `Config` but `limits`."""

LIMITS = tuple(option for group in GROUPS.values() for option in group if option.limit)
"""Those of `Limits` that an operator chooses."""
