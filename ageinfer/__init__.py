"""Face detection and age estimation on pictures, video and cameras.

    >>> import ageinfer
    >>> pipeline = ageinfer.Pipeline.default()
    >>> [face] = pipeline("samples/astronaut.jpg").faces
    >>> 20 < face.age_years < 60
    True

Submodules are loaded when they are first used, so that ``import ageinfer`` costs nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# From 1.29 on, ONNX Runtime leaves a number in the home and reports its use, unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    __version__: str
    from ageinfer.crop.cut import crop_face, crop_faces
    from ageinfer.crop.spec import CropSpec
    from ageinfer.detect import DlibCnn, DlibHog, FaceDetector, YuNet, open_detector
    from ageinfer.detect.looking import Looking
    from ageinfer.engine.estimator import AgeEstimator
    from ageinfer.errors import AgeError, AgeInferError
    from ageinfer.people import Audience, Band, Crossing, Line, People, Person, Places, Window, Zone
    from ageinfer.pipeline import Pipeline, VideoTracker
    from ageinfer.sinks import (
        AudienceSink,
        CsvSink,
        FaceSnapshots,
        FolderSink,
        JsonlSink,
        PeopleSink,
        PictureSink,
        Sink,
        VideoSink,
        WindowSink,
        record_schema,
    )
    from ageinfer.sinks.draw import AnnotatedFrame, blur_faces, draw_faces
    from ageinfer.sources import Source, open_camera, open_source, open_sources, read_picture
    from ageinfer.types import Age, Detection, Face, Frame, FrameResult
    from ageinfer.workers import Workers

_HOMES = {
    "crop.cut": ("crop_face", "crop_faces"),
    "crop.spec": ("CropSpec",),
    "detect": ("DlibCnn", "DlibHog", "FaceDetector", "YuNet", "open_detector"),
    "detect.looking": ("Looking",),
    "engine.estimator": ("AgeEstimator",),
    "errors": ("AgeError", "AgeInferError"),
    "people": ("Audience", "Band", "Crossing", "Line", "People", "Person", "Places", "Window", "Zone"),
    "pipeline": ("Pipeline", "VideoTracker"),
    "sinks": (
        "AudienceSink", "CsvSink", "FaceSnapshots", "FolderSink", "JsonlSink", "PeopleSink", "PictureSink", "Sink",
        "VideoSink", "WindowSink", "record_schema",
    ),
    "sinks.draw": ("AnnotatedFrame", "blur_faces", "draw_faces"),
    "sources": ("Source", "open_camera", "open_source", "open_sources", "read_picture"),
    "types": ("Age", "Detection", "Face", "Frame", "FrameResult"),
    "workers": ("Workers",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Age", "AgeError", "AgeEstimator", "AgeInferError", "AnnotatedFrame", "Audience", "AudienceSink", "Band",
    "CropSpec", "Crossing", "CsvSink", "Detection", "DlibCnn", "DlibHog", "Face", "FaceDetector", "FaceSnapshots",
    "FolderSink", "Frame", "FrameResult", "JsonlSink", "Line", "Looking", "People", "PeopleSink", "Person",
    "PictureSink", "Pipeline", "Places", "Sink", "Source", "VideoSink", "VideoTracker", "Window", "WindowSink",
    "Workers", "YuNet", "Zone", "blur_faces", "crop_face", "crop_faces", "draw_faces", "open_camera", "open_detector",
    "open_source", "open_sources", "read_picture", "record_schema",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ageinfer' has no attribute {name!r}")
    return getattr(import_module(f"ageinfer.{_HOME_OF[name]}"), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # takes longer than all the rest of this module

    try:
        return version("ageinfer")
    except PackageNotFoundError:  # used from a checkout without an installation
        return "0+unknown"
