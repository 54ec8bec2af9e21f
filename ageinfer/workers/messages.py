"""What a worker process tells the process that has started it: results, log messages, counts and errors, as JSON."""

import json
import logging
import struct
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

from ageinfer import errors
from ageinfer.errors import AgeError
from ageinfer.types import Age, Detection, Face, FrameResult, Over

# The first byte of a message: the worker has opened its models, or cannot; more of this task comes, and an image comes
# next; this was all of the task.
READY, FAILED, MORE, IMAGE, DONE = b"*", b"!", b"+", b"#", b"."
SIZE = struct.Struct("<II")  # after IMAGE: height and width in pixels


@dataclass(frozen=True, slots=True)
class Note:
    """A message for the log: the name of the logger, the level, the text."""

    logger: str
    level: int
    text: str

    def tell(self) -> None:
        """Logs it in this process."""
        logging.getLogger(self.logger).log(self.level, "%s", self.text)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a source counts, see `ageinfer.sources.Source`."""

    failed: int = 0
    damaged: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that ends the run: the name of its class, and its text."""

    kind: str
    text: str

    def error(self) -> Exception:
        """The error, of the family of this project or a `RuntimeError` with the traceback of the worker."""
        kind = getattr(errors, self.kind, None)
        known = isinstance(kind, type) and issubclass(kind, AgeError)
        return kind(self.text) if known else RuntimeError(f"in a worker process:\n{self.text}")  # type: ignore[misc]


Event = FrameResult | Note | Counts | Failure
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Note, Counts, Failure)}


def encoded(events: list[Event]) -> bytes:
    """Writes events; numbers keep every digit, and texts need not be Unicode."""
    return json.dumps([_plain(event) for event in events]).encode()


def decoded(data: bytes) -> Iterator[Event]:
    """Reads what `encoded` has written."""
    for kind, *values in json.loads(data):
        yield _result(*values) if kind == "FrameResult" else _KINDS[kind](*values)


def _plain(event: Event) -> list[Any]:
    if not isinstance(event, FrameResult):
        return [type(event).__name__, *(getattr(event, name) for name in event.__slots__)]
    faces = [
        (
            *(face.detection.box, face.detection.score, face.detection.landmarks),
            *(face.age.age_years, face.age.std_years, face.age.quality),
            *(face.track, face.age_smoothed_years, face.age_lag_s, face.over and astuple(face.over)),
        )
        for face in event.faces
    ]
    return ["FrameResult", event.source, event.index, event.time_s, event.size, faces, event.model, event.damaged]


def _result(
    source: str, index: int, time_s: float | None, size: list[int], faces: list[Any], *rest: Any
) -> FrameResult:
    width, height = size
    return FrameResult(source, index, time_s, (width, height), tuple(_face(*values) for values in faces), *rest)


def _face(
    box: list[float], score: float, points: list[list[float]] | None, years: float, std_years: float,
    quality: float | None, track: int | None, smoothed_years: float | None, lag_s: float, over: list[Any] | None,
) -> Face:  # fmt: skip
    x, y, w, h = box
    landmarks = None if points is None else tuple((px, py) for px, py in points)
    return Face(
        Detection((x, y, w, h), score, landmarks), Age(years, std_years, quality), track, smoothed_years, lag_s,
        Over(*over) if over else None,
    )  # fmt: skip
