"""The training cache: each picture is decoded and its face cropped once, into memory-mapped arrays.

Preparing needs the runtime (`ageinfer.crop.cut` cuts the crops, with its own detector); reading needs numpy alone.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from ageinfer.crop.spec import DEFAULT_DETECTOR, NO_DETECTOR, CropSpec
from ageinfer.engine.cores import usable_cores
from agetrain._progress import progress
from agetrain.crops.labelled_face import crop_labelled_face, read_labelled_picture
from agetrain.datasets import Sample
from agetrain.errors import DatasetError

CACHE_VERSION = 2
VALUES = ("found", "ages", "stds", "others", "other_stds", "digests", "lows", "highs")
MOST_NAMED = 20  # pictures that one message names
_AHEAD = 64  # pictures a thread that may wait for their turn

Done = TypeVar("Done")

if TYPE_CHECKING:  # it brings OpenCV, which a machine that only trains need not have
    from ageinfer.detect.base import FaceDetector

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class CropCache:
    """The crops of one list of samples, in its order.

    Attributes:
        crops: uint8 ``[n, side, side, 3]``, RGB, memory-mapped; zeros where no face was found. May be several files;
            indexing with an array of ascending numbers gives an array.
        found: bool ``[n]``: a face was found.
        ages: float32 ``[n]``, years; of an interval, a year within it.
        stds: float32 ``[n]``, years of disagreement between raters, NaN where unknown.
        others, other_stds: float32 ``[n]``, the same of the other of real and apparent age, NaN where unknown.
        digests: uint64 ``[n]``, the first 8 bytes of the SHA-256 of each picture's file.
        lows, highs: float32 ``[n]``, years, ends of the interval where no more is known than that; NaN for exact ages.
    """

    crops: "npt.NDArray[np.uint8] | JoinedCrops"
    found: npt.NDArray[np.bool_]
    ages: npt.NDArray[np.float32]
    stds: npt.NDArray[np.float32]
    others: npt.NDArray[np.float32]
    other_stds: npt.NDArray[np.float32]
    digests: npt.NDArray[np.uint64]
    lows: npt.NDArray[np.float32]
    highs: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.found)

    @property
    def exact(self) -> npt.NDArray[np.bool_]:
        """Where an age is one number and no interval, bool ``[n]``."""
        return np.isnan(self.lows)


def in_order(pool: ThreadPoolExecutor, work: Callable[..., Done], *items: Iterable[Any], ahead: int) -> Iterator[Done]:
    """Yields what a pool makes of items, in their order, with only so many begun ahead of the next one."""
    waiting: deque[Future[Done]] = deque()
    for each in zip(*items, strict=True):
        waiting.append(pool.submit(work, *each))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class JoinedCrops:
    """Crops that lie in several arrays, read as if they were one behind the other."""

    def __init__(self, arrays: Sequence[npt.NDArray[np.uint8]]) -> None:
        self.arrays = arrays
        self._starts = np.cumsum([0, *(len(a) for a in arrays)])

    def __getitem__(self, ascending: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        bounds = np.searchsorted(ascending, self._starts)
        return np.concatenate(
            [
                array[ascending[low:high] - start]
                for array, start, low, high in zip(self.arrays, self._starts[:-1], bounds[:-1], bounds[1:], strict=True)
            ]
        )


def join(caches: Sequence[CropCache]) -> CropCache:
    """Joins several caches of crops of one size, in the order given."""
    if len(caches) == 1:
        return caches[0]
    arrays = [a for c in caches for a in (c.crops.arrays if isinstance(c.crops, JoinedCrops) else [c.crops])]
    return CropCache(JoinedCrops(arrays), *(np.concatenate([getattr(c, name) for c in caches]) for name in VALUES))


def open_crops(
    samples: Sequence[Sample], spec: CropSpec, folder: str | Path, title: str,
    unreadable: dict[Path, str] | None = None,
) -> CropCache:  # fmt: skip
    """Opens the crops of these pictures, and makes them first where they are not in the cache yet.

    The cache's name is a hash over the pictures' bytes, the crop specification and the detector, so a changed picture
    or margin is never answered with old crops. An interrupted run leaves nothing that looks like a cache.

    Args:
        samples: the pictures, with labels.
        spec: how to crop; ``spec.detector`` must be the runtime's default detector, or none for a ``resize`` crop.
        folder: holds all caches.
        title: of the progress bar.
        unreadable: takes the reasons by the paths of pictures that cannot be read, which then count as pictures
            without a face; None refuses such pictures.

    Raises:
        DatasetError: a picture cannot be read and ``unreadable`` is None, the cache cannot be read, or no space is
            left.
    """
    if spec.detector not in (DEFAULT_DETECTOR, NO_DETECTOR):
        raise DatasetError(f"crops for detector {spec.detector!r} cannot be made; this release has {DEFAULT_DETECTOR}")
    digests = [_digest(sample.path, strict=unreadable is None) for sample in samples]
    key = hashlib.sha256(json.dumps([CACHE_VERSION, spec.to_dict()], sort_keys=True).encode() + b"".join(digests))
    target = Path(folder) / key.hexdigest()[:16]
    if not (target / "crops.npy").is_file():
        try:
            _build(samples, spec, target, title, strict=unreadable is None)
        except OSError as error:
            raise DatasetError(
                f"{target}: cannot write the cache: {error.strerror or error}; free some space"
            ) from error

    def years(name: str) -> npt.NDArray[np.float32]:
        return np.array([np.nan if getattr(s, name) is None else getattr(s, name) for s in samples], np.float32)

    try:
        crops, found = np.load(target / "crops.npy", mmap_mode="r"), np.load(target / "found.npy")
        if not len(crops) == len(found) == len(samples):
            raise ValueError(f"{len(crops)} crops and {len(found)} entries for {len(samples)} pictures")
        record = target / "unreadable.json"
        reasons = {int(i): str(r) for i, r in json.loads(record.read_text()).items()} if record.is_file() else {}
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{target}: a damaged cache ({error}); delete this folder, it is made again") from error
    if reasons and unreadable is None:
        raise DatasetError(_named(reasons))
    if unreadable is not None:
        unreadable.update({samples[i].path: reason for i, reason in reasons.items()})
    nothing = (np.nan, np.nan)
    lows, highs = np.array([s.interval_years or nothing for s in samples], np.float32).reshape(-1, 2).T
    return CropCache(
        lows=lows,
        highs=highs,
        crops=crops,
        found=found,
        ages=years("age_years"),
        stds=years("std_years"),
        others=years("other_years"),
        other_stds=years("other_std_years"),
        digests=np.frombuffer(b"".join(d[:8] for d in digests), np.uint64),
    )


def available_cores() -> int:
    """Returns how many processor cores this process may keep busy, 1 or more, quotas of containers included."""
    return max(1, int(usable_cores()))


def picture_digest(path: Path) -> bytes:
    """Returns the SHA-256 of a picture's file, by which a cache and a teacher know it.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}; unpack the data set again") from error


