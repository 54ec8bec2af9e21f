"""The JavaScript library against Python, with the networks: faces, ages, and whole records of pictures and videos."""

import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT
from films import moving_face
from portraits import variation
from web_library import MODELS, YUNET, Library

from ageinfer.detect import YuNet, detect_closely
from ageinfer.pipeline import Pipeline
from ageinfer.sources import open_source, read_picture

sys.path.insert(0, str(ROOT / "docs"))
from pictures import _strolling, _swaying

FP32, INT8 = MODELS / "age-small.fp32.onnx", MODELS / "age-small.onnx"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return Library(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def scenes(persons):
    """Pictures with one face, eight, small ones, none, and some that are cut off; uint8 BGR."""
    crowd = read_picture(ROOT / "samples" / "portraits.jpg")
    many = np.zeros((1900, 2700, 3), np.uint8)
    for number in range(24):  # larger than one search takes, with faces of about 50 pixels
        face = cv2.resize(persons[number % 3], (110, 110), interpolation=cv2.INTER_AREA)
        x, y = 60 + number % 6 * 430, 70 + number // 6 * 450
        many[y : y + 110, x : x + 110] = face
    few = many[:900, :1500]
    half = cv2.resize(crowd, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    empty = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    cut = persons[0][40:300, 140:330]
    large = cv2.resize(persons[1], None, fx=2.3, fy=2.3)
    return [*persons, crowd, half, many, empty, cut, large, few, *(variation(persons[i % 3], i) for i in range(10))]


def test_faces_are_found_near_known_places_as_in_python(library, scenes):
    detector = YuNet(provider="cpu", threads=1)
    random = np.random.default_rng(0)
    cases, ours = [], []
    for image in scenes:
        boxes = [
            tuple((np.array(d.box) * random.uniform(0.95, 1.05, 4)).tolist()) for d in detect_closely(detector, image)
        ]
        boxes += [(-20.0, image.shape[0] - 40.0, 60.0, 70.0), (3.0, 5.0, 500.0, 400.0)]
        ours.append(detector.detect_near(image, boxes))
        cases.append({"op": "near", "files": [str(FP32), str(YUNET)], "picture": library.bgr(image), "boxes": boxes})
    assert sum(map(len, ours)) > 40
    for faces, detections in zip(library.run_networks(cases), ours, strict=True):
        assert len(faces) == len(detections)
        for face, detection in zip(faces, detections, strict=True):
            assert face["box"] == pytest.approx(detection.box, abs=0.1)
            assert face["score"] == pytest.approx(detection.score, abs=1e-3)
            assert np.array(face["landmarks"]) == pytest.approx(np.array(detection.landmarks), abs=0.1)


def test_records_of_pictures_are_those_of_python(library, scenes):
    pipeline = Pipeline.default(FP32, provider="cpu", threads=1)
    ours = [pipeline(image).to_record() for image in scenes]
    assert [len(record["faces"]) for record in ours[3:7]] == [8, 8, 24, 0]
    files = [str(FP32), str(YUNET)]
    cases = [{"op": "picture", "files": files, "picture": library.bgr(image), "source": ""} for image in scenes]
    found = library.run_networks(cases)
    for record, expected in zip(found, ours, strict=True):
        same_record(record, expected)
    ages = [[face["age"] for record in records for face in record["faces"]] for records in (found, ours)]
    assert ages[0] == pytest.approx(ages[1], abs=0.05)
    assert len(set(ages[1])) > 40


def test_ages_in_8_bits_are_near_those_of_python(library, persons):
    """WebAssembly rounds some activations otherwise: at most 0.45 years, 0.07 in the mean of 60 faces."""
    pipeline = Pipeline.default(INT8, provider="cpu", threads=1)
    pictures = [variation(persons[i % 3], i) for i in range(60)]
    crops = [pipeline.crop(image, pipeline.find(image)[:1])[0] for image in pictures]
    ours = [(age.age_years, age.std_years) for age in pipeline.estimator.estimate(np.array(crops))]
    files = [str(INT8), str(YUNET)]
    [found] = library.run_networks([{"op": "estimate", "files": files, "crops": list(map(library.picture, crops))}])
    apart = np.abs(np.array([(age["ageYears"], age["stdYears"]) for age in found]) - ours)
    assert apart.max() < 0.75
    assert apart[:, 0].mean() < 0.15


def test_a_model_of_whole_pictures_needs_no_detector(library, tiny_model, persons, tmp_path):
    crop = {"kind": "resize", "detector": "none", "resize_to": 12, "keep_aspect": True}
    (tmp_path / "whole.onnx").write_bytes(tiny_model(crop_changes=crop))
    pipeline = Pipeline.default(tmp_path / "whole.onnx", provider="cpu", threads=1)
    files = [str(tmp_path / "whole.onnx"), "/dev/null"]
    cases = [{"op": "picture", "files": files, "picture": library.bgr(image), "source": ""} for image in persons]
    cases.append({"op": "video", "files": files, "frames": [(cases[0]["picture"], 0.5)], "source": "x"})
    *pictures, video = library.run_networks(cases)
    assert pictures == [pipeline(image).to_record() for image in persons]
    assert video == [pipeline.start("x")(persons[0], 0.5).to_record()]


def same_record(record, expected):
    """All but the ages is the same, places within 0.1 pixel."""
    faces, expected_faces = record["faces"], expected["faces"]
    assert {**record, "faces": []} == {**expected, "faces": []}
    assert len(faces) == len(expected_faces)
    for face, other in zip(faces, expected_faces, strict=True):
        assert list(face) == list(other)
        assert {key: face[key] for key in ("track", "age_lag_s")} == {key: other[key] for key in ("track", "age_lag_s")}
        assert face["box"] == pytest.approx(other["box"], abs=0.1)
        assert np.array(face["landmarks"]) == pytest.approx(np.array(other["landmarks"]), abs=0.1)
        assert face["score"] == pytest.approx(other["score"], abs=1e-3)
        assert face["quality"] == pytest.approx(other["quality"], abs=2e-3)


def occlusion(persons):
    """Two portraits; a third person takes the place of the first, and comes and goes."""
    tiles = [cv2.resize(person, (150, 150), interpolation=cv2.INTER_AREA) for person in persons]
    for number in range(62):
        image = np.full((270, 480, 3), 90, np.uint8)
        image[60:210, 20 + number // 3 : 170 + number // 3] = tiles[2 if 30 <= number < 40 else 0]
        if not 12 <= number < 22:
            image[70:220, 320 - number : 470 - number] = tiles[1]
        yield image


def films(persons):
    """Films by their name: frames in BGR, and the time of each frame in seconds."""
    clip = [(frame.image, frame.time_s) for frame in open_source(str(ROOT / "samples" / "clip.mp4"))]
    swaying, strolling = _swaying(), _strolling(9)
    yield "clip", clip[:30]
    yield "swaying", [(swaying(number), number / 15) for number in range(8)]
    yield "strolling", [(strolling(number), number / 12) for number in range(16)]
    yield "occlusion", [(image, number / 21) for number, image in enumerate(occlusion(persons))]
    yield "moving", [(image, None) for image in moving_face(persons[1], 15)]
    yield "sizes", [(image[: 200 + 40 * (i // 6)].copy(), i // 2 / 10) for i, (image, _) in enumerate(clip[:12])]


@pytest.mark.slow
def test_films_have_the_tracks_and_steady_ages_of_python(library, persons):
    """Frame by frame: which frames are searched, carried, estimated, and who is who."""
    pipeline = Pipeline.default(FP32, provider="cpu", threads=1)
    cases, ours = [], {}
    for name, frames in films(persons):
        tracker = pipeline.start(name)
        ours[name] = [tracker(np.ascontiguousarray(image), time_s).to_record() for image, time_s in frames]
        raw = [(library.bgr(image), time_s) for image, time_s in frames]
        cases.append({"op": "video", "files": [str(FP32), str(YUNET)], "frames": raw, "source": name})
    faces = []
    for records, (name, expected) in zip(library.run_networks(cases), ours.items(), strict=True):
        assert len(records) == len(expected), name
        for record, other in zip(records, expected, strict=True):
            same_record(record, other)
            faces += zip(record["faces"], other["faces"], strict=True)
    assert {other["track"] for _, other in faces} >= {1, 2, 3, 4}
    assert sum(other["age_lag_s"] > 0 for _, other in faces) > 8
    apart = np.array([[abs(face[key] - other[key]) for key in ("age", "age_smoothed")] for face, other in faces])
    # Of a place that lies in the middle between two quarters of a pixel, the last digit decides.
    assert (apart < 0.05).mean() > 0.99
    assert apart.max() < 1
