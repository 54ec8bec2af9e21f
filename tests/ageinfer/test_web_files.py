"""What lies on a web server is what its bytes say: a picture, or a recording that ends; not a stream that goes on."""

import cv2
import numpy as np
import pytest
from loopback import serving

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus, SourceError
from ageinfer.sources import open_source

films = pytest.importorskip("films")


@pytest.fixture(scope="module")
def images(persons):
    return list(films.moving_face(persons[1], 25))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_picture_by_address_is_a_picture(astronaut, suffix, tmp_path):
    _, data = cv2.imencode(suffix, astronaut)
    with serving({f"face{suffix}": data.tobytes(), "nameless": data.tobytes()}) as web:
        for name in (f"face{suffix}", "nameless"):
            with open_source(f"{web.address}/{name}") as source:
                [frame] = source
                assert (source.kind, source.name, frame.time_s) == ("picture", f"{web.address}/{name}", None)
                assert np.abs(frame.image.astype(int) - astronaut).mean() < 8
        out, table = tmp_path / "a.jpg", tmp_path / "r.jsonl"
        arguments = [f"{web.address}/face{suffix}", "--output", str(out), "--jsonl", str(table), "--quiet"]
        assert main(arguments) == ExitStatus.OK
        assert cv2.imread(str(out)).shape == astronaut.shape
        assert len(table.read_text().splitlines()) == 1


def test_a_phone_picture_by_address_is_turned(astronaut):
    pil = pytest.importorskip("PIL.Image")
    import io

    data, exif = io.BytesIO(), pil.Exif()
    exif[0x0112] = 6
    turned = pil.fromarray(np.ascontiguousarray(np.rot90(astronaut[:, :, ::-1])))
    turned.save(data, "JPEG", exif=exif, quality=95)
    with serving({"IMG_1.jpg": data.getvalue()}) as web, open_source(f"{web.address}/IMG_1.jpg") as source:
        [frame] = source
        assert np.abs(frame.image.astype(int) - astronaut).mean() < 8


CONTAINERS = {
    "mp4": {}, "ts": {}, "mkv": {}, "avi": {},
    "webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "gif": {"codec": "gif", "pixels": "rgb8", "options": {}},
}  # fmt: skip


@pytest.mark.parametrize("takes_ranges", [True, False])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_recording_by_address_gives_every_frame_and_ends(images, tmp_path, suffix, takes_ranges):
    """Also an MP4 whose index lies at its end, from a server that always sends the whole file."""
    path = films.write_film(tmp_path / f"clip.{suffix}", images, **CONTAINERS[suffix])
    with serving({path.name: path.read_bytes()}) as web:
        web.takes_ranges = takes_ranges
        with open_source(f"{web.address}/{path.name}") as source:
            frames = list(source)
        assert (source.kind, len(frames), source.truncated) == ("video", 25, False)
        assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(25)], abs=0.011)
        assert len(web.asked) < 12


def test_what_is_neither_is_refused_with_the_reason(tmp_path):
    with serving({"page.html": b"<html>", "list.m3u8": b"#EXTM3U\n#EXTINF:2,\nfile:///etc/hosts\n"}) as web:
        for name in ("page.html", "list.m3u8", "gone.png"):
            with pytest.raises(SourceError, match=name) as caught:
                open_source(f"{web.address}/{name}")
            assert ("a playlist (HLS, DASH), which is not followed" in str(caught.value)) == (name == "list.m3u8")
