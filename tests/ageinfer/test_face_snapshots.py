"""The best picture of each face: which view is kept, its name, and when it is written."""

import cv2
import numpy as np
import pytest
from sink_frames import write_all

from ageinfer.errors import OutputError, UsageError
from ageinfer.sinks import FaceSnapshots, write_picture
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Age, Detection, Face, Frame, FrameResult


@pytest.fixture(scope="module")
def detector():
    from ageinfer.detect import open_detector

    return open_detector("yunet", provider="cpu", threads=1)


@pytest.fixture(scope="module")
def found(detector, persons):
    """The detections of each of the three portraits, one face each."""
    found = [detector.detect(picture) for picture in persons]
    assert [len(faces) for faces in found] == [1, 1, 1]
    return [faces[0] for faces in found]


def view(picture, detection, track, *, time_s=0.0, blur=0.0, scale=1.0, source="clip.mp4"):
    """A frame of a clip with one real face, smaller or less sharp."""
    if scale != 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    height, width = picture.shape[:2]
    box = tuple(v * scale for v in detection.box)
    face = Face(Detection(box, detection.score), Age(30, 5), track, None if track is None else 30.0)
    index = 0 if time_s is None else round(time_s * 25)
    result = FrameResult(source, index, time_s, (width, height), (face,))
    return AnnotatedFrame(Frame(source, index, time_s, picture), result)


def similar(path, picture) -> bool:
    """Whether a file holds this picture, as far as JPEG can."""
    written = cv2.imread(str(path))
    return written.shape == picture.shape and np.abs(written.astype(int) - picture).mean() < 4


def with_margin(picture, detection, margin):
    x, y, w, h = detection.box
    more = margin * max(w, h)
    x0, y0 = max(0, int(np.floor(x - more))), max(0, int(np.floor(y - more)))
    return picture[y0 : int(np.ceil(y + h + more)), x0 : int(np.ceil(x + w + more))]


def test_of_every_track_the_best_view_is_left(tmp_path, persons, found, detector):
    first, second = persons[0], persons[1]
    frames = [
        view(first, found[0], 12, time_s=0.0, blur=3),
        view(first, found[0], 12, time_s=0.04, scale=0.3),
        view(second, found[1], 7, time_s=0.08, scale=0.5),
        view(first, found[0], 12, time_s=0.12),  # the best of 12
        view(first, found[0], 12, time_s=0.16, blur=1.5),
        view(second, found[1], 7, time_s=0.2),  # the best of 7
        view(second, found[1], 7, time_s=0.24, scale=0.2),
    ]
    write_all(FaceSnapshots(tmp_path, margin=0.3), *frames)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["track-00007.jpg", "track-00012.jpg"]
    assert similar(tmp_path / "track-00012.jpg", with_margin(first, found[0], 0.3))
    assert similar(tmp_path / "track-00007.jpg", with_margin(second, found[1], 0.3))
    assert len(detector.detect(cv2.imread(str(tmp_path / "track-00012.jpg")))) == 1


def test_the_quality_of_a_view_falls_with_blur_with_smallness_and_at_the_edge(persons, found):
    from ageinfer.sinks import view_quality

    for picture, detection in zip(persons, found, strict=True):
        quality = {
            name: view_quality(frame.frame.image, frame.result.faces[0])
            for name, frame in {
                "best": view(picture, detection, 1),
                "soft": view(picture, detection, 1, blur=2),
                "softer": view(picture, detection, 1, blur=5),
                "small": view(picture, detection, 1, scale=0.5),
                "smaller": view(picture, detection, 1, scale=0.2),
                "cut": view(picture[int(detection.box[1] + detection.box[3] / 2) :], Detection(
                    (detection.box[0], -detection.box[3] / 2, *detection.box[2:]), detection.score), 1),
                "less sure": view(picture, Detection(detection.box, detection.score / 2), 1),
            }.items()
        }  # fmt: skip
        assert quality["best"] > quality["soft"] > quality["softer"] > 0
        assert quality["best"] > quality["small"] > quality["smaller"] > 0
        assert quality["best"] > max(quality["cut"], quality["less sure"])


def test_half_of_a_face_is_worth_half(persons, found):
    from ageinfer.sinks import view_quality

    x, y, w, h = (round(v) for v in found[0].box)
    lower = persons[0][y + h // 2 :]  # the frame begins in the middle of the face
    whole = view_quality(lower, Face(Detection((x, 0, w, h - h // 2), 0.9), Age(30, 5)))
    half = view_quality(lower, Face(Detection((x, -(h - h // 2), w, 2 * (h - h // 2)), 0.9), Age(30, 5)))
    assert half == pytest.approx(whole / 2)


def test_a_track_is_on_the_disk_from_its_first_frame_and_replaced_once_a_second(tmp_path, persons, found):
    path = tmp_path / "track-00001.jpg"
    times = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.8, 2.0)
    seen = []
    with FaceSnapshots(tmp_path, every_s=1.0) as sink:
        for i, time_s in enumerate(times):  # ever better
            sink.write(view(persons[0], found[0], 1, time_s=time_s, scale=0.2 + 0.08 * i))
            seen.append(path.stat().st_ino)
    replaced = [time_s for time_s, before, now in zip(times[1:], seen, seen[1:], strict=False) if before != now]
    assert replaced == [1.0, 2.0]


def test_the_last_better_view_of_a_track_that_ended_is_written_while_others_go_on(tmp_path, persons, found):
    with FaceSnapshots(tmp_path) as sink:
        sink.write(view(persons[0], found[0], 1, time_s=0.0, blur=4))
        sink.write(view(persons[0], found[0], 1, time_s=0.1))
        assert not similar(tmp_path / "track-00001.jpg", with_margin(persons[0], found[0], 0.3))
        sink.write(view(persons[1], found[1], 2, time_s=1.5))
        assert similar(tmp_path / "track-00001.jpg", with_margin(persons[0], found[0], 0.3))


def test_a_view_that_waits_is_not_changed_by_whoever_reuses_the_frame(tmp_path, persons, found):
    with FaceSnapshots(tmp_path) as sink:
        sink.write(view(persons[0], found[0], 1, time_s=0.0, blur=4))
        better = view(persons[0].copy(), found[0], 1, time_s=0.1)
        sink.write(better)
        better.frame.image[:] = 0
    assert similar(tmp_path / "track-00001.jpg", with_margin(persons[0], found[0], 0.3))


def test_a_source_that_starts_its_time_anew_is_written_at_once(tmp_path, persons, found):
    with FaceSnapshots(tmp_path) as sink:
        sink.write(view(persons[0], found[0], 1, time_s=100.0, blur=4))
        sink.write(view(persons[0], found[0], 1, time_s=0.0))
        assert similar(tmp_path / "track-00001.jpg", with_margin(persons[0], found[0], 0.3))
        for time_s in (100.0, 0.0, 0.2):
            sink.write(view(persons[0], found[0], None, time_s=time_s, source="clip.mp4"))
    expected = ["clip-f000000-1.jpg", "clip-f002500-1.jpg", "track-00001.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == expected


def test_faces_of_pictures_have_the_names_of_their_pictures(tmp_path, persons, found, detector):
    pair = np.hstack([persons[0][:460], persons[1][:460]])
    faces = tuple(Face(d, Age(30, 5)) for d in detector.detect(pair))
    assert len(faces) == 2
    group = AnnotatedFrame(
        Frame("in/group.png", 0, None, pair), FrameResult("in/group.png", 0, None, pair.shape[1::-1], faces)
    )
    single = [view(persons[2], found[2], None, time_s=None, source=f"{folder}/group.jpg") for folder in "ab"]
    odd = view(persons[2], found[2], None, time_s=None, source="rtsp://host:554/a?b")
    write_all(FaceSnapshots(tmp_path), group, *single, odd)
    names = ["a_b-1.jpg", "group-1.jpg", "group-2-1.jpg", "group-2.jpg", "group-3-1.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    for number, face in enumerate(faces, 1):
        assert similar(tmp_path / f"group-{number}.jpg", with_margin(pair, face.detection, 0.3))
    assert similar(tmp_path / "group-3-1.jpg", with_margin(persons[2], found[2], 0.3))


def test_faces_of_a_video_that_are_not_tracked_are_written_once_a_second(tmp_path, persons, found):
    frames = [view(persons[0], found[0], None, time_s=i / 25, source="v/clip.mp4") for i in range(60)]
    write_all(FaceSnapshots(tmp_path), *frames)
    expected = ["clip-f000000-1.jpg", "clip-f000025-1.jpg", "clip-f000050-1.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == expected


def test_no_more_faces_than_allowed_and_one_warning(tmp_path, persons, found, caplog):
    sink = FaceSnapshots(tmp_path, max_faces=2)
    frames = [view(persons[0], found[0], track, time_s=track / 25, scale=0.3) for track in (1, 2, 3, 4)]
    better = view(persons[0], found[0], 2, time_s=0.3)
    write_all(sink, *frames, view(persons[0], found[0], None, time_s=None), better)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["track-00001.jpg", "track-00002.jpg"]
    assert similar(tmp_path / "track-00002.jpg", with_margin(persons[0], found[0], 0.3))  # those there still improve
    [record] = caplog.records
    assert "2 faces" in record.getMessage()


def test_a_face_outside_the_frame_has_no_picture(tmp_path, persons):
    outside = Detection((-80.0, 10.0, 40.0, 40.0), 0.9)
    write_all(FaceSnapshots(tmp_path), view(persons[0], outside, 1), view(persons[0], outside, None, time_s=None))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_a_face_never_takes_the_place_of_a_source(tmp_path, persons, found):
    write_picture(tmp_path / "p-1.jpg", persons[0])
    before = (tmp_path / "p-1.jpg").read_bytes()
    frame = view(persons[0], found[0], None, time_s=None, source=str(tmp_path / "p.jpg"))
    with pytest.raises(OutputError, match="would overwrite"):
        write_all(FaceSnapshots(tmp_path, untouchable=[tmp_path / "p-1.jpg"]), frame)
    assert (tmp_path / "p-1.jpg").read_bytes() == before


def test_faces_that_are_to_be_hidden_are_not_shown_by_the_pictures_of_them(tmp_path, persons, found):
    frame = view(persons[0], found[0], 1)
    with pytest.raises(UsageError, match="faces cannot be blurred and also written as pictures"):
        write_all(FaceSnapshots(tmp_path), AnnotatedFrame(frame.frame, frame.result, blur=True))
    assert list(tmp_path.iterdir()) == []
