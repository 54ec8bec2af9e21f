"""Pipelines for worker processes, which import this module to open them."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from ageinfer.detect import YuNet
from ageinfer.detect.looking import Looking
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.errors import ModelError
from ageinfer.pipeline import Pipeline

# ``ageinfer`` that starts workers at once, also for little work.
IMPATIENT = [
    sys.executable,
    "-c",
    "from ageinfer.workers import run; run._ALONE_S = 0.0; from ageinfer.__main__ import command; command()",
]
# Their colours are what the detectors below look for; JPEG would change them.
DEADLY = np.full((40, 40, 3), (0, 0, 255), np.uint8)
SLOW = np.full((40, 40, 3), (0, 255, 0), np.uint8)


class _Changed:
    def __init__(self, marks: Path | None) -> None:
        self.identifier = "changed"
        self._yunet = YuNet(threads=1)
        self._marks = marks

    def detect(self, image):
        if image.shape == DEADLY.shape and (image == DEADLY).all():
            if self._marks is not None:
                (self._marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if image.shape == SLOW.shape and (image == SLOW).all() and self._marks is not None:
            while not (self._marks / "go on").exists():
                time.sleep(0.01)
        return self._yunet.detect(image)


def mortal(marks=None) -> Pipeline:
    """Kills its process at a picture like `DEADLY`, and notes its number; waits at `SLOW` until it may go on."""
    return Pipeline(_Changed(marks), AgeEstimator(threads=1))


def once_mortal(marks) -> Pipeline:
    """The same, but only the first process dies."""
    pipeline = mortal(marks)
    if any(marks.iterdir()):
        pipeline.detector.detect = pipeline.detector._yunet.detect
    return pipeline


def mortal_in_films(marks, deaths) -> Pipeline:
    """Kills its process at the 110th search, so many times, and notes its number."""
    pipeline = Pipeline(_Changed(None), AgeEstimator(threads=1), Looking(every=1))
    detect, calls = pipeline.detector.detect, []

    def counted(image):
        calls.append(1)
        if len(calls) == 110 and len(list(marks.iterdir())) < deaths:
            (marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return detect(image)

    pipeline.detector.detect = counted
    return pipeline


def hopeless() -> Pipeline:
    """Ends its process before the pipeline is open."""
    os._exit(3)


def broken() -> Pipeline:
    """Fails as a model that is not there."""
    raise ModelError("age-none.onnx: no such model; name another one")


def faulty() -> Pipeline:
    """Has a pipeline with a mistake in it."""
    pipeline = mortal()
    pipeline.detector.detect = lambda image: 1 / 0
    return pipeline
