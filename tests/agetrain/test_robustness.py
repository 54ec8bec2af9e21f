"""The robustness sweep: that every change really changes what the model is given, and by how much."""

import cv2
import numpy as np
import pytest

from ageinfer.crop.cut import central_face, crop_face
from ageinfer.crop.spec import CropSpec
from ageinfer.detect import WholePicture, YuNet
from ageinfer.sources import read_picture
from agetrain.datasets import Sample
from agetrain.evaluation.models import Model
from agetrain.evaluation.robustness import changes, sweep

SPEC = CropSpec(size=32)
PER_KIND = {"face": 3, "margin": 4, "blur": 3, "JPEG": 3, "size": 3, "turn": 4, "light": 3}

DETECTOR = YuNet(provider="cpu")


def of_kind(kind):
    """The changes of one kind by their value."""
    found = {c.value: c.vary for c in changes(DETECTOR) if c.kind.startswith(kind)}
    assert len(found) == PER_KIND[kind]
    return found


def difference(a, b):
    return np.abs(a.astype(float) - b).mean()


class Noting:
    """A model that answers with the mean of the crop and keeps what it was given."""

    def __init__(self, spec=SPEC):
        self.given = []
        self.model = Model("noting", spec, "real", 30.0, (), self._estimate)

    def _estimate(self, crops):
        self.given.append(crops.copy())
        return crops.mean(axis=(1, 2, 3)) / 2.55, np.full(len(crops), 5.0)


@pytest.fixture(scope="module")
def samples(portraits):
    return [Sample(path, 20.0 + i) for i, path in enumerate(sorted(portraits.iterdir())[:8])]


@pytest.fixture(scope="module")
def swept(samples):
    """Rows of a sweep over three pictures, and the crops that each of them was measured on."""
    noting = Noting()
    rows = sweep(noting.model, samples, YuNet(provider="cpu"), "real", 3)
    assert len(noting.given) == len(rows)  # three pictures are one question
    return rows, noting.given


def test_the_kinds_of_change():
    assert len(changes(DETECTOR)) == sum(PER_KIND.values())
    for kind in PER_KIND:
        assert of_kind(kind)


@pytest.mark.parametrize(("kind", "mildest_first"), [("blur", [1, 2, 3]), ("JPEG", [50, 25, 10])])
def test_worse_pictures_differ_more(astronaut, kind, mildest_first):
    vary = of_kind(kind)
    assert list(vary) == mildest_first
    sizes = [difference(vary[value](astronaut), astronaut) for value in mildest_first]
    assert 0.5 < sizes[0] < sizes[1] < sizes[2]


def test_blur_is_a_gaussian_of_that_many_pixels():
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    for sigma, vary in of_kind("blur").items():
        line = vary(np.repeat(point.max(axis=0, keepdims=True), 41, axis=0))[20, :, 0].astype(float)
        places = np.arange(41) - 20
        assert np.sqrt((line * places**2).sum() / line.sum()) == pytest.approx(sigma, rel=0.1)


def test_a_smaller_picture_is_the_same_at_fewer_pixels(astronaut):
    for factor, vary in of_kind("size").items():
        smaller = vary(astronaut)
        assert smaller.shape == (round(512 * factor), round(512 * factor), 3)
        assert difference(cv2.resize(smaller, (512, 512)), astronaut) < 12


def test_a_face_is_reduced_to_so_many_pixels_and_never_enlarged(astronaut):
    found = of_kind("face")
    assert list(found) == [80, 40, 24]
    for side, vary in found.items():
        [face] = [d for d in DETECTOR.detect(cv2.resize(vary(astronaut), None, fx=4, fy=4)) if d.score > 0.5][:1]
        assert max(face.box[2:]) / 4 == pytest.approx(side, rel=0.15)
    small = found[24](astronaut)
    assert found[80](small) is small
    nobody = np.zeros((50, 60, 3), np.uint8)
    assert found[40](nobody) is nobody


def test_light_is_multiplied_and_cut_at_white():
    grey = np.full((4, 4, 3), 100, np.uint8)
    values = {factor: int(vary(grey)[0, 0, 0]) for factor, vary in of_kind("light").items()}
    assert values == {0.25: 25, 0.5: 50, 1.5: 150}
    assert of_kind("light")[1.5](np.full((4, 4, 3), 200, np.uint8)).min() == 255


def test_a_turned_picture_is_turned_about_its_middle():
    """A point 40 px to the right of the middle moves up when it is turned against the clock."""
    image = np.zeros((101, 101, 3), np.uint8)
    cv2.circle(image, (90, 50), 3, (255, 255, 255), -1)
    for degrees, vary in of_kind("turn").items():
        ys, xs = np.nonzero(vary(image)[:, :, 0] > 128)
        turn = np.degrees(np.arctan2(50 - ys.mean(), xs.mean() - 50))
        assert turn == pytest.approx(degrees, abs=1.5)
        assert np.hypot(ys.mean() - 50, xs.mean() - 50) == pytest.approx(40, abs=1)


def test_changes_leave_the_original_alone(astronaut):
    before = astronaut.copy()
    for change in changes(DETECTOR):
        if change.vary:
            assert change.vary(astronaut).dtype == np.uint8
    assert np.array_equal(astronaut, before)


