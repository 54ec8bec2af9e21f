"""Pictures at an address are what they are in a file: stills, animations, pages, damaged ones."""

import cv2
import numpy as np
import pytest
from media_files import encode, several

from ageinfer.errors import SourceError
from ageinfer.sources import open_source

loopback = pytest.importorskip("loopback")
pytest_plugins = ["media_files"]


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("still.avif", "picture", 1), ("still.webp", "picture", 1), ("moving.webp", "video", 3),
        ("moving.avif", "video", 3), ("pages.tif", "folder", 3),
    ],
)  # fmt: skip
def test_a_picture_at_an_address_is_what_it_is_in_a_file(tmp_path, small, name, kind, count):
    path = tmp_path / name
    if count > 1:
        several(path, [small, small[:, ::-1].copy(), small])
    elif cv2.haveImageWriter(name):
        path.write_bytes(encode(path.suffix, small))
    else:
        pytest.skip("this OpenCV cannot write it")
    with loopback.serving({name: path.read_bytes()}) as web, open_source(f"{web.address}/{name}") as source:
        frames = list(source)
    assert (source.kind, len(frames)) == (kind, count)
    for frame, local in zip(frames, open_source(path), strict=True):
        assert (frame.source, frame.index, frame.time_s) == (f"{web.address}/{name}", local.index, local.time_s)
        np.testing.assert_array_equal(frame.image, local.image)


def test_damage_is_told_of_a_picture_at_an_address(astronaut, caplog):
    data = bytearray(encode(".jpg", astronaut))
    data[len(data) // 2 : len(data) // 2 + 512] = bytes(512)
    with loopback.serving({"p.jpg": bytes(data)}) as web, open_source(f"{web.address}/p.jpg") as source:
        [frame] = source
    assert (frame.damaged, source.damaged, frame.image.shape) == (True, 1, astronaut.shape)
    assert caplog.messages == [f"{web.address}/p.jpg: the picture is damaged; copy it again"]


def test_a_picture_of_too_many_pixels_at_an_address_is_refused():
    header = b"BM" + bytes(12) + (40).to_bytes(4, "little") + 2 * (40_000).to_bytes(4, "little") + bytes(60)
    with (
        loopback.serving({"p.bmp": header}) as web,
        pytest.raises(SourceError, match=r"p\.bmp: 40000 x 40000 pixels are more than the 250 million"),
    ):
        list(open_source(f"{web.address}/p.bmp"))
