"""Downloads that resume, and are what they were said to be."""

import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from agetrain._files import file_sha256
from agetrain._progress import progress
from agetrain.errors import DatasetError

_CHUNK = 1 << 20
_TIMEOUT_S = 60
_TRIES = 4
_FIRST_WAIT_S, _WAIT_GROWTH, _MOST_WAIT_S = 1.0, 4.0, 300.0
_TOO_MANY = 429
_PLAIN_REMEDY = "give its hash with --sha256, or download it yourself and give --archive"

log = logging.getLogger(__name__)


def download(url: str, target: Path, *, title: str, sha256: str | None = None) -> Path:
    """Downloads a file; an interrupted download goes on where it stopped, if the server still has the same version.

    A server in trouble and a connection that breaks are tried again after 1, 4 and 16 s, or after what the server asks
    for (``Retry-After``), but no more than 5 min.

    The SHA-256 of a first download is written beside it (``FILE.sha256``); a later download of the same file that gives
    other bytes is refused. A plain http address needs a known hash: nothing else tells whether the file was changed on
    its way.

    Args:
        url: http or https.
        target: the file.
        title: of the progress bar.
        sha256: of the file, if it is known.

    Returns:
        ``target``.

    Raises:
        DatasetError: it cannot be had, is cut off, or differs from the first download.
    """
    name = shown(url)
    if not url.startswith(("http://", "https://")):
        raise DatasetError(f"{name}: not an http or https address")
    if urlsplit(url).username is not None:
        raise DatasetError(f"{name}: user names in addresses are not supported; download it yourself, give --archive")
    sealed = sha256 is not None or _recorded_hash(target) is not None
    if _is_plain(url) and not sealed and not target.exists():
        raise DatasetError(f"{name}: plain HTTP, anybody on the way can change it; {_PLAIN_REMEDY}")
    if not target.exists():
        unfinished = target.with_name(f"{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for attempt in range(1, _TRIES + 1):
                try:
                    _download_rest(url, unfinished, title, sealed=sealed)
                    break
                except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                    if attempt == _TRIES or not _may_pass(error):
                        raise
                    wait_s = _wait_s(attempt, error)
                    log.warning("%s: %s; trying again in %.0f s", name, error, wait_s)
                    time.sleep(wait_s)
            unfinished.replace(target)
            unfinished.with_name(f"{unfinished.name}.version").unlink(missing_ok=True)
        except urllib.error.HTTPError as error:
            remedy = "run the same command again later" if _may_pass(error) else "is there a new address?"
            raise DatasetError(f"{name}: the server answers {error.code} {error.reason}; {remedy}") from error
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", None) or error
            raise DatasetError(
                f"{name}: cannot be downloaded ({reason}); run the same command again to go on"
            ) from error
        except OSError as error:
            raise DatasetError(
                f"{unfinished}: cannot be written: {error.strerror}; free some space, or remove it"
            ) from error
    _check_hash(target, sha256)
    return target


def _may_pass(error: Exception) -> bool:
    """Tells whether a later try may succeed: all but the answers that say that the request itself is wrong."""
    return not isinstance(error, urllib.error.HTTPError) or error.code >= 500 or error.code == _TOO_MANY


def _wait_s(attempt: int, error: Exception) -> float:
    """Returns how long to wait after a failed attempt, counted from 1: longer each time, and as the server asks."""
    usual_s = _FIRST_WAIT_S * _WAIT_GROWTH ** (attempt - 1)
    asked = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
    return min(max(usual_s, _seconds_of(asked)), _MOST_WAIT_S)


def _seconds_of(retry_after: str) -> float:
    """Returns the seconds that ``Retry-After`` means, a number or a date; 0 where it is neither."""
    if re.fullmatch("[0-9]+", retry_after.strip()):
        return float(retry_after)
    try:
        then = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def shown(url: str) -> str:
    """Returns an address as it may be shown, without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "***" if parts.query else "", ""))


def file_name(url: str) -> str:
    """Returns the name of the file that an address points to.

    Raises:
        DatasetError: it ends with a folder.
    """
    name = PurePosixPath(unquote(urlsplit(url).path)).name if not url.endswith("/") else ""
    if not name or name == "..":
        raise DatasetError(f"{shown(url)}: the address of a file is needed, this one has no file name")
    return name


def _is_plain(url: str) -> bool:
    """Tells whether others could change what comes from an address on its way: http, unless it is this machine."""
    host = urlsplit(url).hostname or ""
    return url.startswith("http://") and host not in ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class _Version:
    """Which version of a file a server has: what it calls it, and its length; empty and None where it does not say."""

    name: str
    length: int | None

    @classmethod
    def of(cls, headers: Message, length: int | None) -> "_Version":
        tag = headers.get("ETag", "")
        strong = tag if tag.startswith('"') else ""  # a weak one may stand for other bytes, too
        return cls(strong or headers.get("Last-Modified", ""), length)

    @classmethod
    def read(cls, path: Path) -> "_Version | None":
        try:
            name, length = json.loads(path.read_text())
        except (OSError, ValueError, TypeError):
            return None
        return cls(str(name), length if isinstance(length, int) else None)


def _download_rest(url: str, unfinished: Path, title: str, *, sealed: bool, resume: bool = True) -> None:
    """Downloads what is missing of a file: all of it where the server has another version than before.

    Args:
        url: of the file.
        unfinished: what is there of it; what the server said of it lies beside it.
        title: of the progress bar.
        sealed: whether a hash tells if the file was changed on its way.
        resume: whether to go on with what is there.
    """
    note = unfinished.with_name(f"{unfinished.name}.version")
    have = unfinished.stat().st_size if resume and unfinished.exists() else 0
    before = _Version.read(note) if have else None
    headers = {"Range": f"bytes={have}-"} if have else {}
    if before is not None and before.name:
        headers["If-Range"] = before.name
    begin_anew = partial(_download_rest, url, unfinished, title, sealed=sealed, resume=False)
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # All of it is here, or another file has taken its place.
        there = error.headers.get("Content-Range", "").rpartition("/")[2]
        if there != str(have) or (before is not None and before.length not in (None, have)):
            begin_anew()
        return
    with answer:
        if not answer.url.startswith(("http://", "https://")) or (_is_plain(answer.url) and not sealed):
            raise DatasetError(f"{shown(url)}: the server sends us to {shown(answer.url)}; {_PLAIN_REMEDY}")
        length = _length(answer)
        version = _Version.of(answer.headers, length)
        if answer.status == 206:
            total = _total_from(answer, have)
            version = replace(version, length=total)
            if total is None or (before is not None and (before.name, before.length or total) != (version.name, total)):
                if not have:
                    raise ConnectionError("a part came that nobody had asked for")
                answer.close()
                begin_anew()
                return
        else:
            have = 0
        note.unlink(missing_ok=True)
        with note.open("x") as stream:
            json.dump([version.name, version.length], stream)
        with open(unfinished, "ab" if have else "wb", opener=_open_no_link) as file:
            chunks = iter(lambda: answer.read(_CHUNK), b"")
            for chunk in progress(chunks, title, "MiB", None if length is None else -(-length // _CHUNK)):
                file.write(chunk)
    size = unfinished.stat().st_size
    if version.length is not None and size != version.length:
        if size > version.length:
            unfinished.unlink()
        raise ConnectionError(f"{size} of {version.length} bytes came")


def _length(answer: Any) -> int | None:
    """Returns how many bytes a server announces; None if it does not say."""
    text = answer.headers.get("Content-Length")
    if text is not None and not re.fullmatch("[0-9]{1,18}", text.strip()):
        raise ConnectionError(f"the server announces {text[:20]!r} bytes, which is no number")
    return None if text is None else int(text)


def _total_from(answer: Any, start: int) -> int | None:
    """Returns the length of the whole file if an answer holds its bytes from ``start`` to the end; None if not."""
    found = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", answer.headers.get("Content-Range", ""))
    if found is None:
        return None
    first, last, total = map(int, found.groups())
    return total if (first, last) == (start, total - 1) else None


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _recorded_hash(target: Path) -> str | None:
    """Returns the SHA-256 of the first download of a file; None if there was none."""
    record = target.with_name(f"{target.name}.sha256")
    return next(iter(record.read_text().split()), "") if record.exists() else None


def _check_hash(target: Path, known: str | None) -> None:
    """Compares a file with its known SHA-256 and with that of its first download, which it records.

    Raises:
        DatasetError: it has another one. Where it is not the known one, the file is removed.
    """
    record = target.with_name(f"{target.name}.sha256")
    digest = file_sha256(target)
    if known is not None and digest != known.lower():
        target.unlink()
        raise DatasetError(f"{target}: its SHA-256 is {digest}, not {known}; it is removed, get it from elsewhere")
    first = _recorded_hash(target)
    if first is None:
        with record.open("x") as file:
            file.write(f"{digest}  {target.name}\n")
        log.info("%s: SHA-256 %s, recorded as that of the first download", target, digest)
    elif first != digest:
        raise DatasetError(
            f"{target}: its SHA-256 is {digest}, the first download had another ({record}); delete one of them if you "
            "trust the other"
        )
