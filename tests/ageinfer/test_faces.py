import dataclasses
import json
import math
import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ageinfer.crop.cut import MEAN_LANDMARKS, CropSpec, central_face, crop_face, crop_faces
from ageinfer.detect import WholePicture, YuNet
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.pipeline import Pipeline
from ageinfer.types import Detection

BOX = (178.0, 62.0, 90.0, 112.0)  # the astronaut's face, its centre on a whole pixel
# And what YuNet takes for its eyes, nose and corners of the mouth, to a tenth of a pixel.
LANDMARKS = ((200.2, 101.7), (246.8, 102.4), (220.1, 124.2), (198.9, 142.4), (239.6, 143.4))
ALIGNED = CropSpec(kind="landmarks")
FILL = (10, 20, 30)
OUTER = ((-300, 10), (400, 10), (10, -300), (10, 400))


def difference(a, b) -> float:
    """Mean absolute difference, in levels of 255."""
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def ramp(vertical: bool = False) -> np.ndarray:
    """A picture whose value is the x (or y) of the pixel."""
    picture = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    return np.ascontiguousarray(picture.swapaxes(0, 1) if vertical else picture)


def whole(size=128, resize_to=128, keep_aspect=True) -> CropSpec:
    """The crop of the original experiments."""
    return CropSpec(size, 0, kind="resize", detector="none", resize_to=resize_to, keep_aspect=keep_aspect)


def whole_crop(picture, *settings) -> np.ndarray:
    return crop_face(picture, (0, 0, *picture.shape[1::-1]), whole(*settings))


def turned(points, degrees, centre=(220, 120), scale=1.0):
    """Points turned clockwise, as one sees them, and enlarged."""
    turn = scale * np.exp(1j * math.radians(degrees))
    z = (np.array(points) - centre) @ (1, 1j) * turn + complex(*centre)
    return list(zip(z.real.tolist(), z.imag.tolist(), strict=True))


def landmarks_of(centre, side, degrees=0.0):
    """Where an average face of that size has its landmarks."""
    z = MEAN_LANDMARKS * side * np.exp(1j * math.radians(degrees)) + complex(*centre)
    return list(zip(z.real.tolist(), z.imag.tolist(), strict=True))


@pytest.mark.parametrize(
    "spec",
    [
        CropSpec(size=96, margin=0.35, fill=(1, 2, 3), detector="dlib-hog"),
        CropSpec(size=96, margin=0.35, kind="landmarks"),
        CropSpec(120, 0, (1, 2, 3), "resize", detector="none", resize_to=128, keep_aspect=False),
    ],
)
def test_a_specification_survives_json(spec):
    assert CropSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_specifications_of_faces_are_written_as_they_always_were():
    """Model files and checkpoints of earlier releases hold exactly these keys."""
    keys = {"size", "margin", "fill", "kind", "filter", "detector", "version"}
    assert set(CropSpec().to_dict()) == set(ALIGNED.to_dict()) == keys
    assert set(whole().to_dict()) == keys | {"resize_to", "keep_aspect"}


