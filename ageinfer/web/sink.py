"""The sink of the web view, which starts its server."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from ageinfer.errors import UsageError
from ageinfer.people.board import Boards
from ageinfer.sinks import Playback, Sink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.web.encoder import Encoder
from ageinfer.web.feed import Feed
from ageinfer.web.listening import listen, missing_extra


@dataclass(frozen=True, slots=True)
class WebInfo:
    """The facts about a run that the page shows.

    Attributes:
        model: the name of the age model.
        label: the kind of age that it estimates, "real" or "apparent".
        provider: the execution provider on which it runs.
        detector: the name of the face detector.
        source: the name of the source, without user name and password.
        version: the version of ageinfer.
    """

    model: str
    label: Literal["real", "apparent"]
    provider: str
    detector: str
    source: str
    version: str


class WebSink(Sink):
    """Shows a run on a web page while it goes on.

    `write` stores the frame and returns at once. Another thread draws and compresses it, once for all viewers, and only
    when a viewer waits for a picture.

    Args:
        host: the name or address to listen on. An address that other machines can reach needs a token.
        port: the port to listen on, 0 to 65535; 0 takes any free port.
        token: the token that a viewer needs, see `make_token`; None: none, for this machine only.
        about: the facts about the run that the page shows.
        playback: of a recording, for the buttons of the page; None: it has none.
        boards: places, which the page can change, and counts; None: there are none.
        sources: the names of several live sources, as results have them; empty: the page shows what comes.
        only_counts: the page shows the counts of the boards, and no picture and no face.
        max_fps: the most pictures a second for a viewer, above 0 and up to 1000.
        jpeg_quality: 1 to 100.
        max_side: the largest width and height of the shown pictures, 16 to 65500 pixels.

    Attributes:
        url: the address to open in a browser, with the token in it.

    Raises:
        UsageError: other machines can reach the host and there is no token, or a value is out of range.
        OutputError: the port is taken, or the system does not allow it.
        MissingDependencyError: starlette or uvicorn is not installed.

    Example:
        >>> with WebSink(port=0, about=info) as sink:  # doctest: +SKIP
        ...     print(sink.url)
        ...     sink.write(annotated)
    """

    stays = True

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        *,
        token: str | None = None,
        about: WebInfo,
        playback: Playback | None = None,
        boards: Boards | None = None,
        sources: Sequence[str] = (),
        only_counts: bool = False,
        max_fps: float = 15,
        jpeg_quality: int = 80,
        max_side: int = 1280,
    ) -> None:
        if not (0 < max_fps <= 1000 and 1 <= jpeg_quality <= 100 and 16 <= max_side <= 65500):
            raise UsageError(
                "the web view cannot use these values; give max_fps above 0 and up to 1000, jpeg_quality 1 to 100, and "
                "max_side 16 to 65500"
            )
        try:
            from ageinfer.web.metrics import RunMetrics
            from ageinfer.web.server import WebServer
            from ageinfer.web.streams import Hub
        except ModuleNotFoundError as error:
            raise missing_extra("the web view", error) from error

        listening = listen(host, port, token)
        self.url = listening.url
        self._only_counts = only_counts
        names = list(sources) or [about.source]
        self._feeds = {name: Feed() for name in names}
        hubs = []
        for name, feed in self._feeds.items():
            facts = asdict(about) | {"source": name, "only_counts": only_counts, "several": len(names) > 1}
            hubs.append(Hub(feed, facts, 1 / max_fps, playback, None if boards is None else boards.of(name)))
        changeable = [] if only_counts or boards is None else [boards.of(name) for name in names]
        metrics = RunMetrics(self._feeds, asdict(about), only_counts=only_counts)
        self._server = WebServer(listening, hubs, metrics, playback, changeable, only_counts=only_counts)
        self._encoders = [
            Encoder(
                hub.feed,
                partial(self._server.call, hub.publish),
                interval_s=1 / max_fps,
                quality=jpeg_quality,
                max_side=max_side,
            )
            for hub in hubs
        ]
        for encoder in self._encoders:
            encoder.start()

    def write(self, annotated: AnnotatedFrame) -> None:
        if self._only_counts:
            annotated = _without_people(annotated)
        feeds = self._feeds
        feed = feeds.get(annotated.result.source) or next(iter(feeds.values()))  # a single one takes what comes
        feed.put(annotated)

    def close(self) -> None:
        for feed in self._feeds.values():
            feed.close()
        self._server.close()
        for encoder in self._encoders:
            encoder.join(1)


def _without_people(annotated: AnnotatedFrame) -> AnnotatedFrame:
    """A frame without picture and faces, for a page that may only show counts."""
    frame = replace(annotated.frame, image=np.zeros((1, 1, 3), np.uint8))
    return AnnotatedFrame(frame, replace(annotated.result, faces=()))
