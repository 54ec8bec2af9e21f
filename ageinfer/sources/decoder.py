"""Decodes films by FFmpeg (package av): upright pictures with square pixels, each at its own time.

OpenCV's capture hides what a film says of itself: time stamps, the shape of its pixels, damage and its real end.
"""

import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from ageinfer.engine.cores import usable_cores
from ageinfer.errors import SourceError
from ageinfer.images import cv2
from ageinfer.sources.base import sensible_fps
from ageinfer.sources.boxes import AVIF_BRANDS, HEIC_BRANDS
from ageinfer.sources.decoding import refuse_large
from ageinfer.sources.formats import MOST_PIXELS
from ageinfer.sources.pictures import MOTION_JPEG_SUFFIXES
from ageinfer.types import DEFAULT_FPS, Image

# What a file may be. Playlists, descriptions of sessions and lists of files are left out: they would make FFmpeg read
# other files, or other hosts.
_FILM_FORMATS = (
    "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "gif", "apng", "h264", "hevc", "m4v", "obu",
    "ivf", "mjpeg", "mpjpeg", "ogg", "asf", "dv", "mxf", "rm", "amv", "nut", "yuv4mpegpipe", "wtv", "vc1",
)  # fmt: skip
_STREAM_FORMATS = ("rtsp", "live_flv")
# By what else FFmpeg may open the parts of what is at an address: nothing that reads files.
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,rtcp,udp,tcp", "rtsps": "rtsps,rtp,rtcp,srtp,udp,tcp,tls", "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp", "http": "http,tcp", "https": "https,tls,tcp", "udp": "udp", "tcp": "tcp",
    "srt": "srt,udp", "rtp": "rtp,rtcp,udp", "mms": "mms,mmsh,mmst,http,tcp",
}  # fmt: skip
# Frames of at most so many pixels are decoded by one thread, which is fast enough and leaves the other cores to the
# networks. Several threads of FFmpeg take more processor time together, for no gain at that size.
_ONE_THREAD_PIXELS = 1280 * 720
# By the numbers of ITU-T H.273, which decoders pass on; 2 is "not said", for which FFmpeg and OpenCV take BT.601.
_MATRICES = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601, 7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020, 10: Colorspace.BT2020,
}  # fmt: skip
_LARGEST_ASPECT = 4.0  # of a pixel; more is a mistake
# A time stamp that is so much later than the one before means a clock that was set, in formats whose clocks are.
_LONGEST_STEP_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One picture of a film.

    Attributes:
        image: uint8 BGR ``[height, width, 3]``, upright, with square pixels.
        time_s: seconds since the first picture; grows from picture to picture.
        damaged: data of it, or of a picture that it was made from, are missing or broken.
    """

    image: Image
    time_s: float
    damaged: bool


class Decoder:
    """Reads the pictures of a film or a stream in order; made by `open_file` or `open_address`.

    Attributes:
        file: of the film; None where it lies at an address.
        fps: frames a second as the film says; None where it does not.
        frame_count: how many are announced; None where that is unknown.
        ends: whether it has an end: a recording, and not a stream that is going on.
        cut_off: the film or its last frame ends before its end (known after the last picture).
        begins_s: time stamp of the first picture in the film, in seconds (known after it).
        lost: pieces of the film so far of which no picture could be made.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, *, file: Path | None, live: bool) -> None:
        self.cut_off = False
        self.begins_s = 0.0
        self.lost = 0
        self._container, self._stream, self.file = container, stream, file
        context = stream.codec_context
        one_thread = context.width * context.height <= _ONE_THREAD_PIXELS
        # Threads that each decode a frame of their own would hold frames of a stream back.
        stream.thread_type = "SLICE" if one_thread or live else "AUTO"
        context.thread_count = 1 if one_thread else max(1, int(usable_cores()))
        # This decoder fills damaged parts with grey and says nothing, unless it is told to give such frames up. (Some
        # cameras send JPEG that is never quite right; live, that must do.)
        strict = {"err_detect": "explode"} if context.name == "mjpeg" and not live else {}
        context.options = {"max_pixels": str(MOST_PIXELS), **strict}  # a frame may be larger than it was announced
        self.fps = sensible_fps(float(stream.average_rate or stream.guessed_rate or 0))
        self.frame_count = _announced(stream, container, self.fps)
        self.ends = file is not None or bool(container.duration and container.duration > 0) or container.size > 0
        self._clock = _Clock(1 / (self.fps or DEFAULT_FPS), jumps="mpegts" in container.format.name)
        self._picture = _Picture(stream)

    @property
    def index_may_lie_behind(self) -> bool:
        """Whether the film is of a kind (MP4, MOV) whose index may lie behind the pictures."""
        return "mp4" in self._container.format.name.split(",")

    @property
    def is_picture(self) -> bool:
        """Whether it is an AVIF or HEIC, of which FFmpeg would give a tile or a preview."""
        return self._container.metadata.get("major_brand", "").encode() in AVIF_BRANDS | HEIC_BRANDS

    @classmethod
    def open_file(cls, path: Path) -> "Decoder":
        """Opens a film that lies in a file.

        Raises:
            SourceError: it cannot be opened, or holds no pictures.
        """
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(_FILM_FORMATS)}
        try:
            # With its folder, because FFmpeg takes a name like "tcp:1.mp4" for an address.
            container = av.open(
                f"file:{path.absolute()}", options=options, metadata_errors="ignore",
                format="mjpeg" if path.suffix.lower() in MOTION_JPEG_SUFFIXES else None,
            )  # fmt: skip
        except (av.FFmpegError, ValueError, UnicodeError) as error:
            raise SourceError(f"{str(path)!a}: {_why_not(path, error)}") from error
        return cls(container, _pictures_of(container, str(path)), file=path, live=False)

    @classmethod
    def open_address(cls, address: str, name: str, *, open_s: float, read_s: float) -> "Decoder":
        """Opens what is at an address, by the protocol of that address alone.

        Args:
            address: checked by `ageinfer.sources.address.check_address`.
            name: how messages call it.
            open_s: seconds that opening may take.
            read_s: seconds that reading a packet may take.

        Raises:
            SourceError: it holds no pictures.
            av.FFmpegError: it cannot be opened.
        """
        scheme = address.partition("://")[0]
        options = {
            "protocol_whitelist": _PROTOCOLS[scheme],
            "format_whitelist": ",".join((*_FILM_FORMATS, *_STREAM_FORMATS)),
        }
        if scheme in ("rtsp", "rtsps"):
            options["rtsp_transport"] = "tcp"
        container = av.open(address, options=options, timeout=(open_s, read_s), metadata_errors="ignore")
        return cls(container, _pictures_of(container, name), file=None, live=True)

    def __iter__(self) -> Iterator[Decoded]:
        harmed = last_packet_bad = last_frame_bad = False
        first = True
        for packet in self._packets():
            if not packet.size and packet.dts is not None:  # in Theora: the picture before stays
                continue
            try:
                frames = packet.decode()
                if packet.size:  # the last one is empty: it asks for what the decoder has kept back
                    last_packet_bad = packet.is_corrupt
            except av.FFmpegError:
                frames, harmed, last_packet_bad = [], True, True
                self.lost += 1
            for frame in frames:
                # What was lost comes back with the next picture that needs no other one.
                harmed = frame.is_corrupt or (harmed and not frame.key_frame)
                last_frame_bad = frame.is_corrupt
                if first:
                    first, self.begins_s = False, frame.time or 0.0
                yield Decoded(self._picture.of(frame), self._clock.at(frame.time), harmed)
        ends_badly = last_packet_bad or last_frame_bad
        self.cut_off = self.cut_off or ends_badly or _lacks_its_end(self.file, self._container, self._stream)

    def _packets(self) -> Iterator[av.Packet]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                yield next(packets)
            except StopIteration:
                return
            except av.FFmpegError:  # of the container: nothing more can be found in it
                self.cut_off = True
                return

    def gives_nothing(self) -> bool:
        """Whether not one packet of pictures can be read; afterwards the film has to be opened again.

        A film whose index lies at its end, from a server that sends no part of a file but all of it, opens and then
        gives nothing.
        """
        return next((False for packet in self._packets() if packet.size), True)

    def close(self) -> None:
        """Lets go of the file; not while another thread iterates."""
        self._container.close()


