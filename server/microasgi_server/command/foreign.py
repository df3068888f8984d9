"""What to write instead of the options of other servers' commands, or that there is nothing yet."""

_ADDRESS = "write --host HOST --port PORT, or --uds PATH"
_APP_DIR = "write --app-dir DIR"
_LOG = "the log goes to stderr; for files of logs write --log-config FILE, with a configuration of Python's logging"
_LOOP = "every process serves on one event loop; --loop chooses it"
_WORKERS = "write --workers NUMBER"
_PROXY = "a proxy's fields aren't read yet"
_RELOAD = "--reload watches *.py, and what --reload-include adds, but nothing in .git, .venv and their like; it waits 20 ms"
_SERVICE = "whatever starts it decides that: systemd, a container, a shell"
_TIMEOUT = "write --timeout-worker SECONDS for a worker that is blocked, or timeout= on a route for a handler that takes too long"
_TLS = "there is no TLS yet; put a proxy in front, as nginx or Caddy"

FOREIGN = {
    # Everybody's.
    "--bind": _ADDRESS,
    "-b": _ADDRESS,
    "-w": _WORKERS,
    "--worker-class": _LOOP,
    "-k": _LOOP,
    "--keyfile": _TLS,
    "--certfile": _TLS,
    "--ca-certs": _TLS,
    "--ciphers": _TLS,
    "--forwarded-allow-ips": _PROXY,
    "--config": "there is no file of options; write them here, or call microasgi.run in a program",
    "-c": "there is no file of options; write them here, or call microasgi.run in a program",
    "--daemon": _SERVICE,
    "-D": _SERVICE,
    "--pid": _SERVICE,
    "-p": "write --port PORT; other servers' -p is a file for the process's number, and whatever starts it knows that",
    "--user": _SERVICE,
    "-u": _SERVICE,
    "--group": _SERVICE,
    "-g": _SERVICE,
    "--umask": _SERVICE,
    "-m": _SERVICE,
    # uvicorn's.
    "--reload-exclude": _RELOAD,
    "--reload-delay": _RELOAD,
    "--fd": "a program can hand sockets over: microasgi_server.serve(app, sockets=[…])",
    "--http": "there is one implementation of HTTP",
    "--ws": "there are no WebSockets yet",
    "--interface": "apps are ASGI 3",
    "--proxy-headers": _PROXY,
    "--use-colors": "the log has no colours",
    "--no-use-colors": "the log has no colours",
    "--ssl-keyfile": _TLS,
    "--ssl-certfile": _TLS,
    "--ssl-keyfile-password": _TLS,
    "--ssl-version": _TLS,
    "--ssl-cert-reqs": _TLS,
    "--ssl-ca-certs": _TLS,
    "--ssl-ciphers": _TLS,
    "--h11-max-incomplete-event-size": "a program can set it: microasgi.run(app, limits=Limits(head=…))",
    # gunicorn's.
    "--chdir": _APP_DIR,
    "--pythonpath": _APP_DIR,
    "--threads": "plain functions run in threads by themselves",
    "--worker-connections": "write --limit-connections NUMBER",
    "--timeout": _TIMEOUT,
    "-t": _TIMEOUT,
    "--keep-alive": "write --timeout-keep-alive SECONDS",
    "--graceful-timeout": "write --timeout-graceful-shutdown SECONDS",
    "--preload": "every worker imports the app itself, so that SIGHUP brings new code",
    "--access-logfile": _LOG,
    "--access-logformat": "write --access-log-format FORMAT, with fields in braces",
    "--error-logfile": _LOG,
    "--log-file": _LOG,
    "--max-requests": "write --limit-max-requests NUMBER",
    "--max-requests-jitter": "write --limit-max-requests-jitter NUMBER",
    # hypercorn's.
    "--error-log": _LOG,
    "--insecure-bind": _ADDRESS,
    "--quic-bind": "there is no HTTP/3 yet",
    "--debug": "write --log-level debug",
}
"""By the option, without its value."""
