"""What the service answers at which path."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ageinfer.api.bodies import Body, Room, Upload
from ageinfer.api.limits import Limits
from ageinfer.api.metrics import Metrics
from ageinfer.api.openapi import description
from ageinfer.api.problems import GONE, RequestError, answer_failure, answer_problem
from ageinfer.api.workers import Answer, Workers
from ageinfer.errors import AgeError
from ageinfer.web.guard import AUTHORISED

FACES, HEALTH, METRICS, OPENAPI = "/v1/faces", "/v1/health", "/metrics", "/openapi.json"
PAGE = {
    "/": ("api/page.html", "text/html"),
    "/page.js": ("api/page.js", "text/javascript"),
    "/page.css": ("api/page.css", "text/css"),
    "/icon.svg": ("web/icon.svg", "image/svg+xml"),
}
_STOPPING_S = 5  # after which another instance may answer


class Application:
    """The answers of the service.

    Args:
        workers: find faces and ages.
        limits: of requests.
        facts: of the service: version, model, precision, provider, detector.
        closing: set when the server closes.

    Attributes:
        metrics: what was answered.
        in_work: requests for faces that are read or answered.
        pictures: that were answered.
    """

    def __init__(self, workers: Workers, limits: Limits, facts: Mapping[str, str], closing: asyncio.Event) -> None:
        self._workers = workers
        self._limits = limits
        self._facts = facts
        self._closing = closing
        self._room = Room(limits.most_held)
        self.in_work = self.pictures = 0
        self.metrics = Metrics(
            facts,
            {
                "pictures_waiting": ("Pictures that no thread has begun.", lambda: workers.waiting),
                "requests_in_work": ("Requests for faces that are read or answered.", lambda: self.in_work),
                "held_bytes": ("Bytes of bodies that are held.", lambda: self._room.held),
            },
        )

    def routes(self) -> Starlette:
        """The application of Starlette."""
        app = Starlette(
            routes=[
                Route(FACES, self._answer_faces, methods=["POST"]),
                Route(HEALTH, self._answer_health),
                Route(METRICS, self._answer_metrics),
                Route(OPENAPI, self._answer_openapi),
                *(Route(path, _file(*file)) for path, file in PAGE.items()),
            ],
            exception_handlers={
                RequestError: answer_problem,
                HTTPException: answer_problem,
                AgeError: answer_failure,
                Exception: answer_failure,
            },
        )
        app.router.redirect_slashes = False
        return app

    async def _answer_faces(self, request: Request) -> Response:
        if self._closing.is_set():
            raise RequestError(503, "The service is stopping; ask again later.", retry_s=_STOPPING_S)
        if self._workers.waiting >= self._limits.queue:  # nobody need send what will not be answered
            raise self._full()
        end_s = asyncio.get_running_loop().time() + self._limits.time_limit_s
        self.in_work += 1
        try:
            with Body(request, self._limits, self._room) as body:
                answers = await self._answers(request, await self._uploads(body, end_s), end_s)
        except ClientDisconnect:
            return Response(status_code=GONE)  # nobody gets it; it is only counted
        finally:
            self.in_work -= 1
        errors = [answer.record["error"] for answer in answers if answer.outcome == "unreadable"]
        self.pictures += len(answers) - len(errors)
        if len(errors) == len(answers):
            others = f" (and none of the {len(errors) - 1} others can be read)" if len(errors) > 1 else ""
            raise RequestError(422, errors[0] + others)
        return JSONResponse({"pictures": [answer.record for answer in answers]})

    async def _uploads(self, body: Body, end_s: float) -> list[Upload]:
        try:
            async with asyncio.timeout_at(end_s):
                return await body.uploads()
        except TimeoutError:
            detail = f"The body was not whole within {self._limits.time_limit_s:g} s; send less at once."
            raise RequestError(408, detail, closes=True) from None

    async def _answers(self, request: Request, uploads: list[Upload], end_s: float) -> list[Answer]:
        if self._workers.waiting + len(uploads) > self._limits.queue:
            raise self._full()
        found = self._workers.start(uploads)
        for future in found:
            future.add_done_callback(self._count)
        awaited = [asyncio.wrap_future(future) for future in found]
        working: asyncio.Future[Any] = asyncio.gather(*awaited)
        gone: asyncio.Future[Any] = asyncio.ensure_future(request.receive())  # nothing comes but the end
        try:
            wait_s = end_s - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({working, gone}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if working in done:
                return list(await working)
        finally:
            for future_of_loop in (gone, *awaited):
                future_of_loop.cancel()  # and with it a picture that no thread has begun
        if gone in done:
            raise ClientDisconnect
        limit_s = self._limits.time_limit_s
        detail = f"The answer took longer than {limit_s:g} s; send fewer or smaller pictures, or ask again later."
        raise RequestError(504, detail, retry_s=self._workers.wait_s)

    def _count(self, future: "Future[Answer]") -> None:
        """Counts a picture when a thread is done with it, whether or not somebody still waits for it."""
        if not future.cancelled() and future.exception() is None:
            answer = future.result()
            self.metrics.pictures.labels(answer.outcome).inc()
            self.metrics.faces.inc(len(answer.record.get("faces", ())))

    def _full(self) -> RequestError:
        return RequestError(429, "Too many pictures wait; ask again later.", retry_s=self._workers.wait_s)

    async def _answer_health(self, request: Request) -> Response:
        stops = self._closing.is_set()
        state: dict[str, Any] = {"status": "stopping" if stops else "ok"}
        if request.scope[AUTHORISED]:
            facts = {key: self._facts[key] for key in ("version", "provider", "detector")}
            model = f"{self._facts['model']}@{self._facts['precision']}"
            state |= {"model": model, **facts, "waiting": self._workers.waiting}
        headers = {"Retry-After": str(_STOPPING_S)} if stops else None
        return JSONResponse(state, 503 if stops else 200, headers)

    async def _answer_metrics(self, _request: Request) -> Response:
        return Response(self.metrics.text(), media_type=self.metrics.media_type)

    async def _answer_openapi(self, _request: Request) -> Response:
        return JSONResponse(description())


def _file(name: str, media_type: str) -> Callable[[Request], Any]:
    """Makes a handler that answers with a file of this package."""
    content = (files("ageinfer") / name).read_bytes()

    async def answer(_request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer
