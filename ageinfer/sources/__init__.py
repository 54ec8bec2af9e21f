"""Opens pictures, folders, videos, cameras and streams as sources of frames."""

import glob
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ageinfer.errors import SourceError
from ageinfer.sources.address import is_address, is_live, name_of, redacted
from ageinfer.sources.animation import AnimationSource
from ageinfer.sources.base import Source
from ageinfer.sources.camera import open_camera, open_device
from ageinfer.sources.decoding import read_picture, refuse_odd_files
from ageinfer.sources.formats import is_animated_png, looks_like_picture
from ageinfer.sources.group import LiveGroup
from ageinfer.sources.live import LiveSource
from ageinfer.sources.pictures import (
    MOTION_JPEG_SUFFIXES,
    PICTURE_SUFFIXES,
    FolderSource,
    PictureListSource,
    PictureSource,
    begins,
    open_pattern,
    open_picture,
    open_standard_input,
)
from ageinfer.sources.sequence import SequenceSource
from ageinfer.sources.streams import open_gstreamer, open_stream

if TYPE_CHECKING:
    from ageinfer.sources.video import VideoSource

# HLS, FFmpeg's own format, DASH and SDP, as FFmpeg recognises them. A playlist with a null character is still one.
_PLAYLIST = re.compile(rb"\A(#EXTM3U|ffconcat)|<MPD|^c=IN IP", re.IGNORECASE | re.MULTILINE)

__all__ = [
    "PICTURE_SUFFIXES", "FolderSource", "LiveGroup", "LiveSource", "PictureListSource", "PictureSource",
    "SequenceSource", "Source", "VideoSource", "is_live", "name_of", "open_camera", "open_source", "open_sources",
    "read_picture", "redacted",
]  # fmt: skip


def open_source(source: str | Path, *, stall_s: float = 5.0, reconnect_for_s: float | None = 60.0) -> Source:
    """Opens a picture, a folder, a video, a camera or a stream as a source of frames.

    Args:
        source: the path of a picture, a video or a folder of pictures. The content of a file decides what it is, not
            its name. A string may also be ``-`` (paths of pictures are read from standard input), the address of a
            stream, a device such as ``/dev/video0``, a GStreamer pipeline (a text with `` ! `` in it), or a pattern
            such as ``*.jpg``.
        stall_s: a live source counts as lost after this many seconds without a frame.
        reconnect_for_s: a lost source is opened again and again for this many seconds. 0: never; None: for ever.

    Returns:
        The source. Its frames are uint8 BGR.

    Raises:
        SourceError: the source does not exist, is empty or cannot be read, or a folder or a pattern has no picture.

    Example:
        >>> with open_source("samples/astronaut.jpg") as source:
        ...     [frame] = source
        >>> frame.image.shape
        (512, 512, 3)
    """
    if source == "-":
        return open_standard_input()
    if isinstance(source, str) and is_address(source.strip()):
        return open_stream(source, stall_s=stall_s, reconnect_for_s=reconnect_for_s)
    path = Path(source)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return FolderSource(path)
        if stat.S_ISCHR(status.st_mode):
            return open_device(path, stall_s=stall_s, reconnect_for_s=reconnect_for_s)
        refuse_odd_files(path, status.st_mode)
        if status.st_size == 0:
            raise SourceError(f"{path}: the file is empty; copy or record it again")
        head = begins(path, 4096)
    except FileNotFoundError:
        if " ! " in str(source):
            return open_gstreamer(str(source), stall_s=stall_s, reconnect_for_s=reconnect_for_s)
        if glob.has_magic(str(source)):
            return open_pattern(str(source))
        # Redacted, because it may be a mistyped address with a password.
        raise SourceError(f"{redacted(str(path))}: no such file or folder; check the path") from None
    except OSError as error:
        raise SourceError(f"{redacted(str(path))}: cannot be read: {error.strerror}; check its permissions") from error
    except ValueError as error:  # a null character
        raise SourceError(f"{str(path)!a}: not a path ({error}); check it") from None
    is_picture = looks_like_picture(head) and not is_animated_png(head)
    if is_picture and path.suffix.lower() not in MOTION_JPEG_SUFFIXES:
        return open_picture(path)
    # FFmpeg would draw a text file, letter by letter, and follow a playlist to other files.
    is_text = b"\0" not in head and not head.startswith((b"YUV4MPEG2", b"\xff\xd8\xff"))
    if is_text or _PLAYLIST.search(head):
        raise SourceError(f"{path}: neither a picture nor a video; give a picture, a video or a folder of pictures")
    from ageinfer.sources.video import VideoSource  # loads FFmpeg, which pictures have no use for

    return VideoSource(path)


def open_sources(sources: Sequence[str | Path], *, reconnect_for_s: float | None = 60.0) -> Source:
    """Opens several pictures, folders of pictures and films, in the order given.

    Args:
        sources: paths, as a shell makes them of a pattern; a single one may be anything that `open_source` takes.
        reconnect_for_s: see `open_source`.

    Returns:
        A `PictureListSource`, or a `SequenceSource` where there are films.

    Raises:
        SourceError: one is missing, or is neither a picture, a folder of pictures nor a film.
    """
    if len(sources) == 1:
        return open_source(sources[0], reconnect_for_s=reconnect_for_s)
    parts: list[str | Path | list[str | Path]] = []
    counts: list[int | None] = []
    for source in sources:
        path = Path(source)
        if not path.is_dir() and not path.is_file():
            raise SourceError(f"{redacted(str(source))}: no such picture, folder or film; give others one by one")
        with open_source(path) as opened:
            files = opened.files if isinstance(opened, PictureListSource) else [path]
            is_film = opened.kind == "video" and not isinstance(opened, AnimationSource)  # of which one frame is read
            counts.append(opened.frame_count if is_film else len(files))
            if is_film:
                parts.append(path)
            elif parts and isinstance(parts[-1], list):
                parts[-1] += files
            else:
                parts.append(list(files))
    if len(parts) == 1 and isinstance(parts[0], list):
        return PictureListSource(f"{len(sources)} sources", parts[0], len(parts[0]))
    known = [count for count in counts if count is not None]
    return SequenceSource(
        [tuple(part) if isinstance(part, list) else part for part in parts],
        open_source,
        sum(known) if len(known) == len(counts) else None,
    )


def __getattr__(name: str) -> Any:
    if name != "VideoSource":
        raise AttributeError(f"module 'ageinfer.sources' has no attribute {name!r}")
    from ageinfer.sources.video import VideoSource

    return VideoSource
