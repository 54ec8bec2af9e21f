"""Finds faces and ages of pictures in as many threads as this process has cores."""

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from ageinfer.api.bodies import Upload
from ageinfer.detect import FaceDetector, WholePicture, YuNet
from ageinfer.engine.cores import usable_cores
from ageinfer.errors import SourceError
from ageinfer.pipeline import Pipeline
from ageinfer.sources import formats
from ageinfer.sources.decoding import decode
from ageinfer.sources.jpeg import Jpeg
from ageinfer.types import Detection, Frame, Image

# Of larger pictures one is decoded at a time, so that memory does not grow with the number of cores.
_LARGE_PIXELS = 30_000_000
_NEW_SHARE = 0.1  # of a picture in the mean of the times


class Answer(NamedTuple):
    """What a picture is answered with.

    Attributes:
        record: as `FrameResult.to_record` gives it; of a picture that cannot be read, ``source`` and ``error``.
        outcome: ``answered``, ``damaged`` or ``unreadable``.
    """

    record: dict[str, Any]
    outcome: str


class Workers:
    """Threads that take pictures from one queue. What several of them ask the age model at once shares a batch.

    Args:
        pipeline: finds faces and ages.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.threads = max(1, int(usable_cores()))
        detector = pipeline.detector
        if not isinstance(detector, YuNet | WholePicture):  # which threads may share
            detector = _OneAtATime(detector)
        over_years = None if pipeline.check is None else pipeline.check.years
        self._pipeline = Pipeline(detector, pipeline.estimator, pipeline.looking, over_years=over_years)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="ageinfer-picture")
        self._lock = threading.Lock()
        self._large = threading.Lock()
        self._waiting = 0
        self._mean_s = 0.1

    @property
    def waiting(self) -> int:
        """Pictures that no thread has begun."""
        return self._waiting

    @property
    def wait_s(self) -> int:
        """About how long those that wait will take, in seconds, at least 1."""
        return max(1, math.ceil(self._waiting * self._mean_s / self.threads))

    def start(self, uploads: Sequence[Upload]) -> "list[Future[Answer]]":
        """Puts pictures into the queue; one that is cancelled before a thread begins it is never decoded."""
        return [self._start(upload) for upload in uploads]

    def close(self) -> None:
        """Begins no further picture."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, upload: Upload) -> "Future[Answer]":
        self._count(1)
        future = self._pool.submit(self._work, upload)
        future.add_done_callback(lambda done: self._count(-1) if done.cancelled() else None)
        return future

    def _count(self, change: int) -> None:
        with self._lock:
            self._waiting += change

    def _work(self, upload: Upload) -> Answer:
        self._count(-1)
        began_s = time.monotonic()
        try:
            with self._one_large(upload.data):
                picture = decode(upload.data, upload.name or "the body")
                result = self._pipeline(Frame(upload.name, 0, None, picture.image, damaged=picture.damaged))
        except SourceError as error:
            return Answer({"source": upload.name, "error": " ".join(str(error).split())}, "unreadable")
        finally:
            with self._lock:
                self._mean_s += _NEW_SHARE * (time.monotonic() - began_s - self._mean_s)
        return Answer(result.to_record(), "damaged" if result.damaged else "answered")

    def _one_large(self, data: bytes) -> AbstractContextManager[object]:
        return self._large if _pixels(data) > _LARGE_PIXELS else nullcontext()


class _OneAtATime:
    """A detector that threads may not share, for threads that share it."""

    def __init__(self, detector: FaceDetector) -> None:
        self.identifier = detector.identifier
        self._detector = detector
        self._lock = threading.Lock()

    def detect(self, image: Image) -> list[Detection]:
        with self._lock:
            return self._detector.detect(image)


def _pixels(data: bytes) -> int:
    """The pixels that the header of a picture announces; 0 where nobody knows."""
    if data.startswith(b"\xff\xd8"):
        jpeg = Jpeg.parse(data)
        return jpeg.width * jpeg.height
    try:
        width, height = formats.picture_size(data) or (0, 0)
    except ValueError:  # too many pages, which whoever decodes it refuses
        return 0
    return width * height
