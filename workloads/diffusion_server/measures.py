"""What an engine measures of itself, for Prometheus. Units stand in the names."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from diffusion_server.samples import ServedModel
from diffusion_server.step_loop import Load
from diffusion_server.step_times import StepTimes

_PREFIX = "diffusion_engine_"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class EngineMeasures:
    """The engine's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Answers by path and HTTP status.", "path", "code")
        self.images = self._counter("images", "Images finished, by service class.", "service_class")
        self.abandoned = self._counter("abandoned_rows", "Images dropped because nobody waits for them any more.")
        self.queue_seconds = self._seconds("queue", "Seconds from a request's arrival to its first step.")
        self.compute_seconds = self._seconds("compute", "Seconds from a request's first step to its last image.")
        self.running_rows = self._gauge("running_rows", "Images in the batch now.")
        self.waiting_rows = self._gauge("waiting_rows", "Images that wait to join the batch.")
        self.outstanding_steps = self._gauge("outstanding_steps", "Steps that all images still have to take.")
        self.batch_rows = self._histogram("batch_rows", "Images in a step.", _ROWS)
        self.step_seconds = self._histogram("step_seconds", "Seconds of a step.", _SECONDS)
        self.warm_up_step_seconds = self._gauge("warm_up_step_seconds", "Seconds of a step as warm-up saw it.", "rows")
        self.start_seconds = self._gauge("start_seconds", "Seconds from the start of the process until ready.")
        self.model_info = self._gauge("model_info", "The model version served; 1.", "revision", "digest", "sampler")

    def count_request(self, path: str, code: int) -> None:
        """One more answer."""
        self.requests.labels(path, str(code)).inc()

    def observe_step(self, rows: int, seconds: float) -> None:
        """One more step of the loop."""
        self.batch_rows.observe(rows)
        self.step_seconds.observe(seconds)

    def observe_drawing(self, service_class: str, images: int, queue_seconds: float, compute_seconds: float) -> None:
        """One more request whose images are all finished."""
        self.images.labels(service_class).inc(images)
        self.queue_seconds.labels(service_class).observe(queue_seconds)
        self.compute_seconds.labels(service_class).observe(compute_seconds)

    def watch_load(self, load: Callable[[], Load]) -> None:
        """Ask `load` whenever the gauges are read."""
        self.running_rows.set_function(lambda: load().running)
        self.waiting_rows.set_function(lambda: load().waiting)
        self.outstanding_steps.set_function(lambda: load().outstanding_steps)

    def observe_start(self, revision: str, model: ServedModel, sampler: str, times: StepTimes, seconds: float) -> None:
        """The engine became ready with `model`, `seconds` after the process began."""
        self.model_info.labels(revision, model.digest, sampler).set(1)
        self.start_seconds.set(seconds)
        for rows, step in times.points:
            self.warm_up_step_seconds.labels(str(rows)).set(step)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(_PREFIX + name, text, labels, buckets=buckets, registry=self.registry)

    def _seconds(self, part: str, text: str) -> Histogram:
        return self._histogram(f"{part}_seconds", text, _SECONDS, "service_class")
