"""``ageinfer prove --compare``: what differs is told, and what may not differ ends with another status."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from portraits import change_initializer, tampered
from proofs import changed, prove, write_noise, write_pictures

from ageexport.ladder import Bounds
from ageinfer.commands.main import main
from ageinfer.engine.modelfile import packaged_model, read_model
from ageinfer.errors import ExitStatus
from ageinfer.proving import agreement
from ageinfer.proving.agreement import Agreement
from ageinfer.proving.answers import Answer
from ageinfer.proving.evidence import read_evidence

COUNT = 6


@pytest.fixture(scope="module")
def folder(persons, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder, persons, COUNT)
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """Evidence of six portraits by the default model, in 8 bits."""
    out = tmp_path_factory.mktemp("evidence")
    assert prove("age-small", folder, out) == ExitStatus.OK
    return out / "evidence.json"


def compared(capsys, *paths) -> tuple[int, list[str]]:
    status = main(["prove", "--compare", *map(str, paths)])
    return status, capsys.readouterr().out.splitlines()


def test_evidence_agrees_with_itself(made, capsys):
    status, lines = compared(capsys, made, made)
    assert status == ExitStatus.OK
    assert lines[1:5] == [
        f"pictures: {COUNT} of {COUNT} and {COUNT} are in both",
        f"faces: alike in {COUNT} of {COUNT} pictures",
        "boxes: at most 0.00 px apart, 0.000 on average (bound 0.1)",
        f"ages: at most 0.00 years apart, 0.000 on average, {COUNT} of {COUNT} equal (bounds 1 and 0.2)",
    ]
    assert "no face: 0.00 and 0.00 %" in lines
    assert lines[-1] == "the answers agree"
    assert not [line for line in lines if "DIFFERS" in line]


def add(years: float, pictures=(0,), precision="int8"):
    def change(values):
        values["model"]["precision"] = precision
        for i in pictures:
            values["answers"][i]["age_years"] += years

    return change


def fewer_faces(values):
    values["answers"][1]["faces"] = 2


def no_face(values):
    values["answers"][1] |= {"outcome": "no face", "faces": 0, "box_px": None, "age_years": None}


def moved(px):
    def change(values):
        values["answers"][2]["box_px"][3] += px

    return change


def other_graph(values):
    values["model"]["graph_sha256"] = "f" * 64


def other_pictures(values):
    for answer in values["answers"]:
        answer["sha256"] = answer["sha256"][::-1]


ALL = tuple(range(COUNT))


@pytest.mark.parametrize(
    ("change", "begins"),
    [
        (add(1.05), "ages: at most 1.05"), (add(-1.05), "ages: at most 1.05"), (add(0.25, ALL), "ages: at most 0.25"),
        (moved(0.2), "boxes: at most 0.20"), (moved(-0.2), "boxes: at most 0.20"),
        (fewer_faces, "faces: alike in 5 of 6 pictures: 001.png: face, 1 faces and face, 2 faces"),
        (no_face, "faces: alike in 5 of 6"), (other_graph, "model: another one"),
        (other_pictures, "pictures: 0 of 6 and 6 are in both; nothing can be compared"),
    ],
)  # fmt: skip
def test_what_goes_beyond_a_bound_ends_with_its_status(made, tmp_path, capsys, change, begins):
    other = changed(made, tmp_path / "other.json", change)
    for pair in ((made, other), (other, made)):
        status, lines = compared(capsys, *pair)
        assert status == ExitStatus.UNPROVED
        [line] = [line for line in lines if line.endswith("DIFFERS")]
        assert line.startswith(begins.partition(": 001")[0])
        assert lines[-1] == "the answers do not agree, or nothing could be compared"
    assert any(line.startswith(begins) for line in compared(capsys, made, other)[1])


@pytest.mark.parametrize("change", [add(0.95), add(0.15, ALL), moved(0.05)])
def test_what_processors_may_differ_in_agrees(made, tmp_path, capsys, change):
    assert compared(capsys, made, changed(made, tmp_path / "o.json", change))[0] == ExitStatus.OK


def test_fp32_has_tighter_bounds(made, tmp_path, capsys):
    whole = changed(made, tmp_path / "whole.json", add(0.0, precision="fp32"))
    for years, status in ((0.04, ExitStatus.OK), (0.05, ExitStatus.OK), (-0.05, ExitStatus.OK),
                          (0.06, ExitStatus.UNPROVED)):  # fmt: skip
        other = changed(made, tmp_path / "other.json", add(years, precision="fp32"))
        assert compared(capsys, whole, other)[0] == status
        assert compared(capsys, made, other)[0] == ExitStatus.OK  # one of them is in 8 bits


def test_answers_over_and_under_that_differ_are_told(made, tmp_path, capsys):
    def over(answer):
        return lambda values: [each.update(over={"18": answer(i)}) for i, each in enumerate(values["answers"])]

    one = changed(made, tmp_path / "a.json", over(lambda _: "over"))
    other = changed(made, tmp_path / "b.json", over(lambda i: "refer" if i == 4 else "over"))
    status, lines = compared(capsys, one, other)
    assert status == ExitStatus.OK
    assert "over 18: 1 of 6 answers differ: 004.png: over and refer" in lines
    without = changed(
        made, tmp_path / "c.json", lambda values: [each.update(over={}) for each in values["answers"]]
    )  # fmt: skip
    status, lines = compared(capsys, without, other)
    assert status == ExitStatus.OK
    assert "operating points: not for the same ages, none and 18" in lines
    assert not [line for line in lines if line.startswith("over ")]


def test_only_pictures_that_are_in_both_are_compared_and_other_facts_are_told(made, tmp_path, capsys):
    def fewer(values):
        values["answers"] = values["answers"][2:]
        values["answers"][0]["file"] = "another name.png"
        values["pictures"]["sha256"] = "f" * 64
        values["machine"]["processor"] = "Another"
        values["machine"]["versions"]["onnxruntime"] = "0.1"
        values["speed"]["median_ms"] = {key: 2 * ms for key, ms in values["speed"]["median_ms"].items()}
        values["model"]["sha256"] = "e" * 64

    status, lines = compared(capsys, made, changed(made, tmp_path / "o.json", fewer))
    assert status == ExitStatus.OK
    assert f"pictures: {COUNT - 2} of {COUNT} and {COUNT - 2} are in both" in lines
    assert any(line.startswith("model: the same graph in another file") for line in lines)
    assert any(line.endswith(" and Another") for line in lines)
    assert any(line.startswith("versions: onnxruntime ") and line.endswith(" and onnxruntime 0.1") for line in lines)
    assert "figures: of other pictures or labels, so they are not compared" in lines
    assert len([line for line in lines if "2.00 times as much" in line]) == 5


def test_a_changed_model_and_a_changed_picture_are_noticed(made, folder, persons, tmp_path, capsys):
    pytest.importorskip("onnx")
    data = read_model(packaged_model("age-small.onnx"))
    bias = max((n for n in initializers(data) if n.endswith("bias")), default=None) or initializers(data)[0]
    path = tmp_path / "mine.onnx"
    path.write_bytes(tampered(data, change_initializer(bias, lambda array: array + array.dtype.type(1))))
    write_pictures(tmp_path / "p", persons, COUNT)
    assert prove(path, tmp_path / "p", tmp_path / "model") == ExitStatus.OK
    status, lines = compared(capsys, made, tmp_path / "model" / "evidence.json")
    assert status == ExitStatus.UNPROVED
    assert any(line.startswith("model: another one, age-small@int8 (graph ") for line in lines)
    write_noise(tmp_path / "p" / "003.png")
    assert prove("age-small", tmp_path / "p", tmp_path / "picture") == ExitStatus.OK
    status, lines = compared(capsys, made, tmp_path / "picture" / "evidence.json")
    assert status == ExitStatus.OK
    assert f"pictures: {COUNT - 1} of {COUNT} and {COUNT} are in both" in lines


def initializers(data) -> list[str]:
    import onnx

    return [tensor.name for tensor in onnx.load_from_string(data).graph.initializer]


def test_a_change_after_it_was_made_is_refused_in_one_line(made, tmp_path, capsys):
    text = made.read_text()
    age = read_evidence(made)["answers"][0]["age_years"]
    for before, after in ((f'"age_years": {age}', f'"age_years": {age + 0.01}'), ('"cores": ', '"cores": 1')):
        assert text.count(before) == 1
        (tmp_path / "edited.json").write_text(text.replace(before, after))
        for pair in ((made, tmp_path / "edited.json"), (tmp_path / "edited.json", made)):
            assert main(["prove", "--compare", *map(str, pair)]) == ExitStatus.SOURCE
            printed = capsys.readouterr()
            assert printed.out == ""
            [line] = printed.err.splitlines()
            assert "edited.json: was changed after it was made" in line


def without_speed(values):
    del values["speed"]["median_ms"]


def no_answer(values):
    values["answers"][0]["age_years"] = None


def not_finite(values):
    values["answers"][-1]["age_years"] = float("nan")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\xff", b"[" * 99_999, b'{"evidence_sha256": 1, "schema": 9}'])
def test_what_is_no_evidence_is_refused_in_one_line(made, tmp_path, capsys, text):
    (tmp_path / "bad.json").write_bytes(text)
    assert main(["prove", "--compare", str(made), str(tmp_path / "bad.json")]) == ExitStatus.SOURCE
    [line] = capsys.readouterr().err.splitlines()
    assert "bad.json: " in line
    assert main(["prove", "--compare", str(made), str(tmp_path / "gone.json")]) == ExitStatus.SOURCE


@pytest.mark.parametrize(
    "change", [without_speed, no_answer, not_finite, lambda v: v.pop("model"), lambda v: v.update(answers=5)]
)
def test_sealed_nonsense_is_refused_in_one_line(made, tmp_path, capsys, change):
    values = read_evidence(made)
    change(values)
    from ageinfer.proving.evidence import sealed

    (tmp_path / "bad.json").write_text(json.dumps(sealed(values)))
    assert main(["prove", "--compare", str(made), str(tmp_path / "bad.json")]) == ExitStatus.SOURCE
    assert len(capsys.readouterr().err.splitlines()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(Answer.__slots__)), inner),
)
FACE = Answer("a.jpg", "0" * 64, "face", 1, (1.0, 2.0, 3.0, 4.0), 30.0, 5.0, 0.9, {"18": "over"})


@given(st.dictionaries(st.sampled_from(list(Answer.__slots__)), JSON, max_size=3))
def test_an_answer_is_read_or_refused(changes):
    assert Answer.from_dict(json.loads(json.dumps(FACE.to_dict()))) == FACE
    try:
        found = Answer.from_dict(FACE.to_dict() | changes)
    except ValueError:
        return
    assert (found.outcome == "face") == (found.age_years is not None)


def test_the_bounds_are_those_of_the_proof_of_an_export():
    bounds = Bounds()
    assert Agreement.of("fp32", "fp32") == Agreement(bounds.box_px, bounds.elsewhere, bounds.elsewhere)
    reduced = Agreement(bounds.box_px, bounds.reduced_elsewhere, bounds.reduced_elsewhere_mean)
    assert Agreement.of("int8", "int8") == Agreement.of("fp32", "int8") == reduced
    assert (agreement.BOX_PX, agreement.AGE_YEARS) == (0.1, 0.05)
    assert (agreement.REDUCED_AGE_YEARS, agreement.REDUCED_MEAN_YEARS) == (1.0, 0.2)
