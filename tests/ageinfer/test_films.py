"""Films as people have them: clocks, pixels, colours, damage and ends are what the film says, not a header."""

import logging
from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus, SourceError
from ageinfer.sources import open_source
from ageinfer.sources.decoder import Decoder

films = pytest.importorskip("films")


def read(path):
    with open_source(path) as source:
        return source, list(source)


@pytest.fixture(scope="module")
def images(persons):
    return list(films.moving_face(persons[1], 50))


@pytest.fixture(scope="module")
def clip(images, tmp_path_factory):
    """Two seconds with sound, and one key frame."""
    return films.write_film(tmp_path_factory.mktemp("films") / "clip.mp4", images, sound_s=2.0)


def likeness(a, b):
    """The mean difference of two pictures."""
    return float(np.abs(a.astype(float) - b).mean())


CONTAINERS = {
    "mp4": {}, "mov": {}, "mkv": {}, "ts": {}, "flv": {}, "avi": {}, "3gp": {},
    "mpg": {"codec": "mpeg2video", "options": {"qscale": "2"}},
    "webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "crf": "20"}},
    "h264": {"kind": "h264"}, "mjpeg": {"codec": "mjpeg", "pixels": "yuvj420p", "options": {"q": "2"}},
    "gif": {"codec": "gif", "pixels": "rgb8", "options": {}},
}  # fmt: skip


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_frame_of_every_container_comes_at_its_time(images, tmp_path, suffix):
    path = films.write_film(tmp_path / f"clip.{suffix}", images, **CONTAINERS[suffix])
    source, frames = read(path)
    assert (len(frames), source.truncated, source.damaged, source.finished) == (50, False, 0, True)
    assert [frame.index for frame in frames] == list(range(50))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(50)], abs=0.011)
    for frame, image in zip(frames[::12], images[::12], strict=True):
        assert frame.image.shape == image.shape
        assert likeness(frame.image, image) < 20


def test_a_trimmed_film_is_whole(clip, tmp_path, caplog):
    """An edit list leaves out what the decoder needs before the first picture; no frame is missing."""
    trimmed = films.without_reencoding(clip, tmp_path / "trimmed.mp4", from_s=1.0)
    source, frames = read(trimmed)
    assert (len(frames), source.truncated, source.damaged) == (25, False, 0)
    assert (frames[0].time_s, frames[-1].time_s) == pytest.approx((0, 0.96), abs=1e-3)
    assert caplog.records == []


def test_a_sound_that_lasts_longer_than_the_pictures_is_no_cut(images, tmp_path, caplog):
    source, frames = read(films.write_film(tmp_path / "long.mkv", images, sound_s=6.0))
    assert (len(frames), source.truncated) == (50, False)
    assert caplog.records == []


def test_dropped_frames_of_an_avi_are_no_cut(images, tmp_path, caplog):
    times = [i / 25 for i in range(75) if i < 20 or i % 3 == 0]
    source, frames = read(films.write_film(tmp_path / "drops.avi", images[: len(times)], times=times))
    assert (len(frames), source.truncated) == (len(times), False)
    assert caplog.records == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_a_rate_that_varies_is_kept(images, tmp_path, suffix):
    times = [0.0, 0.033, 0.4, 0.41, 1.9, 2.0, 3.7]
    how = CONTAINERS[suffix] if suffix == "webm" else {}
    _, frames = read(films.write_film(tmp_path / f"vfr.{suffix}", images[:7], times=times, **how))
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=2e-3)


def test_joined_streams_have_one_clock(images, tmp_path):
    path = films.write_film(tmp_path / "a.ts", images)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(path.read_bytes() * 3)
    source, frames = read(joined)
    assert (len(frames), source.truncated) == (150, False)
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(150)], abs=1e-3)


def test_an_empty_packet_says_that_the_picture_stays(clip, monkeypatch, caplog):
    """As Theora has them for pictures that do not change; no decoder takes one."""
    given = Decoder._packets

    def with_an_empty_one(self):
        for i, packet in enumerate(given(self)):
            yield packet
            if i == 3:
                empty = av.Packet(0)
                empty.pts = empty.dts = packet.dts + 1
                yield empty

    monkeypatch.setattr(Decoder, "_packets", with_an_empty_one)
    source, frames = read(clip)
    assert (len(frames), source.damaged) == (50, 0)
    assert caplog.records == []


