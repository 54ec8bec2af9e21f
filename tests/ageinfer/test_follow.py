"""Following faces through made-up clips of real ones: places are known, so every frame can be judged."""

import itertools

import cv2
import numpy as np
import pytest

from ageinfer.crop.cut import crop_face
from ageinfer.crop.spec import CropSpec
from ageinfer.detect import YuNet, detect_closely, detect_near, without_repeats
from ageinfer.sources import read_picture
from ageinfer.tracking.appearance import SAME_LOOK, Look, small_grey
from ageinfer.tracking.follower import FaceFollower
from ageinfer.types import Detection, Frame, overlap


@pytest.fixture(scope="module")
def yunet():
    return YuNet(provider="cpu", threads=1)


@pytest.fixture(scope="module")
def heads(astronaut_path):
    """Three real heads as pictures of 120 x 120: astronaut, and two presidents."""
    found = []
    for name in ("astronaut", "obama", "biden"):
        image = read_picture(astronaut_path.with_name(f"{name}.jpg"))
        [face] = YuNet(provider="cpu").detect(image)[:1]
        crop = crop_face(image, face.box, CropSpec(size=120, margin=0.3))
        found.append(np.ascontiguousarray(crop[:, :, ::-1]))
    return found


class Counting:
    """A detector that counts the pixels it was shown."""

    identifier = "counting"

    def __init__(self, detector):
        self._detector = detector
        self.looks, self.pixels, self.near = 0, 0, 0

    def detect(self, image):
        self.looks += 1
        self.pixels += image.shape[0] * image.shape[1]
        return self._detector.detect(image)

    def detect_near(self, image, boxes):
        self.near += 1
        return self._detector.detect_near(image, boxes)


def scene(heads, places, size=(640, 480)):
    """A grey picture with heads; places: head, x, y of its top left corner, side."""
    image = np.full((size[1], size[0], 3), 110, np.uint8)
    for head, x, y, side in places:
        picture = cv2.resize(heads[head], (side, side), interpolation=cv2.INTER_AREA)
        left, top = max(0, -x), max(0, -y)
        part = image[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)]
        part[...] = picture[top : top + part.shape[0], left : left + part.shape[1]]
    return image


def run(follower, pictures, fps=25.0):
    return [numbered(follower(Frame("clip", i, i / fps, image))) for i, image in enumerate(pictures)]


def numbered(found):
    """The faces of a frame and the numbers of their tracks."""
    detections, tracks = found
    return detections, [track.number for track in tracks]


