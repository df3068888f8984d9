"""What to write instead of the options of other servers' commands, or that there is nothing yet."""

_ADDRESS = "write --bind ADDRESS, or --host HOST --port PORT, or --uds PATH"
_APP_DIR = "write --app-dir DIR"
_LOG = "the log goes to stderr; for files of logs write --log-config FILE, with a configuration of Python's logging"
_LOOP = "every process serves on one event loop; --loop chooses it"
_WORKERS = "write --workers NUMBER"
_RELOAD = "--reload watches *.py, and what --reload-include adds, but nothing in .git, .venv and their like; it waits 20 ms"
_SERVICE = "whatever starts it decides that: systemd, a container, a shell"
_TIMEOUT = "write --timeout-worker SECONDS for a worker that is blocked, or timeout= on a route for a handler that takes too long"

FOREIGN = {
    # Everybody's.
    "-b": _ADDRESS,
    "-w": _WORKERS,
    "--worker-class": _LOOP,
    "-k": _LOOP,
    "--keyfile": "write --ssl-keyfile FILE",
    "--certfile": "write --ssl-certfile FILE",
    "--keyfile-password": "write --ssl-keyfile-password PASSWORD",
    "--ca-certs": "write --ssl-ca-certs FILE",
    "--cert-reqs": "write --ssl-cert-reqs required",
    "--verify-mode": "write --ssl-cert-reqs required",
    "--ciphers": "write --ssl-ciphers LIST",
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
    "--http": "there is one implementation of HTTP",
    "--ws": "WebSockets are served wherever the package websockets is installed: pip install 'microasgi[websockets]'",
    "--interface": "apps are ASGI 3",
    "--use-colors": "the log has no colours",
    "--no-use-colors": "the log has no colours",
    "--ssl-version": "TLS 1.2 and 1.3 are spoken",
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
    "--proxy-allow-from": "write --forwarded-allow-ips ADDRESSES",
    # hypercorn's.
    "--error-log": _LOG,
    "--insecure-bind": _ADDRESS,
    "--quic-bind": "there is no HTTP/3 yet",
    "--debug": "write --log-level debug",
}
"""By the option, without its value."""