@pytest.mark.parametrize("suffix", ["h264", "hevc"])
def test_a_raw_stream_has_a_clock(images, tmp_path, suffix):
    codec = {"h264": "libx264", "hevc": "libx265"}[suffix]
    options = {"preset": "ultrafast", "x265-params": "log-level=none"} if suffix == "hevc" else None
    path = films.write_film(tmp_path / f"raw.{suffix}", images[:20], codec=codec, kind=suffix, options=options)
    _, frames = read(path)
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(20)], abs=1e-3)


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(4, 3), (427, 240)), (Fraction(1, 2), (320, 480))])
def test_pixels_become_square(images, tmp_path, aspect, size):
    _, frames = read(films.write_film(tmp_path / "anamorphic.mp4", images[:3], aspect=aspect))
    for frame, image in zip(frames, images, strict=False):
        assert frame.image.shape[1::-1] == size
        assert likeness(frame.image, cv2.resize(image, size)) < 6


@pytest.mark.parametrize("aspect", [Fraction(1, 100), Fraction(50, 1)])
def test_an_aspect_that_makes_no_sense_is_left_alone(images, tmp_path, aspect):
    _, [frame] = read(films.write_film(tmp_path / "odd.mp4", images[:1], aspect=aspect))
    assert frame.image.shape == images[0].shape


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, 1), (180, 2), (270, 3), (-90, 3)])
def test_pictures_are_upright_and_not_mirrored(images, tmp_path, degrees, turns, mirrored):
    _, [frame] = read(films.write_film(tmp_path / "turned.mp4", images[:1], turn=(degrees, mirrored)))
    expected = np.rot90(images[0], turns)
    assert likeness(frame.image, expected[:, ::-1] if mirrored else expected) < 6


@pytest.mark.parametrize("colours", [(1, 1), (1, 2), (6, 1), (6, 2), (5, 1)])
def test_matrix_and_range_of_the_colours_are_respected(tmp_path, colours):
    patches = np.zeros((120, 160, 3), np.uint8)
    for i, colour in enumerate([(200, 60, 40), (40, 180, 60), (60, 40, 210), (128, 128, 128), (250, 250, 250)]):
        patches[:, 32 * i : 32 * i + 32] = colour
    path = films.write_film(tmp_path / "c.mp4", [patches] * 2, colours=colours, options={"crf": "1"})
    _, frames = read(path)
    for i in range(5):
        found = frames[0].image[40:80, 32 * i + 10 : 32 * i + 22].reshape(-1, 3).mean(axis=0)
        assert np.abs(found - patches[0, 32 * i + 16]).max() < 7


