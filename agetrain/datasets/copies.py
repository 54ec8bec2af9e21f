"""Pictures that are the same photograph: other sizes, brightness, compression or crops of it, and its mirror image.

Two steps. Small grey copies of all pictures are compared with one another by their correlation, which no change of
brightness or contrast touches. Pairs that are alike in that are laid over each other (enhanced correlation coefficient,
Evangelidis and Psarakis, PAMI 2008) and compared in their fine detail, where two pictures of faces that merely look
alike differ. On UTKFace the scores of copies and of others lie apart: `benchmarks/copies.py` shows them.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agetrain._files import write_json
from agetrain._progress import progress
from agetrain.errors import DatasetError, OutputError

SAME_SCORE = 0.76
_VERSION = 2
_SMALL, _LARGE = 32, 96  # sides of the grey copies, in pixels
_ALIKE = 0.88  # correlation of the small copies of pictures that are looked at closely
_COARSE_SIGMA = 2.5  # what is smoother than this at the large side is not detail
_BORDER = 12  # pixels of the large copies that moving may bring in from outside
_ROWS = 2048
_ITERATIONS = 30

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Copy:
    """Two pictures of one photograph.

    Attributes:
        first, second: their numbers in the list that was searched, the smaller first.
        score: correlation of their fine detail, `SAME_SCORE` to 1.
        mirrored: one is the mirror image of the other.
    """

    first: int
    second: int
    score: float
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Copies:
    """What was found in a list of pictures.

    Attributes:
        pairs: all pairs of one photograph.
        unreadable: why a picture could not be read, by its number.
    """

    pairs: tuple[Copy, ...]
    unreadable: dict[int, str]

    def groups(self, count: int) -> list[int]:
        """Returns for each of ``count`` pictures the smallest number of a picture that shows the same photograph."""
        leader = list(range(count))

        def of(i: int) -> int:
            while leader[i] != i:
                leader[i] = leader[leader[i]]
                i = leader[i]
            return i

        for pair in self.pairs:
            a, b = sorted((of(pair.first), of(pair.second)))
            leader[b] = a
        return [of(i) for i in range(count)]


def find_copies(paths: Sequence[Path], cache: Path | None = None, title: str = "looking for copies") -> Copies:
    """Finds the pictures that are the same photograph.

    Args:
        paths: of the pictures.
        cache: folder that keeps the result, under the names, sizes and times of the files; None keeps nothing.
        title: of the progress bar.

    Raises:
        OutputError: the result cannot be written.
    """
    kept = cache / f"copies-{_key(paths)}.json" if cache is not None else None
    if kept is not None and kept.is_file():
        try:
            values = json.loads(kept.read_text())
            pairs = tuple(
                Copy(int(a), int(b), float(score), bool(mirrored)) for a, b, score, mirrored in values["pairs"]
            )
            return Copies(pairs, {int(i): str(reason) for i, reason in values["unreadable"].items()})
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: damaged (%r); the pictures are compared again", kept, error)
    found = _search(paths, title)
    if kept is not None:
        try:
            write_json(
                kept,
                {
                    "pairs": [[c.first, c.second, c.score, c.mirrored] for c in found.pairs],
                    "unreadable": {str(i): reason for i, reason in found.unreadable.items()},
                },
            )
        except OSError as error:
            raise OutputError(f"{kept}: cannot be written: {error.strerror}; free some space") from error
    return found


def _key(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256(f"{_VERSION},{SAME_SCORE}".encode())
    for path in paths:
        try:
            about = path.stat()
            facts = f"{about.st_size},{about.st_mtime_ns}"
        except OSError:
            facts = "none"
        digest.update(os.fsencode(path.resolve()) + f",{facts}\n".encode())
    return digest.hexdigest()[:16]


def _search(paths: Sequence[Path], title: str) -> Copies:
    unreadable: dict[int, str] = {}

    def small(i: int) -> npt.NDArray[np.uint8]:
        try:
            return _grey(paths[i], _SMALL)
        except DatasetError as error:
            unreadable[i] = str(error)
            return np.zeros((_SMALL, _SMALL), np.uint8)

    with ThreadPoolExecutor() as pool:
        grey = np.stack(
            list(progress(pool.map(small, range(len(paths))), title, "img", len(paths)))
            or [np.zeros((_SMALL, _SMALL), np.uint8)]
        )

        @lru_cache(maxsize=4096)
        def large(i: int) -> npt.NDArray[np.float32]:
            return _grey(paths[i], _LARGE).astype(np.float32)

        def closely(pair: tuple[int, int, bool]) -> Copy | None:
            first, second, mirrored = pair
            score = same_photograph(large(first), large(second)[:, ::-1].copy() if mirrored else large(second))
            return Copy(first, second, round(score, 3), mirrored) if score >= SAME_SCORE else None

        candidates = [p for p in _alike(grey) if p[0] not in unreadable and p[1] not in unreadable]
        compared = progress(pool.map(closely, candidates), "comparing closely", "pair", len(candidates))
        best: dict[tuple[int, int], Copy] = {}
        for copy in compared:
            if copy is not None and copy.score > best.get((copy.first, copy.second), Copy(0, 0, 0)).score:
                best[copy.first, copy.second] = copy
    return Copies(tuple(best[pair] for pair in sorted(best)), unreadable)


def _grey(path: Path, side: int) -> npt.NDArray[np.uint8]:
    """A square grey copy of a picture, uint8 ``[side, side]``.

    Raises:
        DatasetError: it cannot be read.
    """
    from ageinfer.images import cv2
    from agetrain.crops.labelled_face import read_labelled_picture

    grey = cv2.cvtColor(read_labelled_picture(path), cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _alike(grey: npt.NDArray[np.uint8]) -> list[tuple[int, int, bool]]:
    """Pairs of small copies whose correlation is high, as they are or with one of them mirrored."""
    plain, mirrored = _normalised(grey), _normalised(grey[:, :, ::-1])
    pairs = []
    for start in range(0, len(plain), _ROWS):
        for flipped, others in ((False, plain), (True, mirrored)):
            close = plain[start : start + _ROWS] @ others[start:].T > _ALIKE
            for i, j in zip(*np.nonzero(close), strict=True):
                if j > i:
                    pairs.append((start + int(i), start + int(j), flipped))
    return pairs


def _normalised(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    values = grey.reshape(len(grey), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    # A picture of one colour has no pattern to be alike in.
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), _SMALL)


def same_photograph(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """Returns how alike the fine detail of two pictures is once one is laid over the other, -1 to 1.

    Args:
        first: grey, float32 ``[96, 96]``.
        second: the same.
    """
    from ageinfer.images import cv2

    warp = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 1e-4)
    try:
        # At half the size it takes a quarter of the time, and is exact to a fraction of a pixel all the same.
        half, other = (cv2.resize(v, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for v in (first, second))
        _, warp = cv2.findTransformECC(half, other, warp, cv2.MOTION_AFFINE, stop, np.ones_like(half, np.uint8), 5)
        warp[:, 2] = 2 * warp[:, 2] + 0.5 * (1 - warp[:, :2].sum(axis=1))  # from centres of half as many pixels
    except cv2.error:  # it found no way to lay them over each other
        warp = np.eye(2, 3, dtype=np.float32)
    moved = cv2.warpAffine(
        second, warp, (_LARGE, _LARGE), flags=cv2.INTER_LINEAR + cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    inner = slice(_BORDER, _LARGE - _BORDER)
    a, b = ((v - cv2.GaussianBlur(v, (0, 0), _COARSE_SIGMA))[inner, inner] for v in (first, moved))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 1e-3 else 0.0
