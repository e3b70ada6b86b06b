"""What a router measures, for Prometheus. Units stand in the names."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class RouterMeasures:
    """The router's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "diffusion_router_requests", "Answers by path and HTTP status.", ["path", "code"], registry=registry
        )
        self.seconds = Histogram(
            "diffusion_router_request_seconds",
            "Seconds from a request's body to its answer.",
            ["service_class"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("diffusion_router_in_flight", "Requests that wait for an engine.", registry=registry)
        self.outstanding = Gauge(
            "diffusion_router_outstanding_steps", "Steps times images that are waited for.", registry=registry
        )
        self.ready_engines = Gauge(
            "diffusion_router_ready_engines", "Engines that say they are ready.", ["revision"], registry=registry
        )
        self.retries = Counter(
            "diffusion_router_retries", "Requests that one engine could not take.", ["reason"], registry=registry
        )

    def count_request(self, path: str, code: int) -> None:
        """One more answer."""
        self.requests.labels(path, str(code)).inc()

    def count_retry(self, reason: str) -> None:
        """An engine could not take a request: it was unreachable, it refused to begin, or it was lost on the way."""
        self.retries.labels(reason).inc()

    def show_ready(self, counts: dict[str, int]) -> None:
        """Ready engines by revision; revisions that are not named have gone."""
        self.ready_engines.clear()
        for revision, number in counts.items():
            self.ready_engines.labels(revision).set(number)
