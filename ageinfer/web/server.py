"""What the web server of a run answers."""

import asyncio
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ageinfer.errors import UsageError
from ageinfer.people.board import Board
from ageinfer.sinks import Playback
from ageinfer.web.guard import CONTROL, PLACES, Guard
from ageinfer.web.listening import Listening
from ageinfer.web.metrics import MEDIA_TYPE, RunMetrics
from ageinfer.web.overview import Overview
from ageinfer.web.serving import ServerThread
from ageinfer.web.streams import END, EVENTS, Hub, Stream, make_streams

_FILES = {
    "/page.js": ("page.js", "text/javascript"),
    "/address.js": ("address.js", "text/javascript"),
    "/overview.js": ("overview.js", "text/javascript"),
    "/audience.js": ("audience.js", "text/javascript"),
    "/link.js": ("link.js", "text/javascript"),
    "/people.js": ("people.js", "text/javascript"),
    "/places.js": ("places.js", "text/javascript"),
    "/playback.js": ("playback.js", "text/javascript"),
    "/plot.js": ("plot.js", "text/javascript"),
    "/text.js": ("text.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class WebServer(ServerThread):
    """Serves the page and its streams on a socket until it is closed.

    Where there are several sources, ``/`` is a page of all of them, and ``?source=N`` says which one is meant.

    Args:
        listening: where; the server closes its socket.
        hubs: give pictures and state, one for each source.
        metrics: for ``/metrics``.
        playback: of a recording, which the page can pause and repeat; None: there is nothing to change.
        boards: of the sources, whose places the page can change; empty: there are none.
        only_counts: whether there is no picture to be had.

    Raises:
        OutputError: the server does not start.
    """

    def __init__(
        self, listening: Listening, hubs: Sequence[Hub], metrics: RunMetrics, playback: Playback | None,
        boards: Sequence[Board] = (), *, only_counts: bool = False,
    ) -> None:  # fmt: skip
        closing = asyncio.Event()
        streams = [make_streams(hub, closing, self.abort) for hub in hubs]
        routes = [Route(path, _file(*file)) for path, file in _FILES.items()]
        routes.append(Route("/", _start(several=len(hubs) > 1)))
        routes.append(Route("/metrics", _metrics(metrics)))
        routes.append(Route("/events", _OfSource([events for _, events in streams])))
        if not only_counts:
            routes.append(Route("/stream.mjpg", _OfSource([pictures for pictures, _ in streams])))
            routes.append(Route("/picture.jpg", _OfSource([_picture(hub) for hub in hubs])))
        if len(hubs) > 1:
            overview = Stream(EVENTS, Overview(hubs).events, last=END, closing=closing, abort=self.abort)
            routes.append(Route("/overview", overview))
        if playback is not None:
            routes.append(Route(CONTROL, _control(playback), methods=["POST"]))
        if boards:
            routes.append(Route(PLACES, _OfSource([_places(board) for board in boards]), methods=["POST"]))
        app = Starlette(routes=routes)
        app.router.redirect_slashes = False  # what is not there is not somewhere else
        guard = Guard(app, port=listening.port, token=listening.token, hosts=listening.hosts)
        super().__init__(guard, listening.socket, closing)


class _OfSource:
    """Hands a request on to the answer of the source that its address names, the first one where it names none."""

    def __init__(self, answers: Sequence[ASGIApp]) -> None:
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = QueryParams(scope["query_string"]).get("source", "0")
        number = int(asked) if asked.isdecimal() and len(asked) < 4 else len(self._answers)
        answer: ASGIApp = PlainTextResponse("There is no such source.\n", 404)
        if number < len(self._answers):
            answer = self._answers[number]
        await answer(scope, receive, send)


def _start(*, several: bool) -> Callable[[Request], Any]:
    """Makes a handler that answers with the page of one source, or of all where there are several."""
    one, all_of_them = (_file(name, "text/html") for name in ("page.html", "overview.html"))

    async def answer(request: Request) -> Response:
        of_all = several and "source" not in request.query_params
        return await (all_of_them if of_all else one)(request)

    return answer


def _metrics(metrics: RunMetrics) -> Callable[[Request], Any]:
    """Makes a handler that answers with the metrics of the run."""

    async def answer(_: Request) -> Response:
        return Response(metrics.text(), media_type=MEDIA_TYPE)

    return answer


def _picture(hub: Hub) -> ASGIApp:
    """Makes an answer with the newest picture of a source."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        picture = await hub.newest_picture()
        found = PlainTextResponse("No picture at the moment.\n", 503, {"Retry-After": "1"})
        await (found if picture is None else Response(picture.jpeg, media_type="image/jpeg"))(scope, receive, send)

    return answer


def _control(playback: Playback) -> Callable[[Request], Any]:
    """Makes a handler that does with the recording what the page asks for: ``?do=pause``, ``play`` or ``repeat``."""

    async def answer(request: Request) -> Response:
        wish = request.query_params.get("do")
        if wish in ("pause", "play"):
            playback.paused = wish == "pause"
        elif wish == "repeat":
            playback.repeat()
        else:
            return PlainTextResponse("Ask for ?do=pause, play or repeat.\n", 400)
        return Response(status_code=204)

    return answer


def _places(board: Board) -> ASGIApp:
    """Makes an answer that changes places of a source: ``?zone=NAME=x,y;...``, ``?line=...`` or ``?remove=NAME``."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        asked = QueryParams(scope["query_string"])
        response = Response(status_code=204)
        try:
            if "remove" in asked:
                board.remove_place(asked["remove"])
            elif "zone" in asked:
                board.add_place("zone", asked["zone"])
            elif "line" in asked:
                board.add_place("line", asked["line"])
            else:
                response = PlainTextResponse("Ask for ?zone=, ?line= or ?remove=.\n", 400)
        except UsageError as error:
            response = PlainTextResponse(f"{error}\n", 400)
        await response(scope, receive, send)

    return answer


def _file(name: str, media_type: str) -> Callable[[Request], Any]:
    """Makes a handler that answers with a file of this package."""
    content = (files("ageinfer.web") / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer
