"""What Prometheus can ask the service for."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

OUTCOMES = ("answered", "damaged", "unreadable")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_FACES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one service, in a registry of their own.

    Args:
        build: the facts about the service: version, model, precision, provider, detector.
        gauges: what is read when somebody asks, with its description, by name.

    Attributes:
        requests: requests by path and status.
        request_seconds: from the head of a request for faces to its answer.
        pictures: pictures by outcome.
        faces: faces that were found.
        batch_faces: faces that the age model was given at once.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, build: Mapping[str, str], gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("ageinfer_build", "What answers.", registry=registry).info(dict(build))
        self.requests = Counter(
            "ageinfer_requests", "Requests by path and status.", ("path", "status"), registry=registry
        )  # fmt: skip
        self.request_seconds = Histogram(
            "ageinfer_request_seconds", "From the head of a request for faces to its answer, in seconds.",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.pictures = Counter("ageinfer_pictures", "Pictures by outcome.", ("outcome",), registry=registry)
        for outcome in OUTCOMES:  # so that they are there from the beginning
            self.pictures.labels(outcome)
        self.faces = Counter("ageinfer_faces", "Faces that were found.", registry=registry)
        self.batch_faces = Histogram(
            "ageinfer_batch_faces", "Faces that the age model was given at once.", buckets=_FACES, registry=registry
        )
        for name, (description, read) in gauges.items():
            Gauge(f"ageinfer_{name}", description, registry=registry).set_function(read)

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self._registry)
