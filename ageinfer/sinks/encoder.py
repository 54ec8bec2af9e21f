"""Encodes films by FFmpeg (package av): each picture at its own time, the sound of the source copied as it is."""

import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from ageinfer.types import Image

# Of time stamps, in a second: fine enough for any rate, and coarse enough for MP4 to hold gaps of many hours.
_TICKS = 30_000
_SET_BACK_S = 0.5  # of the stamps of a sound: no rounding, its clock was set
_LONGEST_STEP_S = 10.0  # of a transport stream, whose clock was set where it is longer
_HD_LINES = 720
_WAITING_FRAMES = 4  # before the encoder's thread
_H273 = {Colorspace.ITU709: 1, Colorspace.ITU601: 6}  # numbers of matrix, primaries and transfer


@dataclass(frozen=True, slots=True)
class Codec:
    """How pictures are encoded.

    Attributes:
        name: as people call it.
        encoder: as FFmpeg calls it.
        options: of the encoder.
        pixels: format of its pixels.
        largest_side: that it can encode, in pixels.
        even: whether its colours are stored for squares of two pixels.
    """

    name: str
    encoder: str
    options: dict[str, str]
    pixels: str = "yuv420p"
    largest_side: int = 16_384

    @property
    def works(self) -> bool:
        """Whether this FFmpeg has the encoder."""
        try:
            av.Codec(self.encoder, "w")
        except (av.error.FFmpegError, ValueError):
            return False
        return True


CODECS = {
    "h264": Codec("H.264", "libx264", {"preset": "ultrafast", "crf": "20", "g": "100"}),
    "hevc": Codec("H.265", "libx265", {"preset": "ultrafast", "crf": "22", "x265-params": "log-level=none"}),
    "vp9": Codec("VP9", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0", "row-mt": "1"}),
    "av1": Codec("AV1", "libsvtav1", {"preset": "12", "crf": "35"}),
    "mpeg4": Codec("MPEG-4", "mpeg4", {"q": "3"}, largest_side=8190),
    "mjpeg": Codec("Motion JPEG", "mjpeg", {"q": "3"}, pixels="yuvj420p", largest_side=65_500),
}
# What each container holds, the best first.
CONTAINER_CODECS = {
    ".mp4": ("h264", "mpeg4", "hevc", "av1", "vp9"),
    ".mov": ("h264", "mpeg4", "hevc", "mjpeg"),
    ".mkv": ("h264", "mpeg4", "hevc", "av1", "vp9", "mjpeg"),
    ".webm": ("vp9", "av1"),
    ".avi": ("mjpeg", "mpeg4"),
}
# Of the containers. Players over a network want the index of a film at its beginning.
_INDEX_FIRST = {"movflags": "faststart"}
# What is written of a live source cannot be had again: it can be read up to the last second, whatever ends the run. The
# index comes at the end, so that completing it takes no time, however long it is.
_READABLE_EARLY = {"movflags": "hybrid_fragmented", "frag_duration": "1000000", "flush_packets": "1"}
_SHORT_CLUSTERS = {"cluster_time_limit": "1000", "flush_packets": "1"}
_MUXER_OPTIONS = {
    ".mp4": (_INDEX_FIRST, _READABLE_EARLY),
    ".mov": (_INDEX_FIRST, _READABLE_EARLY),
    ".mkv": ({}, _SHORT_CLUSTERS),
    ".webm": ({}, _SHORT_CLUSTERS),
    ".avi": ({}, {"flush_packets": "1"}),
}


class Encoder:
    """Writes a film; pictures are encoded in a thread of its own.

    Args:
        file: for the film; the suffix of its name is one of `CONTAINER_CODECS`. The caller closes it.
        codec: of the pictures.
        size: width and height of the pictures, in pixels; even where the codec needs it.
        fps: frames a second, about.
        sound: the film whose sound is copied; None: none is.
        sound_from_s: time in that film of the first picture, in seconds.
        live: whether what is written so far must be readable at any time, whatever ends the run.

    Attributes:
        left_out: why sound of the film is left out; empty where all of it is copied, or there is none.

    Raises:
        av.FFmpegError: the film cannot be begun.
        OSError: the file cannot be written.
    """

    def __init__(
        self, file: FileIO, codec: Codec, size: tuple[int, int], fps: float, *, sound: Path | None = None,
        sound_from_s: float = 0.0, live: bool = False,
    ) -> None:  # fmt: skip
        self.left_out = ""
        path = Path(file.name).absolute()
        options = _MUXER_OPTIONS[path.suffix.lower()][live]
        self._container: OutputContainer = av.open(file, "w", options=options)
        self._constant = path.suffix.lower() == ".avi"  # which has no time stamps, only a rate
        rate = Fraction(fps).limit_denominator(1001)
        self._tick = 1 / rate if self._constant else Fraction(1, _TICKS)
        self._frame_ticks = max(1, round(1 / (rate * self._tick)))
        stream: Any = self._container.add_stream(codec.encoder, rate=rate, options=dict(codec.options))
        stream.width, stream.height, stream.pix_fmt = *size, codec.pixels
        stream.time_base = self._tick
        context = stream.codec_context
        context.time_base = self._tick
        context.flags |= Flags.frame_duration
        self._colours = Colorspace.ITU709 if size[1] >= _HD_LINES else Colorspace.ITU601
        self._range = ColorRange.JPEG if codec.pixels.startswith("yuvj") else ColorRange.MPEG
        number = _H273[self._colours]
        context.colorspace, context.color_primaries, context.color_trc = number, number, number
        context.color_range = self._range
        self._pixels = codec.pixels
        self._stream = stream
        self._reformatter = VideoReformatter()
        self._sound = _Sound(sound, self._container, sound_from_s) if sound else None
        if self._sound:
            self.left_out = self._sound.left_out
        with same_priority():
            self._container.start_encoding()
        self._last_tick = -1
        self._failure: BaseException | None = None
        self._waiting: queue.Queue[tuple[Image, float] | None] = queue.Queue(_WAITING_FRAMES)
        self._thread = threading.Thread(target=self._work, name=f"encoding {path.name}", daemon=True)
        self._thread.start()

    def write(self, image: Image, time_s: float) -> None:
        """Takes the next picture.

        Args:
            image: uint8 BGR of the film's size; must not be changed afterwards.
            time_s: since the first picture, in seconds.

        Raises:
            av.FFmpegError: an earlier picture could not be encoded.
            OSError: it could not be written.
        """
        self._put((image, time_s))

    def close(self, *, until_s: float | None = None) -> None:
        """Completes the film.

        Args:
            until_s: where the sound ends; None: where that of its film does.

        Raises:
            av.FFmpegError: it cannot be completed.
            OSError: likewise.
        """
        with suppress(BaseException):  # it is raised below
            self._put(None)
        self._thread.join()
        try:
            if self._failure is None:
                self._container.mux(self._stream.encode())
                if self._sound:
                    self._sound.copy(until_s)
        finally:
            self._container.close()
            if self._sound:
                self._sound.close()
        if self._failure is not None:
            raise self._failure

    def _put(self, item: tuple[Image, float] | None) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            with suppress(queue.Full):
                self._waiting.put(item, timeout=0.5)
                return

    def _work(self) -> None:
        try:
            while (item := self._waiting.get()) is not None:
                self._encode(*item)
        except BaseException as error:  # goes to the one who writes
            self._failure = error

    def _encode(self, image: Image, time_s: float) -> None:
        tick = round(time_s / self._tick)
        if self._constant and tick <= self._last_tick:  # two pictures in one slot: the first stays
            return
        tick = self._last_tick = max(tick, self._last_tick + 1)
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format="bgr24"), format=self._pixels,
            src_colorspace=self._colours, dst_colorspace=self._colours,
            src_color_range=ColorRange.JPEG, dst_color_range=self._range,
        )  # fmt: skip
        frame.pts, frame.time_base, frame.duration = tick, self._tick, self._frame_ticks
        self._container.mux(self._stream.encode(frame))
        if self._sound:
            self._sound.copy(time_s)


