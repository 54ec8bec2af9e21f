"""Downloads that resume, and archives that stay inside their folder."""

import logging
import lzma
import re
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from agetrain._files import file_sha256, replacing
from agetrain._progress import progress
from agetrain.errors import DatasetError

_CHUNK = 1 << 20
_TIMEOUT_S = 60
_TRIES = 3
_OF_MACOS = ("__MACOSX", ".DS_Store")

log = logging.getLogger(__name__)


def download(url: str, target: Path, *, title: str) -> Path:
    """Downloads a file; an interrupted download goes on where it stopped.

    The SHA-256 of a first download is written beside it (``FILE.sha256``); a later download of the same file that gives
    other bytes is refused. A plain http address is warned about: nobody but that hash tells whether it was changed on
    its way.

    Args:
        url: http or https.
        target: the file.
        title: of the progress bar.

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
    if url.startswith("http://"):
        _warn_of_plain_http(name)
    if not target.exists():
        unfinished = target.with_name(f"{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for attempt in range(1, _TRIES + 1):
                try:
                    _download_rest(url, unfinished, title)
                    break
                except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                    if attempt == _TRIES or (isinstance(error, urllib.error.HTTPError) and error.code < 500):
                        raise
                    log.warning("%s: %s; trying again", name, error)
            unfinished.replace(target)
        except urllib.error.HTTPError as error:
            raise DatasetError(
                f"{name}: the server answers {error.code} {error.reason}; is there a new address?"
            ) from error
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", None) or error
            raise DatasetError(
                f"{name}: cannot be downloaded ({reason}); run the same command again to go on"
            ) from error
        except OSError as error:
            raise DatasetError(f"{unfinished}: cannot be written: {error.strerror}; free some space") from error
    _check_first_hash(target)
    return target


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


def _warn_of_plain_http(name: str) -> None:
    log.warning("%s: plain HTTP, anybody on the way can change it; compare the hash with somebody else's", name)


def _download_rest(url: str, unfinished: Path, title: str) -> None:
    have = unfinished.stat().st_size if unfinished.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # all of it is here, or another file has taken its place
            length = error.headers.get("Content-Range", "").rpartition("/")[2]
            if length == str(have):
                return
            unfinished.unlink()
            _download_rest(url, unfinished, title)
            return
        raise
    with answer:
        if url.startswith("https://") and answer.url.startswith("http://"):  # the server sent us there
            _warn_of_plain_http(shown(answer.url))
        resumed = answer.status == 206
        length = answer.headers.get("Content-Length")
        expected = None if length is None else int(length) + (have if resumed else 0)
        with unfinished.open("ab" if resumed else "wb") as file:
            chunks = iter(lambda: answer.read(_CHUNK), b"")
            total = None if length is None else -(-int(length) // _CHUNK)
            for chunk in progress(chunks, title, "MiB", total):
                file.write(chunk)
    size = unfinished.stat().st_size
    if expected is not None and size != expected:
        raise ConnectionError(f"{size} of {expected} bytes came")


def _check_first_hash(target: Path) -> None:
    record = target.with_name(f"{target.name}.sha256")
    digest = file_sha256(target)
    if not record.exists():
        record.write_text(f"{digest}  {target.name}\n")
        log.info("%s: SHA-256 %s, recorded as that of the first download", target, digest)
    elif record.read_text().split()[:1] != [digest]:
        raise DatasetError(
            f"{target}: its SHA-256 is {digest}, the first download had another ({record}); delete one of them if you "
            "trust the other"
        )


def joined_parts(parts: Sequence[Path], target: Path) -> Path:
    """Writes the parts of a file one behind the other.

    Raises:
        DatasetError: one is missing, or it cannot be written.
    """
    missing = [p for p in parts if not p.is_file()]
    if missing:
        raise DatasetError(f"{missing[0]}: not there; all {len(parts)} parts are needed")
    try:
        with replacing(target) as unfinished, unfinished.open("wb") as whole:
            for part in parts:
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, whole, _CHUNK)
    except OSError as error:
        raise DatasetError(f"{target}: cannot be written: {error.strerror}; free some space") from error
    return target


def unpack(archive: Path, target: Path) -> None:
    """Unpacks a zip or tar file into a new folder; a single folder round everything in it is left out.

    So is what macOS packs beside it.

    Names that lead out of the folder, links and devices are refused, and nothing of such an archive is left. An
    interrupted run leaves nothing that looks like the folder.

    Args:
        archive: ``.zip``, or ``.tar`` in any compression of Python's.
        target: the folder.

    Raises:
        DatasetError: it is broken, holds such names, or cannot be written.
    """
    try:
        if target.exists() and any(target.iterdir()):
            raise DatasetError(f"{target}: is there already; name another --out")
        target.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise DatasetError(f"{target}: cannot be made a folder: {error.strerror}; name another --out") from error
    try:
        place.chmod(0o755)
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, place)
        else:
            _unpack_tar(archive, place)
        root = place
        for beside in (root / name for name in _OF_MACOS):
            shutil.rmtree(beside, ignore_errors=True)
            with suppress(OSError):
                beside.unlink()
        inside = list(root.iterdir())
        if len(inside) == 1 and inside[0].is_dir():
            root = inside[0]
        if target.exists():
            target.rmdir()
        root.rename(target)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise DatasetError(
            f"{archive}: broken or not a zip or tar file ({reason}); delete it and fetch it again"
        ) from error
    except OSError as error:
        name = getattr(error, "strerror", None) or error
        raise DatasetError(f"{archive}: cannot be unpacked into {target}: {name}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _unpack_zip(archive: Path, place: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = [m for m in file.infolist() if not m.is_dir()]
        for member in members:
            _check_name(archive, member.filename)
            if (member.external_attr >> 16) & 0o170000 == 0o120000:
                raise DatasetError(f"{archive}: holds the link {member.filename}, which is refused")
        for member in progress(members, archive.name, "file"):
            file.extract(member, place)


def _unpack_tar(archive: Path, place: Path) -> None:
    with tarfile.open(archive) as file:
        for member in progress(_checked_members(archive, file), archive.name, "file"):
            file.extract(member, place, filter="data")


def _checked_members(archive: Path, file: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in file:
        _check_name(archive, member.name)
        if member.isdir():
            continue
        if not member.isfile():
            raise DatasetError(f"{archive}: holds the link or device {member.name}, which is refused")
        yield member


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        raise DatasetError(f"{archive}: the name {name} leads out of the folder; the archive is refused")
