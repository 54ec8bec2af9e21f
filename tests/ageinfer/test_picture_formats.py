"""Pictures of every format: orientation, bit depth, transparency, HEIC and AVIF, cut files."""

import io
import sys

import cv2
import numpy as np
import pytest
from media_files import encode, exif_of, frames_of, ftyp, jpeg_segment

from ageinfer.errors import SourceError
from ageinfer.sources import open_source, read_picture

pytest_plugins = ["media_files"]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".jpg", ".webp", ".JPG"])
def test_a_picture_is_one_frame_of_its_own_pixels(file, small, suffix):
    path = file("a" + suffix, encode(suffix.lower(), small))
    source = open_source(path)
    [frame] = source
    assert (source.kind, source.frame_count, source.fps) == ("picture", 1, None)
    assert (frame.source, frame.index, frame.time_s) == (str(path), 0, None)
    loss = np.abs(frame.image.astype(int) - small)
    assert frame.image.dtype == np.uint8
    assert loss.mean() < 5 if suffix in (".jpg", ".JPG", ".webp") else loss.max() == 0


def test_grey_sixteen_bit_and_transparent_pictures_become_eight_bit_bgr(file, small):
    grey = small[:, :, 1]
    assert (read_picture(file("grey.png", encode(".png", grey))) == grey[:, :, None]).all()
    deep = small.astype(np.uint16) * 257
    assert np.abs(read_picture(file("deep.png", encode(".png", deep))).astype(int) - small).max() <= 1
    alpha = np.dstack([small, np.full(small.shape[:2], 40, np.uint8)])
    assert (read_picture(file("alpha.png", encode(".png", alpha))) == small).all()


