"""The sound of a film goes into the annotated film as it is, beside the pictures that it belongs to."""

import numpy as np
import pytest

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus
from ageinfer.sinks import VideoSink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sources import open_source
from ageinfer.types import FrameResult

films = pytest.importorskip("films")


@pytest.fixture(scope="module")
def images(persons):
    return list(films.moving_face(persons[1], 50))


@pytest.fixture(scope="module")
def clip(images, tmp_path_factory):
    """Two seconds of pictures and sound, in Catalan."""
    return films.write_film(tmp_path_factory.mktemp("sound") / "clip.mp4", images, sound_s=2.0)


def copied(source_path, target, *, frames=None):
    """Passes a film through a sink, as far as so many frames."""
    with open_source(source_path) as source, VideoSink(target, source.fps, sound_of=source) as sink:
        for frame in source:
            if frames is not None and frame.index == frames:
                break
            height, width = frame.image.shape[:2]
            sink.write(AnnotatedFrame(frame, FrameResult(source.name, frame.index, frame.time_s, (width, height), ())))
    return films.facts(target)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_sound_and_its_language_are_copied(clip, tmp_path, suffix):
    said = copied(clip, tmp_path / f"v{suffix}")
    [(codec, language, ends_s)] = said["sounds"]
    assert codec == "aac"
    assert suffix == ".mov" or language == "cat"  # QuickTime numbers its languages, and not this one
    assert ends_s == pytest.approx(2.0, abs=0.05)
    assert said["frames"] == 50
    assert said["length_s"] == pytest.approx(2.0, abs=0.05)


def sound_packets(path):
    import av

    with av.open(str(path)) as film:
        return [bytes(packet) for packet in film.demux(film.streams.audio[0]) if packet.size]


def test_the_sound_is_not_encoded_again(clip, tmp_path):
    copied(clip, tmp_path / "v.mp4")
    kept, given = sound_packets(tmp_path / "v.mp4"), sound_packets(clip)
    assert len(given) - 1 <= len(kept)  # the first one lies before the first picture
    assert kept == given[len(given) - len(kept) :]


def test_pictures_and_sound_of_a_trimmed_film_stay_together(clip, tmp_path):
    trimmed = films.without_reencoding(clip, tmp_path / "trimmed.mp4", from_s=1.0)
    said = copied(trimmed, tmp_path / "v.mp4")
    assert said["frames"] == 25
    [(_, _, ends_s)] = said["sounds"]
    assert ends_s == pytest.approx(1.0, abs=0.06)


def test_a_run_that_is_ended_early_has_sound_as_far_as_pictures(clip, tmp_path):
    said = copied(clip, tmp_path / "v.mp4", frames=20)
    [(_, _, ends_s)] = said["sounds"]
    assert said["frames"] == 20
    assert ends_s == pytest.approx(0.8, abs=0.06)


def test_a_sound_that_lasts_longer_than_the_pictures_is_kept(images, tmp_path):
    said = copied(films.write_film(tmp_path / "long.mkv", images, sound_s=4.0), tmp_path / "v.mkv")
    [(_, _, ends_s)] = said["sounds"]
    assert ends_s == pytest.approx(4.0, abs=0.06)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_sound_of_joined_streams_goes_on(images, tmp_path, suffix):
    part = films.write_film(tmp_path / "a.ts", images, sound_s=2.0)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 3)
    made = copied(joined, tmp_path / f"annotated.{suffix}")
    assert len(made["times"]) == 150
    [(kind, _, ends_s)] = made["sounds"]
    assert kind == "aac"
    assert ends_s == pytest.approx(made["times"][-1] + 1 / 25, abs=0.15)  # a sound has no part of a packet


def test_a_sound_that_the_container_cannot_hold_is_left_out_with_a_word(clip, tmp_path, caplog):
    said = copied(clip, tmp_path / "v.webm")
    assert (said["frames"], said["sounds"]) == (50, [])
    [record] = caplog.records
    assert "without sound" in record.getMessage()
    assert record.getMessage().endswith("use .mkv")


def test_a_silent_film_stays_silent_and_nothing_is_said_of_it(images, tmp_path, caplog):
    said = copied(films.write_film(tmp_path / "silent.mp4", images), tmp_path / "v.mp4")
    assert (said["frames"], said["sounds"], caplog.records) == (50, [], [])


@pytest.mark.parametrize(("options", "sounds"), [((), 1), (("--no-audio",), 0), (("--blur",), 1)])
def test_the_command_copies_the_sound_unless_it_is_told_not_to(clip, tmp_path, options, sounds):
    target = tmp_path / "v.mp4"
    assert main([str(clip), "--output", str(target), "--quiet", "--provider", "cpu", *options]) == ExitStatus.OK
    said = films.facts(target)
    assert (said["codec"], said["frames"], len(said["sounds"])) == ("h264", 50, sounds)
    assert said["times"] == pytest.approx([i / 25 for i in range(50)], abs=1e-3)


def test_the_options_of_the_video_need_one(clip, capsys):
    for option in (["--no-audio"], ["--codec", "h264"]):
        assert main([str(clip), "--jsonl", "-", *option]) == ExitStatus.USAGE
        assert "are for --output" in capsys.readouterr().err


def test_the_pictures_of_an_annotated_film_are_those_of_the_source(clip, images, tmp_path):
    """In the colours that a player shows: what is not drawn on stays as it was."""
    copied(clip, tmp_path / "v.mp4")
    with open_source(tmp_path / "v.mp4") as again:
        for frame in again:
            assert np.abs(frame.image.astype(int) - images[frame.index]).mean() < 8


def test_faces_in_a_damaged_frame_are_hidden_although_none_was_looked_for(images, tmp_path):
    path = films.write_film(tmp_path / "clip.mp4", images)
    damaged = films.damaged_at(path, tmp_path / "damaged.mp4", 0.5, 1500)
    target = tmp_path / "v.mp4"
    arguments = [str(damaged), "--output", str(target), "--blur", "--quiet", "--provider", "cpu"]
    assert main(arguments) == ExitStatus.DAMAGED
    with open_source(damaged) as source, open_source(target) as hidden:
        for before, after in zip(source, hidden, strict=False):
            if before.damaged:
                detail = [np.abs(np.diff(f.image.astype(int), axis=1)).mean() for f in (before, after)]
                assert detail[1] < 0.5 * detail[0]
