"""What a runtime answers to picture files, as arrays. Needs NumPy and `ageinfer` alone.

The file is also run by itself where nothing else of `ageexport` is, see `ageexport.elsewhere.arm64`::

    python answers.py MODEL LIST OUTPUT.npz SECONDS

``LIST`` is a text file with a picture file a line.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.engine.estimator import AgeEstimator
from ageinfer.pipeline import Pipeline
from ageinfer.sources import read_picture
from ageinfer.types import Age, FrameResult, Image

_TRIALS = 9


class Recorder:
    """Stands before the estimator and keeps the pixels that the runtime gives it.

    Args:
        estimator: that answers.

    Attributes:
        crops: that it was given last, uint8 ``[n, side, side, 3]``, RGB; None before.
    """

    def __init__(self, estimator: AgeEstimator) -> None:
        self.metadata, self.identifier, self.provider = estimator.metadata, estimator.identifier, estimator.provider
        self._estimator = estimator
        self.crops: Image | None = None

    def estimate(self, crops: Image) -> list[Age]:
        """Answers as the estimator does."""
        self.crops = crops
        return self._estimator.estimate(crops)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The faces of some pictures, one after the other.

    Attributes:
        pictures: number of the picture of each face from 0, int ``[n]``.
        boxes: x, y, w, h of each face in pixels, float64 ``[n, 4]``.
        crops: of each face, uint8 ``[n, side, side, 3]``, RGB.
        ages_years, stds_years: of each face, float64 ``[n]``.
        looked: how many pictures were looked at, with those in which no face is.
        face_ms: what the age of one crop takes, in milliseconds: the fastest call, which other work disturbs least.
    """

    pictures: np.ndarray
    boxes: np.ndarray
    crops: np.ndarray
    ages_years: np.ndarray
    stds_years: np.ndarray
    looked: int
    face_ms: float

    @classmethod
    def of(
        cls, faces: Sequence[tuple[int, Sequence[float], Image, float, float]], side: int, looked: int, face_ms: float
    ) -> "Answers":
        """Gathers faces: picture, box, crop, age and deviation of each."""
        pictures, boxes, crops, ages, stds = zip(*faces, strict=True) if faces else [()] * 5
        return cls(
            np.array(pictures, int), np.array(boxes, float).reshape(-1, 4),
            np.array(crops, np.uint8).reshape(-1, side, side, 3), np.array(ages, float), np.array(stds, float),
            looked, face_ms,
        )  # fmt: skip

    @classmethod
    def load(cls, file: Path) -> "Answers":
        """Reads what `save` wrote."""
        with np.load(file, allow_pickle=False) as stored:
            arrays: dict[str, Any] = {f.name: stored[f.name] for f in fields(cls)}
        return cls(**{**arrays, "looked": int(arrays["looked"]), "face_ms": float(arrays["face_ms"])})

    def save(self, file: Path) -> None:
        """Writes the answers as a NumPy archive."""
        arrays: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        np.savez_compressed(file, **arrays)

    def first(self, pictures: int) -> "Answers":
        """Returns the faces of the first pictures alone."""
        n = int((self.pictures < pictures).sum())
        return Answers(
            self.pictures[:n], self.boxes[:n], self.crops[:n], self.ages_years[:n], self.stds_years[:n], pictures,
            self.face_ms,
        )  # fmt: skip


def recorded(pipeline: Pipeline, path: Path) -> tuple[FrameResult, Image]:
    """Asks the runtime about one picture file.

    Returns:
        Its answer, and the crops of the faces as the network was given them, in the same order.

    Raises:
        SourceError: the picture cannot be read.
    """
    recorder = Recorder(pipeline.estimator)
    result = Pipeline(pipeline.detector, recorder, pipeline.looking)(read_picture(path))  # type: ignore[arg-type]
    size = recorder.metadata.crop.size
    return result, np.empty((0, size, size, 3), np.uint8) if recorder.crops is None else recorder.crops


def answers_of(pipeline: Pipeline, paths: Sequence[Path], seconds: float = math.inf) -> Answers:
    """Asks the runtime about picture files.

    Args:
        pipeline: the runtime.
        paths: the pictures.
        seconds: after which no further picture is looked at.

    Raises:
        SourceError: a picture cannot be read.
    """
    faces = []
    end, looked = time.monotonic() + seconds, 0
    for path in paths:
        if time.monotonic() > end:
            break
        result, crops = recorded(pipeline, path)
        faces += [
            (looked, face.detection.box, crop, face.age.age_years, face.age.std_years)
            for face, crop in zip(result.faces, crops, strict=True)
        ]
        looked += 1
    return Answers.of(faces, pipeline.estimator.metadata.crop.size, looked, face_ms(pipeline.estimator))


def face_ms(estimator: AgeEstimator) -> float:
    """Returns the time of one grey crop in milliseconds, of the fastest call."""
    size = estimator.metadata.crop.size
    grey = np.full((1, size, size, 3), 128, np.uint8)
    times = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        estimator.estimate(grey)
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


if __name__ == "__main__":
    _model, _list, _output = map(Path, sys.argv[1:4])
    _paths = [Path(line) for line in _list.read_text(encoding="utf-8").splitlines()]
    answers_of(Pipeline.default(_model, provider="cpu", threads=1), _paths, float(sys.argv[4])).save(_output)
