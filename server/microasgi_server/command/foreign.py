"""What to write instead of the options of other servers' commands, or that there is nothing yet."""

_ADDRESS = "write --bind ADDRESS, or --host HOST --port PORT, or --uds PATH"
_APP_DIR = "write --app-dir DIR"
_LOG = "the log goes to stderr; for files of logs write --log-config FILE, with a configuration of Python's logging"
_LOOP = "one process serves on one event loop; --loop chooses it"
_PROCESSES = "one process serves; start several, each with its own --port or --uds, and a proxy in front"
_RELOAD = "nothing restarts it by itself yet; stop it and start it again"
_SERVICE = "whatever starts it decides that: systemd, a container, a shell"

FOREIGN = {
    # Everybody's.
    "-b": _ADDRESS,
    "--workers": _PROCESSES,
    "-w": _PROCESSES,
    "--reload": _RELOAD,
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
    "--reload-dir": _RELOAD,
    "--reload-include": _RELOAD,
    "--reload-exclude": _RELOAD,
    "--reload-delay": _RELOAD,
    "--http": "there is one implementation of HTTP",
    "--ws": "WebSockets are served wherever the package websockets is installed: pip install 'microasgi[websockets]'",
    "--ws-max-size": "a program can set it: microasgi.run(app, limits=Limits(message=…))",
    "--ws-max-queue": "a program can set it: microasgi.run(app, limits=Limits(messages=…))",
    "--ws-ping-interval": "a program can set it: microasgi.run(app, limits=Limits(ping=…))",
    "--ws-ping-timeout": "a program can set it: microasgi.run(app, limits=Limits(pong=…))",
    "--ws-per-message-deflate": "a program can set it: microasgi.run(app, limits=Limits(deflate=12))",
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
    "--timeout": "write timeout= on a route or a router; clients have --timeout-header, --timeout-body and --timeout-write",
    "-t": "write timeout= on a route or a router; clients have --timeout-header, --timeout-body and --timeout-write",
    "--keep-alive": "write --timeout-keep-alive SECONDS",
    "--graceful-timeout": "write --timeout-graceful-shutdown SECONDS",
    "--preload": "one process serves, and it loads the app once",
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
