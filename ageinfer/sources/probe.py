"""Finds out why a stream cannot be opened; FFmpeg gives no reason."""

import http.client
import os
import socket
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ageinfer.errors import SourceError
from ageinfer.sources.address import redacted
from ageinfer.sources.formats import looks_like_picture

_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "http": 80, "https": 443}
_PROXIED = ("http", "https")
_PLAYLIST_SUFFIXES = (".m3u8", ".m3u", ".mpd", ".sdp")
_PLAYLIST_KINDS = ("mpegurl", "dash+xml", "application/sdp")
_LARGEST_PICTURE = 1 << 28  # bytes
_LARGEST_FILM = 1 << 34  # bytes; is fetched only where it cannot be read as it comes
_PIECE_BYTES = 1 << 16
NO_ANSWER = "the server does not answer as it should; check the address, and that the stream is on"


def check_reachable(address: str, timeout_s: float = 3.0) -> None:
    """Connects to the server of an address for a moment, so that an error comes fast and with its reason.

    It does nothing for addresses without a connection (udp, srt) and for tcp, whose server may accept only one.

    Args:
        address: the address of the stream.
        timeout_s: the server must answer within this many seconds.

    Raises:
        SourceError: the address has no host, or the host is unknown, does not answer in time or refuses the port.
    """
    parts, port = _parts(address)
    proxied = parts.scheme in _PROXIED and os.environ.get("http_proxy")  # FFmpeg then connects to the proxy
    if parts.scheme not in _PORTS or proxied:
        return
    name, host = redacted(address), parts.hostname
    try:
        socket.create_connection((host, port), timeout_s).close()
    except socket.gaierror:
        raise SourceError(f"{name}: the host {host} is not known; check the address and the network") from None
    except UnicodeError:  # a label of more than 63 characters
        raise SourceError(f"{name}: the name of the host is not valid; check the address") from None
    except ConnectionRefusedError:
        raise SourceError(f"{name}: {host} refuses port {port}; check the port, and that the stream is on") from None
    except TimeoutError:
        raise SourceError(f"{name}: {host} does not answer on port {port}; check that it is on and reachable") from None
    except OSError as error:
        raise SourceError(f"{name}: {host} cannot be reached ({error.strerror}); check the network") from None


def explain(address: str, timeout_s: float = 3.0) -> str:
    """Asks the server why FFmpeg could not open an address, and returns the reason and the remedy.

    Args:
        address: the address of the stream.
        timeout_s: the server must answer within this many seconds.
    """
    parts, port = _parts(address)
    status, content = 0, ""
    try:
        if parts.scheme == "http":
            status, content = _ask_http(parts, port, timeout_s)
        elif parts.scheme == "rtsp":
            status = _ask_rtsp(parts, port, timeout_s)
    except (OSError, http.client.HTTPException, ValueError):
        return NO_ANSWER
    if status in (401, 403):
        given = "refuses the user name or password" if "@" in parts.netloc else "wants a user name and a password"
        return f"the server {given} ({status}); give them as {parts.scheme}://USER:PASSWORD@HOST (@ in them as %40)"
    if status == 404:
        return "the server has no such stream (404); check the path of the address"
    if status >= 400:
        return f"the server answers with an error ({status}); check the address, and that the stream is on"
    if content.startswith("text/html"):
        return "the server sends a web page, not a video; give the address of the stream itself"
    if parts.path.lower().endswith(_PLAYLIST_SUFFIXES) or any(kind in content for kind in _PLAYLIST_KINDS):
        return (
            "a playlist (HLS, DASH), which is not followed, because it may name files of this machine and other hosts; "
            "give the RTSP address of the camera, or the address of a recording itself"
        )
    return "no video comes; check the address, that the stream is on, and that it is a format that FFmpeg decodes"


def picture_at(address: str, timeout_s: float = 3.0) -> bytes | None:
    """Fetches the picture at an address over HTTP; returns None if there is none, or something else.

    Args:
        address: the address of the picture.
        timeout_s: the server must answer within this many seconds, and send each part within as many.

    Raises:
        SourceError: the picture is larger than 256 MB; a server that goes on sending would fill the memory.
    """
    parts, port = _parts(address)
    if parts.scheme not in _PROXIED:
        return None
    try:
        with closing(_connection(parts, port, timeout_s)) as connection:
            answer = _asked(connection, parts)
            data = answer.read(32)
            if answer.status != 200 or not looks_like_picture(data):
                return None
            data += answer.read(_LARGEST_PICTURE + 1 - len(data))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    if len(data) > _LARGEST_PICTURE:
        raise SourceError(f"{redacted(address)}: a picture of more than {_LARGEST_PICTURE >> 20} MB; make it smaller")
    return data


def fetch(address: str, target: Path, timeout_s: float = 10.0) -> None:
    """Fetches a file over HTTP.

    Args:
        address: the address of the file.
        target: where it is written.
        timeout_s: see `picture_at`.

    Raises:
        SourceError: the file cannot be fetched or written, or is larger than 16 GB.
    """
    parts, port = _parts(address)
    name = redacted(address)
    try:
        with closing(_connection(parts, port, timeout_s)) as connection, target.open("xb") as file:
            answer = _asked(connection, parts)
            if answer.status != 200:
                raise SourceError(f"{name}: the server answers with {answer.status}; check the address")
            left = _LARGEST_FILM
            while piece := answer.read(_PIECE_BYTES):
                left -= len(piece)
                if left < 0:
                    most = f"{_LARGEST_FILM >> 20:,} MB"
                    raise SourceError(f"{name}: larger than {most}, too large to be fetched; copy it here yourself")
                file.write(piece)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SourceError(f"{name}: cannot be fetched ({reason}); check the network and the room on the disk") from None


def _connection(parts: SplitResult, port: int, timeout_s: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", port, timeout=timeout_s)


def _asked(connection: http.client.HTTPConnection, parts: SplitResult) -> http.client.HTTPResponse:
    headers = {}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + b64encode(user.encode()).decode()
    connection.request("GET", _target(parts), headers=headers)
    return connection.getresponse()


def _parts(address: str) -> tuple[SplitResult, int]:
    """Splits an address into its parts and its port.

    Raises:
        SourceError: the address has no host, an impossible port, or an @ after the host. The last is a sign of a
            password with a / or # in it.
    """
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host = None, None
    else:
        # If an @ follows the host, the host is more likely a user name before a password with a /. Such a name must
        # not go to a name server, nor into a message.
        if parts.scheme not in _PORTS or (host and "@" not in parts.path + parts.query + parts.fragment):
            return parts, port or _PORTS.get(parts.scheme, 0)
    raise SourceError(
        f"{redacted(address)}: its host and port cannot be read; write special characters in user name and password as "
        "%XX (/ is %2F, # is %23, ? is %3F), and every other @ as %40"
    )


def _ask_http(parts: SplitResult, port: int, timeout_s: float) -> tuple[int, str]:
    with closing(_connection(parts, port, timeout_s)) as connection:
        answer = _asked(connection, parts)
        return answer.status, answer.headers.get("Content-Type", "").lower()


def _ask_rtsp(parts: SplitResult, port: int, timeout_s: float) -> int:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    request = f"DESCRIBE rtsp://{host}:{port}{_target(parts)} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
    with socket.create_connection((parts.hostname, port), timeout_s) as connection:
        connection.sendall(request.encode())
        _, status, *_ = connection.recv(256).split(maxsplit=2)  # RTSP/1.0 404 Not Found
        return int(status)


def _target(parts: SplitResult) -> str:
    return quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe="/?&=%:;,@!$'()*+~[]")