def test_a_cover_picture_is_not_the_film(images, clip, tmp_path):
    """Phones and shops put a preview before the pictures."""
    import av

    target = tmp_path / "covered.mp4"
    _, cover = cv2.imencode(".png", images[0][:64, :64])
    with av.open(str(clip)) as film, av.open(str(target), "w") as out:
        png = out.add_stream("png", rate=1)
        png.width = png.height = 64
        png.pix_fmt = "rgb24"
        png.disposition = av.stream.Disposition.attached_pic
        copy = out.add_stream_from_template(film.streams.video[0])
        packet = av.Packet(cover.tobytes())
        packet.stream, packet.pts, packet.dts = png, 0, 0
        out.mux(packet)
        for packet in film.demux(film.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    _, frames = read(target)
    assert len(frames) == 50
    assert frames[0].image.shape == images[0].shape


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_damage_is_counted_and_named(images, tmp_path, caplog, suffix):
    path = films.write_film(tmp_path / f"clip.{suffix}", images, options={"preset": "ultrafast", "g": "20"})
    source, frames = read(films.damaged_at(path, tmp_path / f"damaged.{suffix}", 0.5, 1500))
    bad = [frame.index for frame in frames if frame.damaged]
    assert 1 <= len(bad) <= source.damaged <= 20  # of some pieces no picture could be made
    assert bad == list(range(bad[0], bad[-1] + 1))  # until the next picture that needs no other one
    assert 15 <= bad[0] <= bad[-1] <= 39
    messages = [record.getMessage() for record in caplog.records]
    assert any(f"damaged from {frames[bad[0]].time_s:.2f} s to" in message for message in messages)
    count = 50 if suffix == "mp4" else len(frames)
    assert any(f"{source.damaged} of {count} frames are damaged" in message for message in messages)


def test_nothing_is_estimated_from_damaged_frames(clip, tmp_path, capsys):
    damaged = films.damaged_at(clip, tmp_path / "damaged.mp4", 0.5, 1500)
    records = tmp_path / "r.jsonl"
    assert main([str(damaged), "--jsonl", str(records), "--quiet", "--provider", "cpu"]) == ExitStatus.DAMAGED
    import json

    found = [json.loads(line) for line in records.read_text().splitlines()]
    assert 48 <= len(found) <= 50  # of a piece no picture may be made, by the bytes that the encoder wrote
    bad = [record for record in found if record.get("damaged")]
    assert bad
    assert all(record["faces"] == [] for record in bad)
    assert all(len(record["faces"]) == 1 and "damaged" not in record for record in found[: found.index(bad[0])])
    assert "damaged from" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi", "flv", "webm", "ts", "mpg"])
def test_a_film_that_is_cut_off_is_told(images, tmp_path, suffix, caplog):
    faststart = {"movflags": "faststart"} if suffix in ("mp4", "mov") else None
    how = CONTAINERS[suffix]
    path = films.write_film(tmp_path / f"clip.{suffix}", images, container=faststart, **how)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    source, frames = read(cut)
    assert source.truncated
    assert 10 < len(frames) < 45
    assert any("cut off" in record.getMessage() for record in caplog.records)


def test_a_film_whose_index_is_missing_says_so(images, tmp_path):
    path = films.write_film(tmp_path / "clip.mp4", images)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(SourceError, match="the index of this video is missing"):
        open_source(path)


@pytest.mark.parametrize("kind", ["playlist", "concat", "session"])
def test_a_file_that_names_other_files_opens_none_of_them(clip, tmp_path, kind):
    """Also behind a tag and under the name of a film, where FFmpeg would still find it."""
    texts = {
        "playlist": f"#EXTM3U\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {clip}\n",
        "session": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    }
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
    for name, head in (("plain.mp4", b""), ("tagged.mp4", tag)):
        path = tmp_path / name
        path.write_bytes(head + texts[kind].encode())
        with pytest.raises(SourceError):
            read(path)


def test_times_grow_whatever_the_stamps_say():
    from ageinfer.sources.decoder import _Clock

    clock = _Clock(0.04, jumps=True)
    stamps = [5.0, 5.04, 5.04, None, 5.2, 99.0, 99.04, 0.0, 0.04]
    times = [clock.at(stamp) for stamp in stamps]
    assert times == pytest.approx([0, 0.04, 0.041, 0.081, 0.2, 0.24, 0.28, 0.32, 0.36], abs=2e-3)
    assert all(b > a for a, b in pairwise(times))


def test_a_film_of_pictures_hours_apart_keeps_its_clock(images, tmp_path):
    """A step is a clock that was set only where clocks are set: in a transport stream."""
    times = [0.0, 3600.0, 7200.0]
    _, frames = read(films.write_film(tmp_path / "slow.mp4", images[:3], times=times))
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=1e-2)


def test_a_film_without_pictures_is_refused(tmp_path, images):
    import av

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as out:
        tone = out.add_stream("aac", rate=44_100)
        tone.layout = "mono"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 44_100
        out.mux(tone.encode(sound))
        out.mux(tone.encode())
    with pytest.raises(SourceError, match="holds no moving pictures"):
        open_source(path)


def test_the_log_of_ffmpeg_is_not_shown(clip, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    read(films.damaged_at(clip, tmp_path / "damaged.mp4", 0.5, 3000))
    assert capfd.readouterr() == ("", "")
