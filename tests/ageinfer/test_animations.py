"""Animations: animated WebP, AVIF, PNG and GIF are videos; in a list of pictures the first frame stands for each."""

import json

import cv2
import numpy as np
import pytest
from media_files import encode, several

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus, SourceError
from ageinfer.sources import animation, open_source, open_sources, read_picture

pytest_plugins = ["media_files"]


def likeness(a, b):
    return float(np.abs(a.astype(float) - b).mean())


@pytest.fixture(scope="module")
def frames(persons):
    return [cv2.resize(person, (160, 120), interpolation=cv2.INTER_AREA) for person in persons]


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".png", ".gif"])
def test_an_animation_gives_all_its_frames_at_their_times(tmp_path, frames, suffix):
    source = open_source(several(tmp_path / f"moving{suffix}", frames, [100, 250, 40]))
    assert source.kind == "video"
    found = list(source)
    assert [frame.index for frame in found] == [0, 1, 2]
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.1, 0.35], abs=0.002)
    for frame, expected in zip(found, frames, strict=True):
        assert likeness(frame.image, expected) < (25 if suffix == ".gif" else 6)
    assert (source.finished, source.truncated) == (True, False)


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_frames_without_a_duration_last_a_tenth_of_a_second(tmp_path, frames, suffix):
    source = open_source(several(tmp_path / f"moving{suffix}", frames, [0, 0, 0]))
    assert source.frame_count == 3
    assert [frame.time_s for frame in source] == [0, 0.1, 0.2]


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_an_animation_is_decoded_in_pieces(tmp_path, frames, suffix, monkeypatch):
    path = several(tmp_path / f"moving{suffix}", [*frames, *frames[:2]])
    whole = [frame.image for frame in open_source(path)]
    monkeypatch.setattr(animation, "_PIECE_BYTES", 2 * 4 * 160 * 120)
    asked = []
    decode = cv2.imdecodeanimation
    monkeypatch.setattr(cv2, "imdecodeanimation", lambda data, *range_: asked.append(range_) or decode(data, *range_))
    for frame, expected in zip(open_source(path), whole, strict=True):
        np.testing.assert_array_equal(frame.image, expected)
    assert asked == [(0, 2), (2, 2), (4, 2)]


def test_the_colours_of_transparent_frames_are_those_of_a_transparent_picture(tmp_path, frames):
    clear = [np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)]) for frame in frames]
    for frame in clear:
        frame[:40, :, 3] = 128
    path = several(tmp_path / "clear.webp", clear)
    assert np.abs(next(iter(open_source(path))).image.astype(int) - read_picture(path)).max() <= 1


def test_an_animation_that_is_too_much_is_refused_before_it_is_decoded(tmp_path, frames, monkeypatch):
    path = several(tmp_path / "long.webp", frames)
    monkeypatch.setattr(animation, "_MOST_PIXELS", 3 * 160 * 120 - 1)
    with pytest.raises(SourceError, match=r"long\.webp: 3 frames of 160 x 120 pixels are more than .* to a video$"):
        open_source(path)


def test_an_animation_that_breaks_off_is_said_to_do_so(tmp_path, frames, monkeypatch, caplog):
    path = several(tmp_path / "moving.webp", frames)
    decode = cv2.imdecodeanimation

    def failing(data, start, count):
        if start + count > 2:
            raise cv2.error("no more")
        return decode(data, start, count)

    monkeypatch.setattr(cv2, "imdecodeanimation", failing)
    source = open_source(path)
    assert len(list(source)) == 2
    assert (source.truncated, source.finished) == (True, True)
    assert caplog.messages == [f"{path}: the animation breaks off after 2 frames; copy it again"]


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".png"])
def test_in_a_folder_an_animation_gives_its_first_frame_and_a_warning(tmp_path, frames, caplog, suffix):
    path = several(tmp_path / f"moving{suffix}", frames)
    (tmp_path / "still.png").write_bytes(encode(".png", frames[0]))
    folder = list(open_source(tmp_path))
    assert [(frame.index, frame.time_s) for frame in folder] == [(0, None), (0, None)]
    assert likeness(folder[0].image, frames[0]) < 6
    [said] = caplog.messages
    assert said == f"{path}: only the first of its frames is read; give it alone as the source to have all"
    if suffix != ".png":
        assert len(list(open_sources([path, tmp_path / "still.png"]))) == 2


def test_an_animation_is_followed_and_written_as_a_video(tmp_path, persons):
    face = cv2.resize(persons[0], (320, 320), interpolation=cv2.INTER_AREA)
    path = several(tmp_path / "moving.webp", [np.roll(face, 4 * i, axis=1) for i in range(4)], [40] * 4)
    records, video = tmp_path / "r.jsonl", tmp_path / "out.mp4"
    assert main([str(path), "--jsonl", str(records), "--output", str(video), "--provider", "cpu"]) == ExitStatus.OK
    found = [json.loads(line) for line in records.read_text().splitlines()]
    assert [record["time_s"] for record in found] == [0, 0.04, 0.08, 0.12]
    assert {face["track"] for record in found for face in record["faces"]} == {found[0]["faces"][0]["track"]}
    assert len(list(open_source(video))) == 4