NOT_KNOWN = "crop specification {} is not known (this release knows box|landmarks|resize/area-linear version 1)"
KEYS = "crop specification must have exactly the keys detector, fill, filter, {}kind, margin, {}size, version"
FACE_KEYS, ALL_KEYS = KEYS.format("", ""), KEYS.format("keep_aspect, ", "resize_to, ")
SIZE = "crop size {!r} px is not a whole number between 8 and 1024"
MARGIN = "crop margin {} is not a number between -0.4 and 4"
COLOUR = "crop fill {} is not three values from 0 to 255"
RESIZE = (
    "a resize crop of {} px from {!r} px with margin {} is not valid; give 8 <= size <= resize_to <= 1024 and margin 0"
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, NOT_KNOWN.format("box/area-linear version 2")),
        ({"kind": "mesh"}, NOT_KNOWN.format("mesh/area-linear version 1")),
        ({"filter": "cubic"}, NOT_KNOWN.format("box/cubic version 1")),
        ({"kind": "resize"}, ALL_KEYS),
        ({"resize_to": 128}, FACE_KEYS),
        ({"keep_aspect": True}, FACE_KEYS),
        ({"colour": "red"}, FACE_KEYS),
        ({"size": 7}, SIZE.format(7)),
        ({"size": 1025}, SIZE.format(1025)),
        ({"size": "112"}, SIZE.format("112")),
        ({"size": 112.5}, SIZE.format(112.5)),
        ({"margin": -0.5}, MARGIN.format(-0.5)),
        ({"margin": 4.1}, MARGIN.format(4.1)),
        ({"margin": math.nan}, MARGIN.format("nan")),
        ({"margin": math.inf}, MARGIN.format("inf")),
        ({"margin": None}, MARGIN.format(None)),
        ({"fill": [1, 2]}, COLOUR.format("(1, 2)")),
        ({"fill": [1, 2, 256]}, COLOUR.format("(1, 2, 256)")),
        ({"fill": [1, 2, -1]}, COLOUR.format("(1, 2, -1)")),
        ({"fill": [0.5, 0, 0]}, COLOUR.format("(0.5, 0, 0)")),
        ({"fill": 5}, "crop specification: 'int' object is not iterable"),
    ],
    ids=str,
)
def test_a_specification_that_is_not_known_is_refused(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CropSpec.from_dict(CropSpec().to_dict() | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detector": "yunet-2023mar"}, "a resize crop has no detector, not 'yunet-2023mar'"),
        ({"margin": 0.1}, RESIZE.format(128, 128, 0.1)),
        ({"size": 129}, RESIZE.format(129, 128, 0)),
        ({"size": 7}, RESIZE.format(7, 128, 0)),
        ({"resize_to": 1025}, RESIZE.format(128, 1025, 0)),
        ({"resize_to": 127}, RESIZE.format(128, 127, 0)),
        ({"resize_to": None}, RESIZE.format(128, None, 0)),
        ({"resize_to": "128"}, RESIZE.format(128, "128", 0)),
        ({"resize_to": 128.5}, RESIZE.format(128, 128.5, 0)),
        ({"keep_aspect": "false"}, "crop keep_aspect 'false' is not true or false"),
        ({"keep_aspect": None}, "crop keep_aspect None is not true or false"),
        ({"kind": "box"}, FACE_KEYS),
        ({"kind": "landmarks"}, FACE_KEYS),
        ({"version": 2}, NOT_KNOWN.format("resize/area-linear version 2")),
    ],
    ids=str,
)
def test_a_resize_specification_that_is_not_known_is_refused(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CropSpec.from_dict(whole().to_dict() | change)


@pytest.mark.parametrize("change", [{"resize_to": 128}, {"keep_aspect": False}])
def test_a_crop_of_faces_does_not_resize(change):
    with pytest.raises(ValueError, match="does not resize"):
        CropSpec(**change)


@pytest.mark.parametrize("spec", [CropSpec(), ALIGNED, whole()], ids=lambda spec: spec.kind)
def test_a_specification_without_one_of_its_keys_is_refused(spec):
    for key in spec.to_dict():
        values = spec.to_dict()
        del values[key]
        with pytest.raises(ValueError, match=key):
            CropSpec.from_dict(values)


@pytest.mark.parametrize("size", [64, 65])
def test_a_crop_of_its_own_size_is_the_picture_itself_as_rgb(astronaut, size):
    crop = crop_face(astronaut, (10, 20, size, size), CropSpec(size=size, margin=0))
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, astronaut[20 : 20 + size, 10 : 10 + size, ::-1])


def test_bgr_goes_in_and_rgb_comes_out():
    blue = np.full((80, 80, 3), (200, 90, 7), np.uint8)
    assert crop_face(blue, (20, 20, 30, 30), CropSpec(size=32))[16, 16].tolist() == [7, 90, 200]


