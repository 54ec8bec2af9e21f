"""What a runtime answers to picture files, as arrays. Needs NumPy and `ageinfer` alone.

The file is also run by itself where nothing else of `ageexport` is, see `ageexport.elsewhere.arm64`::

    python answers.py MODEL LIST OUTPUT.npz

``LIST`` is a text file with a picture file a line.
"""

import sys
import time
from collections.abc import Iterable, Sequence
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
        self.metadata, self.identifier = estimator.metadata, estimator.identifier
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
        face_ms: what the age of one crop takes, in milliseconds.
    """

    pictures: np.ndarray
    boxes: np.ndarray
    crops: np.ndarray
    ages_years: np.ndarray
    stds_years: np.ndarray
    face_ms: float

    @classmethod
    def of(
        cls, faces: Iterable[tuple[int, Sequence[float], Image, float, float]], side: int, face_ms: float
    ) -> "Answers":
        """Gathers faces: picture, box, crop, age and deviation of each."""
        pictures, boxes, crops, ages, stds = zip(*faces, strict=True) if (faces := list(faces)) else [()] * 5
        return cls(
            np.array(pictures, int), np.array(boxes, float).reshape(-1, 4),
            np.array(crops, np.uint8).reshape(-1, side, side, 3), np.array(ages, float), np.array(stds, float), face_ms,
        )  # fmt: skip

    @classmethod
    def load(cls, file: Path) -> "Answers":
        """Reads what `save` wrote."""
        with np.load(file, allow_pickle=False) as stored:
            arrays: dict[str, Any] = {f.name: stored[f.name] for f in fields(cls)}
        return cls(**{**arrays, "face_ms": float(arrays["face_ms"])})

    def save(self, file: Path) -> None:
        """Writes the answers as a NumPy archive."""
        arrays: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        np.savez_compressed(file, **arrays)


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


def answers_of(pipeline: Pipeline, paths: Sequence[Path]) -> Answers:
    """Asks the runtime about picture files.

    Raises:
        SourceError: a picture cannot be read.
    """
    faces = []
    for i, path in enumerate(paths):
        result, crops = recorded(pipeline, path)
        faces += [
            (i, face.detection.box, crop, face.age.age_years, face.age.std_years)
            for face, crop in zip(result.faces, crops, strict=True)
        ]
    return Answers.of(faces, pipeline.estimator.metadata.crop.size, face_ms(pipeline.estimator))


def face_ms(estimator: AgeEstimator) -> float:
    """Returns the median time of one grey crop in milliseconds."""
    size = estimator.metadata.crop.size
    grey = np.full((1, size, size, 3), 128, np.uint8)
    times = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        estimator.estimate(grey)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))


if __name__ == "__main__":
    _model, _list, _output = map(Path, sys.argv[1:])
    _paths = [Path(line) for line in _list.read_text(encoding="utf-8").splitlines()]
    answers_of(Pipeline.default(_model, provider="cpu", threads=1), _paths).save(_output)
