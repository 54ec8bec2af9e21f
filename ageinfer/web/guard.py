"""Checks every request to the web server and adds security headers to every answer."""

import re
import secrets
from collections.abc import Callable, Collection
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECURITY_HEADERS = {
    # The page loads files only from its own device and holds no inline script or style.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


LARGEST_HEAD = 1 << 14  # bytes of a request before its body
CONTROL, PLACES = "/playback", "/places"  # where something can be changed
AUTHORISED = "ageinfer.authorised"  # of a request in its scope: whether it has shown the token, where one is needed


class Guard:
    """Refuses requests that may not be answered and adds the security headers to every answer.

    Args:
        app: answers the requests that are allowed.
        port: the port of the server.
        token: the token that a viewer needs, or None.
        hosts: the host names that requests may use, or None for any. Else a foreign page could read the picture
            through a name that its owner points to this machine (DNS rebinding).
        posted: the paths to which something may be sent (POST).
        open_to_all: the paths that may be read (GET) without the token.
        refuse: makes the answer of a refusal from its text, its status and its headers.
    """

    def __init__(
        self, app: ASGIApp, *, port: int, token: str | None, hosts: frozenset[str] | None,
        posted: Collection[str] = (CONTROL, PLACES), open_to_all: Collection[str] = (),
        refuse: Callable[..., Response] = PlainTextResponse,
    ) -> None:  # fmt: skip
        self._app = app
        self._token = token
        self._posted = posted
        self._open_to_all = open_to_all
        self._refuse = refuse
        self._hosts = None if hosts is None else {f"{host.lower()}:{port}" for host in hosts}
        if self._hosts is not None and hosts is not None and port == 80:
            self._hosts |= {host.lower() for host in hosts}  # browsers leave port 80 out
        # Cookies do not depend on the port, so two servers on one machine need different names.
        self._cookie = f"ageinfer_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        too_large = _is_too_large(scope)
        scope[AUTHORISED] = not too_large and self._is_authorised(headers, scope["query_string"])
        refusal = (
            self._refuse("Too much before the body.\n", 431)
            if too_large
            else self._refusal(scope["method"], scope["path"], headers, scope["query_string"])
        )
        cookie = None
        if self._token is not None and refusal is None and self._is_right(_token_in_query(scope["query_string"])):
            cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.update(_SECURITY_HEADERS)
                if refusal is not None:  # else strangers could keep a place by asking on without reading
                    answer["Connection"] = "close"
                if cookie is not None:
                    answer.append("Set-Cookie", cookie)
            await send(message)

        await (self._app if refusal is None else refusal)(scope, receive, send_with_headers)

    def _refusal(self, method: str, path: str, headers: Headers, query: bytes) -> Response | None:
        if self._hosts is not None and headers.get("host", "").lower() not in self._hosts:
            return self._refuse("This server does not go by that name. Open the address it printed.\n", 421)
        reads = method in ("GET", "HEAD")
        if not reads and (method != "POST" or path not in self._posted):
            return self._refuse("There is nothing to change here.\n", 405, {"Allow": "GET, HEAD"})
        if not self._is_authorised(headers, query) and not (reads and path in self._open_to_all):
            text = "Open the whole address that ageinfer printed, or send Authorization: Bearer with its token.\n"
            return self._refuse(text, 401, {"WWW-Authenticate": "Bearer"})
        if method == "POST" and not _comes_from_here(headers):
            return self._refuse("Not for other sites.\n", 403)
        # Any page may link to this one, but a foreign page may not load a part of it, nor take up a place.
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-dest") != "document":
            return self._refuse("Not for other sites.\n", 403)
        return None

    def _is_authorised(self, headers: Headers, query: bytes) -> bool:
        if self._token is None:
            return True
        bearer = re.fullmatch(r"(?i:bearer) +(\S+)", headers.get("authorization", ""))
        shown = (_token_in_query(query), self._token_in_cookie(headers), bearer[1] if bearer else None)
        return any(self._is_right(token) for token in shown)

    def _is_right(self, token: str | None) -> bool:
        return (
            token is not None
            and self._token is not None
            and secrets.compare_digest(token.encode(errors="replace"), self._token.encode())
        )

    def _token_in_cookie(self, headers: Headers) -> str | None:
        # Not by http.cookies: the time that it takes may grow with the square of the length, and anybody may send one.
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        return next((value for name, _, value in pairs if name == self._cookie), None)


def _is_too_large(scope: Scope) -> bool:
    """Whether the head of a request is too large; the HTTP library looks only where it comes in several pieces."""
    lines = sum(len(name) + len(value) + 4 for name, value in scope["headers"])  # with ": " and the line break
    path = scope.get("raw_path") or scope["path"].encode()  # the server need not hand on the first
    asked = len(scope["method"]) + len(path) + len(scope["query_string"]) + len(" ? HTTP/1.1\r\n\r\n")
    return lines + asked > LARGEST_HEAD


def _comes_from_here(headers: Headers) -> bool:
    """Whether a request that changes something comes from the page itself, or from a program that is no browser."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()


def _token_in_query(query: bytes) -> str | None:
    return parse_qs(query.decode("latin-1")).get("token", [None])[0]
