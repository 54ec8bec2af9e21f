"""Pictures of the faces themselves: the best view of every one."""

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

# A file name may have 255 bytes; the rest is left for numbers and a suffix.
_LONGEST_STEM = 200
# Faces of all sizes are compared at this side, in pixels.
_DETAIL_SIDE = 128

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _View:
    """The best view of a track.

    Attributes:
        path: of its file.
        due_s: when that may be written next, in seconds of the source.
        quality: see `view_quality`.
        image: uint8 BGR, while it is not written.
    """

    path: Path
    due_s: float
    quality: float = 0.0
    image: Image | None = None


class FaceSnapshots(Sink):
    """Pictures of the faces themselves, cut out of the frames without any drawing.

    A tracked face has one file, ``track-00012.jpg``: its first view at once, replaced by better ones (`view_quality`),
    so that at the end it is the best. A face of a picture becomes ``<picture>-<n>.jpg``, n counting from 1, the best
    score first; a face of a video that is not tracked ``<video>-f<frame>-<n>.jpg``. Where two sources have the same
    name, the second gets ``-2`` behind it. Files of an earlier run with the same name are replaced.

    Args:
        folder: made if it is not there.
        every_s: a track's file is replaced at most so often, in seconds of the source; so often at most are faces of a
            video written that are not tracked.
        margin: what is shown round the box, in parts of its longer side, as far as the frame goes.
        max_faces: further faces are left out, with one warning.
        untouchable: pictures that must not be overwritten, see `FolderSink`.

    Raises:
        OutputError: the folder cannot be made, or is a file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_s: float = 1.0,
        margin: float = 0.3,
        max_faces: int = 10_000,
        untouchable: Iterable[str | Path] = (),
    ) -> None:
        self._folder = folder
        self._every_s = every_s
        self._margin = margin
        self._max_faces = max_faces
        self._files = 0
        self._views: dict[tuple[str, int], _View] = {}
        self._unwritten: dict[tuple[str, int], _View] = {}  # those of them whose file is older than they are
        self._written_s: float | None = None  # when faces that are not tracked last were, in seconds of the source
        self._names = Names()
        self._untouchable = Untouchable(untouchable)
        self._warned = False
        make_folder(folder)

    def write(self, annotated: AnnotatedFrame) -> None:
        """Takes the next frame.

        Raises:
            UsageError: the frame's faces are to be hidden.
            OutputError: a picture cannot be written.
        """
        if annotated.blur:
            raise UsageError(f"{self._folder}: pictures of faces contradict blurring them; leave one of the two out")
        frame, faces = annotated.frame, annotated.result.faces
        now_s = frame.time_s or 0.0
        for face in faces:
            if face.track is not None:
                self._consider(frame, face, face.track, now_s)
        for key, view in list(self._unwritten.items()):
            # A camera that is connected again may start its time anew.
            if now_s >= view.due_s or now_s < view.due_s - self._every_s:
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
            path = self._folder / self._names.unique(f"track-{track:05}.jpg")
            self._untouchable.refuse(path, frame.source)
            view = self._views[key] = _View(path, due_s=now_s)
        view.quality = quality
        view.image = image.copy()  # the frame may be overwritten by the next one, and is larger
        self._unwritten[key] = view

    def _write(self, key: tuple[str, int]) -> None:
        view = self._unwritten.pop(key)
        if view.image is not None:
            write_picture(view.path, view.image)
            view.image = None

    def _write_untracked(self, frame: Frame, faces: list[Face]) -> None:
        if not faces:
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

    def _has_room(self) -> bool:
        if self._files < self._max_faces:
            return True
        if not self._warned:
            self._warned = True
            log.warning("%s: holds %d faces of this run, further ones are left out", self._folder, self._max_faces)
        return False


def cut_out(image: Image, face: Face, margin: float) -> Image:
    """A face with a margin in parts of its longer side, as far as the frame goes.

    Args:
        image: uint8 BGR ``[height, width, 3]``.
        face: its box is in pixels of this picture.
        margin: 0 for the box alone.

    Returns:
        uint8 BGR, a view into the picture; of size 0 where the face lies outside.
    """
    x0, y0, x1, y1 = enlarged(face.detection.box, margin, image.shape)
    return image[y0:y1, x0:x1]


def view_quality(image: Image, face: Face) -> float:
    """How good a view of a face is: its detail, times the detector's score, times the part that is in the frame.

    Detail is the standard deviation of the Laplacian of the face in grey at 128 x 128 pixels. A face that is blurred,
    or was smaller and had to be enlarged, has less of it; YuNet's score alone hardly falls with blur, but does with
    faces turned away.

    Args:
        image: uint8 BGR ``[height, width, 3]``.
        face: its box is in pixels of this picture.
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
    """The name of a source without folder and suffix, as a part of a file name on any system."""
    stem = Path(source).stem.encode("utf-8", "replace")[:_LONGEST_STEM].decode("utf-8", "ignore")
    return "".join("_" if c in '<>:"/\\|?*' or ord(c) < 32 else c for c in stem) or "face"
