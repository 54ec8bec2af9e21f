"""The sink of the web view: it checks host, port and token and starts the server."""

import errno
import ipaddress
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from ageinfer.errors import OutputError, UsageError
from ageinfer.people.board import Board
from ageinfer.sinks import Playback, Sink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.web.encoder import Encoder
from ageinfer.web.feed import Feed

_UNSENT_BYTES = 16 * 1024


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
        board: places, which the page can change, and counts; None: there are none.
        only_counts: the page shows the counts of the board, and no picture and no face.
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
        board: Board | None = None,
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
        from ageinfer.web.server import WebServer
        from ageinfer.web.streams import Hub

        family, address = _resolve(host, port)
        is_local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        _check_token(token, host, is_local=is_local)
        listener = _listen(family, address, host, port)
        self._feed = Feed()
        self._only_counts = only_counts
        facts = asdict(about) | {"only_counts": only_counts}
        hub = Hub(self._feed, facts, 1 / max_fps, playback, board)
        self.url = _url(host, address, listener.getsockname()[1], token)
        names = {"localhost", "127.0.0.1", "[::1]", host, _in_url(address)}
        hosts = frozenset(names) if is_local else None
        changeable = None if only_counts else board
        server = WebServer(listener, hub, playback, changeable, token=token, hosts=hosts, only_counts=only_counts)
        self._server = server
        self._encoder = Encoder(
            self._feed,
            lambda picture: server.call(hub.publish, picture),
            interval_s=1 / max_fps,
            quality=jpeg_quality,
            max_side=max_side,
        )
        self._encoder.start()

    def write(self, annotated: AnnotatedFrame) -> None:
        if self._only_counts:
            annotated = _without_people(annotated)
        self._feed.put(annotated)

    def close(self) -> None:
        self._feed.close()
        self._server.close()
        self._encoder.join(1)


def _without_people(annotated: AnnotatedFrame) -> AnnotatedFrame:
    """A frame without picture and faces, for a page that may only show counts."""
    frame = replace(annotated.frame, image=np.zeros((1, 1, 3), np.uint8))
    return AnnotatedFrame(frame, replace(annotated.result, faces=()))


def make_token() -> str:
    """Makes a random token of 32 characters that need no escape in an address.

    Example:
        >>> len(make_token())
        32
    """
    return secrets.token_urlsafe(24)


def _check_token(token: str | None, host: str, *, is_local: bool) -> None:
    if token is None and not is_local:
        raise UsageError(f"other machines can reach {host}: a token is needed; give one, or use the host 127.0.0.1")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,256}", token):
        raise UsageError("this token is not valid for the web view; it needs 16 to 256 letters, digits, - or _")


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """Returns the address family and the address of a host name; IPv4 comes before IPv6.

    Raises:
        UsageError: the port is out of range, or the host name is unknown.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port} does not exist; give a number from 0 to 65535")
    try:
        if not host:
            raise socket.gaierror(errno.EINVAL, "no name")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"host {host!r} is not a name or address of this machine; use 127.0.0.1 or 0.0.0.0") from error
    family, _, _, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, str(place[0])


def _listen(family: socket.AddressFamily, address: str, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on other systems two programs could then share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Connections inherit it. Else the system holds some megabytes of old pictures for a slow viewer, which it
            # gets before any new one.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind((address, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OutputError(f"port {port} of {host} is taken; choose another, or 0 for any that is free") from error
        if error.errno == errno.EACCES:
            raise OutputError(f"only the system may use port {port}; choose a port from 1024 on") from error
        raise OutputError(f"{host}, port {port}: cannot listen: {error.strerror}; use the host 127.0.0.1") from error
    return listener


def _url(host: str, address: str, port: int, token: str | None) -> str:
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        host = _own_address()
    query = "" if token is None else f"?token={token}"
    return f"http://{_in_url(host)}:{port}/{query}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _own_address() -> str:
    """Returns the address by which other machines most likely reach this one; it sends nothing."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation
            return str(probe.getsockname()[0])
    except OSError:  # no network
        return socket.gethostname()
