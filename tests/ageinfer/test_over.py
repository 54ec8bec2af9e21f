"""Whether somebody has reached an age: what is answered, when somebody is referred, and who is told."""

import csv
import io
import json
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_points import made_point
from made_results import all_of, face, film, result, walk

from ageinfer.engine.modelfile import (
    ModelMetadata,
    check_age_model,
    graph_sha256,
    metadata_properties,
    packaged_model,
    stated_metadata,
)
from ageinfer.engine.operating import OperatingPoint
from ageinfer.errors import ModelError, UsageError
from ageinfer.over import AgeCheck
from ageinfer.people import People
from ageinfer.pipeline import Pipeline
from ageinfer.sinks import record_schema
from ageinfer.sinks.draw import label_of
from ageinfer.tracking.age import TrackAge
from ageinfer.types import Age, Detection, Over

GRAPH = "a" * 64


def check(*points, years=18, detector="yunet-2023mar", graph=GRAPH):
    from ageinfer.crop.spec import CropSpec

    crop = CropSpec(size=8, margin=0.0)
    metadata = ModelMetadata("m", crop, "real", (0.0, 100.0), "linear", "constant", graph, operating_points=points)
    return AgeCheck(years, metadata, detector)


def answered(checking, years, quality=0.9):
    over = checking.of(Age(years, 5.0, quality))
    return over.answer, over.why


def test_an_answer_is_given_beyond_the_cut_offs_and_nowhere_between_them():
    held = check(made_point(graph=GRAPH))
    assert answered(held, 27.0) == ("over", "")
    assert answered(held, 26.99) == ("refer", "between")
    assert answered(held, 16.0) == ("refer", "between")
    assert answered(held, 15.99) == ("under", "")


@pytest.mark.parametrize(
    ("checking", "why"),
    [
        (check(), "no evidence"),
        (check(made_point(21, graph=GRAPH)), "no evidence"),
        (check(made_point(graph="b" * 64)), "no evidence"),
        (check(made_point(graph=GRAPH, detector="dlib")), "no evidence"),
        (check(made_point(graph=GRAPH, over_held=False, under_held=False)), "not held"),
    ],
)  # fmt: skip
def test_everybody_is_referred_where_the_file_has_no_evidence_that_holds(checking, why):
    assert {answered(checking, years) for years in (2.0, 17.0, 90.0)} == {("refer", why)}
    assert "everybody is referred" in checking.in_words


def test_an_answer_that_did_not_hold_is_not_given_and_the_other_is():
    careful = check(made_point(graph=GRAPH, under_held=False))
    assert [answered(careful, years) for years in (40.0, 3.0)] == [("over", ""), ("refer", "not held")]
    assert "under" not in careful.in_words
    careful = check(made_point(graph=GRAPH, over_held=False))
    assert [answered(careful, years) for years in (40.0, 3.0)] == [("refer", "not held"), ("under", "")]


def test_a_face_that_is_seen_badly_is_referred_however_old_it_looks():
    held = check(made_point(graph=GRAPH))
    assert answered(held, 80.0, quality=0.49) == ("refer", "quality")
    assert answered(held, 80.0, quality=None) == ("refer", "quality")
    of_wholes = check(made_point(graph=GRAPH, least_quality=None))
    assert answered(of_wholes, 80.0, quality=None) == ("over", "")


def test_the_probability_is_that_of_the_models_own_deviation():
    assert check().of(Age(18.0, 5.0)).p_at_least == pytest.approx(0.5398, abs=1e-4)  # half a year above 17.5
    assert check().of(None) == Over(18, None, "refer", "no evidence")


@given(st.floats(0, 100), st.floats(0, 100), st.floats(18, 60), st.floats(0, 18))
def test_whoever_looks_older_is_never_answered_as_younger(one, other, over_from, under_below):
    order = {"under": 0, "refer": 1, "over": 2}
    checking = check(made_point(over_from=over_from, under_below=under_below, graph=GRAPH))
    younger, older = (order[answered(checking, years)[0]] for years in sorted((one, other)))
    assert younger <= older


@pytest.mark.parametrize("years", [0, -1, 121])
def test_an_age_that_nobody_has_is_refused(years):
    with pytest.raises(UsageError, match="1 to 120"):
        check(years=years)


def test_a_point_is_read_as_it_was_written():
    for point in (made_point(graph=GRAPH), made_point(worst=None, least_quality=None, over_held=False)):
        assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict()))) == point


@pytest.mark.parametrize(
    "change",
    [
        {"years": 0}, {"years": "18"}, {"years": True}, {"over_from_years": 17.0}, {"over_from_years": float("nan")},
        {"under_below_years": 19.0}, {"stated_percent": -1}, {"least_quality": 2}, {"detector": 5}, {"more": 1},
        {"below_years": [1]}, {"below_years": None}, {"false_positive": None}, {"worst": "women"}, {"evidence": [1]},
        {"false_positive": {"n": 1, "hits": 2, "upper_percent": 5, "group": ""}}, {"evidence": None},
        {"graph_sha256": "x" * 500},
    ],
)  # fmt: skip
def test_what_is_no_operating_point_is_refused_by_name(change):
    with pytest.raises(ValueError, match="operating point"):
        OperatingPoint.from_dict(made_point().to_dict() | change)


def test_a_model_file_carries_its_points_under_its_seal(tiny_model):
    point = made_point(graph=GRAPH).to_dict()
    data = tiny_model(operating_points=[point])
    assert check_age_model(data, "m.onnx").operating_points == (OperatingPoint.from_dict(point),)
    changed = data.replace(b'"over_from_years": 27.0', b'"over_from_years": 18.0')
    assert changed != data
    with pytest.raises(ModelError, match="changed after the export"):
        check_age_model(changed, "m.onnx")
    with pytest.raises(ModelError, match="operating points"):
        check_age_model(tiny_model(operating_points={}), "m.onnx")


