"""The server's options."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from microasgi_server.http1.limits import Limits
from microasgi_server.options import OPTIONS, Demand, LifespanFailure, LifespanMode, Loop
from microasgi_server.proxies.headers import USUAL
from microasgi_server.proxies.trust import LOCAL


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of one server. Times are in seconds, and `float("inf")` is no limit.

    :param host: the address or name to listen on
    :param port: the TCP port; 0 lets the system pick one
    :param uds: the path of a unix socket to listen on, instead of host and port
    :param uds_permissions: of a unix socket's file, as chmod has them: 666 lets a proxy connect that runs as another user. What may come
        that far is also the directory's to say
    :param bind: addresses to listen on, as `127.0.0.1:8000`, `[::1]:8000` or `unix:/run/app.sock`; with these, or `uds`, or `fd`, host and
        port don't count
    :param fd: numbers of sockets to listen on that another process has bound, as systemd does. It also closes them
    :param reuse_port: let other processes listen on the same TCP ports, which then share the connections (SO_REUSEPORT)
    :param backlog: connections that the system holds until they are accepted
    :param loop: the event loop that `run` starts; `auto` is uvloop where it is installed, else asyncio
    :param lifespan: `on`: the app's lifespan must work; `auto`: it may be missing; `off`: it isn't tried
    :param root_path: the prefix that a proxy in front has stripped (ASGI HTTP spec, `root_path`)
    :param proxy_headers: take the scope's `client` and `scheme`, and what else `proxy_fields` names, from what a proxy says of a request
    :param forwarded_allow_ips: the proxies that are believed: addresses, networks, `unix` for whoever comes by a unix socket, `*` for
        everybody. What anybody else says is ignored
    :param proxy_fields: the fields that are believed: some of `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `-Prefix`, or `Forwarded`
        (RFC 7239) alone. Only those that the proxy always sets: one that it passes on is its clients' word
    :param proxy_protocol: whether the connections of those proxies begin with the PROXY protocol. Without it they are refused
    :param allowed_hosts: names that the app may be asked for, as `example.com`, or `*.example.com` for all below it; empty is any
    :param access_log: write a line for each request to the logger `microasgi_server.access`
    :param access_log_format: what that line says: a text with fields in braces, as in `{client} "{line}" {status} {duration} {bytes}
        {request_id} {user_agent}`; `access_fields.py` has them all. Empty is the usual line
    :param access_log_quiet: paths for whose requests there is no line, as long as they go well
    :param request_id: give each request an id: what its `X-Request-ID` says, if that is one field of 1 to 128 visible ASCII characters,
        or else 32 new ones. It is in the scope's state as `request_id`, in the context variable `microasgi_server.request_id` and in the
        response's `X-Request-ID`. A format with `{request_id}` switches this on
    :param header: fields for every response, as in `["X-Frame-Options: DENY"]`, beside the app's own
    :param metrics_port: where `run` serves numbers for Prometheus, at the same host, as long as it serves the app; needs the extra
        `metrics`. Elsewhere see `metrics.py`
    :param server_header: have `Server: microasgi` in every response that has no other
    :param date_header: have a `Date` in every response that has no other (RFC 9110 §6.6.1)
    :param limit_concurrency: requests that run at once, with what they do in the background; one more gets a 503 with `Retry-After`
    :param limit_connections: open connections; others wait in the backlog until there is room, which the idle ones make
    :param limit_max_requests: how many are served before the server stops, gracefully; whoever has started it starts another
    :param limit_max_requests_jitter: up to so many more, at random: several servers are not to stop at the same moment
    :param ssl_certfile: a file with the server's certificate in PEM, and behind it those between that and the root. With one, all
        addresses speak TLS 1.2 and 1.3, and nothing else; the files are read again on SIGHUP (`run`) or by `Certificates.read_again`
    :param ssl_keyfile: a file with the certificate's key in PEM; without one it is in `ssl_certfile`, too
    :param ssl_keyfile_password: decrypts that key. Better in the environment (`MICROASGI_SSL_KEYFILE_PASSWORD`) than on a command line,
        which every user of the machine can read
    :param ssl_ca_certs: a file with the certificates, in PEM, of who may sign clients' certificates
    :param ssl_cert_reqs: whether a client must have such a certificate; `optional`: it may have none, but not a wrong one
    :param ssl_ciphers: cipher suites of TLS 1.2, as OpenSSL lists them; those of TLS 1.3 are all good
    :param timeout_handshake: from the connection to the end of TLS's handshake
    :param timeout_header: from the connection, or the first byte of a later request, to the end of the request's head
    :param timeout_body: how long nothing may come of a body that the app asks for; time in which nobody reads doesn't count
    :param timeout_write: how long a client may take nothing of what is written, be the response complete or a stream
    :param timeout_keep_alive: how long a connection may be idle between two requests. The proxies in front of servers keep theirs for 60
        seconds mostly (nginx, AWS's and Azure's balancers): whoever closes first must be the proxy, or a request meets the server's close
    :param timeout_graceful_shutdown: how long requests, and what they do in the background, may go on after the server was told to stop
    :param timeout_lifespan: how long the shutdown of the app's lifespan may take, whatever became of the requests
    :param on_lifespan_failure: what follows if the app's lifespan fails while serving, as one does whose worker dies: `continue`
        serves on, `stop` stops the server gracefully. It is logged, and `serve` raises `ShutdownError` in the end, either way
    :param half_close: serve a client that has shut its sending side (RFC 9112 §9.6) instead of counting it as gone;
        its later departure then shows only when the connection is reset
    :param receive_buffer: bytes that the kernel may hold for a connection whose look-ahead is full (Linux, as far as
        net.ipv4.tcp_rmem allows): a client's FIN can be seen only when what it sent before fits here. 0 leaves the kernel's
        own choice
    :param workers: how many processes `run` serves with, each a fresh interpreter, under one that watches over them (`workers`). None is
        this process alone, which is what `serve` always is. Limits count in each
    :param spare_worker: keep one more process, which has imported all but the app: it takes the place of a worker that dies, and serves as
        soon as the app is imported. It takes the memory of that
    :param timeout_worker: how long the event loop of a worker may be blocked before it is killed, and the log says where it stood; 0 is
        for ever
    :param limit_worker_memory: bytes of memory in use from which on a worker is replaced; it ends gracefully when another serves. So it is
        with `limit_max_requests` and
    :param limit_worker_age: seconds that a worker serves, and up to a tenth more, at random
    :param reload: `run` starts the app again when a file of it changes, and cancels the requests that run; needs the extra `reload`
    :param reload_dir: directories to watch beside that of the app
    :param reload_include: patterns of files to watch beside `*.py`, as in `["*.html"]`; one with a slash in it is for the whole path
    :param limits: the numbers that few will want to change
    :raises ValueError: an option has a value that it may not have, by the table in `options.py`
    """

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    uds_permissions: str = "666"
    bind: Sequence[str] = ()
    fd: Sequence[int] = ()
    reuse_port: bool = False
    backlog: int = 2048
    loop: Loop = "auto"
    lifespan: LifespanMode = "auto"
    root_path: str = ""
    proxy_headers: bool = False
    forwarded_allow_ips: Sequence[str] = LOCAL
    proxy_fields: Sequence[str] = USUAL
    proxy_protocol: bool = False
    allowed_hosts: Sequence[str] = ()
    access_log: bool = True
    access_log_format: str = ""
    access_log_quiet: Sequence[str] = ()
    request_id: bool = False
    header: Sequence[str] = ()
    metrics_port: int | None = None
    server_header: bool = True
    date_header: bool = True
    limit_concurrency: int | None = None
    limit_connections: int | None = None
    limit_max_requests: int | None = None
    limit_max_requests_jitter: int = 0
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_keyfile_password: str | None = field(default=None, repr=False)
    ssl_ca_certs: str | None = None
    ssl_cert_reqs: Demand = "none"
    ssl_ciphers: str = "ECDHE+AESGCM:ECDHE+CHACHA20"
    timeout_handshake: float = 10.0
    timeout_header: float = 10.0
    timeout_body: float = 60.0
    timeout_write: float = 60.0
    timeout_keep_alive: float = 75.0
    timeout_graceful_shutdown: float = 10.0
    timeout_lifespan: float = 10.0
    on_lifespan_failure: LifespanFailure = "continue"
    half_close: bool = False
    receive_buffer: int = 4 * 1024 * 1024
    workers: int | None = None
    spare_worker: bool = False
    timeout_worker: float = 30.0
    limit_worker_memory: int | None = None
    limit_worker_age: float | None = None
    reload: bool = False
    reload_dir: Sequence[str] = ()
    reload_include: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for option in OPTIONS:
            option.check(getattr(self, option.name), option.name)