def test_the_first_row_is_unchanged_and_all_are_of_the_same_pictures(swept, samples):
    rows, given = swept
    assert (rows[0]["change"], rows[0]["value"]) == ("none", 0)
    assert [(r["change"], r["value"]) for r in rows[1:]] == [(c.kind, c.value) for c in changes(DETECTOR)]
    detector = YuNet(provider="cpu")

    def crop(sample):
        image = read_picture(sample.path)
        faces = detector.detect(image)
        face = faces[central_face([f.box for f in faces], image.shape[1::-1])]
        return crop_face(image, face.box, SPEC)

    of_all = [crop(s) for s in samples]
    asked = [next(i for i, c in enumerate(of_all) if np.array_equal(c, face)) for face in given[0]]
    assert asked == sorted(set(asked))
    labels = np.array([samples[i].age_years for i in asked])
    errors = given[0].mean(axis=(1, 2, 3)) / 2.55 - labels
    assert rows[0]["mae"] == pytest.approx(np.abs(errors).mean(), abs=1e-3)
    assert rows[0]["bias"] == pytest.approx(errors.mean(), abs=1e-3)


def test_every_change_reaches_the_model(swept):
    rows, given = swept
    for row, crops in zip(rows[1:], given[1:], strict=True):
        assert len(crops) == 3, row  # all faces are found
        assert difference(crops, given[0]) > 0.5, row


def test_a_changed_picture_is_searched_and_cropped_as_a_picture(astronaut, astronaut_path):
    """The face is looked for in what has become of the picture, not before."""
    noting, detector = Noting(), YuNet(provider="cpu")
    sweep(noting.model, [Sample(astronaut_path, 30.0)], detector, "real", 1)
    of_pictures = [crops for crops, c in zip(noting.given[1:], changes(DETECTOR), strict=True) if c.vary]
    for given, change in zip(of_pictures, [c for c in changes(DETECTOR) if c.vary], strict=True):
        image = change.vary(astronaut)
        faces = detector.detect(image)
        face = faces[central_face([f.box for f in faces], image.shape[1::-1])]
        assert np.array_equal(given[0], crop_face(image, face.box, SPEC)), change.kind


def test_less_light_is_answered_as_darker(swept):
    """Through all of the way: the model that answers with the brightness."""
    rows, _ = swept
    ages = {r["value"]: r["bias"] for r in rows if r["change"].startswith("light")} | {1: rows[0]["bias"]}
    assert ages[0.25] < ages[0.5] < ages[1] < ages[1.5]


def test_a_margin_changes_the_scale_of_the_crop(astronaut_path):
    """A face beside another margin is what a crop with that many times its side shows, about the same centre."""
    noting = Noting(CropSpec(size=100, margin=0.1))
    rows = sweep(noting.model, [Sample(astronaut_path, 30.0)], YuNet(provider="cpu"), "real", 1)
    image = read_picture(astronaut_path)
    [face] = YuNet(provider="cpu").detect(image)
    x, y, w, h = face.box
    side = max(w, h) * 1.2
    for row, given in zip(rows, noting.given, strict=True):
        if row["change"].startswith("margin"):
            extent = side * row["value"]
            left, top = x + w / 2 - extent / 2, y + h / 2 - extent / 2
            to_crop = np.array([[100 / extent, 0, -left * 100 / extent], [0, 100 / extent, -top * 100 / extent]])
            expected = cv2.warpAffine(image, to_crop, (100, 100), flags=cv2.INTER_AREA)[:, :, ::-1]
            others = [difference(expected, g[0]) for g in noting.given[:5]]
            assert difference(expected, given[0]) == min(others), row
            assert min(others) < 5


def test_a_model_of_whole_pictures_has_no_margin(samples):
    spec = CropSpec(size=32, margin=0, kind="resize", detector="none", resize_to=36)
    rows = sweep(Noting(spec).model, samples[:1], WholePicture(), "real", 1)
    assert not [r for r in rows if r["change"].startswith("margin")]
    assert len(rows) == 1 + sum(PER_KIND.values()) - PER_KIND["margin"]


def test_a_model_of_the_least_margin_is_not_asked_for_less(samples):
    """A margin of -0.4 cannot be made smaller: such a row is left out, and no error."""
    rows = sweep(Noting(CropSpec(size=32, margin=-0.4)).model, samples[:1], YuNet(provider="cpu"), "real", 1)
    assert [r["value"] for r in rows if r["change"].startswith("margin")] == [1.1, 1.2]


def test_faces_that_are_no_longer_found_count(tmp_path, samples):
    tiny = cv2.resize(read_picture(samples[0].path), (60, 50), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "tiny.png"), tiny)
    rows = sweep(Noting().model, [Sample(tmp_path / "tiny.png", 20.0)], YuNet(provider="cpu"), "real", 5)
    quarter = next(r for r in rows if r["change"].startswith("size") and r["value"] == 0.25)
    assert (quarter["n"], quarter["detection_rate_percent"]) == (1, 0)
    assert quarter["mae"] == quarter["bias"] == 10  # the training median of 30