def test_the_side_is_the_longer_one_of_the_box_plus_the_margin_on_both_sides(astronaut):
    tall = crop_face(astronaut, (46 - 16, 20, 32, 64), CropSpec(size=64, margin=0))
    np.testing.assert_array_equal(tall, astronaut[20:84, 14:78, ::-1])
    with_margin = crop_face(astronaut, (100, 200, 64, 40), CropSpec(size=96, margin=0.25))
    np.testing.assert_array_equal(with_margin, astronaut[220 - 48 : 220 + 48, 132 - 48 : 132 + 48, ::-1])


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("side", [16, 24.25, 33, 47.5, 64, 81.75, 100, 150])
def test_every_pixel_lies_where_the_geometry_says(side, vertical):
    # On a ramp the value of a pixel is its position, so an error of half a pixel anywhere shows.
    crop = crop_face(ramp(vertical), (128.25 - side / 2, 120 - side / 2, side, side), CropSpec(size=32, margin=0))
    values = crop[16, :, 0] if not vertical else crop[:, 16, 0]
    centre = 120 if vertical else 128.25
    expected = centre - side / 2 + (np.arange(32) + 0.5) * side / 32 - 0.5
    np.testing.assert_allclose(values, expected, atol=0.75)


@pytest.mark.parametrize("reduction", [1, 2, 3])
@pytest.mark.parametrize("corner", ["left top", "right bottom"])
def test_beyond_the_picture_there_is_fill_and_inside_there_is_none(reduction, corner):
    picture = np.full((300, 300, 3), 200, np.uint8)
    side = 64 * reduction
    start = -side / 2 if corner == "left top" else 300 - side / 2  # half of the square is outside
    crop = crop_face(picture, (start, start, side, side), CropSpec(size=64, margin=0, fill=FILL))
    if corner == "right bottom":
        crop = crop[::-1, ::-1]
    assert (crop[:32] == FILL).all()
    assert (crop[:, :32] == FILL).all()
    assert (crop[32:, 32:] == 200).all()


@pytest.mark.parametrize("side", [20, 64, 200])
@pytest.mark.parametrize("place", OUTER, ids=str)
def test_a_box_wholly_outside_gives_fill_alone(place, side):
    picture = np.full((100, 120, 3), 255, np.uint8)
    crop = crop_face(picture, (*place, side, side), CropSpec(size=64, margin=0, fill=FILL))
    assert (crop == FILL).all()


@pytest.mark.parametrize("size", [32, 112])  # with reduction and without
def test_a_hundredth_of_a_pixel_changes_nothing_and_a_whole_one_does(astronaut, size):
    spec = CropSpec(size=size)
    crop = crop_face(astronaut, BOX, spec)
    for i in range(4):
        for step in (0.01, -0.01):
            moved = tuple(v + step * (i == j) for j, v in enumerate(BOX))
            np.testing.assert_array_equal(crop_face(astronaut, moved, spec), crop)
        by_one = tuple(v + (i == j) for j, v in enumerate(BOX))
        assert difference(crop_face(astronaut, by_one, spec), crop) > 0.1


