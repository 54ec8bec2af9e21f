"""Sends pictures and state to the viewers, to each at its own speed.

Everything here runs on the event loop of the server.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ageinfer.people.board import Board
from ageinfer.sinks import Playback
from ageinfer.web.encoder import Picture
from ageinfer.web.feed import Feed

MAX_VIEWERS = 16
# A viewer that takes nothing for so many seconds loses its place.
STALL_S = 20.0
_STATE_S = 0.125
_ALIVE_S = 1.0
_NEWEST_PICTURE_S = 2.0
EVENTS = "text/event-stream; charset=utf-8"
_BOUNDARY = "picture"
_PART = f"\r\n--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()


class Hub:
    """Gives every viewer the newest picture and state.

    Args:
        feed: gives frames and state.
        about: the facts about the run that a viewer gets first, as JSON values.
        interval_s: the shortest time from one picture to the next, in seconds.
        playback: of a recording, or None.
        board: places and counts, or None.

    Attributes:
        feed, about: as given.
    """

    def __init__(
        self, feed: Feed, about: dict[str, Any], interval_s: float, playback: Playback | None = None,
        board: Board | None = None,
    ) -> None:  # fmt: skip
        self.feed = feed
        self.about = about
        self._interval_s = interval_s
        self._playback = playback
        self._board = board
        self._picture: Picture | None = None
        self._published = asyncio.Event()
        self._delivered_s: dict[str, float] = {}

    def publish(self, picture: Picture) -> None:
        """Stores a new picture and wakes all viewers that wait for it."""
        self._picture = picture
        self._published.set()
        self._published = asyncio.Event()

    async def pictures(self, view: str) -> AsyncIterator[bytes]:
        """Yields parts of a Motion JPEG stream: the newest picture each time the viewer is ready for one.

        Args:
            view: the name that the viewer gave itself.
        """
        number = 0
        try:
            self._delivered_s[view] = time.monotonic()
            yield _PART.removeprefix(b"\r\n")
            while True:
                picture = await self._picture_after(number)
                number = picture.number
                # Chromium shows a picture when the head of the next one comes, so the head is sent with this picture.
                # It cannot say how long the next picture will be.
                yield picture.jpeg + _PART
                self._delivered_s[view] = time.monotonic()
        finally:
            self._delivered_s.pop(view, None)

    async def newest_picture(self) -> Picture | None:
        """The picture of the newest frame, once it is made; None where there is none within 2 s."""
        try:
            async with asyncio.timeout(_NEWEST_PICTURE_S):
                return await self._picture_after(0)
        except TimeoutError:
            return None

    async def _picture_after(self, number: int) -> Picture:
        while True:
            published, picture = self._published, self._picture
            if picture is not None and picture.number > number and self._is_new(picture):
                return picture
            self.feed.want()
            await published.wait()

    def _is_new(self, picture: Picture) -> bool:
        """Tells whether a picture shows the newest frame or is younger than the shortest interval."""
        return picture.number == self.feed.number or time.monotonic() - picture.made_s < self._interval_s

    async def events(self, view: str) -> AsyncIterator[bytes]:
        """Yields server-sent events: one ``hello`` with the facts and the last minute, then many ``state`` events.

        A state is sent after a new frame, after a change of the playback, and once a second without one, so that each
        side notices when the other is gone. It holds the state of the `Feed`; ``picture_s``, the seconds since this
        viewer has received a picture, or None if no pictures are sent to it; and ``playback``, the state of the
        `Playback`, or None. A ``board`` event has places and counts, at the beginning and after each change.

        Args:
            view: the name under which the viewer gets its pictures.
        """
        yield event_of("hello", self.about | {"history": self.feed.history()})
        known, sent_s, board_version = None, 0.0, -1
        while True:
            now = time.monotonic()
            if self._board is not None and self._board.version != board_version:
                board_version = self._board.version
                yield event_of("board", self._board.state())
            playback = None if self._playback is None else self._playback.state()
            if (self.feed.number, playback) != known or now - sent_s >= _ALIVE_S:
                known, sent_s = (self.feed.number, playback), now
                delivered_s = self._delivered_s.get(view)
                picture_s = None if delivered_s is None else round(now - delivered_s, 2)
                yield event_of("state", self.feed.state() | {"picture_s": picture_s, "playback": playback})
            await asyncio.sleep(_STATE_S)


class Stream:
    """Answers each viewer with an endless stream of parts; it is an ASGI application.

    Args:
        media_type: the media type of the answer.
        parts: makes the parts for one viewer; it gets the value of ``view`` in the address.
        last: the last part, sent when the server closes.
        closing: set when the server closes.
        abort: breaks the connection to a client; it gets the address and port of the client.
    """

    def __init__(
        self,
        media_type: str,
        parts: Callable[[str], AsyncIterator[bytes]],
        *,
        last: bytes = b"",
        closing: asyncio.Event,
        abort: Callable[[tuple[str, int]], None],
    ) -> None:
        self._media_type = media_type
        self._parts = parts
        self._last = last
        self._closing = closing
        self._abort = abort
        self._viewers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._viewers >= MAX_VIEWERS:
            text = f"{MAX_VIEWERS} others are watching; try again later.\n"
            await PlainTextResponse(text, 503, {"Retry-After": "5"})(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            await Response(media_type=self._media_type)(scope, receive, send)
            return
        self._viewers += 1
        try:
            headers = [(b"content-type", self._media_type.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._serve(scope, receive, send)
            await send({"type": "http.response.body", "body": self._last, "more_body": False})
        finally:
            self._viewers -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends parts until the viewer leaves, the viewer stalls, or the server closes."""
        sending = asyncio.create_task(self._send_parts(scope, send))
        tasks = [sending, asyncio.create_task(_until_gone(receive)), asyncio.create_task(self._closing.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not sending.cancelled():
            sending.result()  # raises the error of the task, if there is one

    async def _send_parts(self, scope: Scope, send: Send) -> None:
        view = QueryParams(scope["query_string"]).get("view", "")[:40]
        async with aclosing(self._parts(view)) as parts:  # type: ignore[type-var]
            async for part in parts:
                try:
                    async with asyncio.timeout(STALL_S):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                        # Sends nothing, but returns only when most of the part has left this process. So the next
                        # part is chosen as late as possible.
                        await send({"type": "http.response.body", "body": b"", "more_body": True})
                except TimeoutError:
                    self._abort(scope["client"])
                    return


def make_streams(hub: Hub, closing: asyncio.Event, abort: Callable[[tuple[str, int]], None]) -> tuple[Stream, Stream]:
    """Makes the stream of pictures and the stream of state of a hub."""
    media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
    pictures = Stream(media_type, hub.pictures, closing=closing, abort=abort)
    events = Stream(EVENTS, hub.events, last=END, closing=closing, abort=abort)
    return pictures, events


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def event_of(name: str, values: dict[str, Any]) -> bytes:
    """One server-sent event."""
    # ASCII only: a file name need not be UTF-8, and escapes can write it.
    return f"event: {name}\ndata: {json.dumps(values, allow_nan=False)}\n\n".encode("ascii")


END = event_of("end", {})  # the last part of a stream of events
