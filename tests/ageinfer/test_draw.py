import cv2
import numpy as np
import pytest

from ageinfer.detect import open_detector
from ageinfer.sinks.draw import AnnotatedFrame, blur_faces, colour_of, draw_faces, enlarged, label_of
from ageinfer.types import Age, Detection, Face, Frame, FrameResult

INK = (20, 20, 20)
SIZES = {"1080p": (1920, 1080), "160x120": (160, 120), "upright": (120, 160)}


def face(box, *, track=None, age=31.4, std=4.2, smoothed=None) -> Face:
    return Face(Detection(box, 0.9), Age(age, std), track, smoothed)


def annotated(image, faces, *, blur=False) -> AnnotatedFrame:
    result = FrameResult("", 0, None, (image.shape[1], image.shape[0]), tuple(faces))
    return AnnotatedFrame(Frame("", 0, None, image), result, blur=blur)


def grey(width, height) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def is_paper(drawn, colour) -> np.ndarray:
    return (drawn == colour).all(axis=2)


@pytest.fixture(scope="module")
def detector():
    return open_detector("yunet", provider="cpu", threads=1)


@pytest.fixture(scope="module")
def real(detector, persons):
    """Three portraits, each with its one detection."""
    found = [detector.detect(picture) for picture in persons]
    assert [len(detections) for detections in found] == [1, 1, 1]
    return [(picture, detections[0]) for picture, detections in zip(persons, found, strict=True)]


def test_a_label_has_track_age_and_deviation():
    assert label_of(face((0, 0, 9, 9))) == "31 +-4"
    assert label_of(face((0, 0, 9, 9), track=3, smoothed=29.6)) == "#3 30 +-4"


def ink_of(drawn, colour) -> int:
    """How many dark pixels lie within the bounds of a label's colour."""
    ys, xs = np.nonzero(is_paper(drawn, colour))
    inside = drawn[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    return int((inside.max(axis=2) < 60).sum())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", ["top left", "top right", "bottom left", "bottom right", "beyond", "whole frame"])
def test_a_label_is_whole_wherever_its_face_is(size, where):
    width, height = SIZES[size]
    side = min(width, height) / 3
    middle = (width / 2 - side / 2, height / 2 - side / 2, side, side)
    x = -side / 2 if "left" in where else width - side / 2
    y = -side / 2 if "top" in where else height - side / 2
    boxes = {"beyond": (-side, height / 2, 3 * width, side), "whole frame": (0, 0, width, height)}
    corner = face(boxes.get(where, (x, y, side, side)), track=12)
    expected = ink_of(draw_faces(grey(width, height), [face(middle, track=12)]), colour_of(corner))
    drawn = ink_of(draw_faces(grey(width, height), [corner]), colour_of(corner))
    assert expected > 60
    assert drawn >= 0.9 * expected  # a larger box may have a larger label


@pytest.mark.parametrize("size", SIZES)
def test_a_label_can_be_read_and_leaves_the_face_visible(size):
    width, height = SIZES[size]
    box = (width * 0.3, height * 0.4, min(width, height) / 4, min(width, height) / 4)
    drawn = draw_faces(grey(width, height), [face(box, track=3)])
    ys, _ = np.nonzero(drawn.max(axis=2) < 60)
    assert 7 <= ys.max() - ys.min() + 1 <= height / 8  # the height of the letters
    assert ys.max() < box[1]
    inside = drawn[round(box[1]) + 4 : round(box[1] + box[3]) - 4, round(box[0]) + 4 : round(box[0] + box[2]) - 4]
    assert (inside == 128).all()


def test_labels_of_neighbours_do_not_cover_each_other():
    first, second = face((30, 50, 30, 35), track=1), face((75, 50, 30, 35), track=2)
    alone = [ink_of(draw_faces(grey(160, 120), [f]), colour_of(f)) for f in (first, second)]
    together = draw_faces(grey(160, 120), [first, second])
    assert (together.max(axis=2) < 60).sum() == sum(alone)


def test_a_track_keeps_its_colour_and_neighbouring_tracks_differ():
    tracks = [face((9, 9, 20, 20), track=n) for n in range(1, 8)]
    assert len({colour_of(f) for f in tracks} | {colour_of(face((9, 9, 20, 20)))}) == 8
    before = draw_faces(grey(640, 480), [face((200, 200, 80, 80), track=5, age=20)])
    after = draw_faces(grey(640, 480), [face((5, 5, 9, 9), track=4), face((300, 200, 80, 80), track=5, age=70)])
    assert is_paper(before, colour_of(tracks[4])).sum() > 100
    assert np.abs(after[220:270, 300].astype(int) - colour_of(tracks[4])).max() < 30  # the edge of the box


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (2, 3)])
@pytest.mark.parametrize("blur", [False, True])
def test_a_frame_of_any_size_can_be_drawn_on(shape, blur):
    boxes = [(0, 0, 1, 1), (-1e9, -1e9, 2e9, 2e9), (5e8, 5e8, 1, 1), (0, 0, 0, 0), (0.2, 0.2, float("inf"), 1)]
    image = np.full((*shape, 3), 128, np.uint8)
    frame = annotated(image, [face(box, track=1) for box in boxes], blur=blur)
    assert frame.image.shape == image.shape
    assert (image == 128).all()


