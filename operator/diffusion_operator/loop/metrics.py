"""The loop's own metrics for Prometheus, and the usual ones of a process: its memory, CPU seconds and open files."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class LoopMetrics:
    """One set of metrics in a registry of its own, so that two operators may live in one process in a test."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconcile_seconds = Histogram(
            "diffusion_operator_reconcile_seconds",
            "Duration of one reconcile in seconds.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.api_calls = Counter(
            "diffusion_operator_api_calls",
            "Requests to the API server by verb and HTTP code; code is 'unreachable' where none came.",
            ["verb", "code"],
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "diffusion_operator_api_seconds",
            "Duration of requests to the API server in seconds.",
            ["verb"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.errors = Counter(
            "diffusion_operator_errors",
            "Failures by kind: the class of the error, and where it happened.",
            ["where", "kind"],
            registry=self.registry,
        )
        self._silence = Gauge(
            "diffusion_operator_watch_silence_seconds",
            "Seconds since the API server last said anything about a kind, in the most silent of its namespaces.",
            ["kind"],
            registry=self.registry,
        )
        self._heard: dict[str, list[Callable[[], float]]] = {}
        self.leader = Gauge("diffusion_operator_leader", "1 while this process leads.", registry=self.registry)

    def queue_depth(self, depth: Callable[[], float]) -> None:
        """Show the number of custom resources that wait for a reconcile."""
        self._live("diffusion_operator_queue_depth", "Custom resources waiting for a reconcile.", depth)

    def agents_connected(self, count: Callable[[], float]) -> None:
        """Show the number of agents that hold a poll."""
        self._live("diffusion_operator_agents_connected", "Agents in pods that hold a poll now.", count)

    def watch_silence(self, kind: str, heard_at: Callable[[], float]) -> None:
        """Show for how long nothing was heard of a kind. Of several watches of it, the most silent one is shown."""
        watches = self._heard.setdefault(kind, [])
        watches.append(heard_at)
        self._silence.labels(kind).set_function(lambda: time.monotonic() - min(heard() for heard in watches))

    def called(self, verb: str, code: str, seconds: float) -> None:
        """Count one request to the API server. The seconds of a watch say nothing, and are left out."""
        self.api_calls.labels(verb, code).inc()
        if verb != "WATCH":
            self.api_seconds.labels(verb).observe(seconds)

    def failed(self, where: str, error: Exception) -> None:
        """Count one failure."""
        self.errors.labels(where, type(error).__name__).inc()

    def _live(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(value)
