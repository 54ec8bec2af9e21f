"""Films that tests make themselves: every container, with sound, odd clocks, odd pixels and damage."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ageinfer.sinks.encoder import same_priority

SOUND_RATE = 44_100


def moving_face(portrait, frames, size=(320, 240)):
    """Pictures of a portrait that moves to and fro before grey noise; uint8 BGR."""
    width, height = size
    side = 3 * height // 4
    face = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    for i in range(frames):
        image = np.full((height, width, 3), 110, np.uint8)
        image[: height // 8] += np.random.default_rng(i).integers(0, 40, (height // 8, width, 3), np.uint8)
        x = round((width - side) / 2 * (1 + np.sin(i / 10)))
        image[height - side :, x : x + side] = face
        yield image


def write_film(
    path: Path, images: Iterable, *, fps=25, times: Sequence[float] | None = None, codec="libx264", sound_s=0.0,
    options: dict | None = None, container: dict | None = None, kind: str | None = None, aspect: Fraction | None = None,
    turn: tuple[int, bool] | None = None, colours: tuple[int, int] | None = None, pixels="yuv420p", language="cat",
) -> Path:  # fmt: skip
    """Writes a film.

    Args:
        path: of the film; its suffix is its container.
        images: uint8 BGR.
        fps: frames a second, where there are no times.
        times: of each picture, in seconds.
        codec: encoder of the pictures.
        sound_s: seconds of a tone; 0: no sound.
        options: of the encoder.
        container: of the muxer.
        kind: the muxer, where the suffix does not tell.
        aspect: of a pixel.
        turn: degrees against the clock, and whether mirrored after it, that a player has to turn pictures.
        colours: number of the matrix and of the range (1 limited, 2 full), as H.273 and FFmpeg count them.
        pixels: format of the pixels.
        language: of the sound.
    """
    tick = Fraction(1, 12_800)
    with same_priority(), av.open(str(path), "w", format=kind, options=container or {}) as out:
        images = iter(images)
        first = next(images)
        rate = Fraction(fps).limit_denominator(1001)
        stream = out.add_stream(codec, rate=rate, options=options or ({"preset": "ultrafast", "g": "250"}))
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        matrix = av.video.reformatter.Colorspace.ITU601
        if colours is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colours
            matrix = {1: av.video.reformatter.Colorspace.ITU709}.get(colours[0], matrix)
        if times is not None:
            stream.codec_context.time_base = stream.time_base = tick
        tone = None
        if sound_s:
            tone = out.add_stream(
                "libopus" if path.suffix == ".webm" else "aac", rate=48_000 if path.suffix == ".webm" else SOUND_RATE
            )
            tone.layout = "mono"
            tone.metadata["language"] = language
        for i, image in enumerate([first, *images]):
            full = bool(colours and colours[1] == 2)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
                format=pixels, src_colorspace=matrix, dst_colorspace=matrix, dst_color_range=2 if full else 1,
                src_color_range=2,
            )  # fmt: skip
            frame.pts, frame.time_base = (i, 1 / rate) if times is None else (round(times[i] / tick), tick)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if tone is not None:
            hertz = tone.codec_context.sample_rate
            wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(sound_s * hertz)) / hertz)).astype(np.float32)
            for start in range(0, len(wave), 960):
                sound = av.AudioFrame.from_ndarray(wave[None, start : start + 960], format="flt", layout="mono")
                sound.rate, sound.pts, sound.time_base = hertz, start, Fraction(1, hertz)
                out.mux(tone.encode(sound))
            out.mux(tone.encode())
    return path


def without_reencoding(source: Path, target: Path, *, from_s: float = 0.0, options: dict | None = None) -> Path:
    """Copies the packets of a film from the key frame before a time on, as ``ffmpeg -ss T -i F -c copy`` does.

    What lies before the time keeps a negative time stamp; MP4 leaves it out by an edit list.
    """
    with av.open(str(source)) as film, av.open(str(target), "w", options=options or {}) as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in film.streams}
        for packet in film.demux():
            if packet.dts is None:
                continue
            shift = round(from_s / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = copies[packet.stream_index]
            out.mux(packet)
    return target


def damaged_at(path: Path, target: Path, share: float, count: int) -> Path:
    """A copy of a file in which so many bytes are zero, from a share of its length on."""
    data = bytearray(path.read_bytes())
    begin = round(len(data) * share)
    data[begin : begin + count] = bytes(count)
    target.write_bytes(data)
    return target


def facts(path: Path) -> dict:
    """What a film says of itself, as a player sees it: length of pictures and sound, codec, frames, times."""
    with av.open(str(path)) as film:
        [video] = film.streams.video
        times = [frame.time for frame in film.decode(video)]
        found = {
            "codec": video.codec_context.name, "pixels": video.codec_context.pix_fmt, "frames": len(times),
            "times": times, "size": (video.codec_context.width, video.codec_context.height),
        }  # fmt: skip
    with av.open(str(path)) as film:
        sounds = []
        for sound in film.streams.audio:
            ends = [float((p.pts + (p.duration or 0)) * p.time_base) for p in film.demux(sound) if p.pts is not None]
            sounds.append((sound.codec_context.name, sound.language, max(ends, default=0.0)))
            film.seek(0)
        found["sounds"] = sounds
        found["length_s"] = (film.duration or 0) / av.time_base
    return found
