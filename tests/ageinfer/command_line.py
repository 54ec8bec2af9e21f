"""Helpers that read the outputs of the command line, and clips to run it on."""

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest


def records_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def rows_of(path) -> list[dict]:
    return list(csv.DictReader(io.StringIO(Path(path).read_bytes().decode(), newline=""), strict=True))


def count_frames(path) -> int:
    capture = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


@pytest.fixture(scope="module")
def portrait(astronaut_path):
    return cv2.resize(cv2.imread(str(astronaut_path)), (256, 256), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def clip(tmp_path_factory, write_video, portrait):
    """Thirty frames of one face that moves to the right."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", [np.roll(portrait, i, axis=1) for i in range(30)])


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory, write_video, portrait):
    """Long enough to be interrupted: some seconds of work."""
    return write_video(tmp_path_factory.mktemp("long") / "long.avi", [portrait] * 600)