class _Clock:
    """Turns the time stamps of a film into seconds that grow from picture to picture, from 0 on."""

    def __init__(self, frame_s: float, *, jumps: bool) -> None:
        self._frame_s = frame_s
        self._jumps = jumps
        self._last_s = -math.inf
        self._origin_s: float | None = None

    def at(self, stamp_s: float | None) -> float:
        """The time of the next picture, whose stamp is this one, or None."""
        first = self._last_s == -math.inf
        next_s = 0.0 if first else self._last_s + self._frame_s
        time_s = next_s
        if stamp_s is not None:
            if self._origin_s is None:
                self._origin_s = stamp_s - next_s
            time_s = stamp_s - self._origin_s
            step_s = time_s - self._last_s
            if step_s < -2 * self._frame_s or (self._jumps and step_s > _LONGEST_STEP_S and not first):
                self._origin_s, time_s = stamp_s - next_s, next_s  # the clock was set
            elif step_s <= 0:
                time_s = self._last_s + 1e-3
        self._last_s = time_s
        return time_s


class _Picture:
    """Makes decoded frames into upright BGR pictures with square pixels."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._reformatter = VideoReformatter()  # kept: a new one for each frame costs more than the conversion
        self._matrices: dict[int, tuple[int, ...] | None] = {}

    def of(self, frame: av.VideoFrame) -> Image:
        width, height = self._square(frame.width, frame.height)
        colours = _MATRICES.get(int(frame.colorspace), Colorspace.ITU601)
        full_range = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        scaled = (width, height) != (frame.width, frame.height)
        converted = self._reformatter.reformat(
            frame, width, height, "bgr24", src_colorspace=colours, dst_colorspace=colours,
            src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BILINEAR if scaled else Interpolation.FAST_BILINEAR,
        )  # fmt: skip
        image: Any = converted.to_ndarray()
        return _upright(image, self._matrix(frame))

    def _matrix(self, frame: av.VideoFrame) -> tuple[int, ...] | None:
        """The display matrix of a frame; of all frames that are turned by as many degrees, that of the first one.

        In PyAV a frame and its side data hold each other, so that the pixels of a frame of which they were asked for
        stay in memory until Python collects such circles: hundreds of megabytes of a large film.
        """
        if frame.rotation not in self._matrices:
            self._matrices[frame.rotation] = _display_matrix(frame)
        return self._matrices[frame.rotation]

    def _square(self, width: int, height: int) -> tuple[int, int]:
        """The size in square pixels: the side in which a pixel is longer grows."""
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio or Fraction(1)
        if aspect == 1 or not 1 / _LARGEST_ASPECT <= aspect <= _LARGEST_ASPECT:
            return width, height
        square = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        return square if square[0] * square[1] <= MOST_PIXELS else (width, height)


def _upright(image: Image, matrix: tuple[int, ...] | None) -> Image:
    """Turns and mirrors a picture as a display matrix says (ISO/IEC 14496-12, 6.2.2), by quarter turns."""
    if matrix is None:
        return image
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a < 0, d < 0
    else:
        image = cv2.transpose(image)
        across, down = c < 0, b < 0
    if across and down:
        return cv2.rotate(image, cv2.ROTATE_180)
    if across or down:
        return cv2.flip(image, 1 if across else 0)
    return image


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    data: Any
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return struct.unpack("=9i", bytes(data)[:36])
    return None


def _pictures_of(container: InputContainer, name: str) -> VideoStream:
    """The first stream of moving pictures: not the cover of a song, nor a preview.

    Raises:
        SourceError: there is none, or its pictures are too large.
    """
    covers = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    streams = [s for s in container.streams.video if s.codec_context is not None and not s.disposition & covers]
    if not streams:
        container.close()
        raise SourceError(f"{name}: holds no moving pictures; give a picture or a video")
    chosen = min(streams, key=lambda s: not s.disposition & Disposition.default)
    try:
        refuse_large(name, chosen.codec_context.width, chosen.codec_context.height)
    except SourceError:
        container.close()
        raise
    return chosen


def _announced(stream: VideoStream, container: InputContainer, fps: float | None) -> int | None:
    """How many frames a film announces, for the progress alone: headers may say anything."""
    count = float(stream.frames)
    if not count and fps and container.duration:
        count = container.duration / av.time_base * fps
    return round(count) if 0 < count < 1e9 else None


def _lacks_its_end(path: Path | None, container: InputContainer, stream: VideoStream) -> bool:
    """Whether a container says that it is longer than the file is; False for what is no file."""
    if path is None:
        return False
    with suppress(OSError):  # deleted while it was read; its frames are all there
        size, name = path.stat().st_size, container.format.name
        with path.open("rb") as file:
            if name == "gif":
                file.seek(-min(size, 64), 2)
                return file.read().rstrip(b"\0")[-1:] != b"\x3b"
            head = file.read(128)
            if "matroska" in name:
                end = _end_of_matroska(head)
                return end is not None and end > size
            if name == "avi" and head[:4] == b"RIFF":
                return int.from_bytes(head[4:8], "little") + 8 > size
        return any(entry.pos + entry.size > size for entry in stream.index_entries)
    return False


def _end_of_matroska(head: bytes) -> int | None:
    """Where the segment of a Matroska or WebM file says that it ends; None where it leaves that open.

    An element is its number, its length and its content; the first one is the EBML header, the second the segment
    (RFC 8794, RFC 9559).
    """
    at = 0
    for _ in range(2):
        at += _varint_bytes(head, at)
        width = _varint_bytes(head, at)
        field = head[at : at + width]
        if len(field) < width or width == 0:
            return None
        length = int.from_bytes(field) & ((1 << 7 * width) - 1)
        if length == (1 << 7 * width) - 1:  # unknown, as in what is streamed
            return None
        at += width + length
    return at


def _varint_bytes(head: bytes, at: int) -> int:
    """How many bytes a number of EBML has, told by the leading zeros of the first; 0: it is none."""
    first = head[at] if at < len(head) else 0
    return 9 - first.bit_length() if first else 0


def _why_not(path: Path, error: Exception) -> str:
    """Why a film cannot be opened, and the remedy."""
    if isinstance(error, av.FileNotFoundError):
        return "no such file or folder; check the path"
    if isinstance(error, av.PermissionError):
        return "cannot be read; check its permissions"
    with suppress(OSError), path.open("rb") as file:
        if file.read(12)[4:8] == b"ftyp":  # MP4 and MOV often have their index at the end
            return "the index of this video is missing: it is cut off; copy or record it again"
    return "neither a picture nor a video that can be decoded; convert it to JPEG or MP4"
