"""Archives that stay inside their folder, and archives in parts."""

import lzma
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from agetrain._files import replacing
from agetrain._progress import progress
from agetrain.errors import DatasetError

_CHUNK = 1 << 20
_OF_MACOS = ("__MACOSX", ".DS_Store")


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
