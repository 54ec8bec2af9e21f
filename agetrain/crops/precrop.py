"""Cuts out the faces of a whole data set, as the original CACD preprocessing did or by the runtime's crop."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.crop.spec import CropSpec
from ageinfer.types import Image
from agetrain._files import replacing
from agetrain._progress import progress
from agetrain.crops.cache import available_cores
from agetrain.crops.labelled_face import crop_labelled_face
from agetrain.errors import DatasetError, MissingDependencyError

KINDS = ("dlib", "ageinfer")
SIDE_PX = 120
# The original CACD preprocessing: the square box grows by so much on each side and moves up.
_MARGIN_PX, _SHIFT_UP_PX = 15, 5
OUTCOMES = ("kept", "none", "many", "failed")
LOG_NAME = "centre.csv"
_detector: Any = None

log = logging.getLogger(__name__)


def centre_folder(
    kind: str, source: Path, files: Sequence[Path], target: Path, *, processes: int | None = None
) -> Counter[str]:
    """Writes the face of each picture under the same name into another folder.

    What became of each picture is written into ``centre.csv`` there as it happens, so that an interrupted run goes on.

    Args:
        kind: ``dlib``: a picture is kept only when dlib's frontal detector with one upsample finds exactly one face;
            see `original_crop`. ``ageinfer``: the face nearest the centre by the runtime's detector and box crop.
        source: the folder.
        files: in it.
        target: the other folder.
        processes: how many work in parallel; None for one a core.

    Returns:
        How many were ``kept``, had ``none`` or ``many`` faces, or ``failed`` to be read.

    Raises:
        MissingDependencyError: dlib is asked for and not installed.
        DatasetError: a result cannot be written.
    """
    if kind == "dlib":
        _open_detector(kind)  # a missing package is to be said here, not in every process
    record = target / LOG_NAME
    try:
        target.mkdir(parents=True, exist_ok=True)
        done = {
            name: outcome
            for name, outcome in _read_log(record, kind).items()
            if outcome != "kept" or (target / name).is_file()
        }
        todo = [f for f in files if f.relative_to(source).as_posix() not in done]
        if done:
            log.info("%s: %d of %d pictures are done already", target, len(files) - len(todo), len(files))
        jobs = [(f, target / f.relative_to(source)) for f in todo]
        with replacing(record) as unfinished:  # without a line that was not finished
            lines = [("file", "outcome", kind), *((name, outcome, "") for name, outcome in done.items())]
            with unfinished.open("w", newline="") as stream:
                csv.writer(stream, lineterminator="\n").writerows(lines)
        with record.open("a", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            with ProcessPoolExecutor(
                processes or available_cores(), initializer=_open_detector, initargs=(kind,)
            ) as pool:
                outcomes = pool.map(_centre_one, [kind] * len(jobs), jobs, chunksize=16)
                for file, outcome in zip(progress(todo, f"faces by {kind}", "img"), outcomes, strict=True):
                    name = file.relative_to(source).as_posix()
                    writer.writerow((name, outcome, ""))
                    stream.flush()
                    done[name] = outcome
    except OSError as error:
        raise DatasetError(f"{target}: cannot be written: {error.strerror}; free some space") from error
    return Counter(done[f.relative_to(source).as_posix()] for f in files)


def is_centred(folder: Path, kind: str) -> bool:
    """Whether a folder was made by `centre_folder` with that detector."""
    try:
        with (folder / LOG_NAME).open() as stream:  # of its many lines, the first alone
            return stream.readline() == _header(kind)
    except OSError:
        return False


def _header(kind: str) -> str:
    return f"file,outcome,{kind}\n"


def _read_log(record: Path, kind: str) -> dict[str, str]:
    if not record.exists():
        return {}
    text = record.read_text()
    if _header(kind).startswith(text):
        return {}
    rows = list(csv.reader(text.splitlines()))
    if rows[0] != ["file", "outcome", kind]:
        raise DatasetError(f"{record}: not of a run by {kind}; name another folder")
    return {row[0]: row[1] for row in rows[1:] if len(row) == 3 and row[1] in OUTCOMES}


def rewrite_csv(path: Path, target: Path, kept: set[str]) -> tuple[int, int]:
    """Copies an original list with only the kept pictures in it.

    Args:
        path: of the list, with a column ``path`` or ``file`` (APPA-REAL: ``file_name``).
        target: of the copy.
        kept: names or paths of pictures.

    Returns:
        How many lines it had, and has.

    Raises:
        DatasetError: it cannot be read or written.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
        column = next((c for c in ("path", "file", "file_name") if c in columns), None)
        if column is None:
            raise DatasetError(f"{path}: no column path or file")
        remaining = [row for row in rows if not kept.isdisjoint((row[column], f"{row[column]}_face.jpg"))]
        with replacing(target) as unfinished, unfinished.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(remaining)
    except OSError as error:
        raise DatasetError(f"{error.filename or path}: {error.strerror}") from error
    return len(rows), len(remaining)


