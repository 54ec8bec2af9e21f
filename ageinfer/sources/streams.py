"""Opens network streams and GStreamer pipelines."""

import re
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ageinfer.errors import SourceError
from ageinfer.images import cv2
from ageinfer.sources.address import check_address, pipeline_name, redacted
from ageinfer.sources.base import Source
from ageinfer.sources.live import LiveSource
from ageinfer.sources.pictures import open_picture
from ageinfer.sources.probe import NO_ANSWER, check_reachable, explain, fetch, picture_at

if TYPE_CHECKING:
    from ageinfer.sources.decoder import Decoder

_OPEN_S = _READ_S = 10.0
_CHECK = "check the network, and that the stream is on"


def open_stream(
    address: str, *, stall_s: float = 5.0, reconnect_for_s: float | None = 60.0, open_s: float = 15.0
) -> Source:
    """Opens the stream or the video at a network address.

    A video over HTTP that announces its length, such as an MP4 file, becomes a `VideoSource`, which gives every frame.
    Everything else becomes a `LiveSource`, which gives the newest frame.

    Args:
        address: the address; its scheme is rtsp, rtsps, rtmp, http, https, udp, tcp, srt or another that FFmpeg reads.
            It may hold a user name and a password. Messages and records never show them.
        stall_s: the stream counts as lost after this many seconds without a frame.
        reconnect_for_s: a lost stream is opened again and again for this many seconds. 0: never; None: for ever.
        open_s: opening the stream may take this many seconds.

    Raises:
        SourceError: the stream cannot be opened.
    """
    address = check_address(address.strip())
    name = redacted(address)
    live = partial(LiveSource, name, stall_s=stall_s, reconnect_for_s=reconnect_for_s, open_s=open_s, check=_CHECK)
    if not address.startswith("http"):
        return live(partial(_open, address))
    try:
        capture = _in_time(partial(_open, address), open_s, name)
    except SourceError as error:  # a single picture is no film to FFmpeg
        picture = None if str(error).endswith(NO_ANSWER) else picture_at(address)
        if picture is None:
            raise
        return open_picture(name, picture)
    if capture.decoder.is_picture and (picture := picture_at(address)) is not None:
        capture.release()
        return open_picture(name, picture)
    if capture.decoder.ends:
        return _recording(address, name, capture.decoder)
    opened = [capture]
    return live(lambda: opened.pop() if opened else _open(address))


def _recording(address: str, name: str, decoder: "Decoder") -> Source:
    """A video file that lies at an address; fetched whole where it cannot be read as it comes."""
    from ageinfer.sources.decoder import Decoder
    from ageinfer.sources.video import VideoSource

    if not decoder.index_may_lie_behind:
        return VideoSource(name, decoder)
    nothing = decoder.gives_nothing()
    decoder.close()
    if not nothing:
        return VideoSource(name, _open(address).decoder)
    folder = tempfile.TemporaryDirectory(prefix="ageinfer-")  # is removed with the source
    path = Path(folder.name, "film.mp4")
    fetch(address, path)
    source = VideoSource(name, Decoder.open_file(path))
    source.kept = folder
    return source


def open_gstreamer(pipeline: str, *, stall_s: float = 5.0, reconnect_for_s: float | None = 60.0) -> Source:
    """Opens a GStreamer pipeline, such as ``v4l2src ! videoconvert ! appsink``.

    Args:
        pipeline: the text of the pipeline; it must end in ``appsink``.
        stall_s: see `open_stream`.
        reconnect_for_s: see `open_stream`.

    Raises:
        SourceError: OpenCV is built without GStreamer, or the pipeline does not run.
    """
    name = pipeline_name(pipeline)
    if not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        raise SourceError(
            f"{name}: this OpenCV is built without GStreamer, as all its wheels are; use the OpenCV of your system "
            "(apt-get install python3-opencv), or give an rtsp:// address or a /dev/video device instead"
        )
    check = "check it with gst-launch-1.0; it must end in appsink"
    return LiveSource(
        name, partial(_open_gstreamer, pipeline, name), stall_s=stall_s, reconnect_for_s=reconnect_for_s, check=check
    )


class _StreamCapture:
    """A stream that FFmpeg decodes, behind the methods of `cv2.VideoCapture` that `LiveSource` asks for."""

    def __init__(self, decoder: "Decoder") -> None:
        self.decoder = decoder
        self._pictures = iter(decoder)

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, _: int) -> float:
        """Returns the frame rate, the only property that is asked for."""
        return self.decoder.fps or 0.0

    def read(self) -> tuple[bool, Any]:
        """Reads the next whole picture; a damaged one is no picture of what is there."""
        for picture in self._pictures:
            if not picture.damaged:
                return True, picture.image
        return False, None

    def release(self) -> None:
        self.decoder.close()


def _open(address: str) -> _StreamCapture:
    import av  # with FFmpeg, which cameras and pictures have no use for

    from ageinfer.sources.decoder import Decoder

    check_reachable(address)
    name = redacted(address)
    with suppress(av.FFmpegError, ValueError):  # whose text may hold the address
        return _StreamCapture(Decoder.open_address(address, name, open_s=_OPEN_S, read_s=_READ_S))
    raise SourceError(f"{name}: cannot be opened: {explain(address)}")


def _open_gstreamer(pipeline: str, name: str) -> Any:
    try:
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if capture.isOpened():
            return capture
    except cv2.error:  # its text holds the pipeline with its passwords
        pass
    raise SourceError(f"{name}: this pipeline does not run; check it with gst-launch-1.0, and end it in appsink")


def _in_time(open_capture: Callable[[], Any], seconds: float, name: str) -> Any:
    """Opens a capture in a thread and stops waiting for it after some seconds.

    Raises:
        SourceError: the capture cannot be opened, or not in time.
    """
    done = threading.Condition()
    outcome: list[Any] = []
    abandoned = False

    def work() -> None:
        try:
            result = open_capture()
        except SourceError as error:
            result = error
        with done:
            outcome.append(result)
            done.notify_all()
            if abandoned and not isinstance(result, SourceError):
                result.release()

    threading.Thread(target=work, name=f"opening {name}", daemon=True).start()
    with done:
        try:
            done.wait_for(lambda: outcome, seconds)
        finally:
            abandoned = not outcome
    if not outcome:
        raise SourceError(f"{name}: no answer within {seconds:g} s; {_CHECK}")
    if isinstance(outcome[0], SourceError):
        raise outcome[0]
    return outcome[0]
