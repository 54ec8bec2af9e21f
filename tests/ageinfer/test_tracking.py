import math
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ageinfer.tracking.tracker import Tracker
from ageinfer.types import Detection, overlap


def numbers_of(tracker, detections, time_s):
    return [track.number for track in tracker.update(detections, time_s)]


def face(x, y, side=50.0, score=0.9):
    return Detection(box=(float(x), float(y), float(side), float(side)), score=score)


def test_overlap_is_intersection_over_union():
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0
    assert overlap((0, 0, 10, 10), (20, 20, 10, 10)) == 0


def test_two_people_who_pass_each_other_keep_their_numbers():
    tracker = Tracker()
    numbers = []
    for i in range(41):  # left to right, and right to left a little lower; in the order of the detector's score
        people = [face(10 * i, 100), face(400 - 10 * i, 140)]
        found = numbers_of(tracker, people if i % 2 else people[::-1], i / 25)
        numbers.append(found if i % 2 else found[::-1])
    assert set(map(tuple, numbers)) == {tuple(numbers[0])}
    assert sorted(numbers[0]) == [1, 2]


def test_a_face_that_comes_back_in_time_is_the_same_one_and_later_a_new_one():
    tracker = Tracker(patience_s=1.0)
    assert numbers_of(tracker, [face(100, 100)], 0.0) == [1]
    assert numbers_of(tracker, [], 0.5) == []
    assert numbers_of(tracker, [face(110, 105)], 0.9) == [1]
    assert numbers_of(tracker, [], 1.8) == []
    assert [t.number for t in tracker.unseen(1.8)] == [1]
    assert numbers_of(tracker, [face(110, 105)], 1.95) == [2]


@pytest.mark.parametrize(("every_s", "same"), [(1.25, True), (9.0, True), (11.0, False)])
def test_a_face_in_every_frame_of_a_slow_source_is_one_track(every_s, same):
    tracker = Tracker(patience_s=1.0)
    for i in range(5):
        assert numbers_of(tracker, [face(100, 100)], i * every_s) == [1 if same else 2 * i + 1]
        # More faces of the same frame do not end the tracks of the frame before.
        assert numbers_of(tracker, [face(500 + 200 * i, 100)], i * every_s)[0] > 1


def test_a_face_that_one_frame_of_a_slow_source_lacks_is_a_new_one():
    tracker = Tracker(patience_s=1.0)
    assert numbers_of(tracker, [face(100, 100)], 0.0) == [1]
    assert numbers_of(tracker, [], 2.0) == []
    assert numbers_of(tracker, [face(100, 100)], 4.0) == [2]


def test_a_fast_face_is_expected_further_on():
    tracker = Tracker()
    for i in range(5):  # 35 pixels a frame: too far for one box to overlap the next
        assert numbers_of(tracker, [face(35 * i, 0)], i * 0.1) == [1]
    # Somebody stands where it was; it has moved on as before, and stays the same.
    assert numbers_of(tracker, [face(140, 0), face(175, 0)], 0.5) == [2, 1]


@pytest.mark.parametrize("burst", [2, 3, 5])
def test_frames_in_bursts_are_no_faces_that_fly(burst):
    """A network delivers several frames within milliseconds; the face moves on evenly, and its box trembles."""
    tracker, tremble = Tracker(), np.random.default_rng(0)
    for i in range(100):
        time_s = i // burst * burst / 25 + i % burst * 0.005
        assert numbers_of(tracker, [face(3 * i + tremble.uniform(-1, 1), tremble.uniform(-1, 1))], time_s) == [1]
        if i > 3 * burst:
            [track] = tracker.tracks
            assert abs(track.velocity[0] - 75) < 30
            assert abs(track.velocity[1]) < 30


def test_a_far_face_or_one_of_another_size_is_not_the_same():
    tracker = Tracker()
    tracker.update([face(0, 0)], 0.0)
    assert numbers_of(tracker, [face(60, 60)], 0.04) == [2]
    assert numbers_of(tracker, [face(0, 45, side=20)], 0.08) == [3]


def test_one_face_a_track_and_frame_even_if_more_are_found_later():
    tracker = Tracker()
    tracker.update([face(0, 0)], 0.0)
    assert numbers_of(tracker, [face(2, 0)], 0.04) == [1]
    assert numbers_of(tracker, [face(4, 0)], 0.04) == [2]


def test_a_new_track_keeps_the_place():
    tracker = Tracker()
    first, _ = tracker.update([face(0, 0), face(200, 0)], 0.0)
    new = tracker.replace(first, np.zeros((28, 28), np.uint8), 0.0)
    assert (new.number, new.box, first in tracker.tracks) == (3, first.box, False)
    assert numbers_of(tracker, [face(1, 0), face(201, 0)], 0.04) == [3, 2]


boxes = st.tuples(*[st.floats(-50, 300)] * 2, *[st.floats(1, 120)] * 2)


@given(st.lists(st.lists(boxes, max_size=5), max_size=8))
def test_numbers_are_unique_in_a_frame_and_never_given_twice(frames):
    tracker = Tracker()
    alive: set[int] = set()
    seen: set[int] = set()
    for i, frame in enumerate(frames):
        tracks = tracker.update([Detection(box=b, score=1.0) for b in frame], i * 0.3)
        numbers = [track.number for track in tracks]
        assert len(set(numbers)) == len(numbers) == len(frame)
        assert not (set(numbers) & seen) - alive  # what has ended does not come back
        alive = {track.number for track in tracker.tracks}
        assert set(numbers) <= alive
        seen |= set(numbers)
        assert [track.box for track in tracks] == frame
        assert np.isfinite([track.velocity for track in tracker.tracks]).all()


# A detector may be anybody's: the numbers of its boxes may be any.
NUMBERS = st.one_of(
    st.floats(-50, 300), st.floats(), st.sampled_from([0.0, -1.0, 1e-200, 1e308, math.inf, -math.inf, math.nan])
)
ANY_BOXES = st.tuples(*[NUMBERS] * 4)


@settings(max_examples=300)
@given(st.lists(st.lists(ANY_BOXES, max_size=5), max_size=6), st.sampled_from([0.001, 0.04, 1e9]))
@example([[(0, 0, 0, 0)], [(0, 0, 0, 0)]], 0.04)  # no extent
@example([[(0, 0, 1e-200, 1e-200)], [(0, 0, 1e-200, 1e-200)]], 0.04)  # of which the area is 0
@example([[(0, 0, 1e308, 1e308)], [(0, 0, 1e308, 1e308)]], 0.04)
@example([[(math.nan,) * 4], [(math.inf,) * 4], [(0, 0, 9, 9)]], 0.04)
def test_boxes_of_any_numbers_have_tracks(frames, every_s):
    tracker = Tracker()
    for i, frame in enumerate(frames):
        tracks = tracker.update([Detection(box=b, score=1.0) for b in frame], i * every_s)
        assert [track.box for track in tracks] == frame
        assert len({track.number for track in tracks}) == len(frame)


@given(ANY_BOXES, ANY_BOXES)
def test_the_overlap_of_any_boxes_is_a_number(a, b):
    assert isinstance(overlap(a, b), float)


def test_a_thousand_faces_are_followed_in_no_time():
    tracker, began = Tracker(), time.process_time()
    numbers = [numbers_of(tracker, [face(60 * i, 3 * frame) for i in range(1000)], frame / 25) for frame in range(3)]
    assert numbers == [list(range(1, 1001))] * 3
    assert time.process_time() - began < 30
