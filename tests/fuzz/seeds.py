"""The whole files that are damaged: small ones of every format, made of a portrait in the public domain."""

import io
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from films import write_film
from media_files import encode, exif_of, jpeg_segment, several

from ageinfer.sources import read_picture

_SIDE = 96
ROOT = Path(__file__).parents[2]

# Container (by suffix), encoder and format of the pixels.
_FILMS = (
    (".mp4", "libx264", "yuv420p"), (".mov", "mpeg4", "yuv420p"), (".mkv", "libx264", "yuv420p"),
    (".webm", "libvpx", "yuv420p"), (".avi", "mpeg4", "yuv420p"), (".avi", "mjpeg", "yuvj420p"),
    (".ts", "libx264", "yuv420p"), (".mpg", "mpeg2video", "yuv420p"), (".flv", "flv", "yuv420p"),
    (".h264", "libx264", "yuv420p"), (".m4v", "mpeg4", "yuv420p"), (".mjpeg", "mjpeg", "yuvj420p"),
    (".gif", "gif", "bgr8"), (".apng", "apng", "rgb24"), (".ivf", "libvpx-vp9", "yuv420p"),
    (".ogv", "libtheora", "yuv420p"), (".wmv", "wmv2", "yuv420p"), (".nut", "ffv1", "yuv420p"),
    (".y4m", "wrapped_avframe", "yuv420p"), (".hevc", "libx265", "yuv420p"), (".obu", "libsvtav1", "yuv420p"),
)  # fmt: skip

_OPTIONS = {
    "libx264": {"preset": "ultrafast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libsvtav1": {"preset": "8"},
}  # fmt: skip
# What this encoder tells of itself on standard error.
os.environ.setdefault("SVT_LOG", "1")


def portrait() -> np.ndarray:
    """A face, 96 x 96, uint8 BGR."""
    image = read_picture(ROOT / "samples" / "astronaut.jpg")[0:260, 120:380]
    return cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def pictures() -> dict[str, bytes]:
    """Files of pictures by name."""
    image = portrait()
    frames = [np.roll(image, 3 * i, axis=1) for i in range(4)]
    jpeg = encode(".jpg", image)
    turned = jpeg_segment(0xE1, exif_of(6) + encode(".jpg", image[::4, ::4]))
    wide = (image.astype(np.uint16) << 8) + 90
    found = {
        "baseline.jpg": jpeg,
        "exif.jpg": jpeg[:2] + turned + jpeg[2:],
        "grey.jpg": encode(".jpg", image[:, :, 0]),
        "progressive.jpg": _with(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "restarts.jpg": _with(".jpg", image, cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
        "colours.jpg": _with(".jpg", image, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
        "plain.png": encode(".png", image),
        "alpha.png": encode(".png", cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)),
        "wide.png": encode(".png", wide),
        "interlaced.png": _interlaced(image),
        "lossy.webp": _with(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 80),
        "lossless.webp": _with(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 101),
        "plain.tif": encode(".tif", image),
        "wide.tif": encode(".tif", wide),
        "raw.tif": _with(".tif", image, cv2.IMWRITE_TIFF_COMPRESSION, 1),
        "plain.bmp": encode(".bmp", image),
        "grey.bmp": encode(".bmp", image[:, :, 0]),
        "plain.ppm": encode(".ppm", image),
        "text.pgm": _with(".pgm", image[::4, ::4, 0], cv2.IMWRITE_PXM_BINARY, 0),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in ("several.webp", "several.avif", "several.gif", "several.png", "several.tif"):
            found[name] = several(Path(folder, name), frames).read_bytes()
    found["plain.avif"] = encode(".avif", image)
    return found | dict(_from_pillow(image, frames))


def _with(suffix: str, image: np.ndarray, *parameters: int) -> bytes:
    encoded, data = cv2.imencode(suffix, image, parameters)
    assert encoded
    return data.tobytes()


def _interlaced(image: np.ndarray) -> bytes:
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = _SIDE, _SIDE, "rgb24"
    encoder.time_base, encoder.options = Fraction(1, 25), {"flags": "+ildct"}
    frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="rgb24")
    frame.pts = 0
    [packet] = encoder.encode(frame)
    assert bytes(packet)[28] == 1
    return bytes(packet)


def _from_pillow(image: np.ndarray, frames: list[np.ndarray]) -> Iterator[tuple[str, bytes]]:
    """What OpenCV does not write: colours for printing, palettes, other compressions, photos of telephones."""
    try:
        from PIL import Image
    except ImportError:
        return
    picture = Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))

    def saved(converted: Image.Image, kind: str, **options: object) -> bytes:
        file = io.BytesIO()
        converted.save(file, kind, **options)
        return file.getvalue()

    yield "cmyk.jpg", saved(picture.convert("CMYK"), "JPEG")
    yield "palette.png", saved(picture.quantize(32), "PNG")
    yield "palette.bmp", saved(picture.quantize(32), "BMP")
    yield "bits.png", saved(picture.convert("1"), "PNG")
    yield "fax.tif", saved(picture.convert("1"), "TIFF", compression="group4")
    yield "jpeg.tif", saved(picture, "TIFF", compression="jpeg")
    yield "cmyk.tif", saved(picture.convert("CMYK"), "TIFF", compression="tiff_adobe_deflate")
    yield "exif.webp", saved(picture, "WEBP", exif=b"Exif\0\0" + exif_of(6)[6:])
    try:
        import pillow_heif
    except ImportError:
        return
    heif = pillow_heif.from_pillow(picture)
    file = io.BytesIO()
    heif.save(file, quality=60)
    yield "photo.heic", file.getvalue()


def films() -> dict[str, bytes]:
    """Files of ten frames by name; what this FFmpeg cannot write is left out."""
    face, found = portrait(), {}
    frames = [np.roll(face, 2 * i, axis=1) for i in range(10)]
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec, pixels in _FILMS:
            name = f"{codec}{suffix}"
            options = {"g": "5"} | _OPTIONS.get(codec, {})
            write = partial(write_film, codec=codec, pixels=pixels, options=options)
            try:
                found[name] = write(Path(folder, name), frames).read_bytes()
            except (av.FFmpegError, ValueError):
                continue
        sound = Path(folder, "sound.mp4")
        found["sound.mp4"] = write_film(sound, frames, sound_s=0.4, turn=(90, False)).read_bytes()
        pieces = Path(folder, "pieces.mp4")
        moved = {"movflags": "frag_keyframe+empty_moov"}
        found["pieces.mp4"] = write_film(pieces, frames, container=moved, aspect=Fraction(3, 2)).read_bytes()
    return found
