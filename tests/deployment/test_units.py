"""The units and the manifest of this folder, which the server's page shows."""

import importlib
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from microasgi_server import Config, serve
from microasgi_server.command.parser import DEFAULTS, SERVE_GROUPS, Parser, add_target

from tests.harness import GET, PATIENCE, Served
from tests.needs import demand_package, needs_program, path_of

HERE = Path(__file__).parent


def option(command: list[str], name: str) -> Any:
    """What a command line of `microasgi serve` says of an option, or its default; every option in it must be one."""
    assert command[1:2] == ["serve"]
    parser = Parser(prog="test")
    add_target(parser, "")
    parser.add_options(SERVE_GROUPS, {**DEFAULTS, **vars(Config())})
    return getattr(parser.parse_args(command[2:]), name)


def unit(name: str) -> dict[str, str]:
    """A unit's settings."""
    lines = (HERE / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_the_proxies_give_connections_up_first() -> None:
    """Whoever keeps an idle connection for longer sends a request on one that the other is closing."""
    nginx = re.search(r"keepalive_timeout (\d+)s", (HERE / "nginx.conf").read_text())
    haproxy = re.search(r"timeout http-keep-alive (\d+)s", (HERE / "haproxy.cfg").read_text())
    assert nginx
    assert haproxy
    ours = option(shlex.split(unit("microasgi.service")["ExecStart"]), "timeout_keep_alive")
    assert max(int(nginx[1]), int(haproxy[1])) < ours


@needs_program("systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about the units, once the program is one that is there."""
    for name in ("microasgi.socket", "microasgi.service"):
        (tmp_path / name).write_text((HERE / name).read_text().replace("/srv/app/.venv/bin/microasgi", sys.executable))
    command = [path_of("systemd-analyze"), "verify", "--man=no", str(tmp_path / "microasgi.service"), str(tmp_path / "microasgi.socket")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE * 4)
    assert [line for line in (done.stdout + done.stderr).splitlines() if "microasgi" in line] == []


def test_the_units_fit_the_server() -> None:
    """The service tells when it is ready, its command is one of ours, and systemd waits longer than the server does."""
    service = unit("microasgi.service")
    assert service["Type"] == "notify"
    command = shlex.split(service["ExecStart"])
    assert float(service["TimeoutStopSec"]) > option(command, "timeout_graceful_shutdown") + 3 * Config().limits.cleanup
    assert int(unit("microasgi.socket")["Backlog"]) == Config().backlog


@pytest.mark.anyio
async def test_a_restart_behind_systemds_socket_refuses_nobody() -> None:
    """A connection that comes while no server runs waits in the socket, and the next server answers it."""

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with socket.create_server(("127.0.0.1", 0)) as kept:
        config, stop = Config(fd=[kept.fileno()], lifespan="off"), anyio.Event()
        address = f"http://127.0.0.1:{kept.getsockname()[1]}"
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda *, task_status: serve(hello, config, stop=stop, task_status=task_status))
            stop.set()
        async with await Served(address, stop, stop).connect() as client, anyio.create_task_group() as tasks:
            await client.send(GET)
            await tasks.start(lambda *, task_status: serve(hello, config, task_status=task_status))
            with anyio.fail_after(PATIENCE):
                assert (await client.response()).status == 204
            tasks.cancel_scope.cancel()


def test_the_manifest_has_the_shape_that_kubernetes_wants() -> None:
    """Probes ask for ports and paths that are there; what a pod is given to end is longer than what it takes."""
    demand_package("yaml")
    yaml: Any = importlib.import_module("yaml")
    deployment, service = yaml.safe_load_all((HERE / "kubernetes.yaml").read_text())
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"] == service["spec"]["selector"]
    (container,) = template["spec"]["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == option(container["args"], "port")
    assert {container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("readiness", "liveness")} == {port["name"]}
    assert [own["targetPort"] for own in service["spec"]["ports"]] == [port["name"]]
    assert option(container["args"], "host") == "0.0.0.0"
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    patience = pause + option(container["args"], "timeout_graceful_shutdown") + 2 * Config().limits.cleanup
    assert template["spec"]["terminationGracePeriodSeconds"] > patience
    assert pause > container["readinessProbe"]["periodSeconds"] * container["readinessProbe"]["failureThreshold"]
