"""What a pipeline answers to the pictures of a folder, and how long each stage takes."""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ageinfer.crop.cut import central_face
from ageinfer.errors import SourceError
from ageinfer.over import AgeCheck
from ageinfer.pipeline import Pipeline
from ageinfer.sources import PICTURE_SUFFIXES
from ageinfer.sources.decoding import damage_of, decode, read_file
from ageinfer.types import Frame, FrameResult

STAGES = ("decode", "detect", "crop", "age")
TOTAL = "total"
_OUTCOMES = ("face", "no face", "damaged", "unreadable")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to one picture. Values are rounded as those of records are.

    Attributes:
        file: its name, relative to the folder, with ``/`` between folders.
        sha256: of the file; None where it cannot be read at all.
        outcome: ``face``, ``no face``, ``damaged`` (no face was looked for) or ``unreadable``.
        faces: how many were found.
        box_px: x, y, width and height of the face nearest the centre, in pixels; None without a face, as what follows.
        age_years, age_std_years: estimate and deviation of that face.
        quality: how well it is seen, 0 to 1; None also where nobody has looked.
        over: for each operating point of the model, by its years, what ``--over`` answers: over, under or refer.
        why: it is unreadable; empty otherwise.
    """

    file: str
    sha256: str | None
    outcome: Literal["face", "no face", "damaged", "unreadable"]
    faces: int = 0
    box_px: tuple[float, ...] | None = None
    age_years: float | None = None
    age_std_years: float | None = None
    quality: float | None = None
    over: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the answer as JSON values."""
        return asdict(self) | {"box_px": None if self.box_px is None else list(self.box_px), "over": dict(self.over)}

    @classmethod
    def from_dict(cls, values: Any) -> "Answer":
        """Reads what `to_dict` returned, and believes nothing of it.

        Raises:
            ValueError: it is not that.
        """
        try:
            box = values["box_px"]
            found = cls(
                str(values["file"]), None if values["sha256"] is None else str(values["sha256"]), values["outcome"],
                int(values["faces"]), None if box is None else tuple(_number(value) or 0.0 for value in box),
                _number(values["age_years"]), _number(values["age_std_years"]), _number(values["quality"]),
                {str(years): str(answer) for years, answer in values["over"].items()}, str(values["why"]),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"has an answer that is none ({error})") from None
        has_face = found.outcome == "face"
        if found.outcome not in _OUTCOMES or has_face != (found.age_years is not None and len(found.box_px or ()) == 4):
            raise ValueError(f"has an answer to {found.file[:80]!r} that is none")
        return found


def _number(value: Any) -> float | None:
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{value} is no number")
    return None if value is None else float(value)


class StageClock:
    """The milliseconds of each stage, picture by picture.

    Attributes:
        pictures: for each picture, the time of every stage and of all of it.
    """

    def __init__(self) -> None:
        self.pictures: list[dict[str, float]] = []

    @contextmanager
    def picture(self) -> Iterator[None]:
        """Counts what happens within as one picture."""
        self.pictures.append(dict.fromkeys((*STAGES, TOTAL), 0.0))
        with self.stage(TOTAL):
            yield

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Puts the time within on the account of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.pictures[-1][name] += (time.perf_counter() - start) * 1e3


def picture_names(folder: Path) -> list[str]:
    """The pictures of a folder and of all below it, sorted; hidden files and folders are left out.

    Returns:
        Their names, relative to the folder.

    Raises:
        SourceError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; name a folder of pictures")
    found = []
    try:
        for path in folder.rglob("*"):
            name = path.relative_to(folder)
            if path.suffix.lower() in PICTURE_SUFFIXES and not any(part.startswith(".") for part in name.parts):
                found.append(name.as_posix())
    except OSError as error:
        raise SourceError(
            f"{error.filename or folder}: cannot be read: {error.strerror}; check its permissions"
        ) from error
    if not found:
        raise SourceError(f"{folder}: no picture in this folder; name a folder of pictures (.jpg, .png, ...)")
    return sorted(found)


def answers_of(
    pipeline: Pipeline, folder: Path, names: Sequence[str], step: Callable[[int], None]
) -> Iterator[Answer]:  # fmt: skip
    """Looks at pictures, one after the other; whatever cannot be read is named in a warning.

    Args:
        pipeline: finds faces and ages.
        folder: of the pictures.
        names: relative to it.
        step: is told how many faces each picture has.
    """
    metadata = pipeline.estimator.metadata
    years = [point.years for point in metadata.operating_points]
    checks = [AgeCheck(each, metadata, pipeline.detector.identifier) for each in years]
    for name in names:
        answer = _answer(pipeline, folder, name, checks)
        step(answer.faces)
        yield answer


def _answer(pipeline: Pipeline, folder: Path, name: str, checks: Sequence[AgeCheck]) -> Answer:
    path, data, digest = folder / name, b"", None
    try:
        data = read_file(path)
        digest = hashlib.sha256(data).hexdigest()
        picture = decode(data, str(path))
    except SourceError as error:
        log.warning("%s", error)
        return Answer(name, digest, "unreadable", why=str(error).removeprefix(f"{path}: "))
    if picture.damaged:
        log.warning("%s", damage_of(str(path)))
        return Answer(name, digest, "damaged")
    return _answered(pipeline(Frame(name, 0, None, picture.image)), digest, checks)


def _answered(result: FrameResult, digest: str | None, checks: Sequence[AgeCheck]) -> Answer:
    central = central_face([face.detection.box for face in result.faces], result.size)
    if central is None:
        return Answer(result.source, digest, "no face")
    face = result.faces[central]
    record = face.to_record()
    over = {str(check.years): check.of(face.age).answer for check in checks}
    return Answer(
        result.source, digest, "face", len(result.faces), tuple(record["box"]), record["age"], record["age_std"],
        record["quality"], over,
    )  # fmt: skip


def measured_speed(pipeline: Pipeline, folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Times the stages on pictures that were read before, one after the other in one thread.

    The files come from the cache of the system, and the networks have run before.

    Args:
        pipeline: as it answered.
        folder: of the pictures.
        names: of pictures that can be read; relative to the folder.

    Returns:
        How many pictures, median and 95th percentile of every stage in milliseconds, and pictures a second.
    """
    clock = StageClock()
    timed = Pipeline(pipeline.detector, pipeline.estimator, pipeline.looking, timer=clock.stage)
    for name in names:
        with clock.picture():
            with clock.stage("decode"):
                picture = decode(read_file(folder / name), name)
            timed(Frame(name, 0, None, picture.image))
    times = {stage: [each[stage] for each in clock.pictures] for stage in (*STAGES, TOTAL)}

    def percentiles(percent: float) -> dict[str, float]:
        return {stage: round(float(np.percentile(values, percent)), 3) for stage, values in times.items()}

    return {
        "pictures": len(names), "median_ms": percentiles(50), "p95_ms": percentiles(95),
        "pictures_per_s": round(1e3 / float(np.mean(times[TOTAL])), 2),
    }  # fmt: skip
