"""Writes results: records, annotated pictures and videos, pictures of faces, and a window.

Every sink is a context manager. Records are written at once, one whole line each, so that a crash loses none of them.
Pictures and videos are written under a temporary name and get their own name when they are complete.
"""

from ageinfer.sinks.base import Sink, file_identity
from ageinfer.sinks.pictures import FolderSink, PictureSink, write_picture
from ageinfer.sinks.records import CSV_COLUMNS, CsvSink, JsonlSink, csv_rows, record_schema
from ageinfer.sinks.snapshots import FaceSnapshots, view_quality
from ageinfer.sinks.video import VIDEO_CODECS, VideoSink, codec_problem
from ageinfer.sinks.window import WindowSink, display_works

__all__ = [
    "CSV_COLUMNS", "VIDEO_CODECS", "CsvSink", "FaceSnapshots", "FolderSink", "JsonlSink", "PictureSink",
    "Sink", "VideoSink", "WindowSink", "codec_problem", "csv_rows", "display_works", "file_identity", "record_schema",
    "view_quality", "write_picture",
]  # fmt: skip