@contextmanager
def same_priority() -> Iterator[None]:
    """Gives all threads of this process the scheduling that they had.

    Where the system lets it, SVT-AV1 gives the whole process that of a real-time program, before everything else on
    the machine. Each process that is started later has it too.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    if os.sched_getscheduler(0) != policy:
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(int(thread.name), policy, parameters)


class _Clock:
    """Lets the time of a sound go on where its film sets its clock anew, as joined transport streams do."""

    def __init__(self, from_s: float, *, jumps: bool) -> None:
        self.ends: int | None = None  # of what was heard so far
        self._from_s = from_s
        self._jumps = jumps
        self._shift: int | None = None

    def at(self, stamp: int, base: Fraction) -> int:
        """The time of the packet with this stamp since the first picture, both in units of ``base``."""
        if self._shift is None:
            self._shift = round(self._from_s / base)
        if self.ends is not None:
            step_s = (stamp - self._shift - self.ends) * base
            if step_s < -_SET_BACK_S or (self._jumps and step_s > _LONGEST_STEP_S):
                self._shift = stamp - self.ends
        return stamp - self._shift


class _Sound:
    """Copies the sound of a film into another one, packet by packet, without encoding it again."""

    def __init__(self, path: Path, target: OutputContainer, from_s: float) -> None:
        self.left_out = ""
        self._source: InputContainer = av.open(f"file:{path.absolute()}", options={"protocol_whitelist": "file"})
        self._streams: dict[int, Any] = {}
        self._clocks: dict[int, _Clock] = {}
        jumps = "mpegts" in self._source.format.name
        for stream in self._source.streams.audio:
            try:
                copy = target.add_stream_from_template(stream)
            except (av.FFmpegError, ValueError):
                self.left_out = f"{target.format.name} holds no sound of the kind {stream.codec_context.name}"
                continue
            copy.metadata.update(stream.metadata)  # the language
            copy.disposition = stream.disposition
            self._streams[stream.index] = copy
            self._clocks[stream.index] = _Clock(from_s, jumps=jumps)
        chosen = [s for s in self._source.streams.audio if s.index in self._streams]
        self._packets: Iterator[av.Packet] = iter(self._source.demux(chosen) if chosen else ())
        self._target = target
        self._next: av.Packet | None = None

    def copy(self, until_s: float | None) -> None:
        """Copies what is heard until a time, in seconds since the first picture; None: all."""
        while True:
            if self._next is None:
                try:
                    self._next = next(self._packets, None)
                except av.FFmpegError:  # the sound is damaged from here on
                    self._packets = iter(())
                if self._next is None:
                    return
            packet = self._next
            if packet.dts is None:
                self._next = None
                continue
            base = packet.time_base or Fraction(1, _TICKS)
            clock = self._clocks[packet.stream_index]
            begins = clock.at(packet.dts, base)
            if until_s is not None and begins * base > until_s:
                return
            self._next = None
            clock.ends = begins + max(1, packet.duration or 0)
            shift = packet.dts - begins
            packet.pts, packet.dts = (packet.pts if packet.pts is not None else packet.dts) - shift, begins
            if begins < 0:
                continue
            packet.stream = self._streams[packet.stream_index]
            self._target.mux(packet)

    def close(self) -> None:
        self._source.close()
