"""Checks addresses of streams and hides the user names, passwords and keys in them."""

import re
import stat
from pathlib import Path
from urllib.parse import unquote

from ageinfer.errors import SourceError

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt", "rtp", "mms")

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ADDRESS_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[\w.-]+)?(:\d{1,5})?")
_SECRET_KEY = re.compile(
    r"token|pass|pwd|psw|key|auth|sig|secret|user|usr|login|cred|session|account|^(pw|u|p)$",
)
# What cameras and FFmpeg call settings of a stream. Everything else may be a secret, whatever its name.
_HARMLESS_KEYS = frozenset(
    {
        "action", "audio", "bitrate", "bit_rate", "buffer_size", "camera", "cam", "ch", "channel", "channelid",
        "channelno", "chn", "cmd", "codec", "compression", "delay", "endtime", "fifo_size", "format", "fps",
        "framerate", "h", "height", "index", "inst", "lang", "latency", "mirror", "mode", "multicast",
        "overrun_nonfatal", "pkt_size", "profile", "protocol", "proto", "quality", "rate", "real_stream",
        "realstream", "res", "resolution", "rotation", "size", "speed", "starttime", "stream", "streamtype",
        "stream_type", "subtype", "tcp", "timeout", "track", "trackid", "transport", "transportmode", "ttl",
        "type", "udp", "unicast", "vcodec", "video", "videocodec", "view", "w", "width",
    }
)  # fmt: skip
_HIDDEN = "***"


def is_address(text: str) -> bool:
    """Tells whether a text has the form of an address, ``scheme://...``."""
    return _ADDRESS.match(text) is not None


def is_live(source: str) -> bool:
    """Tells whether a text names a device, a stream or a GStreamer pipeline, and not a file."""
    if is_address(source.strip()) or source.startswith("/dev/"):
        return True
    try:
        return stat.S_ISCHR(Path(source).stat().st_mode)
    except (OSError, ValueError):
        return " ! " in source


def name_of(source: str | int) -> str:
    """The name that a live source has in messages and records; it holds no password.

    Args:
        source: an address, the path of a device, a GStreamer pipeline, or the number of a camera.

    Example:
        >>> name_of(0), name_of("rtsp://me:secret@cam/live")
        ('camera:0', 'rtsp://cam/live')
    """
    if isinstance(source, int):
        return f"camera:{source}"
    if is_address(source.strip()):
        scheme, _, rest = source.strip().partition("://")
        return redacted(f"{scheme.lower()}://{rest}")
    return pipeline_name(source) if " ! " in source else source


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
    """Returns an address without its user name, its password and the values of keys that are not known to be harmless.

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
    shown = scheme + host + _without_values(path, is_address=found is not None)
    return "".join(c if c.isprintable() else "?" for c in shown)  # messages have one line


def without_secrets(text: str) -> str:
    """Returns a text of another program with all addresses in it redacted, see `redacted`."""
    return _ADDRESS_IN_TEXT.sub(lambda found: redacted(found[0]), text)


def _without_values(path: str, *, is_address: bool) -> str:
    """Returns path and query with hidden values for all keys but `_HARMLESS_KEYS`; some cameras have keys in the path.

    In the name of a file an equals sign means nothing. There, before a question mark, only `_SECRET_KEY` are hidden.
    """
    shown: list[str] = []
    hiding = in_query = False
    for number, part in enumerate(path.split("&")):
        if hiding and "=" not in part:  # belongs to the secret before it, which held an &
            continue
        strict = is_address or in_query
        secret = _secret_in(part, strict=strict, may_be_word=strict and number > 0)
        shown.append(part if secret is None else part[:secret] + _HIDDEN)
        hiding = secret is not None
        in_query = in_query or "?" in part
    return "&".join(shown)


def _secret_in(part: str, *, strict: bool, may_be_word: bool) -> int | None:
    """Returns the position in a part at which something begins that may be secret, or None.

    Args:
        part: what stands between two ``&``.
        strict: whether everything may be secret that is not known to be harmless.
        may_be_word: whether a part without ``=`` and ``?`` may be, too.
    """
    for found in re.finditer("=", part):
        before = part[: found.start()]
        key = unquote(re.split(r"[/?;=]", before)[-1]).lower()
        if key not in _HARMLESS_KEYS if strict or "?" in before else _SECRET_KEY.search(key):
            return found.end()
    start = part.rfind("?") + 1
    if "=" not in part[start:] and (start or may_be_word):
        word = unquote(part[start:]).lower()
        if word and word not in _HARMLESS_KEYS:
            return start
    return None


def pipeline_name(pipeline: str) -> str:
    """Returns the name of a GStreamer pipeline: its elements without properties, which may hold passwords.

    Example:
        >>> pipeline_name("rtspsrc location=rtsp://me:secret@cam ! decodebin ! appsink")
        'gstreamer:rtspsrc!decodebin!appsink'
    """
    elements = [part.split()[0] for part in re.sub(r'"[^"]*"', "", pipeline).split("!") if part.strip()]
    return "gstreamer:" + "!".join(e if re.fullmatch(r"[a-z][\w.-]*", e) else "..." for e in elements)
