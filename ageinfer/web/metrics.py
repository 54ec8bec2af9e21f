"""What Prometheus can ask a run for: frames, lags and faces of each source."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ageinfer.web.feed import Feed

MEDIA_TYPE = CONTENT_TYPE_LATEST
_BUILD = ("version", "model", "provider", "detector")


class RunMetrics:
    """The metrics of a run, read when somebody asks.

    Args:
        feeds: the newest results of each source, by its name.
        about: the facts about the run.
        only_counts: leaves out how many faces are in view.
    """

    def __init__(self, feeds: Mapping[str, Feed], about: Mapping[str, Any], *, only_counts: bool) -> None:
        self._feeds, self._about, self._only_counts = feeds, about, only_counts
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment; the registry asks for them."""
        build = {name: str(self._about[name]) for name in _BUILD}
        yield InfoMetricFamily("ageinfer_build", "What answers.", build)
        states = {source: feed.state() for source, feed in self._feeds.items()}
        frames = CounterMetricFamily("ageinfer_frames", "Frames with a result.", labels=["source"])
        for source, state in states.items():
            frames.add_metric([source], state["frames"])
        yield frames
        yield _gauge("frames_per_second", "Frames with a result, over the last 2 s.", states, lambda s: s["fps"])
        yield _gauge("lag_seconds", "From the capture of the newest frame to its result.", states, _lag_s)
        yield _gauge("since_frame_seconds", "Since the newest frame had its result.", states, lambda s: s["since_s"])
        if not self._only_counts:
            yield _gauge("faces_in_view", "Faces in the newest frame.", states, lambda s: len(s["faces"]))


def _lag_s(state: Mapping[str, Any]) -> float | None:
    return None if state["latency_ms"] is None else state["latency_ms"] / 1000


def _gauge(
    name: str, text: str, states: Mapping[str, Mapping[str, Any]], read: Callable[[Mapping[str, Any]], float | None]
) -> GaugeMetricFamily:  # fmt: skip
    gauge = GaugeMetricFamily(f"ageinfer_{name}", text, labels=["source"])
    for source, state in states.items():
        if (value := read(state)) is not None:
            gauge.add_metric([source], value)
    return gauge
