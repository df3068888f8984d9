"""The numbers of `stats` for Prometheus, by its own client library (the extra `metrics`).

    routes.mount("/metrics", microasgi_server.metrics.app())             a path of the app's own
    microasgi serve main:routes --metrics-port 9100                      a port of its own, at any path
    prometheus_client.REGISTRY.register(microasgi_server.metrics.collector())     what exports that registry already

A scrape reads a snapshot; between two of them nothing is done for it.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from microasgi_server import identity
from microasgi_server.asgi import ASGIApp
from microasgi_server.counting import stats
from microasgi_server.errors import StartupError

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector


def demand() -> None:
    """Make sure that the library is there.

    :raises StartupError: it isn't installed
    """
    if find_spec("prometheus_client") is None:
        raise StartupError("metrics need prometheus-client; install it with: pip install 'microasgi[metrics]'")


def collector(of: ASGIApp | None = None) -> "Collector":
    """What a registry of the library's asks for the numbers, at each scrape.

    :param of: count only the servers of this app; else all of the process
    :raises StartupError: the library isn't installed
    """
    demand()
    from prometheus_client.registry import Collector

    class Snapshot(Collector):
        """The numbers of now."""

        def collect(self) -> "Iterator[Metric]":
            return map(_of_the_worker, _families(of))

    return Snapshot()


def app(of: ASGIApp | None = None) -> ASGIApp:
    """An ASGI app that answers with these numbers, and with what is in the library's own registry: the process's, and what the app counts.

    :param of: as for `collector`
    :raises StartupError: the library isn't installed
    """
    numbers = collector(of)
    from prometheus_client import REGISTRY, CollectorRegistry, make_asgi_app

    registry = CollectorRegistry(auto_describe=False)
    registry.register(REGISTRY)
    registry.register(numbers)
    exposition: ASGIApp = make_asgi_app(registry)
    return exposition


def _of_the_worker(family: "Metric") -> "Metric":
    """The same, with the number of the worker that this process is, where there are several."""
    if identity.worker is not None:
        label = {"worker": str(identity.worker)}
        family.samples = [sample._replace(labels={**sample.labels, **label}) for sample in family.samples]
    return family


def _families(of: ASGIApp | None) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    now = stats(of)
    for name, meaning, value in (
        ("microasgi_connections", "Open connections.", now.connections),
        ("microasgi_requests_in_flight", "Calls of the app that run.", now.in_flight),
    ):
        yield GaugeMetricFamily(name, meaning, value)
    for name, meaning, label, values in (
        ("microasgi_responses", "Complete responses.", "status", now.responses),
        ("microasgi_departures", "Requests whose client left before their response was complete.", "how", now.departures),
    ):
        family = CounterMetricFamily(name, meaning, labels=[label])
        for key, count in values.items():
            family.add_metric([key], count)
        yield family
    for name, meaning, total in (
        ("microasgi_interrupted", "Requests that ended early though their client was there.", now.interrupted),
        ("microasgi_cancelled", "Requests that were told to stop before their response was complete.", now.cancelled),
        ("microasgi_cancelled_seconds", "Seconds that those took from their beginning to their end.", now.cancelled_seconds),
    ):
        yield CounterMetricFamily(name, meaning, total)
    refused = CounterMetricFamily("microasgi_refused", "Requests that were not served.", labels=["status", "reason"])
    for (status, reason), count in now.refused.items():
        refused.add_metric([str(status), reason], count)
    yield refused
