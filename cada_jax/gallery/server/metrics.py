"""Counters of the server in Prometheus' format."""

import contextlib
import time
from collections.abc import Callable, Iterator

# Seconds; a query takes milliseconds on an accelerator and up to seconds on a CPU.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """What /metrics tells. Every server has its own registry.

    Args:
      gallery_size: pictures in the gallery.
      queue_depth: waiting work.
    """

    def __init__(self, gallery_size: Callable[[], float], queue_depth: Callable[[], float]):
        import prometheus_client as prometheus

        self._registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        self._text = prometheus.generate_latest
        self.content_type = prometheus.CONTENT_TYPE_LATEST
        self._requests = prometheus.Counter(
            "cada_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self._seconds = prometheus.Histogram(
            "cada_request_seconds",
            "Seconds from a request to the end of its answer",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._stages = prometheus.Histogram(
            "cada_stage_seconds",
            "Seconds of a stage: wait (in the queue), search (a batch on the device), nearest "
            "(stage one in the gallery), tokens (reading them), record, decode (an upload)",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._batches = prometheus.Histogram(
            "cada_batch_size", "Queries answered at once", buckets=_BATCHES, registry=registry
        )
        self._active = prometheus.Gauge(
            "cada_active_requests", "Requests being answered", registry=registry
        )
        for name, text, value in (
            ("cada_queue_depth", "Queries and other work that wait for the device", queue_depth),
            ("cada_gallery_size", "Pictures in the gallery", gallery_size),
        ):
            prometheus.Gauge(name, text, registry=registry).set_function(value)

    def observe(self, stage: str, value: float) -> None:
        """Counts a stage's seconds, or the size of a batch for the stage "batch"."""
        if stage == "batch":
            self._batches.observe(value)
        else:
            self._stages.labels(stage).observe(value)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the seconds of the `with` block, also when it raises."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.observe(name, time.monotonic() - start)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts one request; `route` is a pattern, so that ids make no series of their own."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def active(self, change: int) -> None:
        """Counts requests that begin (1) and end (-1)."""
        self._active.inc(change)

    def text(self) -> bytes:
        """The answer of /metrics."""
        return self._text(self._registry)