@pytest.mark.parametrize("side", [40, 80, 130, 260])
@pytest.mark.parametrize("place", ["middle", "corner", "moved"])
def test_near_finds_what_the_whole_picture_shows(yunet, heads, side, place):
    x, y = {"middle": (200, 150), "corner": (-side // 10, -side // 12), "moved": (301, 97)}[place]
    image = scene(heads, [(0, x, y, side)])
    [whole] = yunet.detect(image)
    known = whole.box
    if place == "moved":  # by a quarter of the face
        known = (known[0] + known[2] / 4, known[1] - known[3] / 5, known[2], known[3])
    [near] = yunet.detect_near(image, [known])
    assert overlap(near.box, whole.box) > (0.85 if side > 40 else 0.75)
    assert near.score > whole.score - 0.1
    distance = np.abs(np.array(near.landmarks) - np.array(whole.landmarks)).max()
    assert distance < (0.06 if side > 40 else 0.12) * max(whole.box[2:])


def test_near_keeps_many_faces_apart_and_counts_each_once(yunet, heads):
    places = [(i % 3, 20 + 120 * (i % 5), 10 + 150 * (i // 5), 70 + 8 * (i % 5)) for i in range(15)]
    image = scene(heads, places)
    whole = yunet.detect(image)
    assert len(whole) == 15
    known = [d.box for d in whole]
    near = yunet.detect_near(image, [*known, *known[:4]])  # some places twice
    assert len(near) == 15
    assert all(max(overlap(n.box, w.box) for n in near) > 0.8 for w in whole)


def test_near_an_empty_place_there_is_nothing(yunet, heads):
    image = scene(heads, [(0, 200, 150, 100)])
    assert yunet.detect_near(image, [(450.0, 300.0, 60.0, 60.0), (-400.0, -400.0, 50.0, 50.0)]) == []
    assert yunet.detect_near(image, []) == []


def test_near_works_for_a_detector_without_its_own_way(yunet, heads):
    class Plain:
        identifier = "plain"

        def __init__(self):
            self.shown = []

        def detect(self, image):
            self.shown.append(image.shape[0] * image.shape[1])
            return yunet.detect(image)

    image = scene(heads, [(0, 100, 100, 90), (1, 400, 200, 120)])
    whole = yunet.detect(image)
    plain = Plain()
    near = detect_near(plain, image, [d.box for d in whole])
    assert all(max(overlap(n.box, w.box) for n in near) > 0.8 for w in whole)
    assert len(near) == 2
    assert max(plain.shown) < 640 * 480 / 4


def test_a_crowd_is_looked_at_closely_and_a_portrait_once(yunet, heads):
    crowd = scene(heads, [(i % 3, 70 * i, 50 * (i % 9), 40) for i in range(36)], size=(2560, 500))
    counting = Counting(yunet)
    assert len(detect_closely(counting, crowd)) >= 34  # at 640 pixels they are 7 pixels large
    assert counting.looks == 3
    counting = Counting(yunet)
    assert len(detect_closely(counting, scene(heads, [(0, 500, 100, 800)], size=(2560, 1000)))) == 1
    assert counting.looks == 1


def test_repeats_are_dropped_and_the_best_stays():
    faces = [Detection((0, 0, 50, 50), 0.8), Detection((3, 2, 50, 50), 0.95), Detection((100, 0, 50, 50), 0.7)]
    assert without_repeats(faces) == [faces[1], faces[2]]
    assert without_repeats([]) == []
    # dlib's scores may be below 0.
    assert len(without_repeats([Detection((0, 0, 50, 50), -0.2), Detection((100, 0, 50, 50), -0.1)])) == 2


def moving(heads, frames):
    """Two people who cross the picture; a third one comes after two seconds."""
    for i in range(frames):
        people = [(0, 20 + 4 * i, 100, 110), (1, 480 - 3 * i, 300 - i, 90)]
        yield people + ([(2, 500, 20, 80)] if i >= 50 else [])


def test_every_face_is_found_in_every_frame_and_whole_looks_are_few(yunet, heads):
    counting = Counting(yunet)
    places = list(moving(heads, 75))
    found = run(FaceFollower(counting), [scene(heads, p) for p in places])
    missed = 0
    for people, (detections, numbers) in zip(places, found, strict=True):
        assert len(set(numbers)) == len(detections) <= len(people)
        for _, x, y, side in people:
            inside = [d for d in detections if x < d.box[0] + d.box[2] / 2 < x + side and y < d.box[1] < y + side]
            missed += not inside
    assert missed <= 8  # the third person, until the next look
    assert counting.looks < 30
    assert counting.near > 25  # and in some frames none of either
    assert counting.pixels < 75 * 640 * 480 / 4
    first, last = found[0][1], found[-1][1]
    assert sorted(first) == [1, 2]
    assert sorted(last) == [1, 2, 3]


def asked_in(counting, follower, pictures, fps=25.0):
    """What comes of each picture, and whether the detector was asked in it."""
    results, asked = [], []
    for i, image in enumerate(pictures):
        before = counting.looks + counting.near
        results.append(numbered(follower(Frame("clip", i, i / fps, image))))
        asked.append(counting.looks + counting.near > before)
    return results, asked


def test_a_face_that_stays_or_moves_evenly_is_carried_over_single_frames(yunet, heads):
    for step in (0, 2):
        counting = Counting(yunet)
        pictures = [scene(heads, [(0, 100 + step * i, 150, 140)]) for i in range(40)]
        found, asked = asked_in(counting, FaceFollower(counting), pictures)
        assert 12 <= asked.count(False) <= 20
        assert not any(not a and not b for a, b in itertools.pairwise(asked))
        for image, (detections, numbers) in zip(pictures, found, strict=True):
            [true] = yunet.detect(image)
            [detection] = detections
            assert numbers == [1]
            assert overlap(true.box, detection.box) > 0.8
            assert np.abs(np.subtract(true.landmarks, detection.landmarks)).max() < 0.1 * true.box[3]


@pytest.mark.parametrize("fps", [10.0, 19.0])
def test_in_a_slow_stream_no_face_is_carried(yunet, heads, fps):
    counting = Counting(yunet)
    _, asked = asked_in(counting, FaceFollower(counting), [scene(heads, [(0, 100, 150, 140)])] * 20, fps)
    assert all(asked)


def test_a_face_that_moves_by_fits_and_starts_is_looked_for(yunet, heads):
    counting = Counting(yunet)
    places = [100 + 25 * (i // 2 % 2) for i in range(30)]
    found, asked = asked_in(counting, FaceFollower(counting), [scene(heads, [(0, x, 150, 140)]) for x in places])
    assert asked.count(False) <= 4
    for x, (detections, _) in zip(places, found, strict=True):
        [detection] = detections
        assert x < detection.box[0] + detection.box[2] / 2 - 40 < x + 60


@pytest.mark.parametrize("frames", range(8, 14))
def test_what_takes_a_face_away_is_seen_in_the_same_frame(yunet, heads, frames):
    """Whether the detector would have been asked in that frame or not."""
    shown, empty, other = (scene(heads, places) for places in ([(0, 200, 150, 140)], [], [(1, 200, 150, 140)]))
    gone = run(FaceFollower(yunet), [shown] * frames + [empty] * 2)
    assert [numbers for _, numbers in gone] == [[1]] * frames + [[]] * 2
    replaced = run(FaceFollower(yunet), [shown] * frames + [other] * 2)
    assert [numbers for _, numbers in replaced] == [[1]] * frames + [[2]] * 2


@pytest.mark.parametrize("every", [1, 5])
def test_whole_looks_come_as_often_as_asked(yunet, heads, every):
    counting = Counting(yunet)
    image = scene(heads, [(0, 200, 150, 120)])
    found = run(FaceFollower(counting, detect_every=every), [image] * 30)
    assert counting.looks == 30 // every
    assert all(numbers == [1] for _, numbers in found)


@pytest.mark.parametrize("every", [None, 1])
def test_small_faces_are_not_lost_between_looks_at_full_size(yunet, heads, every):
    image = scene(heads, [(0, 60, 60, 34), (1, 1500, 700, 40)], size=(1920, 1080))
    assert len(yunet.detect(image)) == 2
    found = run(FaceFollower(yunet, detect_every=every), [image] * 20)
    assert all(sorted(numbers) == [1, 2] for _, numbers in found)


def test_the_scale_follows_the_faces(yunet, heads):
    counting = Counting(yunet)
    run(FaceFollower(counting, detect_every=1), [scene(heads, [(0, 400, 100, 700)], size=(1920, 1080))] * 26)
    assert counting.pixels < 1920 * 1080 * 3  # one at full size, 25 at 320 pixels
    counting = Counting(yunet)
    run(FaceFollower(counting, detect_every=1, max_side=None), [scene(heads, [(0, 100, 100, 200)])] * 5)
    assert counting.pixels == 5 * 640 * 480
    counting = Counting(yunet)
    run(FaceFollower(counting, max_side="auto", largest_side=480), [scene(heads, [(0, 100, 100, 200)])])
    assert counting.pixels == 480 * 360


@pytest.mark.parametrize(("given", "most_s"), [({}, 2.0), ({"max_side": "all"}, 0.4)])
@pytest.mark.parametrize("every", [None, 1])
def test_a_face_too_small_for_reduced_looks_is_found_by_the_next_one_at_full_size(yunet, heads, every, given, most_s):
    large = scene(heads, [(0, 60, 60, 500)], size=(1920, 1080))
    both = scene(heads, [(0, 60, 60, 500), (1, 1500, 700, 40)], size=(1920, 1080))
    found = run(FaceFollower(yunet, detect_every=every, **given), [large] * 10 + [both] * 65)
    came = next(i for i, (_, numbers) in enumerate(found) if len(numbers) == 2)
    assert 0 <= round(came / 25 - most_s, 3) < 0.4  # they come at 0.4 s; whole searches are seldom


def test_a_cut_to_another_place_is_found_in_the_same_frame(yunet, heads):
    before, after = scene(heads, [(0, 60, 60, 140)]), scene(heads, [(1, 400, 250, 140)])
    found = run(FaceFollower(yunet), [before] * 30 + [after] * 3)
    assert [numbers for _, numbers in found] == [[1]] * 30 + [[2]] * 3


def test_a_face_that_is_covered_for_a_moment_keeps_its_number(yunet, heads):
    shown, empty = scene(heads, [(0, 200, 150, 140)]), scene(heads, [])
    found = run(FaceFollower(yunet), [shown] * 10 + [empty] * 8 + [shown] * 10)
    assert [numbers for _, numbers in found[:18]] == [[1]] * 10 + [[]] * 8
    assert found[-1][1] == [1]


def test_another_frame_size_begins_anew(yunet, heads):
    small = scene(heads, [(0, 100, 100, 140)])
    large = scene(heads, [(0, 600, 500, 200)], size=(1280, 960))
    found = run(FaceFollower(yunet), [small] * 3 + [large] * 3)
    assert [numbers for _, numbers in found] == [[1]] * 3 + [[2]] * 3


def test_small_faces_can_be_left_out(yunet, heads):
    image = scene(heads, [(0, 100, 100, 60), (1, 300, 200, 200)])
    found = run(FaceFollower(yunet, least_face_px=80), [image] * 12)
    assert all(len(detections) == 1 and max(detections[0].box[2:]) > 80 for detections, _ in found)


@pytest.mark.parametrize("times", [[0, 0, 0, 0], [5, 4, 3, 2], [None] * 4])
def test_clocks_that_stand_still_or_run_backwards_do_not_end_tracks(yunet, heads, times):
    follower, image = FaceFollower(yunet), scene(heads, [(0, 200, 150, 140)])
    for i, time_s in enumerate(times):
        assert numbered(follower(Frame("clip", i, time_s, image)))[1] == [1]


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (31, 33)])
def test_tiny_and_thin_frames_are_no_trouble(yunet, size):
    follower = FaceFollower(yunet)
    for i in range(4):
        assert follower(Frame("clip", i, i / 25, np.zeros((*size, 3), np.uint8))) == ([], [])


def looks_of(head):
    """Of a face that fills the picture with its margin."""
    return small_grey(cv2.resize(head, (112, 112)), (16, 16, 80, 80))


def seen(look, pixels, time_s):
    """Whether a sight is of another face; it is remembered, as the follower does."""
    changed = look.changed(pixels, time_s)
    look.take(pixels, time_s)
    return changed


def test_another_face_is_seen_and_the_same_one_moved_or_darker_is_not(heads):
    for i, head in enumerate(heads):
        for other in [*heads[:i], *heads[i + 1 :]]:
            look = Look()
            assert not seen(look, looks_of(head), 0.0)
            assert look.likeness(looks_of(other)) < SAME_LOOK < look.likeness(looks_of(head))
            assert seen(look, looks_of(other), 0.04)
            assert not seen(look, looks_of(other), 0.08)
        look = Look()
        face = cv2.resize(head, (112, 112))
        shift = np.float32([[1.05, 0, 4], [0, 1.05, -6]])
        for k, same in enumerate((face, cv2.convertScaleAbs(face, alpha=0.5), cv2.warpAffine(face, shift, (112, 112)))):
            assert not seen(look, looks_of(same), k / 25)


def test_a_face_looks_still_only_where_it_was_seen_so(heads):
    look = Look()
    assert not look.still(looks_of(heads[0]), 0.0)  # nothing was seen yet
    look.take(looks_of(heads[0]), 0.0)
    assert look.still(looks_of(heads[0]), 0.04)
    assert not look.still(looks_of(heads[1]), 0.08)
    assert look.still(looks_of(heads[0]), 0.12)  # the other sight was not taken


def test_a_face_at_the_edge_or_outside_has_a_look(heads):
    face = cv2.resize(heads[0], (112, 112))
    for box in (
        (-60.0, -50.0, 80.0, 80.0),
        (90.0, 100.0, 70.0, 60.0),
        (300.0, 300.0, 20.0, 20.0),
        (5.0, 5.0, 0.2, 0.2),
    ):
        assert small_grey(face, box).shape == (28, 28)
    assert not small_grey(face, (-300.0, 10.0, 20.0, 20.0)).any()


def test_after_a_pause_a_track_may_look_different(heads):
    look = Look()
    look.take(looks_of(heads[0]), 0.0)
    assert not seen(look, looks_of(heads[1]), 0.5)
    assert seen(look, looks_of(heads[2]), 0.51)


# Out of sight, and out again.


def behind_a_pillar(heads, fps, *, standing):
    """Pictures in which a head goes behind a pillar and comes out again, or one that stands is hidden for some time."""
    for i in range(round(1.9 * fps)):
        x = 260 if standing else 20 + round(300 * i / fps)
        hidden = 0.5 * fps <= i < 1.2 * fps if standing else 150 <= x <= 370
        yield scene(heads, [] if hidden else [(0, x, 150, 100)])


def numbers_before_and_after(yunet, images, fps):
    """Numbers of the faces before the first picture without any, and of those after it."""
    follower, sides = FaceFollower(yunet), ([], [])
    gone = False
    for i, image in enumerate(images):
        _, tracks = follower(Frame("clip", i, i / fps, image))
        gone = gone or (bool(sides[0]) and not tracks)
        sides[gone].extend(track.number for track in tracks)
    return set(sides[0]), set(sides[1])


@pytest.mark.parametrize("fps", [8, 25])
@pytest.mark.parametrize("standing", [False, True])
def test_a_face_that_was_hidden_comes_out_with_its_number(yunet, heads, fps, standing):
    images = behind_a_pillar(heads, fps, standing=standing)
    assert numbers_before_and_after(yunet, images, fps) == ({1}, {1})


@pytest.mark.parametrize("fps", [8, 25])
def test_somebody_else_who_comes_out_elsewhere_is_somebody_else(yunet, heads, fps):
    def elsewhere():
        for i in range(round(1.6 * fps)):
            time_s = i / fps
            places = [(0, 100, 150, 100)] if time_s < 0.6 else [] if time_s < 1.0 else [(1, 280, 150, 100)]
            yield scene(heads, places)

    assert numbers_before_and_after(yunet, elsewhere(), fps) == ({1}, {2})


@pytest.mark.parametrize("fps", [8, 25])
def test_two_who_pass_before_each_other_keep_their_numbers(yunet, heads, fps):
    follower, found = FaceFollower(yunet), {0: [], 1: []}
    for i in range(round(2.6 * fps)):
        x = [round(20 + 190 * i / fps), round(500 - 190 * i / fps)]
        image = scene(heads, [(0, x[0], 150, 110), (1, x[1], 165, 110)])
        detections, tracks = follower(Frame("clip", i, i / fps, image))
        for detection, track in zip(detections, tracks, strict=True):
            middle = detection.box[0] + detection.box[2] / 2 - 55
            if abs(x[0] - x[1]) > 130:
                found[min((0, 1), key=lambda who: abs(x[who] - middle))].append(track.number)
    for numbers in found.values():
        assert numbers[0] == numbers[-1]
        assert len(set(numbers)) == 1
    assert found[0][0] != found[1][0]
