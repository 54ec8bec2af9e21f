"""Network streams, and pipelines of GStreamer."""

import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from ageinfer.errors import SourceError
from ageinfer.images import cv2
from ageinfer.sources.address import check_address, pipeline_name, redacted
from ageinfer.sources.base import Source
from ageinfer.sources.live import LiveSource
from ageinfer.sources.probe import check_reachable, explain
from ageinfer.sources.video import VideoSource

_OPEN_MS = _READ_MS = 10_000
_CHECK = "check the network, and that the stream is on"


def open_stream(
    address: str, *, stall_s: float = 5.0, reconnect_for_s: float | None = 60.0, open_s: float = 15.0
) -> Source:
    """Opens the stream at an address.

    What announces its length over HTTP is a video in a file that happens to lie elsewhere, such as an MP4: every frame
    of it matters and its end is the end. So it becomes a `VideoSource`; all else is live, see `LiveSource`.

    Args:
        address: rtsp, rtsps, rtmp, http, https, udp, tcp, srt and others that FFmpeg reads, with user name and password
            if need be. Messages and records never show these.
        stall_s: as for `LiveSource`.
        reconnect_for_s: as for `LiveSource`.
        open_s: as for `LiveSource`.

    Raises:
        SourceError: it cannot be opened.
    """
    address = check_address(address.strip())
    name = redacted(address)
    live = partial(LiveSource, name, stall_s=stall_s, reconnect_for_s=reconnect_for_s, open_s=open_s, check=_CHECK)
    if not address.startswith("http"):
        return live(partial(_open, address))
    capture = _in_time(partial(_open, address), open_s, name)
    if 0 < capture.get(cv2.CAP_PROP_FRAME_COUNT) < 1e9:
        return VideoSource(name, capture)
    opened = [capture]
    return live(lambda: opened.pop() if opened else _open(address))


def open_pipeline(pipeline: str, *, stall_s: float = 5.0, reconnect_for_s: float | None = 60.0) -> Source:
    """Opens a pipeline of GStreamer, such as ``v4l2src ! videoconvert ! appsink``.

    Raises:
        SourceError: this OpenCV has no GStreamer, or the pipeline does not run.
    """
    name = pipeline_name(pipeline)
    if not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        raise SourceError(
            f"{name}: this OpenCV is built without GStreamer, as all wheels of the package index are; use the OpenCV "
            "of your system (apt-get install python3-opencv), or give an rtsp:// address or a /dev/video device instead"
        )
    check = "check it with gst-launch-1.0; it must end in appsink"
    return LiveSource(
        name, partial(_open_pipeline, pipeline, name), stall_s=stall_s, reconnect_for_s=reconnect_for_s, check=check
    )


def _open(address: str) -> Any:
    # OPENCV_FFMPEG_CAPTURE_OPTIONS is left to the user. OpenCV takes RTSP over TCP unless it is told otherwise there.
    # "fflags;nobuffer", which is often recommended, was measured: it makes a stream no faster, because whatever waits
    # is read at once, but loses the first key frame, so that rubbish is shown until the next one. And as a variable of
    # the whole process it would take the first frames of every video that is opened later.
    check_reachable(address)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_MS]
    try:
        # By FFmpeg alone: the others would take the address for a file and name it, password and all, in their logs.
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)
        if capture.isOpened():
            return capture
    except cv2.error:  # says the address, too
        pass
    raise SourceError(f"{redacted(address)}: cannot be opened: {explain(address)}")


def _open_pipeline(pipeline: str, name: str) -> Any:
    try:
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if capture.isOpened():
            return capture
    except cv2.error:  # says the pipeline, and what passwords it holds
        pass
    raise SourceError(f"{name}: this pipeline does not run; check it with gst-launch-1.0, and end it in appsink")


def _in_time(open_capture: Callable[[], Any], seconds: float, name: str) -> Any:
    """Opens a capture in a thread, which is left alone when it hangs.

    Raises:
        SourceError: it cannot be opened, or not in time.
    """
    done = threading.Condition()
    outcome: list[Any] = []
    abandoned = False

    def run() -> None:
        try:
            result = open_capture()
        except SourceError as error:
            result = error
        with done:
            outcome.append(result)
            done.notify_all()
            if abandoned and not isinstance(result, SourceError):
                result.release()

    threading.Thread(target=run, name=f"opening {name}", daemon=True).start()
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
