"""The JavaScript library against Python, where no network is needed: pixels, crops, views, constants, rounding."""

import dataclasses
import importlib
import inspect
import json
import re

import cv2
import numpy as np
import pytest
from web_library import LIBRARY, MODELS, Library, Refused, differences

from ageinfer.crop.cut import crop_face
from ageinfer.crop.quality import view_of
from ageinfer.crop.spec import CropSpec
from ageinfer.images import reduced
from ageinfer.tracking.age import AgeFusion
from ageinfer.tracking.appearance import correlation, small_grey
from ageinfer.types import Age, Detection

# Of upper-case names, those that other ones give.
DERIVED = {
    "BINS", "CROP_KEYS", "FIT_CENTRE", "FIT_OFFSETS", "FIT_SUM", "INNER", "KEYS", "OUTPUTS", "REMEDY", "VALUES",
}  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return Library(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def scenes(persons):
    """Portraits, smooth and noisy pictures, of odd sizes; uint8 BGR."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (97, 131, 3), np.uint8)
    smooth = cv2.GaussianBlur(random.integers(0, 256, (240, 322, 3), np.uint8), (0, 0), 6)
    return [*persons, noise, smooth, persons[0][:61, :400].copy()]


def python_value(path):
    """What a comment of a constant names: a module or class attribute, a default, or a field's default."""
    name, argument = re.fullmatch(r"([\w.]+?)(?:\((\w+)\))?", path).groups()
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(["ageinfer", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        break
    for part in parts[cut:]:
        if dataclasses.is_dataclass(value) and part in {field.name for field in dataclasses.fields(value)}:
            value = next(field.default for field in dataclasses.fields(value) if field.name == part)
        else:
            value = getattr(value, part)
    return inspect.signature(value).parameters[argument].default if argument else value


def as_json(value):
    if isinstance(value, np.ndarray):
        return [[number.real, number.imag] for number in value.tolist()]
    if isinstance(value, tuple):
        return [as_json(part) for part in value]
    return list(dataclasses.astuple(value)) if dataclasses.is_dataclass(value) else value


def test_every_constant_has_the_value_that_it_has_in_python(library):
    named, others = [], set()
    for path in sorted(LIBRARY.glob("*.js")):
        text = path.read_text()
        found = re.findall(r"^(?:export )?const ([A-Z][A-Z_0-9]*) = (.*?);(?: // = (\S+))?$", text, re.M | re.S)
        assert len(found) == len(re.findall(r"^(?:export )?const [A-Z][A-Z_0-9]* =", text, re.M)), path
        named += [(f"{path.name}: {name}", value, where) for name, value, where in found if where]
        others |= {name for name, _, where in found if not where}
    assert others == DERIVED
    assert len(named) > 80
    [values] = library.run([{"op": "evaluated", "expressions": [value for _, value, _ in named]}])
    ours = {name: as_json(python_value(where)) for name, _, where in named}
    assert {name: value for (name, _, _), value in zip(named, values, strict=True)} == ours


def test_numbers_are_rounded_as_in_python(library):
    random = np.random.default_rng(0)
    values = [0.125, 0.375, -0.125, 2.5, -2.675, 1e-9, 0.0, 12.345, 640.005, 0.00005, 1 / 32, 3 / 32, 123.0625]
    values += (random.integers(-4000, 4000, 400) / 64).tolist() + random.normal(0, 300, 400).tolist()
    for digits in (2, 3, 4):
        [found] = library.run([{"op": "rounded", "values": values, "digits": digits}])
        assert found == [round(value, digits) for value in values]


def test_pictures_are_resized_as_by_opencv(library, scenes):
    cases, expected = [], []

    def compare(op, image, size, result):
        cases.append({"op": op, "picture": library.bgr(image), "size": size})
        expected.append((op, image.shape, size, result))

    for image in scenes:
        height, width = image.shape[:2]
        for size in ((28, 28), (width // 2, height // 2), (width - 3, height - 1), (50, 31), (width // 5, height // 3)):
            compare("reduced", image, size, reduced(image, size))
            compare("linear", image, size, cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))
            compare("exact", image, size, cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT))
            compare("area", image, size, cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        for size in ((width + 7, height + 30), (width * 2, height * 2), (width // 2, height + 5)):
            compare("linear", image, size, cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))
            compare("exact", image, size, cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT))
            compare("area", image, size, cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        for factor in (2, 3, 4, 7):
            whole = image[: height // factor * factor, : width // factor * factor]
            size = (width // factor, height // factor)
            compare("area", whole, size, cv2.resize(whole, size, interpolation=cv2.INTER_AREA))
    for found, (*what, result) in zip(library.run(cases), expected, strict=True):
        assert np.array_equal(result, found[..., ::-1]), what


def test_colours_are_taken_as_by_opencv(library, scenes):
    cases = [{"op": "grey", "picture": library.bgr(image)} for image in scenes]
    rgba = [cv2.cvtColor(image, cv2.COLOR_BGR2RGBA) for image in scenes]
    cases += [{"op": "rgb", "picture": library.picture(image)} for image in rgba]
    found = library.run([*cases, {"op": "rgb", "picture": library.picture(np.zeros((4, 4), np.uint8))}])
    for image, grey, rgb in zip(scenes, found, found[len(scenes) :], strict=False):
        assert np.array_equal(grey, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        assert np.array_equal(rgb[..., ::-1], image)
    assert isinstance(found[-1], Refused)
    assert found[-1].kind == "TypeError"


def test_affine_maps_have_the_pixels_of_opencv(library, scenes):
    random = np.random.default_rng(1)
    cases, expected = [], []
    for number in range(60):
        image, size = scenes[number % len(scenes)], int(random.choice([16, 64, 112, 160]))
        turn, scale = random.uniform(-1, 1) * (number % 3 > 0), random.uniform(0.1, 1.6)
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        matrix = np.array([[cos, -sin, random.uniform(-20, 90)], [sin, cos, random.uniform(-20, 60)]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected.append(cv2.warpAffine(image, matrix, (size, size), flags=flags, borderValue=(30, 20, 10)))
        cases.append(
            {"op": "warp", "picture": library.bgr(image), "map": matrix.ravel().tolist(), "size": size,
             "fill": [10, 20, 30]}
        )  # fmt: skip
    for found, result in zip(library.run(cases), expected, strict=True):
        assert np.array_equal(found[..., ::-1], result)


def faces_of(scenes, count, seed):
    """Boxes with landmarks: inside, at the border, beyond it, tiny, large, turned; some contradict."""
    random = np.random.default_rng(seed)
    mean = np.array([-0.186 - 0.135j, 0.186 - 0.135j, 0.075j, -0.158 + 0.232j, 0.158 + 0.232j])
    for number in range(count):
        image = scenes[number % len(scenes)]
        height, width = image.shape[:2]
        side = float(random.choice([random.uniform(3, 30), random.uniform(30, 300), random.uniform(300, 1200)]))
        box = (random.uniform(-side, width), random.uniform(-side, height), side * random.uniform(0.7, 1), side)
        turn = random.uniform(-1.4, 1.4)
        centre = complex(box[0] + box[2] / 2, box[1] + box[3] / 2) + random.uniform(-0.1, 0.1) * side
        points = centre + mean * side * random.uniform(0.6, 1.6) * np.exp(1j * turn)
        yield image, tuple(map(float, box)), [[point.real, point.imag] for point in points.tolist()]


@pytest.mark.parametrize("kind", ["box", "landmarks", "resize"])
def test_crops_have_the_pixels_of_python(kind, library, scenes):
    random = np.random.default_rng(7)
    cases, expected = [], []
    for image, box, landmarks in faces_of(scenes, 90, 3):
        if kind == "resize":
            spec = CropSpec(
                64, 0, kind=kind, detector="none", resize_to=int(random.integers(64, 200)),
                keep_aspect=bool(random.integers(2)),
            )  # fmt: skip
        else:
            spec = CropSpec(int(random.choice([64, 112, 160, 90])), float(random.choice([0.15, 0.2, 0.5, -0.1])),
                            kind=kind)  # fmt: skip
        expected.append(crop_face(image, box, spec, landmarks))
        cases.append(
            {"op": "crop", "picture": library.bgr(image), "box": box, "spec": spec.to_dict(), "landmarks": landmarks}
        )
    found = np.concatenate([crop.ravel() for crop in library.run(cases)])
    share, most = differences(np.concatenate([crop.ravel() for crop in expected]), found)
    assert share < 2e-5  # in the last columns of sizes that are no multiples of 16
    assert most <= 1


def test_boxes_that_python_refuses_are_refused(library, scenes):
    spec = CropSpec().to_dict()
    boxes = [(0, 0, 0, 10), (0, 0, 10, -1), (0, 0, 1e6, 10)]
    cases = [
        {"op": "crop", "picture": library.bgr(scenes[0]), "box": b, "spec": spec, "landmarks": None} for b in boxes
    ]
    for box, found in zip(boxes, library.run(cases), strict=True):
        with pytest.raises(ValueError, match="box"):
            crop_face(scenes[0], box, CropSpec())
        assert isinstance(found, Refused)
        assert "box" in str(found)


def test_views_have_the_quality_that_python_gives(library, scenes):
    cases, expected = [], []
    for number, (image, box, landmarks) in enumerate(faces_of(scenes, 60, 11)):
        spec = CropSpec([160, 112, 64][number % 3], 0.15, kind=["box", "landmarks"][number % 2])
        points = None if number % 5 == 0 else landmarks
        detection = Detection(box, 0.9, None if points is None else tuple(map(tuple, points)))
        expected.append(view_of(crop_face(image, box, spec, detection.landmarks), spec, detection))
        cases.append(
            {"op": "view", "picture": library.bgr(image), "box": box, "spec": spec.to_dict(), "landmarks": points}
        )
    for found, view in zip(library.run(cases), expected, strict=True):
        ours = {field.name: getattr(view, field.name) for field in dataclasses.fields(view)}
        assert found["view"] == pytest.approx(ours, rel=2e-3, abs=2e-3)
        assert found["quality"] == pytest.approx(view.quality, abs=1e-3)


def test_sights_look_as_alike_as_in_python(library, persons):
    boxes = [
        (200.0, 60.0, 90.0, 120.0),
        (150.5, 40.0, 200.0, 210.0),
        (-30.0, -20.0, 90.0, 90.0),
        (900.0, 0.0, 5.0, 5.0),
    ]
    pairs = [(a, b, box) for a in persons for b in [persons[0], np.roll(a, 3, axis=1)] for box in boxes]
    found = library.run(
        [{"op": "correlation", "before": library.bgr(a), "now": library.bgr(b), "box": box} for a, b, box in pairs]
    )
    ours = [correlation(small_grey(a, box), small_grey(b, box)) for a, b, box in pairs]
    assert found == pytest.approx(ours, abs=1e-4)
    assert len({round(value, 2) for value in ours}) > 8


def test_ages_over_a_track_are_steadied_as_in_python(library):
    random = np.random.default_rng(2)
    cases, expected = [], []
    for number in range(12):
        times = np.cumsum(random.uniform(0.02, [0.06, 0.3][number % 2], 300))
        years = np.where(times < times[150], 31, 55 if number % 3 else 33) + random.normal(0, 3, 300)
        years[random.integers(0, 300, 12)] = random.uniform(-5, 130, 12)
        estimates = np.stack([years, random.uniform(0.3, 9, 300), times], axis=1).tolist()
        fusion = AgeFusion()
        expected.append([fusion.add(Age(age, std), time_s) for age, std, time_s in estimates])
        cases.append({"op": "fusion", "estimates": estimates})
    for found, ours in zip(library.run(cases), expected, strict=True):
        assert found == pytest.approx(ours, abs=1e-9)


def test_modules_are_small_and_their_types_cover_what_is_exported():
    for path in LIBRARY.glob("*.js"):
        assert len(path.read_text().splitlines()) < 300, path
        assert path.read_text().startswith("// @ts-check\n"), path
    types = (LIBRARY / "ageinfer.d.ts").read_text()
    exported = re.findall(r"^export class (\w+)", (LIBRARY / "ageinfer.js").read_text(), re.M)
    assert all(f"export class {name} " in types for name in [*exported, "AgeError"])
    keys = json.loads((MODELS.parent / "ageinfer" / "schemas" / "frames.json").read_text())
    faces = keys["properties"]["faces"]["items"]
    faces = faces.get("properties") or keys["$defs"]["face"]["properties"]
    assert all(re.search(rf"^  {key}: ", types, re.M) for key in set(faces) - {"over"})  # only the runtime has --over