def finds(detector, image, box) -> bool:
    """Whether the detector finds a face whose centre is in the box."""
    x, y, w, h = box
    centres = [(f.box[0] + f.box[2] / 2, f.box[1] + f.box[3] / 2) for f in detector.detect(image)]
    return any(x <= cx <= x + w and y <= cy <= y + h for cx, cy in centres)


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 2.0])
def test_the_detector_finds_no_face_where_one_was_blurred(real, detector, scale):
    for picture, detection in real:
        image = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        box = tuple(v * scale for v in detection.box)
        assert finds(detector, image, box)
        hidden = blur_faces(image, [face(box)])
        assert not finds(detector, hidden, box)
        for factor in (0.5, 2.0):  # nor from another distance
            moved = tuple(v * factor for v in box)
            assert not finds(detector, cv2.resize(hidden, None, fx=factor, fy=factor), moved)
        assert not finds(detector, annotated(image, [face(box)], blur=True).image, box)
        assert finds(detector, annotated(image, [face(box)]).image, box)


def test_pixels_outside_the_head_are_untouched_and_so_is_the_frame(real):
    for picture, detection in real:
        before = picture.copy()
        x0, y0, x1, y1 = enlarged(detection.box, 0.5, picture.shape)
        hidden = blur_faces(picture, [face(detection.box)])
        assert (hidden != picture).any(axis=2)[y0:y1, x0:x1].mean() > 0.9
        hidden[y0:y1, x0:x1] = picture[y0:y1, x0:x1]
        assert (hidden == picture).all()
        assert (picture == before).all()


def test_the_head_from_hair_to_chin_is_hidden(real):
    # The astronaut's hair reaches from line 14 to her chin at line 180, and from column 150 to 303.
    picture, detection = real[0]
    changed = (blur_faces(picture, [face(detection.box)]) != picture).any(axis=2)
    for line, column in ((18, 235), (60, 157), (60, 298), (120, 155), (175, 222)):
        assert changed[line - 3 : line + 4, column - 3 : column + 4].mean() > 0.8, (line, column)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_finer_than_a_cell_is_left(seed):
    # A head of 160 x 160 pixels has cells of 20 x 20. Whatever changes within a cell and leaves its mean alone leaves
    # no trace: two faces that differ by that cannot be told apart, by whatever filter.
    random = np.random.default_rng(seed)
    image = random.integers(60, 190, (240, 240, 3), dtype=np.uint8)
    box = (80.0, 80.0, 80.0, 80.0)
    assert enlarged(box, 0.5, image.shape) == (40, 40, 200, 200)
    other = image.copy()
    for y in range(40, 200, 20):
        for x in range(40, 200, 20):
            cell = other[y : y + 20, x : x + 20].reshape(400, 3)
            other[y : y + 20, x : x + 20] = random.permutation(cell).reshape(20, 20, 3)
    assert np.abs(image.astype(int) - other)[40:200, 40:200].mean() > 30
    assert (blur_faces(image, [face(box)]) == blur_faces(other, [face(box)])).all()
    gaussian = [cv2.GaussianBlur(i, (0, 0), 10).astype(int) for i in (image, other)]
    assert (gaussian[0] != gaussian[1]).mean() > 0.2  # which is what a Gaussian blur would give away


def test_a_face_beyond_the_frame_is_not_hidden_any_less(real, detector):
    for picture, detection in real:
        x, y, w, h = detection.box
        half = round(x + w / 2)
        # As if the frame ended in the middle of the face.
        image, box = picture[:, half:], (x - half, y, w, h)
        hidden = blur_faces(image, [face(box)])
        x0, y0, x1, y1 = enlarged(box, 0.5, image.shape)
        assert x0 == 0
        cell = 2 * max(w, h) / 8
        # Nearly all that is left varies over more than half a cell: steps from pixel to pixel are small.
        steps = np.abs(np.diff(hidden[y0:y1, x0:x1].astype(int), axis=1)).max()
        assert steps <= 255 / (cell / 2)
        assert detector.detect(hidden) == []


@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_a_tiny_face_is_hidden_too(side):
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (60, 60, 3), dtype=np.uint8)
    box = (30.0, 30.0, float(side), float(side))
    x0, y0, x1, y1 = enlarged(box, 0.5, image.shape)
    hidden = blur_faces(image, [face(box)])[y0:y1, x0:x1]
    assert hidden.std() < 0.5 * image[y0:y1, x0:x1].std()
    if side <= 2:  # smaller than one cell
        assert (hidden == hidden[0, 0]).all()


def test_boxes_and_labels_are_drawn_over_the_blur(real):
    picture, detection = real[0]
    one = face(detection.box, track=2)
    drawn = annotated(picture, [one], blur=True).image
    hidden = blur_faces(picture, [one])
    assert (drawn == draw_faces(hidden, [one])).all()
    assert is_paper(drawn, colour_of(one)).sum() > 300


def test_the_picture_is_drawn_once_for_all_sinks(real):
    picture, detection = real[0]
    frame = annotated(picture, [face(detection.box)])
    assert frame.image is frame.image
