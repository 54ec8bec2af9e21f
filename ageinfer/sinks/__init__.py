"""Writes results: records, annotated pictures and videos, pictures of faces, and a window.

Every sink is a context manager. Records are written at once, one whole line each, so that a crash loses none of them.
Pictures and videos are written under a temporary name and get their own name when they are complete.
"""

from typing import TYPE_CHECKING, Any

from ageinfer.sinks.base import Sink, file_identity
from ageinfer.sinks.people import AudienceSink, PeopleSink
from ageinfer.sinks.pictures import FolderSink, PictureSink, write_picture
from ageinfer.sinks.playback import Playback
from ageinfer.sinks.records import CSV_COLUMNS, CsvSink, JsonlSink, csv_rows, record_schema
from ageinfer.sinks.snapshots import FaceSnapshots, view_quality
from ageinfer.sinks.window import WindowSink, display_works

__all__ = [
    "CSV_COLUMNS",
    "AudienceSink",
    "CsvSink",
    "FaceSnapshots",
    "FolderSink",
    "JsonlSink",
    "PeopleSink",
    "PictureSink",
    "Playback",
    "Sink",
    "VideoSink",
    "WindowSink",
    "csv_rows",
    "display_works",
    "file_identity",
    "record_schema",
    "view_quality",
    "write_picture",
]  # fmt: skip

if TYPE_CHECKING:
    from ageinfer.sinks.video import VideoSink


def __getattr__(name: str) -> Any:
    if name != "VideoSink":
        raise AttributeError(f"module 'ageinfer.sinks' has no attribute {name!r}")
    from ageinfer.sinks.video import VideoSink  # loads FFmpeg, which pictures have no use for

    return VideoSink