def test_the_content_decides_what_a_file_is_not_its_name(file, small, tmp_path, write_video):
    for name in ("picture.txt", "picture", "picture.mp4", "picture.gif"):
        path = file(name, encode(".png", small))
        assert open_source(path).kind == "picture", name
        assert len(frames_of(path)) == 1
    video = write_video(tmp_path / "v.avi", [small] * 3).rename(tmp_path / "video.jpg")
    assert len(frames_of(video)) == 3


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm", "exif thumbnail", "progressive"])
def test_a_cut_picture_is_refused_and_never_half_grey(file, small, suffix):
    if suffix == "exif thumbnail":  # which brings an end-of-image mark of its own
        thumbnail = encode(".jpg", cv2.resize(small, (16, 12)))
        jpeg = encode(".jpg", small)
        whole = jpeg[:2] + jpeg_segment(0xE1, b"Exif\x00\x00" + thumbnail) + jpeg[2:]
    elif suffix == "progressive":
        whole = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    else:
        whole = encode(suffix, small)
    expected = read_picture(file("whole", whole))
    refused = 0
    lengths = [*range(1, len(whole), max(1, len(whole) // 50)), *range(len(whole) - 20, len(whole))]
    for length in lengths:
        path = file("cut", whole[:length])
        try:
            np.testing.assert_array_equal(read_picture(path), expected)
        except SourceError:
            refused += 1
    assert refused >= len(lengths) - 20  # only padding at the very end may be missing


def test_a_cut_picture_is_called_cut(file, small):
    # By our own look at it: OpenCV before 5 fills the rest of a JPEG with grey and says nothing.
    for data in (encode(".jpg", small), encode(".png", small)):
        with pytest.raises(SourceError, match="cut off before its end"):
            read_picture(file("half", data[: len(data) // 2]))


@pytest.mark.parametrize("trailer", [b"\x00ftypmp42 \xff\xda \xff\xd9 \xff\xda \x00", b"\xff\xda", b"\x00" * 9])
def test_a_whole_jpeg_with_something_behind_it_is_not_cut(file, small, trailer):
    # Telephones append a short film to a photo ("motion photo"); its bytes hold any two-byte sequence.
    jpeg = encode(".jpg", small)
    found = read_picture(file("motion.jpg", jpeg + trailer))
    np.testing.assert_array_equal(found, read_picture(file("plain.jpg", jpeg)))


HEIC_STARTS = [
    ftyp(b"heic", b"mif1", b"heic"),
    ftyp(b"heix", b"mif1", b"MiHE"),
    ftyp(b"hevc", b"msf1"),
    ftyp(b"mif1", b"mif1", b"heic", b"miaf"),
    ftyp(b"mif1", b"miaf"),
    ftyp(b"msf1", b"hevc"),
    ftyp(b"heic", b"avif"),
]


@pytest.mark.parametrize("start", HEIC_STARTS, ids=lambda start: start[8:].decode().replace("\0", " "))
def test_a_heic_photo_is_refused_without_its_package_and_never_opened_as_a_video(
    file, tmp_path, write_video, small, start, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    # FFmpeg decodes the first tile of such a photo and calls it a video: behind the mark there is one here, too.
    video = write_video(tmp_path / "v.mp4", [small] * 3).read_bytes()
    for name in ("photo.heic", "photo.jpg", "photo"):
        path = file(name, start + video[int.from_bytes(video[:4], "big") :])
        source = open_source(path)
        assert source.kind == "picture"
        with pytest.raises(SourceError, match=rf"{name}: a HEIC photo.*convert it to JPEG.*most compatible") as caught:
            list(source)
        assert "ageinfer[heic]" in str(caught.value)
        assert "\n" not in str(caught.value)


def heic(image, mode="BGR", **options):
    """A HEIC photo of pixels."""
    pillow_heif = pytest.importorskip("pillow_heif")
    photo = pillow_heif.from_bytes(mode, (image.shape[1], image.shape[0]), image.tobytes())
    data = io.BytesIO()
    photo.save(data, quality=95, **options)
    return data.getvalue()


def test_a_heic_photo_is_read(file, small):
    for suffix in (".heic", ".jpg"):  # phones' exports are often named wrongly
        [frame] = open_source(file("photo" + suffix, heic(small)))
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - small).mean() < 5
    transparent = np.dstack([small, np.full(small.shape[:2], 200, np.uint8)])
    assert read_picture(file("a.heic", heic(transparent, "BGRA"))).shape == small.shape
    grey = read_picture(file("g.heic", heic(small[:, :, 1].copy(), "L")))
    assert np.abs(grey.astype(int) - small[:, :, 1:2]).mean() < 5


def test_a_heic_photo_is_turned_once(file, small):
    """Phones write the turn into the container and into EXIF; by the standard only the first counts."""
    turned = read_picture(file("turned.heic", heic(small, exif=exif_of(6))))
    assert np.abs(turned.astype(int) - np.rot90(small, -1)).mean() < 5


def test_a_heic_photo_that_is_cut_off_is_named(file, small):
    data = heic(small)
    with pytest.raises(SourceError, match=r"half\.heic: the HEIC photo cannot be decoded .*; copy it again"):
        read_picture(file("half.heic", data[: len(data) // 2]))


@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"M4V ", b"qt  ", b"iso5"])
def test_a_video_that_lists_a_brand_of_pictures_is_a_video(file, tmp_path, write_video, small, brand):
    video = write_video(tmp_path / "v.mp4", [small] * 3).read_bytes()
    start = ftyp(brand, b"mif1", b"heic", b"avif")
    assert len(start) == int.from_bytes(video[:4], "big")  # else the index would no longer point to the frames
    assert len(frames_of(file("w.mp4", start + video[len(start) :]))) == 3


needs_avif = pytest.mark.skipif(not cv2.haveImageWriter("a.avif"), reason="this OpenCV has no AVIF")


@needs_avif
@pytest.mark.parametrize("others", [b"avif mif1 miaf MA1B", b"mif1 avif miaf MA1B", b"miaf MA1B mif1 avif"])
@pytest.mark.parametrize("major", [b"avif", b"mif1"])
def test_an_avif_is_a_picture_as_its_brands_say(file, small, major, others):
    data = encode(".avif", small)
    start = ftyp(major, *others.split())
    assert len(start) == int.from_bytes(data[:4], "big")
    data = start + data[len(start) :]
    source = open_source(file("a.avif", data))
    [frame] = source
    assert source.kind == "picture"
    assert np.abs(frame.image.astype(int) - small).mean() < 8


def test_an_avif_that_cannot_be_decoded_is_refused_like_any_picture(file):
    path = file("a.avif", ftyp(b"avif", b"mif1", b"miaf") + bytes(500))
    with pytest.raises(
        SourceError, match=r"a\.avif: the picture cannot be decoded; copy it again or convert it to JPEG or PNG$"
    ):
        frames_of(path)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif", ".tif", ".jpg", ".bmp"])
def test_of_a_single_picture_nothing_is_said(tmp_path, astronaut, caplog, suffix):
    assert cv2.imwrite(str(tmp_path / f"one{suffix}"), astronaut)
    assert read_picture(tmp_path / f"one{suffix}").shape == astronaut.shape
    assert not caplog.records
