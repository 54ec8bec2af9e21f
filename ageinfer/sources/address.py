"""Addresses of streams, and how they are shown: without user names, passwords and keys."""

import re
from urllib.parse import unquote

from ageinfer.errors import SourceError

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt", "rtp", "mms")

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ADDRESS_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[\w.-]+)?(:\d{1,5})?")
_SECRET_KEY = re.compile(
    r"token|pass|pwd|psw|key|auth|sig|secret|user|usr|login|cred|session|account|^(pw|u|p)$",
)
_HIDDEN = "***"


def is_address(text: str) -> bool:
    """Whether it has the form of an address, ``scheme://...``."""
    return _ADDRESS.match(text) is not None


def check_address(address: str) -> str:
    """The address with its scheme in small letters, as FFmpeg wants it.

    Raises:
        SourceError: nothing can be read from such an address.
    """
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    if scheme == "file":
        raise SourceError(f"{redacted(address)}: give the path of a file without file://")
    if scheme not in SCHEMES:
        known = ", ".join(SCHEMES)
        raise SourceError(f"{redacted(address)}: {scheme}:// cannot be read; give a path or an address of {known}")
    # FFmpeg would pass a line break on to the server, where it begins another header.
    if not rest or any(c.isspace() or not c.isprintable() for c in rest):
        raise SourceError(f"{redacted(address)}: not an address; write special characters as %XX (a space is %20)")
    return f"{scheme}://{rest}"


def redacted(address: str) -> str:
    """The address as it may be shown: no user, no password, no values of keys that look like secrets.

    A malformed address loses more rather than less: everything before its last ``@``, and a host that does not look
    like one.

        >>> redacted("rtsp://admin:1234@camera.local:554/live?channel=1&token=abc#top")
        'rtsp://camera.local:554/live?channel=1&token=***'
        >>> redacted("rtsp://admin:p@ss/w#rd@camera.local/live")
        'rtsp://camera.local/live'
    """
    found = _ADDRESS.match(address)
    scheme = found[0] if found else ""
    rest = address[len(scheme) :]
    if found or ":" in rest:  # else it is the name of a file, where an @ means nothing
        rest = rest.rpartition("@")[2]
    # What follows a # stays in a browser; in an address of a stream it is a password that was not written as %23.
    rest = rest.partition("#")[0] if found else rest
    end = min((i for i in map(rest.find, "/?") if i >= 0), default=len(rest))
    host, path = rest[:end], rest[end:]
    if found and not _HOST_AND_PORT.fullmatch(host):
        host = _HIDDEN
    shown = scheme + host + _without_values(path)
    return "".join(c if c.isprintable() else "?" for c in shown)  # messages have one line


def without_secrets(text: str) -> str:
    """A text of another program, with the addresses in it redacted."""
    return _ADDRESS_IN_TEXT.sub(lambda found: redacted(found[0]), text)


def _without_values(path: str) -> str:
    """Path and query with ``key=value`` hidden where the key looks like a secret; some cameras have it in the path."""
    shown: list[str] = []
    hiding = False
    for part in path.split("&"):
        secret = _secret_in(part)
        if secret is not None:
            shown.append(part[:secret] + _HIDDEN)
        elif not hiding or "=" in part:  # else the value of the key before goes on: it held an & itself
            shown.append(part)
        hiding = secret is not None or (hiding and "=" not in part)
    return "&".join(shown)


def _secret_in(part: str) -> int | None:
    """Where in the part a secret value begins."""
    for found in re.finditer("=", part):
        key = re.split(r"[/?;=]", part[: found.start()])[-1]
        if _SECRET_KEY.search(unquote(key).lower()):
            return found.end()
    return None


def pipeline_name(pipeline: str) -> str:
    """What a GStreamer pipeline is called: its elements, without their properties, which may hold passwords."""
    elements = [part.split()[0] for part in re.sub(r'"[^"]*"', "", pipeline).split("!") if part.strip()]
    return "gstreamer:" + "!".join(e if re.fullmatch(r"[a-z][\w.-]*", e) else "..." for e in elements)