@pytest.mark.parametrize("size", [112, 48])
def test_a_larger_picture_of_the_same_face_gives_nearly_the_same_crop(astronaut, size):
    spec = CropSpec(size=size)
    larger = cv2.resize(astronaut, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    x, y, w, h = (4 * v for v in BOX)

    # The two crops differ in sharpness, which is no fault; smoothed, only a difference of place is left.
    def smooth(crop):
        return cv2.GaussianBlur(crop, (0, 0), 1.5)

    crop = crop_face(astronaut, BOX, spec)
    in_place = crop_face(larger, (x, y, w, h), spec)
    assert difference(in_place, crop) < 4.5
    assert difference(smooth(in_place), smooth(crop)) < 1
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):  # a quarter of a pixel of the original
        moved = crop_face(larger, (x + dx, y + dy, w, h), spec)
        assert difference(smooth(moved), smooth(crop)) > 1.2 * difference(smooth(in_place), smooth(crop))


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_a_reduction_averages_and_does_not_pick_pixels(scale):
    # Of fine stripes, picked pixels would be black or white; their average is grey.
    stripes = np.zeros((300, 300, 3), np.uint8)
    stripes[:, ::2] = 255
    stripes[1::2] = 255 - stripes[1::2]
    side = 32 * scale
    crop = crop_face(stripes, (20, 30, side, side), CropSpec(size=32, margin=0))
    assert np.abs(crop.astype(int) - 127).max() < 50


sixteenths = st.integers(0, 60 * 16).map(lambda v: v / 16)


@settings(max_examples=60)
@given(
    x=sixteenths, y=sixteenths, w=sixteenths.map(lambda v: v + 0.5), h=sixteenths.map(lambda v: v + 0.5),
    dx=st.integers(0, 90), dy=st.integers(0, 90), size=st.sampled_from([16, 31, 112]),
)  # fmt: skip
def test_a_face_moved_by_whole_pixels_gives_the_same_crop(face_patch, x, y, w, h, dx, dy, size):
    spec = CropSpec(size=size, margin=0.2, fill=FILL)
    # Round the patch there is fill, so a crop that reaches out of it must not notice either.
    canvas = np.empty((400, 400, 3), np.uint8)
    crops = []
    for left, top in ((100, 100), (100 + dx, 100 + dy)):
        canvas[:] = FILL[::-1]
        canvas[top : top + 120, left : left + 120] = face_patch
        crops.append(crop_face(canvas, (x + left, y + top, w, h), spec))
    np.testing.assert_array_equal(crops[0], crops[1])
    # And the patch as a whole picture is the same thing again, up to the rounding of an interpolated border.
    alone = crop_face(face_patch, (x, y, w, h), spec)
    assert np.abs(alone.astype(int) - crops[0]).max() <= 2


@pytest.fixture(scope="module")
def face_patch(astronaut_path):
    return cv2.imread(str(astronaut_path))[60:180, 160:280].copy()


@settings(max_examples=80)
@given(
    box=st.tuples(st.floats(-3000, 3000), st.floats(-3000, 3000), st.floats(1e-3, 500), st.floats(1e-3, 500)),
    margin=st.floats(-0.4, 1), shape=st.tuples(st.integers(1, 70), st.integers(1, 70)), size=st.sampled_from([8, 33]),
)  # fmt: skip
def test_any_box_on_any_picture_gives_a_crop_of_the_picture_and_fill(box, margin, shape, size):
    crop = crop_face(np.full((*shape, 3), 250, np.uint8), box, CropSpec(size=size, margin=margin, fill=FILL))
    assert crop.shape == (size, size, 3)
    assert (crop >= FILL).all()
    assert (crop <= 250).all()


@settings(max_examples=60)
@given(
    points=st.lists(
        st.tuples(*[st.floats(-1e6, 1e6) | st.floats(0, 70) | st.sampled_from([math.nan, math.inf, -math.inf])] * 2),
        max_size=6,
    ),
    size=st.sampled_from([8, 33]),
)  # fmt: skip
def test_any_landmarks_give_a_crop_of_the_picture_and_fill(points, size):
    spec = CropSpec(size=size, kind="landmarks", fill=FILL)
    crop = crop_face(np.full((60, 70, 3), 250, np.uint8), (20, 15, 30, 33), spec, points)
    assert crop.shape == (size, size, 3)
    assert (crop >= FILL).all()
    assert (crop <= 250).all()


