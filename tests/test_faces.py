import json
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ageinfer.faces import CropSpec, central_face, crop_face, crop_faces

BOX = (178.0, 62.0, 90.0, 112.0)  # the astronaut's face, its centre on a whole pixel
FILL = (10, 20, 30)
OUTER = ((-300, 10), (400, 10), (10, -300), (10, 400))


def difference(a, b) -> float:
    """Mean absolute difference, in levels of 255."""
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def ramp(vertical: bool = False) -> np.ndarray:
    """A picture whose value is the x (or y) of the pixel."""
    picture = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    return np.ascontiguousarray(picture.swapaxes(0, 1) if vertical else picture)


def test_a_specification_survives_json():
    spec = CropSpec(size=96, margin=0.35, fill=(1, 2, 3), detector="dlib-hog")
    assert CropSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"kind": "landmarks"}, {"filter": "cubic"}, {"size": 7}, {"size": 1025}, {"margin": -0.5},
        {"margin": 4.1}, {"margin": math.nan}, {"margin": math.inf}, {"fill": [1, 2]}, {"fill": [1, 2, 256]},
        {"fill": [1, 2, -1]}, {"fill": [0.5, 0, 0]}, {"fill": 5}, {"size": "112"}, {"margin": None}, {"colour": "red"},
        {"size": 112.5},
    ],
    ids=str,
)  # fmt: skip
def test_a_specification_that_is_not_known_is_refused(change):
    with pytest.raises(ValueError, match="crop"):
        CropSpec.from_dict(CropSpec().to_dict() | change)


@pytest.mark.parametrize("key", CropSpec().to_dict())
def test_a_specification_without_one_of_its_keys_is_refused(key):
    values = CropSpec().to_dict()
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


@pytest.mark.parametrize("factor", [1.0, 1.25, 1.4, 2.0])
def test_the_centre_of_a_widened_crop_is_nearly_the_crop(astronaut, factor):
    spec = CropSpec()
    wide = spec.widened(factor)
    assert wide.size % 2 == 0
    assert spec.size * factor <= wide.size < spec.size * factor + 2
    start = (wide.size - spec.size) // 2
    inside = crop_face(astronaut, BOX, wide)[start : start + spec.size, start : start + spec.size]
    crop = crop_face(astronaut, BOX, spec)
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


def test_the_central_face_is_the_one_whose_centre_is_nearest():
    # The first begins nearest to the centre and the last is the largest, but neither's centre is the nearest.
    boxes = [(50, 50, 40, 40), (38, 30, 20, 30), (0, 0, 70, 70)]
    assert central_face(boxes, (100, 100)) == 1
    assert central_face([(80, 10, 10, 10), (10, 40, 10, 10)], (100, 20)) == 0
    assert central_face([], (100, 100)) is None
