import cv2
import numpy as np
import pytest

from ageinfer.crop.cut import CropSpec, crop_faces
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.errors import ModelError, SourceError
from ageinfer.pipeline import Looking, Pipeline
from ageinfer.types import Frame

BOX = (178.25, 62.87, 90.17, 112.78)


@pytest.fixture(scope="module")
def estimator():
    return AgeEstimator(provider="cpu", threads=1)


@pytest.fixture
def crops(astronaut, estimator):
    """The astronaut's face as it is, somewhat shifted, enlarged, and not a face at all."""
    x, y, w, h = BOX
    boxes = [BOX, (x + 9, y - 6, w, h), (x - 20, y - 20, w + 40, h + 40), (300, 300, 100, 100)]
    return crop_faces(astronaut, boxes, estimator.metadata.crop)


def test_the_age_of_the_astronaut_is_plausible(estimator, crops):
    [age] = estimator.estimate(crops[:1])
    assert 20 <= age.age_years <= 60
    assert 0 < age.std_years < 60


def test_a_batch_gives_what_its_crops_give_alone_and_in_their_order(estimator, crops):
    together = [(a.age_years, a.std_years) for a in estimator.estimate(crops)]
    alone = [(a.age_years, a.std_years) for i in range(len(crops)) for a in estimator.estimate(crops[i : i + 1])]
    np.testing.assert_allclose(together, alone, atol=1e-2)
    assert len({round(age, 2) for age, _ in together}) == len(crops)  # else the order would not show


def test_every_answer_lies_in_the_range_that_the_model_announces(estimator, crops):
    low, high = estimator.metadata.age_range
    extremes = np.stack([np.zeros_like(crops[0]), np.full_like(crops[0], 255), *crops])
    assert all(low <= age.age_years <= high for age in estimator.estimate(extremes))


def test_no_crop_gives_no_age(estimator, crops):
    assert estimator.estimate(crops[:0]) == []


def test_red_and_blue_are_not_the_same_to_it(estimator, crops):
    swapped = np.ascontiguousarray(crops[:1, :, :, ::-1])
    assert abs(estimator.estimate(crops[:1])[0].age_years - estimator.estimate(swapped)[0].age_years) > 0.02


def test_a_view_of_an_array_gives_what_a_copy_gives(estimator, crops):
    mirrored = crops[:1, :, ::-1]
    assert estimator.estimate(mirrored) == estimator.estimate(mirrored.copy())


def test_crops_of_another_shape_or_type_are_refused(estimator, crops):
    for wrong in (crops[0], crops[:, :-1], crops.transpose(0, 3, 1, 2), crops.astype(np.float32), crops[..., :1]):
        with pytest.raises(ValueError, match="crops must be uint8"):
            estimator.estimate(wrong)


def test_the_colours_reach_the_network_as_rgb_and_unscaled(tiny_model, tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model())  # answers with the mean of the red channel
    tiny = AgeEstimator(path, provider="cpu")
    reddish = np.zeros((2, 8, 8, 3), np.uint8)
    reddish[0] = (70, 5, 9)
    assert [(a.age_years, a.std_years) for a in tiny.estimate(reddish)] == [(70.0, 5.0), (0.0, 5.0)]


@pytest.mark.parametrize("wrong", [{"input_type": 1}, {"input_size": 9}, {"crop_changes": {"size": 16}}], ids=str)
def test_a_graph_that_takes_something_else_than_its_metadata_say_is_refused(tiny_model, tmp_path, wrong):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model(**wrong))
    with pytest.raises(ModelError, match="not what its metadata say"):
        AgeEstimator(path, provider="cpu")


class OneBox:
    """A detector that says what it is told to."""

    identifier = "told"

    def __init__(self, *detections):
        self._detections = list(detections)

    def detect(self, image):
        return self._detections


def test_the_pipeline_gives_every_face_its_own_age(astronaut):
    # Two faces in one picture, the second turned grey and older looking or not: only its own pixels may count.
    pipeline = Pipeline.default(provider="cpu", threads=1)
    other = cv2.resize(astronaut, (400, 400))[:, ::-1]
    both = np.zeros((512, 912, 3), np.uint8)
    both[:, :512] = astronaut
    both[:400, 512:] = other
    result = pipeline(Frame("two", 3, 0.5, both))
    assert (result.source, result.index, result.time_s, result.size) == ("two", 3, 0.5, (912, 512))
    assert len(result.faces) == 2
    detections = [face.detection for face in result.faces]
    for face, detection in zip(result.faces, detections, strict=True):
        alone = Pipeline(OneBox(detection), pipeline.estimator, Looking(max_side=None))(both)
        assert alone.faces[0].age.age_years == pytest.approx(face.age.age_years, abs=0.05)


def test_the_pipeline_crops_as_the_model_says(astronaut, tiny_model, tmp_path):
    # The model answers with the mean red of its crop, so the crop that it was given can be told.
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model(crop_changes={"margin": 0.5, "fill": [255, 0, 0]}))
    pipeline = Pipeline.default(path, provider="cpu")
    result = pipeline(astronaut)
    [face] = result.faces
    spec = CropSpec(size=8, margin=0.5, fill=(255, 0, 0))
    expected = crop_faces(astronaut, [face.detection.box], spec)[0, :, :, 0].mean()
    assert face.age.age_years == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)), None, [[1]]],
    ids=["grey", "four channels", "float", "none", "list"],
)
def test_the_pipeline_refuses_what_is_no_picture(frame):
    pipeline = Pipeline(OneBox(), None)
    with pytest.raises(ValueError, match="must be a uint8 BGR array") as caught:
        pipeline(frame)
    assert not isinstance(caught.value, SourceError)


@pytest.mark.parametrize(
    ("name", "threads", "most"), [("age-small", 1, 2), ("age-small", 2, 2), ("age-accurate", 1, 1)]
)
def test_on_a_cpu_many_faces_are_asked_about_in_pieces_that_change_no_answer(name, threads, most):
    estimator = AgeEstimator(name, precision="fp32", provider="cpu", threads=threads)
    size = estimator.metadata.crop.size
    faces = np.random.default_rng(0).integers(0, 256, (13, size, size, 3), np.uint8)
    sizes = []
    estimator.network.on_run = lambda shape, seconds: sizes.append(shape[0])
    together = estimator.estimate(faces)
    assert sizes == [most] * (13 // most) + [13 % most] * (13 % most > 0)
    alone = [estimator.estimate(face[None])[0] for face in faces]
    assert [a.age_years for a in together] == pytest.approx([a.age_years for a in alone], abs=1e-3)
    assert [a.std_years for a in together] == pytest.approx([a.std_years for a in alone], abs=1e-3)