@pytest.mark.parametrize("kind", ["box", "landmarks"])
@pytest.mark.parametrize("factor", [1.0, 1.25, 1.4, 2.0])
def test_the_centre_of_a_widened_crop_is_nearly_the_crop(astronaut, factor, kind):
    spec = CropSpec(kind=kind)
    wide = spec.widened(factor)
    assert wide.size % 2 == 0
    assert spec.size * factor <= wide.size < spec.size * factor + 2
    start = (wide.size - spec.size) // 2
    inside = crop_face(astronaut, BOX, wide, LANDMARKS)[start : start + spec.size, start : start + spec.size]
    crop = crop_face(astronaut, BOX, spec, LANDMARKS)
    assert difference(inside, crop) < 1
    assert difference(np.roll(inside, 1, axis=0), crop) > 3


@pytest.mark.parametrize(
    "box",
    [(0, 0, 0, 10), (0, 0, 10, 0), (0, 0, -5, 10), (math.nan, 0, 5, 5), (0, math.inf, 5, 5), (0, 0, math.inf, 5)],
    ids=str,
)
def test_a_box_without_extent_is_refused(astronaut, box):
    with pytest.raises(ValueError, match="no extent"):
        crop_face(astronaut, box, CropSpec())


@pytest.mark.parametrize(
    "image",
    [np.zeros((20, 20), np.uint8), np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 3), np.float32)],
    ids=["grey", "four channels", "float"],
)
def test_a_picture_of_another_kind_is_refused(image):
    with pytest.raises(ValueError, match="must be uint8"):
        crop_face(image, (1, 1, 10, 10), CropSpec())


def test_several_faces_are_stacked_in_order(astronaut):
    spec = CropSpec(size=24)
    boxes = [BOX, (0, 0, 50, 50), (300, 200, 70, 90)]
    crops = crop_faces(astronaut, boxes, spec)
    for crop, box in zip(crops, boxes, strict=True):
        np.testing.assert_array_equal(crop, crop_face(astronaut, box, spec))
    assert crop_faces(astronaut, [], spec).shape == (0, 24, 24, 3)
    aligned = dataclasses.replace(spec, kind="landmarks")
    crops = crop_faces(astronaut, boxes, aligned, [LANDMARKS, None, None])
    np.testing.assert_array_equal(crops[0], crop_face(astronaut, BOX, aligned, LANDMARKS))
    np.testing.assert_array_equal(crops[1:], crop_faces(astronaut, boxes, spec)[1:])
    with pytest.raises(ValueError, match="zip"):
        crop_faces(astronaut, boxes, aligned, [LANDMARKS])


def test_the_central_face_is_the_one_whose_centre_is_nearest():
    # The first begins nearest to the centre and the last is the largest, but neither's centre is the nearest.
    boxes = [(50, 50, 40, 40), (38, 30, 20, 30), (0, 0, 70, 70)]
    assert central_face(boxes, (100, 100)) == 1
    assert central_face([(80, 10, 10, 10), (10, 40, 10, 10)], (100, 20)) == 0
    assert central_face([], (100, 100)) is None


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("degrees", [0, 20, -20, 55])
@pytest.mark.parametrize("side", [24.25, 33, 64, 81.75, 120])
def test_every_pixel_of_an_aligned_crop_lies_where_the_geometry_says(side, degrees, vertical):
    centre = 120.25, 133.5
    box = (centre[0] - side / 2, centre[1] - side / 2, side, side)
    spec = CropSpec(size=32, margin=0.125, kind="landmarks")
    crop = crop_face(ramp(vertical), box, spec, landmarks_of(centre, side, degrees))[..., 0]
    offset = ((np.arange(32) + 0.5) / 32 - 0.5) * side * 1.25
    z = (offset[None] + 1j * offset[:, None]) * np.exp(1j * math.radians(degrees)) + complex(*centre) - 0.5 - 0.5j
    np.testing.assert_allclose(crop, z.imag if vertical else z.real, atol=1)


