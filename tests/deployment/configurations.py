"""nginx and HAProxy with the configurations of this folder, which the server's page shows, but for their addresses and their TLS.

Nothing here knows of pytest: the benchmarks ask these proxies, too.
"""

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent

FRONTS = ("nginx", "haproxy")

NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""
"""What Debian's own nginx.conf has around a site."""


def nginx_conf(folder: Path, site: str) -> str:
    """nginx's whole configuration for a site, with all that it writes in this folder."""
    user = "user root;" if os.geteuid() == 0 else ""  # the worker must be able to write into the test's folder
    return NGINX.format(user=user, folder=folder, site=site)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment, each another one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def _replaced(text: str, changes: Sequence[tuple[str, str]]) -> str:
    """The text with these changes, each of which must be one."""
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    return text


def _nginx(folder: Path, listen: Sequence[int]) -> tuple[str, list[str]]:
    changes = [
        (r"listen 443 ssl http2;", f"listen 127.0.0.1:{listen[0]}; listen 127.0.0.1:{listen[1]} http2;"),
        (r"ssl_certificate.*", ""),
    ]
    arguments = ["-e", str(folder / "error.log"), "-p", str(folder), "-c"]
    return nginx_conf(folder, _replaced((HERE / "nginx.conf").read_text(), changes)), arguments


def _haproxy(folder: Path, listen: Sequence[int]) -> tuple[str, list[str]]:
    changes = [
        (r"bind :443 ssl.*", f"bind 127.0.0.1:{listen[0]}\n    bind 127.0.0.1:{listen[1]} proto h2"),
        (r"inter 1s", "inter 50ms"),
    ]
    return _replaced((HERE / "haproxy.cfg").read_text(), changes), ["-db", "-f"]


def command(
    program: str, folder: Path, listen: Sequence[int], servers: Sequence[int], changes: Sequence[tuple[str, str]] = ()
) -> list[str]:
    """What runs one of `FRONTS` before two servers on this machine, behind the program's path. Its configuration is written there.

    :param listen: its ports, for HTTP/1.1 and for HTTP/2 without TLS
    :param changes: in its configuration, each a pattern and what replaces it
    """
    text, arguments = {"nginx": _nginx, "haproxy": _haproxy}[program](folder, listen)
    addresses = [(rf"10\.0\.0\.1{number}:8000", f"127.0.0.1:{port}") for number, port in enumerate(servers, 1)]
    file = folder / f"{program}.conf"
    file.write_text(_replaced(text, [*addresses, *changes]))
    return [*arguments, str(file)]