def original_crop(image: Image, left: int, top: int, width: int, height: int) -> Image:
    """Crops a face as the original CACD preprocessing did.

    The box is made square on its longer side round its centre, grows by 15 px on each side, moves up by 5 px, is cut to
    the picture and resized to 120 x 120.

    Args:
        image: uint8 BGR ``[height, width, 3]``.
        left: of the detector's box, in pixels, and likewise:
        top: its upper edge.
        width: its extent.
        height: its extent.

    Returns:
        uint8 BGR ``[120, 120, 3]``.
    """
    from ageinfer.images import cv2

    side = max(width, height)
    x0 = left + (width - side) // 2 - _MARGIN_PX
    y0 = top + (height - side) // 2 - _MARGIN_PX - _SHIFT_UP_PX
    x1, y1 = x0 + side + 2 * _MARGIN_PX, y0 + side + 2 * _MARGIN_PX
    part = image[max(y0, 0) : max(y1, 1), max(x0, 0) : max(x1, 1)]
    shrinks = part.shape[0] > SIDE_PX
    crop: Image = cv2.resize(part, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return crop


def _open_detector(kind: str) -> None:
    global _detector  # one a process: a pool's workers share nothing else
    if kind == "dlib":
        try:
            import dlib
        except ImportError as error:
            raise MissingDependencyError("--centre dlib needs dlib: pip install 'ageinfer[dlib]'") from error
        _detector = dlib.get_frontal_face_detector()
    else:
        from ageinfer.detect import YuNet

        _detector = YuNet(provider="cpu", threads=1)


def _centre_one(kind: str, job: tuple[Path, Path]) -> str:
    """Cuts out the face of one picture; returns one of `OUTCOMES`."""
    from ageinfer.errors import SourceError
    from ageinfer.images import cv2
    from ageinfer.sources import read_picture

    path, target = job
    try:
        image = read_picture(path)
    except SourceError:
        return "failed"
    crop = _original(image) if kind == "dlib" else _runtime(image)
    if isinstance(crop, str):
        return crop
    with replacing(target) as unfinished:
        suffix = target.suffix or ".jpg"
        _, data = cv2.imencode(suffix, crop, [cv2.IMWRITE_JPEG_QUALITY, 95])
        unfinished.write_bytes(data.tobytes())
    return "kept"


def _original(image: Image) -> Image | str:
    from ageinfer.images import cv2

    faces = _detector(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 1)
    if len(faces) != 1:
        return "many" if len(faces) else "none"
    face = faces[0]
    return original_crop(image, face.left(), face.top(), face.width(), face.height())


def _runtime(image: Image) -> Image | str:
    rgb = crop_labelled_face(_detector, image, CropSpec(size=SIDE_PX), landmarks=False)
    return "none" if rgb is None else np.ascontiguousarray(rgb[:, :, ::-1])