@pytest.mark.parametrize("size", [112, 48])  # without reduction and with
@pytest.mark.parametrize("degrees", [-40, -20, 20, 40])
def test_a_turned_face_gives_the_aligned_crop_of_the_upright_one(astronaut, degrees, size):
    matrix = cv2.getRotationMatrix2D((220, 120), -degrees, 1)
    picture = cv2.warpAffine(astronaut, matrix, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    aligned, box = CropSpec(size=size, kind="landmarks"), CropSpec(size=size)
    upright = crop_face(astronaut, BOX, aligned, LANDMARKS)
    found = difference(crop_face(picture, BOX, aligned, turned(LANDMARKS, degrees)), upright)
    assert found < 5
    assert difference(crop_face(picture, BOX, box), crop_face(astronaut, BOX, box)) > 8 * found
    # A tenth of the turn too much or too little would show.
    assert difference(crop_face(picture, BOX, aligned, turned(LANDMARKS, 1.1 * degrees)), upright) > 1.5 * found


def test_the_aligned_crop_of_an_average_face_is_its_box_crop(astronaut):
    """Mean landmarks and box belong together, so that margins mean the same for both kinds."""
    centre = BOX[0] + BOX[2] / 2, BOX[1] + BOX[3] / 2
    aligned = crop_face(astronaut, BOX, ALIGNED, landmarks_of(centre, BOX[3]))
    assert difference(aligned, crop_face(astronaut, BOX, CropSpec())) < 1.5


def test_mean_landmarks_are_what_the_detector_sees_in_the_portrait(astronaut):
    [face] = YuNet(provider="cpu").detect(astronaut)[:1]
    x, y, w, h = face.box
    found = (np.array(face.landmarks) - (x + w / 2, y + h / 2)) @ (1, 1j) / max(w, h)
    assert np.abs(found - MEAN_LANDMARKS).max() < 0.1
    assert np.allclose(MEAN_LANDMARKS[[1, 0, 2, 4, 3]], -MEAN_LANDMARKS.conj())


@pytest.mark.parametrize(
    "landmarks",
    [
        None, (), LANDMARKS[:4], (*LANDMARKS, LANDMARKS[0]), turned(LANDMARKS, 0, scale=1.6),
        turned(LANDMARKS, 0, scale=0.55), turned(LANDMARKS, 70), turned(LANDMARKS, -70), turned(LANDMARKS, 180),
        [LANDMARKS[i] for i in (1, 0, 2, 4, 3)], [LANDMARKS[2]] * 5, ((math.nan, 100), *LANDMARKS[1:]),
        ((200, math.nan), *LANDMARKS[1:]), ((math.inf, 100), *LANDMARKS[1:]), (*LANDMARKS[:4], (239, -math.inf)),
        tuple((x + 75, y) for x, y in LANDMARKS),
    ],
    ids=[
        "none", "empty", "four", "six", "too large", "too small", "turned right", "turned left", "upside down",
        "left and right swapped", "one point", "nan x", "nan y", "inf x", "inf y", "elsewhere",
    ],
)  # fmt: skip
def test_landmarks_that_are_not_to_be_believed_give_the_box_crop(astronaut, landmarks):
    with np.errstate(all="raise"):
        crop = crop_face(astronaut, BOX, ALIGNED, landmarks)
    np.testing.assert_array_equal(crop, crop_face(astronaut, BOX, CropSpec()))


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (0, 1.35), (0, 0.65), (50, 1), (-60, 1)])
def test_landmarks_within_reason_are_believed(astronaut, degrees, scale):
    landmarks = turned(LANDMARKS, degrees, scale=scale)
    assert difference(crop_face(astronaut, BOX, ALIGNED, landmarks), crop_face(astronaut, BOX, CropSpec())) > 5
    beside = tuple((x + 35, y) for x, y in LANDMARKS)
    assert difference(crop_face(astronaut, BOX, ALIGNED, beside), crop_face(astronaut, BOX, CropSpec())) > 5


def test_a_box_crop_and_a_resize_crop_know_nothing_of_landmarks(astronaut):
    for spec in (CropSpec(), whole()):
        np.testing.assert_array_equal(
            crop_face(astronaut, BOX, spec, turned(LANDMARKS, 30)), crop_face(astronaut, BOX, spec)
        )


@pytest.mark.parametrize("size", [32, 112])
def test_a_hundredth_of_a_pixel_in_the_landmarks_changes_nothing_and_a_whole_one_does(astronaut, size):
    spec = CropSpec(size=size, kind="landmarks")
    crop = crop_face(astronaut, BOX, spec, LANDMARKS)
    for i in range(5):
        for axis in range(2):

            def moved(step, i=i, axis=axis):
                return [[v + step * ((i, axis) == (j, k)) for k, v in enumerate(p)] for j, p in enumerate(LANDMARKS)]

            for step in (0.01, -0.01):
                np.testing.assert_array_equal(crop_face(astronaut, BOX, spec, moved(step)), crop)
            assert difference(crop_face(astronaut, BOX, spec, moved(1)), crop) > 0.1


def test_landmarks_of_two_machines_mostly_give_the_same_crop(astronaut):
    """Detectors that agree to a hundredth of a pixel may still fall on two sides of a quarter."""
    random = np.random.default_rng(0)
    differences = []
    for _ in range(40):
        first = np.array(LANDMARKS) + random.uniform(-0.5, 0.5, (5, 2))
        second = first.copy()
        second.flat[random.integers(10)] += 0.01
        crops = [crop_face(astronaut, BOX, ALIGNED, points.tolist()) for points in (first, second)]
        differences.append(difference(*crops))
    assert differences.count(0) >= 34
    assert max(differences) < 3


@pytest.mark.parametrize(
    ("left", "top", "right", "bottom"),
    [(0, 0, 256, 200), (0, 0, 180, 256), (60, 20, 140, 120), (0, 100, 131, 231)],
    ids=["wide", "tall", "small", "one more"],
)
@pytest.mark.parametrize("settings", [(128, 128, True), (120, 128, False)], ids=["APPA-REAL", "AFAD"])
@pytest.mark.parametrize("vertical", [False, True])
def test_every_pixel_of_a_resized_picture_lies_where_torchvision_puts_it(left, top, right, bottom, settings, vertical):
    transforms = pytest.importorskip("torchvision.transforms")
    import torch

    picture = np.ascontiguousarray(ramp(vertical)[top:bottom, left:right])
    size, to, keep_aspect = settings
    theirs = transforms.Resize(to if keep_aspect else (to, to))(torch.from_numpy(picture).permute(2, 0, 1))
    theirs = transforms.CenterCrop(size)(theirs).permute(1, 2, 0).numpy()
    ours = whole_crop(picture, *settings)
    assert ours.shape == theirs.shape == (size, size, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("settings", [(128, 128, True), (120, 128, False)], ids=["APPA-REAL", "AFAD"])
@pytest.mark.parametrize("rows", [slice(0, 512), slice(100, 400)], ids=["square", "wide"])
def test_a_resized_portrait_is_within_a_few_levels_of_torchvision(astronaut, rows, settings):
    """The two average pixels differently, so they agree in place and brightness, not to the last level."""
    transforms = pytest.importorskip("torchvision.transforms")
    import torch

    size, to, keep_aspect = settings
    rgb = torch.from_numpy(np.ascontiguousarray(astronaut[rows, :, ::-1])).permute(2, 0, 1)
    theirs = transforms.Compose([transforms.Resize(to if keep_aspect else (to, to)), transforms.CenterCrop(size)])(rgb)
    theirs = theirs.permute(1, 2, 0).numpy()
    ours = whole_crop(astronaut[rows], *settings)
    assert difference(ours, theirs) < 2.5
    for axis in (0, 1):
        assert difference(np.roll(ours, 1, axis), theirs) > 2 * difference(ours, theirs)


def test_a_picture_of_the_right_size_is_only_cut_and_becomes_rgb(astronaut):
    picture = astronaut[40:168, 160:288]
    np.testing.assert_array_equal(whole_crop(picture, 128, 128), picture[..., ::-1])
    np.testing.assert_array_equal(whole_crop(picture, 120, 128, False), picture[4:124, 4:124, ::-1])
    np.testing.assert_array_equal(whole_crop(astronaut[40:168], 128, 128), astronaut[40:168, 192:320, ::-1])


def test_only_the_part_under_the_box_is_resized(astronaut):
    """So that the damage done by a background can be shown: the original work used such a model on face crops."""
    box = (160, 40, 200, 150)
    expected = whole_crop(astronaut[40:190, 160:360], 64, 72)
    np.testing.assert_array_equal(crop_face(astronaut, box, whole(64, 72)), expected)
    beyond = crop_face(astronaut, (-100, 400, 200, 500), whole(64, 72))  # reaches out of the picture
    np.testing.assert_array_equal(beyond, whole_crop(astronaut[400:, :100], 64, 72))
    outside = crop_face(astronaut, (600, 600, 50, 50), whole(64, 72))
    assert (outside == astronaut[-1, -1, ::-1]).all()


def test_a_resize_crop_is_widened_to_all_of_the_resized_picture(astronaut):
    spec = whole(120, 128, False)
    wide = spec.widened(1.4)
    assert (wide.size, wide.resize_to, wide.kind) == (128, 128, "resize")
    crops = [crop_face(astronaut, (0, 0, 512, 512), s) for s in (spec, wide)]
    np.testing.assert_array_equal(crops[0], crops[1][4:124, 4:124])


def test_a_whole_picture_is_one_face():
    [face] = WholePicture().detect(np.zeros((20, 40, 3), np.uint8))
    assert (face.box, face.score, face.landmarks) == ((0, 0, 40, 20), 1, None)
    assert WholePicture().identifier == whole().detector


@pytest.fixture
def model_file(tiny_model, tmp_path):
    """Makes a file of the model that answers with the mean of red, with another crop."""

    def make(**crop_changes):
        path = tmp_path / "tiny.onnx"
        path.write_bytes(tiny_model(crop_changes=crop_changes))
        return path

    return make


def test_a_model_of_whole_pictures_is_given_no_detector(model_file):
    path = model_file(kind="resize", detector="none", resize_to=10, keep_aspect=True)
    pipeline = Pipeline.default(path, provider="cpu")
    picture = np.full((20, 40, 3), (255, 255, 10), np.uint8)
    picture[2:18, 12:28, 2] = 200  # the 8 x 8 centre of 20 x 10 pixels, and no more
    result = pipeline(picture)
    assert [(face.detection.box, face.age.age_years) for face in result.faces] == [((0, 0, 40, 20), 200)]
    # A model of faces looks for some.
    assert Pipeline.default(model_file(), provider="cpu")(picture).faces == ()


class OneFace:
    """A detector that has made up its mind."""

    identifier = "one"

    def __init__(self, landmarks):
        self.landmarks = landmarks

    def detect(self, image):
        return [Detection(BOX, 0.9, self.landmarks)]


def test_the_pipeline_hands_landmarks_on(model_file, astronaut):
    estimator = AgeEstimator(model_file(kind="landmarks", margin=-0.4), provider="cpu")
    spec = estimator.metadata.crop
    answers = []
    for landmarks in (None, tuple(turned(LANDMARKS, 45))):
        [face] = Pipeline(OneFace(landmarks), estimator)(astronaut).faces
        expected = crop_face(astronaut, BOX, spec, landmarks)[..., 0].mean()
        assert face.age.age_years == pytest.approx(expected, abs=1e-3)
        answers.append(expected)
    assert abs(answers[0] - answers[1]) > 0.5
