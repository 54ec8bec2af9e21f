"""Sends the state of several sources to a viewer who looks at all of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ageinfer.web.streams import Hub, event_of

_STATE_S = 0.2
_ALIVE_S = 1.0
_SHOWN = ("frames", "fps", "latency_ms", "since_s", "size")


class Overview:
    """The state of several sources, in few words each.

    Args:
        hubs: of the sources.
    """

    def __init__(self, hubs: Sequence[Hub]) -> None:
        self._hubs = hubs

    async def events(self, view: str) -> AsyncIterator[bytes]:
        """Yields server-sent events: one ``hello`` with the facts of the run and of each source, then ``state`` events.

        A state has for each source ``frames``, ``fps``, ``latency_ms``, ``since_s`` and ``size`` of
        `ageinfer.web.feed.Feed.state`, and ``faces``, the number of faces in view. It is sent after a new frame of any
        source, and once a second without one.

        Args:
            view: the name that the viewer gave itself.
        """
        about = self._hubs[0].about
        sources = [hub.about["source"] for hub in self._hubs]
        yield event_of("hello", about | {"sources": sources})
        known: list[int] = []
        sent_s = 0.0
        while True:
            now, numbers = time.monotonic(), [hub.feed.number for hub in self._hubs]
            if numbers != known or now - sent_s >= _ALIVE_S:
                known, sent_s = numbers, now
                yield event_of("state", {"sources": [_in_short(hub.feed.state()) for hub in self._hubs]})
            await asyncio.sleep(_STATE_S)


def _in_short(state: dict[str, Any]) -> dict[str, Any]:
    return {name: state[name] for name in _SHOWN} | {"faces": len(state["faces"])}
