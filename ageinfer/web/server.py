"""What the web server of a run answers."""

import asyncio
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ageinfer.errors import UsageError
from ageinfer.people.board import Board
from ageinfer.sinks import Playback
from ageinfer.web.guard import CONTROL, PLACES, Guard
from ageinfer.web.listening import Listening
from ageinfer.web.serving import ServerThread
from ageinfer.web.streams import Hub, make_streams

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/audience.js": ("audience.js", "text/javascript"),
    "/people.js": ("people.js", "text/javascript"),
    "/places.js": ("places.js", "text/javascript"),
    "/playback.js": ("playback.js", "text/javascript"),
    "/plot.js": ("plot.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class WebServer(ServerThread):
    """Serves the page and its streams on a socket until it is closed.

    Args:
        listening: where; the server closes its socket.
        hub: gives pictures and state.
        playback: of a recording, which the page can pause and repeat; None: there is nothing to change.
        board: whose places the page can change; None: there are none.
        only_counts: whether there is no picture to be had.

    Raises:
        OutputError: the server does not start.
    """

    def __init__(
        self, listening: Listening, hub: Hub, playback: Playback | None, board: Board | None = None, *,
        only_counts: bool = False,
    ) -> None:  # fmt: skip
        closing = asyncio.Event()
        pictures, events = make_streams(hub, closing, self.abort)
        routes = [Route(path, _file(*file)) for path, file in _FILES.items()]
        routes.append(Route("/events", events))
        if not only_counts:
            routes.append(Route("/stream.mjpg", pictures))
        if playback is not None:
            routes.append(Route(CONTROL, _control(playback), methods=["POST"]))
        if board is not None:
            routes.append(Route(PLACES, _places(board), methods=["POST"]))
        app = Starlette(routes=routes)
        app.router.redirect_slashes = False  # what is not there is not somewhere else
        guard = Guard(app, port=listening.port, token=listening.token, hosts=listening.hosts)
        super().__init__(guard, listening.socket, closing)


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


def _places(board: Board) -> Callable[[Request], Any]:
    """Makes a handler that changes the places of a run: ``?zone=NAME=x,y;...``, ``?line=...`` or ``?remove=NAME``."""

    async def answer(request: Request) -> Response:
        asked = request.query_params
        try:
            if "remove" in asked:
                board.remove_place(asked["remove"])
            elif "zone" in asked:
                board.add_place("zone", asked["zone"])
            elif "line" in asked:
                board.add_place("line", asked["line"])
            else:
                return PlainTextResponse("Ask for ?zone=, ?line= or ?remove=.\n", 400)
        except UsageError as error:
            return PlainTextResponse(f"{error}\n", 400)
        return Response(status_code=204)

    return answer


def _file(name: str, media_type: str) -> Callable[[Request], Any]:
    """Makes a handler that answers with a file of this package."""
    content = (files("ageinfer.web") / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer
