"""Pictures in batches, video with tracks, live sources without a queue."""

import math
import sys
import threading
import time
import tracemalloc
from typing import ClassVar

import cv2
import numpy as np
import pytest
from tiny_models import tiny_model

from ageinfer.detect import YuNet
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.errors import SourceError, UsageError
from ageinfer.pipeline import Looking, Pipeline
from ageinfer.sources import LiveSource, open_source
from ageinfer.types import Age, Detection, Frame


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.default(provider="cpu", threads=1)


def frames_of(images, source="clip", fps=25.0):
    return [Frame(source, i, i / fps, image) for i, image in enumerate(images)]


class Counting:
    """An estimator that counts how often it was asked."""

    def __init__(self, estimator):
        self._estimator = estimator
        self.metadata, self.provider, self.identifier = estimator.metadata, "cpu", estimator.identifier
        self.batches = []

    def estimate(self, crops):
        self.batches.append(len(crops))
        return self._estimator.estimate(crops)


class Moving:
    """A detector for frames that say in their first pixels how many faces are where; costs nothing."""

    identifier = "moving"

    def detect(self, image):
        count = int(image[0, 0, 0])
        shift = float(image[0, 0, 1])
        return [Detection((10.0 + shift, 5.0 + 40 * i, 30.0, 30.0), 0.9) for i in range(count)]


class Slow:
    """Answers with one age after some time."""

    provider, threads, identifier = "cpu", 1, "made-up@fp32"

    def __init__(self, metadata, seconds):
        self.metadata, self._seconds = metadata, seconds

    def estimate(self, crops):
        time.sleep(self._seconds)
        return [Age(30.0, 5.0)] * len(crops)


@pytest.mark.parametrize(("provider", "batches"), [("cuda", [5]), ("cpu", [1, 1, 0, 1, 1, 1])])
def test_faces_of_several_pictures_share_a_batch_and_every_picture_keeps_its_own(pipeline, persons, provider, batches):
    images = [cv2.resize(persons[i % 3], None, fx=s, fy=s) for i, s in enumerate((0.4, 0.6, 0.9, 0.5, 0.7))]
    images.insert(2, np.zeros((90, 70, 3), np.uint8))
    counting = Counting(pipeline.estimator)
    counting.provider = provider
    frames = [Frame(f"{i}.jpg", 0, None, image) for i, image in enumerate(images)]
    done = list(Pipeline(pipeline.detector, counting).pictures(frames))
    assert [frame.source for frame, _ in done] == [frame.source for frame in frames]
    assert counting.batches == batches
    for frame, result in done:
        alone = pipeline(frame)
        assert result.source == frame.source
        assert [f.detection for f in result.faces] == [f.detection for f in alone.faces]
        for face, expected in zip(result.faces, alone.faces, strict=True):
            assert face.age.age_years == pytest.approx(expected.age.age_years, abs=1e-3)
            assert (face.track, face.age_smoothed_years) == (None, None)


def test_a_picture_does_not_wait_for_one_that_is_not_there_yet(pipeline, persons):
    """Whoever writes a path and reads the answer before the next path must get it."""
    asked = []

    def frames():
        for i, image in enumerate(persons[:3]):
            asked.append(i)
            yield Frame(f"{i}.jpg", 0, None, image)
            yield None

    for i, (frame, result) in enumerate(pipeline.pictures(frames())):
        assert (frame.source, asked, len(result.faces)) == (f"{i}.jpg", list(range(i + 1)), 1)
    assert len(asked) == 3


def test_pictures_before_an_error_are_done(pipeline, persons):
    def frames():
        yield Frame("good.jpg", 0, None, persons[0])
        raise SourceError("no more")

    results = pipeline.pictures(frames())
    assert next(results)[0].source == "good.jpg"
    with pytest.raises(SourceError, match="no more"):
        next(results)


def test_large_pictures_do_not_wait_for_each_other(pipeline):
    counting = Counting(pipeline.estimator)
    large = np.zeros((3000, 4000, 3), np.uint8)
    stream = Pipeline(Moving(), counting).pictures(Frame(str(i), 0, None, large) for i in range(10**6))
    assert next(stream)[0].source == "0"  # 36 million values fill a batch


def test_a_video_has_tracks_and_one_age_for_each(pipeline, persons):
    images = []
    for i in range(60):
        image = np.full((300, 700, 3), 90, np.uint8)
        image[20:260, 20 + i : 260 + i] = cv2.resize(persons[0], (240, 240))
        image[30:230, 450:650] = cv2.resize(persons[1], (200, 200))
        images.append(cv2.convertScaleAbs(image, alpha=1 + 0.1 * np.sin(i)))  # so that ages tremble
    done = list(pipeline.video(frames_of(images)))
    assert [result.index for _, result in done] == list(range(60))
    assert {face.track for _, result in done for face in result.faces} == {1, 2}
    for track in (1, 2):
        faces = [face for _, result in done for face in result.faces if face.track == track]
        assert len(faces) == 60
        raw = np.array([f.age.age_years for f in faces])
        smooth = np.array([f.age_smoothed_years for f in faces])
        assert raw[30:].std() > 3 * smooth[30:].std()
        assert abs(smooth[-1] - np.median(raw)) < 2
    # The age of the frame alone is what the frame alone gives.
    full_size = Pipeline(pipeline.detector, pipeline.estimator, Looking(max_side=None))
    alone = {round(f.detection.box[0]): f.age.age_years for f in full_size(images[0]).faces}
    for face in done[0][1].faces:
        assert face.age.age_years == pytest.approx(alone[round(face.detection.box[0])], abs=0.3)


@pytest.mark.filterwarnings("error")  # of numbers that overflow
def test_a_clock_that_runs_backwards_does_not_carry_ages_away(pipeline, persons):
    image = cv2.resize(persons[1], (300, 300))
    frames = [Frame("clip", i, 1e6 - 20_000 * i, image) for i in range(40)]
    faces = [result.faces[0] for _, result in pipeline.video(frames)]
    assert {face.track for face in faces} == {1}
    raw = [face.age.age_years for face in faces]
    assert all(min(raw) - 0.25 <= face.age_smoothed_years <= max(raw) + 0.25 for face in faces)


class CountingCrops(Pipeline):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.crops = []

    def crop(self, image, detections):
        self.crops.append(len(detections))
        return super().crop(image, detections)


def still(image, seconds, fps=25.0):
    return frames_of([image] * round(seconds * fps), fps=fps)


def test_a_settled_age_is_asked_for_now_and_then(pipeline, persons):
    """25 frames a second: each for two seconds, then every fifth, whose answer stays with how old it is."""
    frames = still(cv2.resize(persons[1], (240, 240)), 4)
    counting = Counting(pipeline.estimator)
    cropping = CountingCrops(pipeline.detector, counting)
    lags = [round(result.faces[0].age_lag_s, 3) for _, result in cropping.video(frames)]
    assert lags[:50] == [0] * 50
    begins = next(i for i, lag in enumerate(lags) if lag)
    assert begins in (50, 51)
    assert lags[begins:] == ([0.04, 0.08, 0.12, 0.16, 0] * 10)[: 100 - begins]
    assert counting.batches == cropping.crops == [0 if lag else 1 for lag in lags]


def test_without_an_interval_every_frame_is_asked_about(pipeline, persons):
    counting = Counting(pipeline.estimator)
    every = Pipeline(pipeline.detector, counting, Looking(age_interval_s=0))
    done = list(every.video(still(cv2.resize(persons[1], (240, 240)), 3)))
    assert {result.faces[0].age_lag_s for _, result in done} == {0}
    assert counting.batches == [1] * 75


def test_the_answer_that_stays_is_that_of_its_frame(pipeline, persons):
    image = cv2.resize(persons[1], (240, 240))
    frames = frames_of([cv2.convertScaleAbs(image, alpha=1 + 0.2 * np.sin(i)) for i in range(80)])
    every = Pipeline(pipeline.detector, pipeline.estimator, Looking(age_interval_s=0))
    fresh = [result.faces[0].age for _, result in every.video(frames)]
    done = [result.faces[0] for _, result in pipeline.video(frames)]
    for i, face in enumerate(done):
        assert face.age == fresh[i - round(25 * face.age_lag_s)]
    assert {round(face.age_lag_s, 2) for face in done} == {0, 0.04, 0.08, 0.12, 0.16}


def test_each_face_has_a_time_of_its_own(pipeline, persons):
    """The second face comes half a second later, and is then asked about in every frame while the first is not."""
    image = np.full((300, 700, 3), 90, np.uint8)
    image[20:260, 20:260] = cv2.resize(persons[0], (240, 240))
    both = image.copy()
    both[30:230, 450:650] = cv2.resize(persons[1], (200, 200))
    counting = Counting(pipeline.estimator)
    done = list(Pipeline(pipeline.detector, counting).video(frames_of([image] * 60 + [both] * 60)))
    late = [sorted(result.faces, key=lambda f: f.detection.box[0]) for _, result in done[70:100]]
    assert {face.age_lag_s for _, face in late} == {0}
    assert sum(face.age_lag_s == 0 for face, _ in late) == 6
    assert set(counting.batches[70:100]) == {1, 2}


def test_somebody_new_is_asked_about_in_every_frame(pipeline, persons):
    first, second = (cv2.resize(p, (300, 300)) for p in persons[1:])
    done = list(pipeline.video(frames_of([first] * 70 + [second] * 30)))
    assert sum(result.faces[0].age_lag_s == 0 for _, result in done[52:70]) == 3
    assert {result.faces[0].age_lag_s for _, result in done[70:]} == {0}


@pytest.mark.parametrize("interval_s", [-0.1, 0.3, float("nan")])
def test_an_interval_beyond_which_a_change_would_not_be_noticed(interval_s):
    with pytest.raises(UsageError, match=r"use 0 to 0\.25"):
        Looking(age_interval_s=interval_s)


def test_another_person_in_the_same_place_is_another_track(pipeline, persons):
    pictures = [cv2.resize(p, (300, 300)) for p in persons[1:]]
    done = list(pipeline.video(frames_of([pictures[0]] * 15 + [pictures[1]] * 15)))
    tracks = [result.faces[0].track for _, result in done]
    assert len(set(tracks[:15])) == len(set(tracks[15:])) == 1
    assert tracks[0] != tracks[-1]
    new = done[15][1].faces[0]
    assert new.age_smoothed_years == pytest.approx(new.age.age_years, abs=0.2)


class Jumping:
    """Finds one face where it is, and its landmarks upright and turned by 50 degrees in turns."""

    identifier = "jumping"

    def __init__(self, detection):
        self._found, self._calls = detection, 0

    def detect(self, image):
        self._calls += 1
        points = np.array(self._found.landmarks)
        if self._calls % 2:
            turn = np.radians(50)
            matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            points = (points - points.mean(axis=0)) @ matrix + points.mean(axis=0)
        return [Detection(self._found.box, 0.9, tuple(map(tuple, points.tolist())))]


def test_landmarks_that_jump_make_no_other_person(pipeline, persons):
    """The crop of a model that aligns faces turns with them; who it is does not."""
    image = cv2.resize(persons[1], (300, 300))
    [found] = pipeline.detector.detect(image)
    aligned = tiny_model(input_size=64, crop_changes={"size": 64, "margin": 0.2, "kind": "landmarks"})
    estimator = AgeEstimator(aligned, provider="cpu", threads=1)
    done = list(Pipeline(Jumping(found), estimator, Looking(every=1)).video(frames_of([image] * 10)))
    assert {face.track for _, result in done for face in result.faces} == {1}
    crop = Pipeline(pipeline.detector, estimator).crop
    turned, upright = (crop(image, [d]) for d in (Jumping(found).detect(image)[0], found))
    assert np.abs(turned.astype(float) - upright).mean() > 10


def test_a_source_is_run_as_its_kind_deserves(pipeline, persons, tmp_path, write_video):
    clip = write_video(tmp_path / "clip.avi", [cv2.resize(persons[0], (240, 240))] * 12)
    done = [result for _, result in pipeline.run(open_source(clip))]
    assert [r.index for r in done] == list(range(12))
    assert {f.track for r in done for f in r.faces} == {1}
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, person in enumerate(persons):
        assert cv2.imwrite(str(folder / f"{i}.png"), person)
    done = [result for _, result in pipeline.run(open_source(folder))]
    assert [r.source for r in done] == [str(folder / f"{i}.png") for i in range(3)]
    assert {f.track for r in done for f in r.faces} == {None}


class Seeing(Moving):
    """Sees nothing but whole frames."""

    def detect_near(self, image, boxes):
        return []


class Brightness:
    """An estimator for which the brightness of a crop's centre is an age; remembers how many faces it was given."""

    provider, threads, identifier = "cuda", 1, "made-up@fp32"

    def __init__(self, metadata):
        self.metadata, self.batches = metadata, []

    def estimate(self, crops):
        self.batches.append(len(crops))
        middle = crops.shape[1] // 2
        return [Age(float(crop[middle - 8 : middle + 8, middle - 8 : middle + 8].mean()), 4.0) for crop in crops]


def coming_and_going(rng, people=3):
    """Frames for `Seeing`: people come and go, and some change to another age where they are."""
    texture = rng.integers(0, 40, (160, 90, 3), np.uint8)
    ages = rng.integers(20, 160, people)
    count = people
    for i in range(400):
        if rng.random() < 0.02:
            ages[rng.integers(people)] = rng.integers(20, 160)
        if rng.random() < 0.02:
            count = int(rng.integers(0, people + 1))
        image = texture.copy()
        for k, age in enumerate(ages):
            image[40 * k : 40 * k + 40] += np.uint8(age)
        image[0, 0, :2] = count, i % 3
        yield Frame("clip", i, i / 25, image)


@pytest.mark.parametrize("interval_s", [0.2, 0])
@pytest.mark.parametrize("at_once", [2, 4, 9])
def test_frames_whose_faces_are_estimated_together_have_the_ages_that_they_have_alone(
    pipeline, at_once, interval_s, monkeypatch
):
    """Also where a track begins anew in the middle of a group, and so is due where that was not foreseen."""
    monkeypatch.setattr("ageinfer.ahead._LONGEST_WAIT_S", math.inf)
    looking = Looking(max_side=None, every=1, age_interval_s=interval_s)
    late = 0
    for seed in (0, 3):
        alone, together = (Pipeline(Seeing(), Brightness(pipeline.estimator.metadata), looking) for _ in range(2))
        frames = list(coming_and_going(np.random.default_rng(seed)))
        expected = [result for _, result in alone.video(frames)]
        assert len({face.track for result in expected for face in result.faces}) >= 3
        assert [result for _, result in estimated(together, frames, at_once=at_once)] == expected
        groups = -(-len(frames) // at_once)
        late += len(together.estimator.batches) - groups
        assert len(together.estimator.batches) < 0.75 * len(frames)
    assert late > 0 or interval_s == 0


def estimated(pipeline, frames, at_once):
    tracker = pipeline.start()
    return tracker.estimated(map(tracker.locate, frames), at_once=at_once)


def test_frames_before_an_error_are_done(pipeline):
    def frames():
        yield from list(coming_and_going(np.random.default_rng(0)))[:6]
        raise SourceError("no more")

    together = Pipeline(Seeing(), Brightness(pipeline.estimator.metadata), Looking(max_side=None, every=1))
    results = estimated(together, frames(), at_once=4)
    assert [next(results)[1].index for _ in range(6)] == list(range(6))
    with pytest.raises(SourceError, match="no more"):
        next(results)


def test_large_frames_do_not_wait_for_each_other(pipeline):
    together = Pipeline(Seeing(), Brightness(pipeline.estimator.metadata), Looking(max_side=None, every=1))
    large = np.zeros((3000, 4000, 3), np.uint8)
    taken = []

    def frames():
        for i in range(3):
            taken.append(i)
            yield Frame("clip", i, i / 25, large)

    results = estimated(together, frames(), at_once=4)
    assert next(results)[1].index == 0
    assert taken == [0]


@pytest.mark.parametrize(("provider", "batches"), [("cuda", [4, 4, 3]), ("cpu", [1] * 11)])
def test_a_gpu_estimates_the_faces_of_four_frames_of_a_file_together(
    pipeline, persons, tmp_path, write_video, monkeypatch, provider, batches
):
    monkeypatch.setattr("ageinfer.ahead._LONGEST_WAIT_S", math.inf)
    clip = write_video(tmp_path / "clip.avi", [cv2.resize(persons[0], (240, 240))] * 11)
    counting = Counting(pipeline.estimator)
    counting.provider = provider
    assert len(list(Pipeline(pipeline.detector, counting).run(open_source(clip)))) == 11
    assert counting.batches == batches


def test_frames_that_come_slowly_do_not_wait_for_each_other(pipeline):
    """With a detector that takes a second for a frame, the first result is there after a second."""
    together = Pipeline(Seeing(), Brightness(pipeline.estimator.metadata), Looking(max_side=None, every=1))
    taken = []

    def frames():
        for i, frame in enumerate(list(coming_and_going(np.random.default_rng(0)))[:12]):
            time.sleep(0.1 if i < 4 else 0)
            taken.append(i)
            yield frame

    results = estimated(together, frames(), at_once=4)
    for i in range(4):
        assert next(results)[1].index == i
        assert taken[-1] == i
    assert len(list(results)) == 8


@pytest.mark.parametrize(
    ("looking", "largest"),
    [(Looking(), 2560), (Looking(max_side=None), 3000), (Looking(largest_side=sys.maxsize), 3000)],
)
def test_a_look_at_a_very_large_frame_of_a_file_is_reduced(pipeline, tmp_path, write_video, looking, largest):
    class Seeing(Moving):
        sides: ClassVar[list[int]] = []

        def detect(self, image):
            self.sides.append(max(image.shape))
            return []

    clip = write_video(tmp_path / "clip.avi", [np.zeros((200, 3000, 3), np.uint8)] * 3)
    assert len(list(Pipeline(Seeing(), pipeline.estimator, looking).run(open_source(clip)))) == 3
    assert max(Seeing.sides) == largest


def test_a_run_that_is_left_early_leaves_no_thread(pipeline, persons, tmp_path, write_video):
    clip = write_video(tmp_path / "clip.avi", [cv2.resize(persons[0], (240, 240))] * 40)
    before = threading.active_count()
    run = pipeline.run(open_source(clip))
    for _ in range(3):
        next(run)
    run.close()
    assert threading.active_count() == before


class ThirtyFps:
    """A camera that gives 30 frames a second, each with its time in its first pixels."""

    def __init__(self, image, frames):
        self._image, self._left = image, frames

    def isOpened(self):  # noqa: N802
        return True

    def read(self):
        time.sleep(1 / 30)
        self._left -= 1
        return self._left >= 0, self._image.copy() if self._left >= 0 else None

    def get(self, _):
        return 30.0

    def set(self, *_):
        return True

    def release(self):
        pass


def test_what_is_shown_of_a_live_source_is_never_old(pipeline, persons):
    image = cv2.resize(persons[0], (320, 240))
    slow = Pipeline(pipeline.detector, Slow(pipeline.estimator.metadata, 0.1))
    source = LiveSource("camera:0", lambda: ThirtyFps(image, 75), reconnect_for_s=0)
    ages = []

    def show():
        for frame, result in slow.run(source):
            assert len(result.faces) == 1
            ages.append(time.monotonic() - frame.captured_s)

    with source, pytest.raises(SourceError, match="camera:0"):
        show()
    assert len(ages) > 10
    assert source.dropped > 20
    assert np.median(ages) < 0.18  # one period of the camera, and the work
    assert np.percentile(ages, 90) < 0.25  # the rest is the test machine's


@pytest.mark.slow
def test_ten_minutes_of_people_coming_and_going_take_no_more_memory_than_one(tiny_model, tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model())
    pipeline = Pipeline(Moving(), AgeEstimator(path, provider="cpu", threads=1))
    image = np.zeros((140, 100, 3), np.uint8)
    sizes, tracks = [], 0

    def people():
        for i in range(10 * 60 * 5):  # five frames a second
            image[0, 0] = (i // 7 % 4, i % 50, 0)
            yield Frame("camera:0", i, i / 5, image)

    tracemalloc.start()
    try:
        for frame, result in pipeline.video(people()):
            tracks = max([tracks, *(f.track for f in result.faces)])
            if frame.index % 300 == 299:
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert tracks > 100
    assert max(sizes[2:]) < sizes[1] + 100_000


@pytest.mark.parametrize(
    "image",
    [np.zeros((10, 10), np.uint8), np.zeros((10, 10, 4), np.uint8), np.zeros((10, 10, 3), np.float32), None, 7],
    ids=["grey", "four channels", "floats", "nothing", "a number"],
)
def test_what_is_no_picture_is_refused(pipeline, image):
    with pytest.raises(ValueError, match="uint8 BGR"):
        pipeline(image)
    with pytest.raises(ValueError, match="uint8 BGR"):
        list(pipeline.video([Frame("clip", 0, 0.0, image)]))


@pytest.mark.parametrize("values", [{"max_side": 31}, {"max_side": -5}, {"every": 0}])
def test_looking_that_makes_no_sense_is_refused(values):
    with pytest.raises(UsageError):
        Looking(**values)


def test_the_size_of_detection_is_kept(persons, pipeline):
    image = enlarged(persons[1], 1500)
    small = Pipeline(YuNet(provider="cpu", threads=1), pipeline.estimator, Looking(max_side=64))
    [coarse] = small(image).faces
    [fine] = Pipeline(pipeline.detector, pipeline.estimator, Looking(max_side=None))(image).faces
    assert coarse.detection.box != fine.detection.box
    assert abs(np.array(coarse.detection.box) - fine.detection.box).max() < 150
    assert Pipeline(pipeline.detector, pipeline.estimator, Looking(least_face_px=1400))(image).faces == ()


def enlarged(image, side):
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)


def test_a_model_for_whole_pictures_follows_nobody(tiny_model, tmp_path):
    path = tmp_path / "whole.onnx"
    crop = {"kind": "resize", "resize_to": 10, "keep_aspect": True, "detector": "none", "margin": 0.0}
    path.write_bytes(tiny_model(crop_changes=crop))
    pipeline = Pipeline.default(path, provider="cpu")
    [(_, result)] = list(pipeline.video(frames_of([np.full((64, 64, 3), 77, np.uint8)])))
    [face] = result.faces
    assert (face.track, face.age_smoothed_years) == (None, None)
    assert face.age.age_years == pytest.approx(77, abs=1)
