"""Answers to requests that cannot be answered as asked: problem details (RFC 9457), and one line of the log each."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ageinfer.errors import AgeError
from ageinfer.web.guard import AUTHORISED

GONE = 499  # what servers write down where nobody waits for the answer any more
# Whoever can connect can cause any number of these, so their lines come seldom.
_OFTEN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)

log = logging.getLogger(__name__)
seldom = logging.getLogger(f"{__name__}.seldom")


class RequestError(Exception):
    """Ends a request with a problem.

    Args:
        status: the status of HTTP.
        detail: one line that says what was wrong and what to do.
        retry_s: after so many seconds it may be tried again; None: nothing is said about that.
        closes: whether the connection is closed after the answer.
    """

    def __init__(self, status: int, detail: str, *, retry_s: int | None = None, closes: bool = False) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = {} if retry_s is None else {"Retry-After": str(retry_s)}
        if closes:
            self.headers["Connection"] = "close"


class ProblemResponse(JSONResponse):
    """The answer to a problem, which writes its line of the log when it is sent.

    Args:
        detail: one line that says what was wrong and what to do.
        status_code: the status of HTTP.
        headers: further headers.
    """

    media_type = "application/problem+json"

    def __init__(self, detail: str, status_code: int, headers: Mapping[str, str] | None = None) -> None:
        self.detail = " ".join(detail.split())
        title = HTTPStatus(status_code).phrase
        content = {"type": "about:blank", "title": title, "status": status_code, "detail": self.detail}
        super().__init__(content, status_code, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = (scope.get("client") or ("somebody",))[0]
        line = f"{scope['method']} {scope['path']} from {client}: {self.status_code}, {self.detail}"
        if self.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            pass  # whoever found the reason has written it down
        elif self.status_code in _OFTEN or not scope.get(AUTHORISED, False):
            seldom.warning("%s", line)
        else:
            log.info("%s", line)
        await super().__call__(scope, receive, send)


async def answer_problem(_request: Request, error: Exception) -> Response:
    """Answers a `RequestError`, or what Starlette raises: an unknown path, or a method that a path does not have."""
    if isinstance(error, RequestError):
        return ProblemResponse(error.detail, error.status, error.headers)
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return ProblemResponse(f"This path answers {allowed} only; see /openapi.json.", 405, error.headers)
    return ProblemResponse("There is nothing at this path; POST pictures to /v1/faces, or see /openapi.json.", 404)


async def answer_failure(_request: Request, error: Exception) -> Response:
    """Answers where the service itself has failed, without what only its log may say."""
    if isinstance(error, AgeError):  # of others, the server writes down where they were raised
        seldom.error("%s", error)
    return ProblemResponse("The service has failed on this request; its log says why.", 500)
