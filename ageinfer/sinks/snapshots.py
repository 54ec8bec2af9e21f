"""Writes a picture of each face: the best view of every track."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ageinfer.errors import UsageError
from ageinfer.images import cv2
from ageinfer.sinks.base import Sink, Untouchable, make_folder
from ageinfer.sinks.draw import AnnotatedFrame, enlarged
from ageinfer.sinks.pictures import Names, write_picture
from ageinfer.types import Face, Frame, Image

# In bytes. A file name may have 255; the rest is for numbers and a suffix.
_LONGEST_STEM = 200
# Faces of all sizes are compared at this side, in pixels.
_DETAIL_SIDE = 128

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _View:
    """The best view of a track so far.

    Attributes:
        path: the path of its file.
        due_s: the earliest time for the next write, in seconds of the source.
        quality: the quality of the view, see `view_quality`.
        bytes: the size of its file.
        image: the view, uint8 BGR, until it is written; then None.
    """

    path: Path
    due_s: float
    quality: float = 0.0
    bytes: int = 0
    image: Image | None = None


class FaceSnapshots(Sink):
    """Writes a picture of each face into a folder, cut out of the frames without any drawing.

    A track has one file, such as ``track-00012.jpg``. Its first view is written at once and replaced by better ones
    (see `view_quality`), so that the best view is left. A face of a picture becomes ``<picture>-<n>.jpg``; n counts
    from 1, the best score first. A face of a video without tracking becomes ``<video>-f<frame>-<n>.jpg``. If two
    sources have the same name, the second gets ``-2``. Files of an earlier run with the same name are replaced.

    Args:
        folder: the folder; it is made if it does not exist.
        every_s: the shortest time between two writes of the same track, and between two frames of a video without
            tracking whose faces are written; in seconds of the source.
        margin: shown around the box on every side, as a fraction of its longer side, as far as the frame reaches.
        max_faces: the largest number of files; further faces are left out, with one warning.
        max_bytes: the largest size of all files together; a face that begins below it is still written.
        sources: the names of several live sources or films, which begin the names of their files.
        untouchable: pictures that must not be overwritten, see `FolderSink`.

    Raises:
        OutputError: the folder cannot be made, or a file has its name.

    Example:
        >>> with FaceSnapshots(Path("faces"), every_s=0.5) as sink:  # doctest: +SKIP
        ...     sink.write(annotated)
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_s: float = 1.0,
        margin: float = 0.3,
        max_faces: int = 10_000,
        max_bytes: int = 4 << 30,
        sources: Iterable[str] = (),
        untouchable: Iterable[str | Path] = (),
    ) -> None:
        self._folder = folder
        self._sources = frozenset(sources)
        self._every_s = every_s
        self._margin = margin
        self._max_faces, self._max_bytes = max_faces, max_bytes
        self._files = self._bytes = 0
        self._views: dict[tuple[str, int], _View] = {}
        self._unwritten: dict[tuple[str, int], _View] = {}  # views that are better than their files
        self._written_s: float | None = None  # the last write without tracking, in seconds of the source
        self._names = Names()
        self._untouchable = Untouchable(untouchable)
        self._warned = False
        make_folder(folder)

    def write(self, annotated: AnnotatedFrame) -> None:
        """Writes the faces of the next frame that are new or better views.

        Raises:
            UsageError: the faces of this frame are to be blurred.
            OutputError: a picture cannot be written.
        """
        if annotated.blur:
            raise UsageError(f"{self._folder}: faces cannot be blurred and also written as pictures; leave one out")
        frame, faces = annotated.frame, annotated.result.faces
        now_s = frame.time_s or 0.0
        for face in faces:
            if face.track is not None:
                self._consider(frame, face, face.track, now_s)
        for key, view in list(self._unwritten.items()):
            # Each source has its own clock, and that of a camera that reconnects may start at 0.
            if key[0] == frame.source and (now_s >= view.due_s or now_s < view.due_s - self._every_s):
                self._write(key)
                view.due_s = now_s + self._every_s
        self._write_untracked(frame, [face for face in faces if face.track is None])

    def close(self) -> None:
        for key in list(self._unwritten):
            self._write(key)

    def _consider(self, frame: Frame, face: Face, track: int, now_s: float) -> None:
        key = (frame.source, track)
        view = self._views.get(key)
        if view is None and not self._has_room():
            return
        image = cut_out(frame.image, face, self._margin)
        quality = view_quality(frame.image, face)
        if image.size == 0 or (view is not None and quality <= view.quality):
            return
        if view is None:
            self._files += 1
            of = f"{safe_stem(frame.source)}-" if frame.source in self._sources else ""
            path = self._folder / self._names.unique(f"{of}track-{track:05}.jpg")
            self._untouchable.refuse(path, frame.source)
            view = self._views[key] = _View(path, due_s=now_s)
        view.quality = quality
        view.image = image.copy()  # a view would keep the whole frame in memory
        self._unwritten[key] = view

    def _write(self, key: tuple[str, int]) -> None:
        view = self._unwritten.pop(key)
        if view.image is not None:
            write_picture(view.path, view.image)
            view.image, before, view.bytes = None, view.bytes, view.path.stat().st_size
            self._bytes += view.bytes - before

    def _write_untracked(self, frame: Frame, faces: list[Face]) -> None:
        if not faces or not self._has_room():
            return
        stem = safe_stem(frame.source)
        if frame.time_s is not None:
            if self._written_s is not None and 0 <= frame.time_s - self._written_s < self._every_s:
                return
            self._written_s = frame.time_s
            stem = f"{stem}-f{frame.index:06}"
        stem = self._names.unique(stem)
        for number, face in enumerate(faces, 1):
            image = cut_out(frame.image, face, self._margin)
            if image.size and self._has_room():
                self._files += 1
                path = self._folder / f"{stem}-{number}.jpg"
                self._untouchable.refuse(path, frame.source)
                write_picture(path, image)
                self._bytes += path.stat().st_size

    def _has_room(self) -> bool:
        if self._files < self._max_faces and self._bytes < self._max_bytes:
            return True
        if not self._warned:
            self._warned = True
            held = f"{self._files} faces of this run ({self._bytes >> 20} MB)"
            log.warning("%s: holds %s; further faces are left out", self._folder, held)
        return False


