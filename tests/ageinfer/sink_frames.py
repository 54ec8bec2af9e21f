"""Frames with known faces to write into sinks, and helpers that read the records back."""

import json

import jsonschema
import numpy as np

from ageinfer.sinks import record_schema
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Age, Detection, Face, Frame, FrameResult

POINTS = tuple((10.0 + i, 20.126 + i) for i in range(5))
PLAIN = Face(Detection((30.0, 40.5, 20.004, 25.0), 0.93164), Age(31.416, 4.2))
TRACKED = Face(Detection((-1.0, 2.0, 30.0, 40.0), 1.5, POINTS), Age(30.9, 5.0), 3, 31.126, 0.12003)
MODEL = "age-small@int8"
NASTY = 'a, "b"\nc é 日本.mp4'


def annotated(*faces, source="clip.mp4", index=0, time_s=0.4, size=(96, 64)):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    return AnnotatedFrame(Frame(source, index, time_s, image), FrameResult(source, index, time_s, size, faces, MODEL))


def write_all(sink, *frames):
    with sink:
        for frame in frames:
            sink.write(frame)


SCHEMA = jsonschema.Draft202012Validator(record_schema())


def records_of(text: str) -> list[dict]:
    """The records of whole lines, each one valid."""
    assert text == "" or text.endswith("\n")
    records = [json.loads(line) for line in text.split("\n")[:-1]]
    for record in records:
        SCHEMA.validate(record)
    return records
