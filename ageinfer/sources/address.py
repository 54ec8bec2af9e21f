"""Checks addresses of streams and hides the user names, passwords and keys in them."""

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
    """Tells whether a text has the form of an address, ``scheme://...``."""
    return _ADDRESS.match(text) is not None


def check_address(address: str) -> str:
    """Returns an address with its scheme in lower case, as FFmpeg needs it.

    Raises:
        SourceError: the scheme is unknown, or the address holds spaces or characters that cannot be printed.

    Example:
        >>> check_address("RTSP://camera.local/live")
        'rtsp://camera.local/live'
    """
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    if scheme == "file":
        raise SourceError(f"{redacted(address)}: file:// cannot be read; give the path of the file alone")
    if scheme not in SCHEMES:
        known = ", ".join(SCHEMES)
        raise SourceError(f"{redacted(address)}: {scheme}:// cannot be read; give a path or an address of {known}")
    # FFmpeg would pass a line break on to the server, where it begins another header.
    if not rest or any(c.isspace() or not c.isprintable() for c in rest):
        raise SourceError(f"{redacted(address)}: not an address; write special characters as %XX (a space is %20)")
    return f"{scheme}://{rest}"


def redacted(address: str) -> str:
    """Returns an address without its user name, its password and the values of secret-looking keys.

    A malformed address loses more: everything before its last ``@``, and a host that does not look like one.

    Example:
        >>> redacted("rtsp://admin:1234@camera.local:554/live?channel=1&token=abc#top")
        'rtsp://camera.local:554/live?channel=1&token=***'
        >>> redacted("rtsp://admin:p@ss/w#rd@camera.local/live")
        'rtsp://camera.local/live'
    """
    found = _ADDRESS.match(address)
    scheme = found[0] if found else ""
    rest = address[len(scheme) :]
    if found or ":" in rest:  # else the text is the name of a file, in which an @ is an ordinary character
        rest = rest.rpartition("@")[2]
    # A # in the address of a stream is part of a password that should have been written as %23.
    rest = rest.partition("#")[0] if found else rest
    end = min((i for i in map(rest.find, "/?") if i >= 0), default=len(rest))
    host, path = rest[:end], rest[end:]
    if found and not _HOST_AND_PORT.fullmatch(host):
        host = _HIDDEN
    shown = scheme + host + _without_values(path)
    return "".join(c if c.isprintable() else "?" for c in shown)  # messages have one line


def without_secrets(text: str) -> str:
    """Returns a text of another program with all addresses in it redacted, see `redacted`."""
    return _ADDRESS_IN_TEXT.sub(lambda found: redacted(found[0]), text)


def _without_values(path: str) -> str:
    """Returns path and query with hidden values for keys that look like secrets; some cameras have them in the path."""
    shown: list[str] = []
    hiding = False
    for part in path.split("&"):
        secret = _secret_in(part)
        if secret is not None:
            shown.append(part[:secret] + _HIDDEN)
        elif not hiding or "=" in part:  # else this part belongs to the secret before it, which held an &
            shown.append(part)
        hiding = secret is not None or (hiding and "=" not in part)
    return "&".join(shown)


def _secret_in(part: str) -> int | None:
    """Returns the position in a part at which a secret value begins, or None."""
    for found in re.finditer("=", part):
        key = re.split(r"[/?;=]", part[: found.start()])[-1]
        if _SECRET_KEY.search(unquote(key).lower()):
            return found.end()
    return None


def pipeline_name(pipeline: str) -> str:
    """Returns the name of a GStreamer pipeline: its elements without properties, which may hold passwords.

    Example:
        >>> pipeline_name("rtspsrc location=rtsp://me:secret@cam ! decodebin ! appsink")
        'gstreamer:rtspsrc!decodebin!appsink'
    """
    elements = [part.split()[0] for part in re.sub(r'"[^"]*"', "", pipeline).split("!") if part.strip()]
    return "gstreamer:" + "!".join(e if re.fullmatch(r"[a-z][\w.-]*", e) else "..." for e in elements)
