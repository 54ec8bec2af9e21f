"""The sink behind the web view, what it may be bound to, and the address to open."""

import errno
import ipaddress
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from typing import Literal

from ageinfer.errors import OutputError, UsageError
from ageinfer.sinks import Sink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.web.encoder import Encoder
from ageinfer.web.feed import Feed

_UNSENT_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class WebInfo:
    """What the page says about a run.

    Attributes:
        model: name of the age model.
        label: which age it estimates.
        provider: what it runs on.
        detector: what finds the faces.
        source: name of the source, without credentials.
        version: of ageinfer.
    """

    model: str
    label: Literal["real", "apparent"]
    provider: str
    detector: str
    source: str
    version: str


class WebSink(Sink):
    """Shows the run on a web page.

    `write` only leaves the frame behind. It is drawn and compressed in another thread, once for all viewers, and only
    when one of them waits for a picture.

    Args:
        host: name or address to listen on. One that other machines can reach needs a token.
        port: to listen on; 0 takes any that is free.
        token: what a viewer must show (see `make_token`); None lets everyone on this machine in.
        about: what the page says about the run.
        max_fps: pictures a second that a viewer gets, at most.
        jpeg_quality: 1 to 100.
        max_side: width and height of the pictures shown, at most, in pixels.

    Attributes:
        url: the address to open, with the token in it.

    Raises:
        UsageError: the host can be reached from other machines and there is no token; or a value is out of range.
        OutputError: the port is taken or cannot be had.
        MissingDependencyError: starlette or uvicorn is not installed.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        *,
        token: str | None = None,
        about: WebInfo,
        max_fps: float = 15,
        jpeg_quality: int = 80,
        max_side: int = 1280,
    ) -> None:
        if not (0 < max_fps <= 1000 and 1 <= jpeg_quality <= 100 and 16 <= max_side <= 65500):
            raise UsageError("pictures of the web view: max_fps above 0, jpeg_quality 1 to 100, max_side from 16")
        from ageinfer.web.server import WebServer
        from ageinfer.web.streams import Hub

        family, address = _resolve(host, port)
        is_local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        _check_token(token, host, is_local=is_local)
        listener = _listen(family, address, host, port)
        self._feed = Feed()
        hub = Hub(self._feed, asdict(about), 1 / max_fps)
        self.url = _url(host, address, listener.getsockname()[1], token)
        names = {"localhost", "127.0.0.1", "[::1]", host, _in_url(address)}
        server = WebServer(listener, hub, token=token, hosts=frozenset(names) if is_local else None)
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
        self._feed.put(annotated)

    def close(self) -> None:
        self._feed.close()
        self._server.close()
        self._encoder.join(1)


def make_token() -> str:
    """A token that cannot be guessed, of characters that need no escape in an address."""
    return secrets.token_urlsafe(24)


def _check_token(token: str | None, host: str, *, is_local: bool) -> None:
    if token is None and not is_local:
        raise UsageError(f"{host} can be reached from other machines: a token is needed, or the host 127.0.0.1")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,256}", token):
        raise UsageError("the token of the web view needs 16 to 256 letters, digits, - or _")


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """Family and address that a host name stands for; IPv4 before IPv6."""
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port}: ports are numbered from 0 to 65535")
    try:
        if not host:
            raise socket.gaierror(errno.EINVAL, "no name")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"host {host!r}: not a name or address of this machine; use 127.0.0.1 or 0.0.0.0") from error
    family, _, _, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, str(place[0])


def _listen(family: socket.AddressFamily, address: str, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Connections inherit it. A slow viewer would otherwise first get all the old pictures, some megabytes, that
            # the system holds for it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind((address, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OutputError(f"port {port} of {host} is taken; choose another, or 0 for any that is free") from error
        if error.errno == errno.EACCES:
            raise OutputError(f"port {port} is for the system alone; choose one from 1024") from error
        raise OutputError(f"{host}, port {port}: cannot listen: {error.strerror}; use 127.0.0.1 or 0.0.0.0") from error
    return listener


def _url(host: str, address: str, port: int, token: str | None) -> str:
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        host = _own_address()
    query = "" if token is None else f"?token={token}"
    return f"http://{_in_url(host)}:{port}/{query}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _own_address() -> str:
    """The address by which other machines most likely reach this one. Nothing is sent to find it."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation
            return str(probe.getsockname()[0])
    except OSError:  # no network
        return socket.gethostname()