def cut_out(image: Image, face: Face, margin: float) -> Image:
    """Cuts a face with a margin out of a picture, as far as the picture reaches.

    Args:
        image: uint8 BGR ``[height, width, 3]``.
        face: the face; its box is in pixels of this picture.
        margin: added on every side, as a fraction of the longer side of the box; 0 for the box only.

    Returns:
        uint8 BGR, a view into the picture; its size is 0 if the face lies outside.
    """
    x0, y0, x1, y1 = enlarged(face.detection.box, margin, image.shape)
    return image[y0:y1, x0:x1]


def view_quality(image: Image, face: Face) -> float:
    """Rates a view of a face: its detail, times the score of the detector, times the visible part of the box.

    Detail is the standard deviation of the Laplacian of the grey face at 128 x 128 pixels. A blurred or small face has
    less of it. The score of YuNet falls when a face turns away, but hardly with blur.

    Args:
        image: uint8 BGR ``[height, width, 3]``.
        face: the face; its box is in pixels of this picture.

    Returns:
        The quality, 0 or more; 0 if the face lies outside the picture.
    """
    seen = cut_out(image, face, 0.0)
    _, _, w, h = face.detection.box
    if seen.size == 0:
        return 0.0
    side = _DETAIL_SIDE
    grey = cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY)
    reduce = min(grey.shape) > side
    grey = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if reduce else cv2.INTER_LINEAR)
    detail = float(cv2.Laplacian(grey, cv2.CV_32F).std())
    share = min(1.0, seen.shape[0] * seen.shape[1] / max(w * h, 1.0))
    return detail * max(face.detection.score, 0.0) * share


def safe_stem(source: str) -> str:
    """Returns the name of a source without folder and suffix, safe as a part of a file name on any system.

    Example:
        >>> safe_stem("rtsp://host:554/a?b")
        'a_b'
    """
    stem = Path(source).stem.encode("utf-8", "replace")[:_LONGEST_STEM].decode("utf-8", "ignore")
    return "".join("_" if c in '<>:"/\\|?*' or ord(c) < 32 else c for c in stem) or "face"