def test_a_file_without_points_does_not_speak_of_them(tiny_model):
    assert "operating_points" not in json.loads(metadata_properties(tiny_model())["ageinfer"])
    assert check_age_model(tiny_model(), "m.onnx").operating_points == ()


def test_records_have_the_answer_only_where_somebody_asked():
    plain = result(0.0, face(1, 500))
    asked = replace(plain, faces=(replace(plain.faces[0], over=Over(18, 0.98765, "refer", "quality")),))
    assert "over" not in plain.to_record()["faces"][0]
    record = asked.to_record()
    jsonschema.validate(record, record_schema())
    assert record["faces"][0]["over"] == {"years": 18, "p_at_least": 0.9877, "answer": "refer", "why": "quality"}
    assert label_of(asked.faces[0]).endswith(" refer 18")


def test_of_a_track_the_steady_age_decides_and_not_the_newest_estimate():
    pipeline = Pipeline(_NoFaces(), _Estimator(check(made_point(graph=GRAPH))), over_years=18)
    track = _Tracked()
    for i in range(60):
        track.age.take(Age(40.0, 5.0, 0.9), i / 25)
    track.age.take(Age(5.0, 5.0, 0.2), 60 / 25)
    found = pipeline.followed(Detection((0, 0, 10, 10), 1.0), track, 60 / 25)
    assert found.age_years == 5.0
    assert found.over.answer == "over"
    assert found.over.p_at_least > 0.99


class _NoFaces:
    identifier = "yunet-2023mar"

    def detect(self, image):
        return []


class _Estimator:
    def __init__(self, checking):
        self.metadata = ModelMetadata(
            "m", None, "real", (0.0, 100.0), "linear", "constant", GRAPH, operating_points=(checking.point,)
        )


class _Tracked:
    number = 1

    def __init__(self):
        self.age = TrackAge()


def test_persons_are_asked_and_those_who_were_hardly_seen_are_referred():
    frames = film(walk(1, 0.0, 2.0, age=40.0), walk(2, 0.0, 0.2, age=40.0), walk(3, 0.0, 2.0, age=10.0), to_s=8)
    found = {person.track: person for person in all_of(People(check=check(made_point(graph=GRAPH))), frames)}
    assert {track: (one.over.answer, one.over.why) for track, one in found.items()} == {
        1: ("over", ""), 2: ("refer", "few estimates"), 3: ("under", ""),
    }  # fmt: skip
    for person in found.values():
        jsonschema.validate(person.to_record(), record_schema("people"))
    assert all("over" not in person.to_record() for person in all_of(People(), frames))


@pytest.fixture
def asked(tiny_model, tmp_path):
    """A model whose answers, mean colours, are all beyond its cut-off."""
    path = tmp_path / "asked.onnx"
    path.write_bytes(
        tiny_model(operating_points=[made_point(graph=graph_sha256(tiny_model()), least_quality=0.1).to_dict()])
    )
    return path


def test_the_command_tells_of_each_face(asked, astronaut_path, run_cli, tmp_path):
    table = tmp_path / "faces.csv"
    ran = run_cli(astronaut_path, "--model", asked, "--over", 18, "--jsonl", "-", "--csv", table)
    assert ran.returncode == 0, ran.stderr
    [found] = json.loads(ran.stdout)["faces"]
    assert found["over"] == {"years": 18, "p_at_least": 1.0, "answer": "over", "why": None}
    [row] = csv.DictReader(io.StringIO(table.read_text()))
    assert (row["over_years"], row["p_at_least"], row["over"], row["over_why"]) == ("18", "1.0", "over", "")
    assert "over from 27.0 estimated years" in ran.stderr
    assert "This verifies nobody's age" in ran.stderr


def test_the_command_says_that_there_is_no_evidence_for_an_age(asked, astronaut_path, run_cli):
    ran = run_cli(astronaut_path, "--model", asked, "--over", 65, "--jsonl", "-")
    assert json.loads(ran.stdout)["faces"][0]["over"]["why"] == "no evidence"
    assert "everybody is referred" in ran.stderr
    ran = run_cli(astronaut_path, "--over", 500)
    assert ran.returncode == 2
    assert "1 to 120" in ran.stderr


def test_the_service_answers_too(asked, astronaut_path):
    from ageinfer.api.bodies import Upload
    from ageinfer.api.workers import Workers

    workers = Workers(Pipeline.default(asked, over_years=18, threads=1))
    [answer] = workers.start([Upload("a.jpg", astronaut_path.read_bytes())])
    assert answer.result(30).record["faces"][0]["over"]["answer"] == "over"
    workers.close()


@pytest.mark.parametrize("name", ["age-small", "age-small.fp32", "age-accurate", "age-accurate.fp32"])
def test_every_shipped_file_has_points_of_its_own(name):
    metadata = stated_metadata(packaged_model(f"{name}.onnx"))
    assert [point.years for point in metadata.operating_points] == [13, 16, 18, 21, 25]
    assert {point.graph_sha256 for point in metadata.operating_points} == {metadata.graph_sha256}
    for point in metadata.operating_points:
        assert point.over_held
        assert AgeCheck(point.years, metadata, "yunet-2023mar").why == ""
        assert point.over_from_years >= point.years
        assert point.false_positive.n > 50


def test_a_grown_up_is_answered_over_and_without_a_face_nobody_is(astronaut_path):
    pipeline = Pipeline.default(over_years=18, threads=1)
    [found] = pipeline(astronaut_path)
    assert (found.over.answer, found.over.why) == ("over", "")
    assert found.over.p_at_least == pytest.approx(found.age.at_least(18))
