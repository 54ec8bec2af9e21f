"""What a program gets from ``import ageinfer``: pictures as it has them, frames one by one, results as it likes."""

import io

import cv2
import numpy as np
import pytest

import ageinfer
from ageinfer.errors import MissingDependencyError, SourceError
from ageinfer.types import Age, Detection, Face, Frame, FrameResult


@pytest.fixture(scope="module")
def pipeline():
    return ageinfer.Pipeline.default(provider="cpu", threads=1)


def test_a_picture_may_be_a_path_bytes_an_array_or_a_pil_image(pipeline, astronaut, astronaut_path, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    lossless = tmp_path / "a.png"
    cv2.imwrite(str(lossless), astronaut)
    expected = pipeline(astronaut).faces
    assert len(expected) == 1
    rgb = np.ascontiguousarray(astronaut[:, :, ::-1])
    given = {
        "path": pipeline(lossless),
        "text": pipeline(str(lossless)),
        "bytes": pipeline(lossless.read_bytes()),
        "rgb": pipeline(rgb, color="rgb"),
        "pil": pipeline(pil.open(lossless)),
        "pil from an array": pipeline(pil.fromarray(rgb)),
        "frame": pipeline(Frame("", 0, None, astronaut)),
    }
    assert {name: result.faces for name, result in given.items()} == dict.fromkeys(given, expected)
    assert (given["path"].source, given["text"].source, given["bytes"].source) == (str(lossless), str(lossless), "")


def test_the_order_of_colours_is_not_guessed(pipeline, astronaut):
    swapped = pipeline(astronaut, color="rgb").faces
    assert swapped != pipeline(astronaut).faces
    with pytest.raises(ValueError, match="color 'grb': use 'bgr' or 'rgb'"):
        pipeline(astronaut, color="grb")


def test_a_pil_image_is_turned_as_its_exif_says(pipeline, astronaut):
    pil = pytest.importorskip("PIL.Image")
    image = pil.fromarray(np.ascontiguousarray(np.rot90(astronaut[:, :, ::-1])))
    data = io.BytesIO()
    exif = pil.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    image.save(data, "PNG", exif=exif)
    [turned], [plain] = pipeline(pil.open(data)).faces, pipeline(astronaut).faces
    assert np.allclose(turned.detection.box, plain.detection.box, atol=0.01)


@pytest.mark.parametrize("picture", [b"", b"Dear diary", "gone.jpg"])
def test_what_cannot_be_decoded_is_a_source_error(pipeline, picture):
    with pytest.raises(SourceError, match=r"cannot be decoded|No such file"):
        pipeline(picture)


def test_frames_one_by_one_give_what_the_iterator_gives(pipeline, persons):
    image = cv2.resize(persons[1], (240, 240))
    images = [cv2.convertScaleAbs(image, alpha=1 + 0.2 * np.sin(i)) for i in range(60)]
    expected = [result for _, result in pipeline.video(Frame("door", i, i / 25, im) for i, im in enumerate(images))]
    tracker = pipeline.start("door")
    assert [tracker(image, i / 25) for i, image in enumerate(images)] == expected
    other = pipeline.start("door")
    assert [other(np.ascontiguousarray(im[:, :, ::-1]), i / 25, color="rgb") for i, im in enumerate(images)] == expected


def test_two_trackers_know_nothing_of_each_other(pipeline, persons):
    images = [cv2.resize(person, (240, 240)) for person in persons[:2]]
    first, second = pipeline.start("first"), pipeline.start("second")
    for i in range(5):
        results = [tracker(image, i / 25) for tracker, image in zip((first, second), images, strict=True)]
        assert [[face.track for face in result] for result in results] == [[1], [1]]
        assert [result.source for result in results] == ["first", "second"]
        assert [result.index for result in results] == [i, i]


def test_every_result_says_which_model_answered(pipeline, astronaut):
    result = pipeline(astronaut)
    assert result.model == result.to_record()["model"] == "age-small@int8"
    assert pipeline.start()(astronaut).model == "age-small@int8"
    exact = ageinfer.Pipeline.default("age-accurate", precision="fp32", provider="cpu")
    assert exact(astronaut).model == "age-accurate@fp32"


def face(x, age, track=None, smoothed=None):
    return Face(Detection((x, 20.0, 30.0, 40.0), 0.9), Age(age, 4.5), track, smoothed)


def test_the_years_of_a_face_have_short_names():
    single, followed = face(10, 31.0), face(50, 62.0, 2, 60.5)
    assert (single.age_years, single.age_std_years, single.shown_years) == (31.0, 4.5, 31.0)
    assert (followed.age_years, followed.age_std_years, followed.shown_years) == (62.0, 4.5, 60.5)
    assert list(FrameResult("a", 0, None, (99, 99), (single, followed))) == [single, followed]


def test_results_become_detections_of_supervision():
    pytest.importorskip("supervision")
    result = FrameResult("a", 0, None, (99, 99), (face(10, 31.0, 1, 30.0), face(50, 62.0, 2, 60.5)))
    detections = result.to_supervision()
    assert detections.xyxy.tolist() == [[10, 20, 40, 60], [50, 20, 80, 60]]
    assert detections.confidence.tolist() == pytest.approx([0.9, 0.9])
    assert detections.tracker_id.tolist() == [1, 2]
    assert detections.data["age_years"].tolist() == [31, 62]
    assert detections.data["age_std_years"].tolist() == [4.5, 4.5]
    assert detections.data["age_smoothed_years"].tolist() == [30, 60.5]
    untracked = FrameResult("a", 0, None, (99, 99), (face(10, 31.0),)).to_supervision()
    assert untracked.tracker_id is None
    assert np.isnan(untracked.data["age_smoothed_years"]).all()
    assert len(FrameResult("a", 0, None, (99, 99), ()).to_supervision()) == 0


def test_without_supervision_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match="pip install supervision"):
        FrameResult("a", 0, None, (99, 99), ()).to_supervision()


def test_a_result_can_be_drawn_and_hidden_at_the_top_level(pipeline, astronaut):
    result = pipeline(astronaut)
    x, y, w, h = (round(v) for v in result.faces[0].detection.box)
    drawn, hidden = ageinfer.draw_faces(astronaut, result), ageinfer.blur_faces(astronaut, result)
    assert drawn.shape == hidden.shape == astronaut.shape
    assert (drawn[y : y + h, x] != astronaut[y : y + h, x]).any(axis=1).mean() > 0.9  # the box's left side
    face_before, face_after = astronaut[y : y + h, x : x + w], hidden[y : y + h, x : x + w]
    assert cv2.Laplacian(face_after, cv2.CV_64F).std() < 0.2 * cv2.Laplacian(face_before, cv2.CV_64F).std()


def test_sinks_take_results_of_a_program(pipeline, astronaut, tmp_path):
    frame = Frame("door", 0, 0.0, astronaut)
    with ageinfer.JsonlSink(tmp_path / "r.jsonl") as sink:
        sink.write(ageinfer.AnnotatedFrame(frame, pipeline(frame)))
    assert '"source": "door"' in (tmp_path / "r.jsonl").read_text()


def test_every_public_name_is_there_and_has_a_docstring_of_its_own():
    for name in ageinfer.__all__:
        thing = getattr(ageinfer, name)
        text = (thing.__doc__ or "").strip()
        assert text.split("\n")[0].endswith((".", ":")), name
        assert not text.startswith(f"{name}("), name  # what a dataclass writes by itself
