"""Several live sources in one process: opened together, lost and back one by one."""

import itertools
import logging
import time

import pytest
from fake_cameras import Camera, face, live, quick_and_clean  # noqa: F401 - fixtures
from mjpeg import number_of

from ageinfer import Pipeline
from ageinfer.errors import SourceError
from ageinfer.sources import LiveGroup, open_source

pytestmark = pytest.mark.usefixtures("quick_and_clean")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr("ageinfer.sources.group._FIRST_PAUSE_S", 0.02)


def group(cameras, **options) -> LiveGroup:
    return LiveGroup({name: lambda camera=camera: live(camera) for name, camera in cameras.items()}, **options)


def until(frames, wanted, most_s=10.0):
    """Takes frames until one is as wanted; returns all of them."""
    taken, give_up_s = [], time.monotonic() + most_s
    for frame in frames:
        taken.append(frame)
        if wanted(frame):
            return taken
        assert time.monotonic() < give_up_s, {f.source for f in taken}
    raise AssertionError("the frames ended")


def test_frames_of_all_come_under_the_names_that_were_given(face) -> None:  # noqa: F811
    with group({"door": Camera(face), "hall": Camera(face)}) as source:
        frames = list(itertools.islice(source, 40))
    assert {frame.source for frame in frames} == {"door", "hall"}
    for name in ("door", "hall"):
        own = [frame for frame in frames if frame.source == name]
        assert [frame.index for frame in own] == list(range(len(own)))
        assert all(a.time_s < b.time_s for a, b in itertools.pairwise(own))


def test_each_source_gives_its_newest_frame_however_slow_the_consumer_is(face) -> None:  # noqa: F811
    cameras = {"door": Camera(face), "hall": Camera(face)}
    late = []
    with group(cameras) as source:
        for frame in itertools.islice(source, 12):
            late.append(cameras[frame.source].made - number_of(frame.image))
            time.sleep(0.05)  # ten frames of each camera
    # One frame of each camera was ready before the pause of the consumer: at most two pauses old.
    assert max(late) <= 60 < cameras["door"].made


def test_one_that_is_lost_and_comes_back_does_not_stop_the_others(face, caplog) -> None:  # noqa: F811
    cameras = {"door": Camera(face), "hall": Camera(face)}
    with caplog.at_level(logging.WARNING), group(cameras) as source:
        frames = iter(source)
        until(frames, lambda frame: frame.source == "door")
        cameras["door"].plugged = False
        alone = until(frames, lambda frame: any("lost" in text for text in caplog.messages))
        alone += list(itertools.islice(frames, 30))
        assert [frame.source for frame in alone[-30:]] == ["hall"] * 30
        cameras["door"].plugged = True
        until(frames, lambda frame: frame.source == "door")
    assert [text.partition(":")[0] for text in caplog.messages] == ["door", "door"]
    assert "back after" in caplog.messages[1]


def test_one_that_is_not_there_at_the_start_comes_later(face, caplog) -> None:  # noqa: F811
    cameras = {"door": Camera(face), "hall": Camera(face)}
    cameras["door"].plugged = False
    with caplog.at_level(logging.WARNING), group(cameras) as source:
        frames = iter(source)
        until(frames, lambda frame: frame.source == "hall")
        cameras["door"].plugged = True
        until(frames, lambda frame: frame.source == "door")
    assert "the others go on" in caplog.messages[0]
    assert caplog.messages[1].startswith("door: there after")


def test_one_that_never_comes_is_given_up_after_its_time(face, caplog) -> None:  # noqa: F811
    cameras = {"door": Camera(face), "hall": Camera(face)}
    cameras["door"].plugged = False
    with caplog.at_level(logging.WARNING), group(cameras, patience_s=0.1) as source:
        until(source, lambda frame: any("tried for 0.1 s" in text for text in caplog.messages))


def test_where_none_can_be_opened_the_first_error_is_raised(face) -> None:  # noqa: F811
    cameras = {"door": Camera(face), "hall": Camera(face)}
    for camera in cameras.values():
        camera.plugged = False
    with pytest.raises(SourceError, match="does not open"):
        group(cameras)


def test_a_file_among_them_is_refused(face, astronaut_path, caplog) -> None:  # noqa: F811
    with (
        caplog.at_level(logging.WARNING),
        LiveGroup({"door": lambda: live(Camera(face)), "photo": lambda: open_source(astronaut_path)}),
    ):
        pass
    assert "not a live source" in caplog.messages[0]


def test_closing_from_another_thread_ends_the_loop(face) -> None:  # noqa: F811
    source = group({"door": Camera(face), "hall": Camera(face)})
    for frame in source:
        if frame.index == 3:
            source.close()
    assert all(camera.captures[-1].released for camera in Camera.all_of_this_test)


def test_faces_of_all_sources_get_ages_and_tracks_of_their_own(face) -> None:  # noqa: F811
    empty = face * 0
    cameras = {"door": Camera(lambda n: face), "hall": Camera(lambda n: face), "yard": Camera(lambda n: empty)}
    with group(cameras) as source:
        results = [result for _, result in itertools.islice(Pipeline.default(threads=1).run(source), 90)]
    ages = {}
    for name in cameras:
        own = [result for result in results if result.source == name]
        assert len(own) > 5, name
        assert {len(result.faces) for result in own} == ({0} if name == "yard" else {1})
        assert {face.track for result in own for face in result.faces} == (set() if name == "yard" else {1})
        ages[name] = [face.shown_years for result in own for face in result.faces]
    assert max(ages["door"] + ages["hall"]) - min(ages["door"] + ages["hall"]) < 1