def _digest(path: Path, *, strict: bool) -> bytes:
    try:
        return picture_digest(path)
    except DatasetError:
        if strict:
            raise
        return bytes(32)  # whoever crops it says why


def _named(reasons: Mapping[int, str]) -> str:
    """Returns one line about pictures that cannot be read."""
    more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
    return "; ".join(list(reasons.values())[:MOST_NAMED]) + more


def _build(samples: Sequence[Sample], spec: CropSpec, target: Path, title: str, *, strict: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        unfinished.chmod(0o755)  # a cache may be shared
        crops = unfinished / "crops.npy"
        shape = (len(samples), spec.size, spec.size, 3)
        np.lib.format.open_memmap(crops, mode="w+", dtype=np.uint8, shape=shape).flush()
        # Without the space, writing through the map would kill the process; this raises OSError.
        if hasattr(os, "posix_fallocate"):
            with crops.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, crops.stat().st_size)
        found, reasons = np.zeros(len(samples), bool), {}
        with _cropping([sample.path for sample in samples], spec, crops) as outcomes:
            for i, outcome in zip(progress(range(len(samples)), title, "img"), outcomes, strict=True):
                if isinstance(outcome, str):
                    reasons[i] = outcome
                else:
                    found[i] = outcome
        if reasons and strict:
            raise DatasetError(_named(reasons))
        np.lib.format.open_memmap(crops, mode="r+").flush()  # before the name that says it is complete
        np.save(unfinished / "found.npy", found)
        if reasons:
            (unfinished / "unreadable.json").write_text(json.dumps(reasons))
        try:
            unfinished.rename(target)
        except OSError:
            if not (target / "crops.npy").is_file():
                raise  # else another run was faster, with the same result
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    log.info("%s: a face in %d of %d pictures", title, found.sum(), len(samples))


class _Cropper:
    """Cuts the labelled face out of pictures into a file of crops; each thread has a detector of its own."""

    def __init__(self, spec: CropSpec, crops: Path, threads: int | None) -> None:
        self._spec, self._threads = spec, threads
        self._crops = np.lib.format.open_memmap(crops, mode="r+")
        self._own = threading.local()
        self._own.detector = self._open()  # what is missing or broken is to be said here, not in every thread

    def _open(self) -> "FaceDetector":
        from ageinfer.detect import WholePicture, YuNet

        whole = self._spec.detector == NO_DETECTOR
        return WholePicture() if whole else YuNet(provider="cpu", threads=self._threads)

    def crop(self, i: int, path: Path) -> bool | str:
        """Writes the crop of a picture as the ``i``-th one.

        Returns:
            Whether there is a face, or why the picture cannot be read.
        """
        try:
            image = read_labelled_picture(path)
        except DatasetError as error:
            return str(error)
        if not hasattr(self._own, "detector"):
            self._own.detector = self._open()
        crop = crop_labelled_face(self._own.detector, image, self._spec)
        if crop is None:
            return False
        self._crops[i] = crop
        return True


@contextmanager
def _cropping(paths: Sequence[Path], spec: CropSpec, crops: Path) -> Iterator[Iterator[bool | str]]:
    """Crops pictures, on all cores; gives for each, in order, what `_Cropper.crop` returns.

    Decoding, detecting and cropping leave Python's lock alone, so threads are enough. Processes would import the script
    of whoever calls this once more.
    """
    threads = available_cores()
    if threads < 2:
        yield map(_Cropper(spec, crops, None).crop, range(len(paths)), paths)
        return
    cropper = _Cropper(spec, crops, 1)
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield in_order(pool, cropper.crop, range(len(paths)), paths, ahead=_AHEAD * threads)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
