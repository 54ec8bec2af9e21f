"""``ageinfer prove``: evidence of real faces with made-up labels, counted again by hand."""

import csv
import hashlib
import json
import os
import re
import shutil
import sys
from collections import Counter

import cv2
import jsonschema
import numpy as np
import pytest
from conftest import ROOT
from made_points import made_point
from portraits import tampered
from proofs import prove, write_labels, write_noise, write_pictures
from test_imports import EXTRAS, TRAINING, fresh

from ageinfer.commands.main import main
from ageinfer.engine.modelfile import check_age_model, packaged_model, read_model
from ageinfer.errors import ExitStatus
from ageinfer.pipeline import Pipeline
from ageinfer.proving import evidence as evidence_module
from ageinfer.proving.evidence import read_evidence
from ageinfer.sinks import record_schema

pytest.importorskip("onnx")
PICTURES = 44
AGES = [14, 22.5, 17, 30, 13, 18, 41]  # made up
OVER_FROM, UNDER_BELOW, LEAST_QUALITY = 45.0, 17.0, 0.9


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The default model with an operating point that its faces lie on both sides of, and one that did not hold."""
    data = read_model(packaged_model("age-small.onnx"))
    graph = check_age_model(data, "age-small.onnx").graph_sha256
    points = (
        made_point(18, OVER_FROM, UNDER_BELOW, graph=graph, least_quality=LEAST_QUALITY, stated_percent=50.0),
        made_point(21, OVER_FROM, UNDER_BELOW, graph=graph, over_held=False, under_held=False),
    )
    path = tmp_path_factory.mktemp("model") / "mine.onnx"
    path.write_bytes(tampered(data, operating_points=points))
    return path


@pytest.fixture(scope="module")
def folder(persons, tmp_path_factory):
    """Portraits of three people, eight faces, none in a folder below, one that is no picture, and one damaged."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    names = write_pictures(folder, persons, PICTURES)
    shutil.copy(ROOT / "samples" / "portraits.jpg", folder)
    (folder / "below").mkdir()
    write_noise(folder / "below" / "<b>noise|.png")
    (folder / "text.jpg").write_text("no picture")
    jpeg = cv2.imencode(".jpg", persons[0])[1].tobytes()
    half = len(jpeg) // 2
    (folder / "torn.jpg").write_bytes(jpeg[:half] + bytes(512) + jpeg[half + 512 :])
    (folder / ".hidden.png").write_bytes(b"")
    files = [*names[:-1], "portraits.jpg", "below\\<b>noise|.png"]  # one has no label
    rows = [(f, AGES[i % 7], f"p{i}" if i > 3 else "twin", ("a", "b")[i % 2], i) for i, f in enumerate(files)]
    write_labels(folder, rows, ("file", "age", "subject", "camera", "number"))
    return folder


@pytest.fixture(scope="module")
def made(model, folder, tmp_path_factory):
    """The folder of the evidence, and how the command ended."""
    out = tmp_path_factory.mktemp("evidence") / "new" / "out"
    return out, prove(model, folder, out)


@pytest.fixture(scope="module")
def evidence(made):
    return json.loads((made[0] / "evidence.json").read_text())


@pytest.fixture(scope="module")
def labels(folder):
    with (folder / "labels.csv").open(newline="") as stream:
        return {row["file"].replace("\\", "/"): row for row in csv.DictReader(stream)}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_command_ends_as_its_pictures_do_and_leaves_whole_files(made, evidence):
    out, status = made
    assert status == ExitStatus.DAMAGED
    assert sorted(path.name for path in out.iterdir()) == [
        "evidence.html", "evidence.json", "evidence.md", "practice-statement.md",
    ]  # fmt: skip
    assert Counter(answer["outcome"] for answer in evidence["answers"]) == evidence["outcomes"]
    assert evidence["outcomes"]["unreadable"] == evidence["outcomes"]["damaged"] == 1
    assert evidence["outcomes"]["no face"] >= 1


def test_the_schema_describes_all_of_it(evidence):
    schema = record_schema("evidence")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(evidence)
    assert list(evidence) == list(schema["properties"]) == schema["required"]
    assert list(evidence["answers"][0]) == list(schema["$defs"]["answer"]["properties"])
    assert set(evidence["accuracy"]) == set(schema["$defs"]["accuracy"]["properties"])
    for key, value in (("answers", []), ("schema", 2), ("made_at", 5), ("accuracy", {}), ("stored", {"file": "x"})):
        assert not validator.is_valid(evidence | {key: value})
    assert not validator.is_valid({key: value for key, value in evidence.items() if key != "speed"})


def test_the_answers_are_those_of_the_runtime_about_the_face_nearest_the_centre(model, folder, evidence):
    pipeline = Pipeline.default(model, provider="cpu", threads=1, over_years=18)
    assert [a["file"] for a in evidence["answers"]] == sorted(a["file"] for a in evidence["answers"])
    for answer in evidence["answers"]:
        if answer["outcome"] in ("damaged", "unreadable"):
            assert answer["file"] == {"damaged": "torn.jpg", "unreadable": "text.jpg"}[answer["outcome"]]
            assert (answer["faces"], answer["age_years"], answer["over"]) == (0, None, {})
            continue
        result = pipeline(str(folder / answer["file"]))
        assert answer["faces"] == len(result.faces)
        middle = complex(*result.size) / 2
        records = sorted(
            (face.to_record() for face in result.faces),
            key=lambda r: abs(complex(*r["box"][:2]) + complex(*r["box"][2:]) / 2 - middle),
        )  # fmt: skip
        if not records:
            assert answer["outcome"] == "no face"
            continue
        told = [answer[key] for key in ("box_px", "age_years", "age_std_years", "quality")]
        assert told == [records[0][key] for key in ("box", "age", "age_std", "quality")]
        assert answer["over"] == {"18": records[0]["over"]["answer"], "21": "refer"}
    assert Counter(a["over"].get("18") for a in evidence["answers"]).keys() >= {"over", "refer"}


def test_the_hashes_are_those_of_the_files(model, folder, evidence):
    for answer in evidence["answers"]:
        assert answer["sha256"] == sha256(folder / answer["file"])
    lines = "".join(json.dumps([a["file"], a["sha256"]]) + "\n" for a in evidence["answers"])
    assert evidence["pictures"]["sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    assert evidence["pictures"]["labels_sha256"] == sha256(folder / "labels.csv")
    assert evidence["model"]["sha256"] == sha256(model)
    assert evidence["model"]["bytes"] == model.stat().st_size
    assert evidence["model"]["graph_sha256"] == check_age_model(model.read_bytes(), model).graph_sha256
    assert evidence["detector"]["sha256"] == sha256(packaged_model(evidence["detector"]["file"]))
    rest = {key: value for key, value in evidence.items() if key != "evidence_sha256"}
    assert evidence["evidence_sha256"] == hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def test_it_says_where_it_was_made(evidence):
    machine, model = evidence["machine"], evidence["model"]
    assert machine["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert machine["versions"]["numpy"] == np.__version__
    assert machine["versions"]["opencv"] == cv2.__version__
    assert machine["cores"] == os.cpu_count()
    assert (model["name"], model["precision"], model["provider"], model["threads"]) == ("age-small", "int8", "cpu", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", evidence["made_at"])
    assert evidence["looking"] == {"max_side_px": "auto", "least_face_px": 0.0}
    assert evidence["stored"] is None  # there is no proof beside this file


def test_the_share_without_a_face_is_counted_of_all_and_of_each_group(evidence, labels):
    readable = [a for a in evidence["answers"] if a["outcome"] in ("face", "no face")]

    def counted(chosen):
        return len(chosen), sum(a["outcome"] == "no face" for a in chosen)

    found = evidence["no_face"]
    assert (found["all"]["n"], found["all"]["hits"]) == counted(readable)
    assert list(found["groups"]) == ["camera", "number"]
    for value, share in found["groups"]["camera"].items():
        chosen = [a for a in readable if labels.get(a["file"], {}).get("camera") == value]
        assert (share["n"], share["hits"]) == counted(chosen)
        assert share["people"] == len({labels[a["file"]]["subject"] for a in chosen}) < share["n"]
    assert sum(share["n"] for share in found["groups"]["camera"].values()) == evidence["pictures"]["labelled"]


def test_errors_and_cut_offs_are_counted_among_those_with_a_face(evidence, labels):
    found = evidence["accuracy"]
    faces = [(a, float(labels[a["file"]]["age"])) for a in evidence["answers"] if a["file"] in labels and a["faces"]]
    errors = [a["age_years"] - age for a, age in faces]
    assert found["n"] == len(errors) > 30
    assert found["mae_years"] == pytest.approx(sum(map(abs, errors)) / len(errors), abs=1e-4)
    assert found["bias_years"] == pytest.approx(sum(errors) / len(errors), abs=1e-4)
    minors, adults = ([a for a, age in faces if low <= int(age) <= high] for low, high in ((13, 17), (18, 30)))
    assert minors
    assert adults
    for years in (18, 21, 25, 28, 30):
        wrong = found["cutoffs"][str(years)]
        assert (wrong["false_positive"]["n"], wrong["false_negative"]["n"]) == (len(minors), len(adults))
        assert wrong["false_positive"]["hits"] == sum(a["age_years"] >= years for a in minors)
        assert wrong["false_negative"]["hits"] == sum(a["age_years"] < years for a in adults)
    assert [found["no_answer"][who]["n"] for who in ("minors", "adults")] == [
        sum(low <= int(float(row["age"])) <= high for row in labels.values()) for low, high in ((13, 17), (18, 30))
    ]


def test_an_operating_point_is_counted_by_people_who_are_seen_well_enough(evidence, labels):
    held, not_held = evidence["accuracy"]["operating_points"]
    faces = [a for a in evidence["answers"] if a["file"] in labels and a["faces"]]
    people = {}
    for answer in faces:
        row = labels[answer["file"]]
        if 13 <= int(float(row["age"])) <= 17 and answer["quality"] >= LEAST_QUALITY:
            people[row["subject"]] = people.get(row["subject"], False) or answer["age_years"] >= OVER_FROM
    here = held["here"]["false_positive"]
    assert (here["n"], here["people"], here["hits"]) == (len(people), len(people), sum(people.values()))
    assert 0 < here["hits"] < here["n"] < sum(13 <= int(float(labels[a["file"]]["age"])) <= 17 for a in faces)
    assert here["verdict"] == ("not judged" if len(people) < 20 else "kept" if here["percent"] <= 50 else "not kept")
    minors = [a for a in faces if 13 <= int(float(labels[a["file"]]["age"])) <= 17]
    referred = sum(a["over"]["18"] == "refer" for a in minors)
    assert held["here"]["referred_below_percent"] == pytest.approx(100 * referred / len(minors), abs=1e-3)
    assert held["stated"]["false_positive"]["hits"] == 2
    assert not_held["why_referred"] == "not held"
    assert not_held["here"]["false_positive"]["verdict"] == "not judged"
    assert not_held["here"]["referred_below_percent"] == 100.0


def test_the_stages_are_timed_and_make_most_of_the_whole(evidence):
    speed = evidence["speed"]
    assert speed["pictures"] == evidence["outcomes"]["face"] + evidence["outcomes"]["no face"]
    parts = sum(speed["median_ms"][stage] for stage in ("decode", "detect", "crop", "age"))
    assert 0.5 * parts < speed["median_ms"]["total"] < 3 * parts
    assert all(0 < speed["median_ms"][stage] <= speed["p95_ms"][stage] for stage in speed["median_ms"])
    assert 0 < speed["pictures_per_s"] < 1e3 / min(speed["median_ms"].values())
    assert speed["open_ms"] > 1
    assert 20 < speed["memory_mb"] < 10_000


def test_the_page_needs_nothing_else_and_names_are_only_text(made, evidence):
    page = (made[0] / "evidence.html").read_text()
    assert not re.search(r"<script|<link|<img|https?:|url\(", page)
    assert "<b>" not in page
    for digest in (evidence["model"]["sha256"], evidence["pictures"]["sha256"], evidence["evidence_sha256"]):
        assert digest in page
    text = (made[0] / "evidence.md").read_text()
    mae = f"{evidence['accuracy']['mae_years']:.2f} years"
    assert mae in page
    assert mae in text
    hits, n = (evidence["no_face"]["all"][key] for key in ("hits", "n"))
    assert f"{hits} of {n})" in page
    assert "too few people" in page
    assert "text.jpg" in page
    assert "below/&lt;b&gt;noise|.png" in page
    assert "below/&lt;b&gt;noise\\|.png" in text
    assert "everybody is referred: not held" in page
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {3, 4, 7}


def test_the_proof_beside_a_model_is_shown_where_there_is_one(persons, tmp_path, capsys):
    write_pictures(tmp_path / "p", persons, 2)
    assert prove("age-small", tmp_path / "p", tmp_path / "out") == ExitStatus.OK
    printed = capsys.readouterr().out.splitlines()
    found = read_evidence(tmp_path / "out" / "evidence.json")
    stored = json.loads(packaged_model("age-small.parity.json").read_text())
    assert found["stored"]["of_this_file"] is (stored["sha256"] == found["model"]["sha256"])
    assert found["stored"]["mae_years"] == stored["figures"]["mae_found"]
    assert found["accuracy"] is None
    assert printed[0].startswith(f"age-small@int8 (SHA-256 {found['model']['sha256'][:12]}) on ")
    assert printed[1] == "no face: 0.0 % (0.0 to 65.8; 0 of 2)"
    assert printed[-1].startswith("written: ")


def test_it_neither_loads_nor_needs_the_training_stack(persons, tmp_path):
    write_pictures(tmp_path / "p", persons, 1)
    code = f"""
import sys
sys.modules.update(dict.fromkeys({(*TRAINING, *EXTRAS)!r}))
from ageinfer.commands.main import main
sys.exit(main(["prove", "--data", sys.argv[1], "--out", sys.argv[2]]))
"""
    done = fresh(code, tmp_path / "p", tmp_path / "out")
    assert done.returncode == 0, done.stderr


def test_an_interrupt_leaves_nothing(model, folder, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(evidence_module, "measured_speed", interrupted)
    assert prove(model, folder, tmp_path / "out") == ExitStatus.INTERRUPTED
    assert not [*(tmp_path / "out").iterdir()]
    assert capsys.readouterr().err.splitlines()[-1] == "ageinfer: interrupted; nothing was written"


def test_files_are_replaced_all_or_none(tmp_path):
    from ageinfer.errors import OutputError
    from ageinfer.proving.evidence import write_evidence

    write_evidence(tmp_path, {"a.txt": "old"})
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(OutputError, match=r"b\.txt: cannot be written: Is a directory"):
        write_evidence(tmp_path, {"a.txt": "new", "b.txt": "new"})
    assert (tmp_path / "a.txt").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def one_line(capsys) -> str:
    [line] = [each for each in capsys.readouterr().err.splitlines() if each.startswith("ageinfer: ")][-1:]
    return line


def test_what_cannot_be_proved_is_refused_in_one_line(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"")
    (tmp_path / "file").write_text("")
    cases = [
        (("age-small", tmp_path / "gone", tmp_path / "o"), ExitStatus.SOURCE, "gone: no such folder"),
        (("age-small", tmp_path / "empty", tmp_path / "o"), ExitStatus.SOURCE, "no picture in this folder"),
        (("age-small", tmp_path / "broken", tmp_path / "o"), ExitStatus.SOURCE, "none of its 1 pictures can be read"),
        (("no-model", folder, tmp_path / "o"), ExitStatus.MODEL, "neither a model file nor the name"),
        (("age-small", folder, tmp_path / "o", "--detect-size", "x"), ExitStatus.USAGE, "--detect-size x"),
    ]
    for arguments, status, words in cases:
        assert prove(*arguments) == status
        assert words in one_line(capsys)
    assert main(["prove", "age-small", "--data", str(folder)]) == ExitStatus.USAGE
    assert "--out DIR" in one_line(capsys)
    assert main(["prove", "age-small", "--compare", "a", "b"]) == ExitStatus.USAGE
    assert not [*tmp_path.glob("o/*")]
    write_noise(tmp_path / "empty" / "a.png")
    assert prove("age-small", tmp_path / "empty", tmp_path / "file") == ExitStatus.OUTPUT
    assert "file: this folder cannot be made" in one_line(capsys)
    write_labels(tmp_path / "empty", [("a.png", "old")])
    assert prove("age-small", tmp_path / "empty", tmp_path / "o") == ExitStatus.SOURCE
    assert "labels.csv: line 2: age 'old'" in one_line(capsys)


def test_the_draft_of_a_practice_statement_has_the_figures_and_leaves_open_what_it_cannot_know(made, evidence):
    text = (made[0] / "practice-statement.md").read_text()
    assert "$" not in text
    headings = re.findall(r"^## (\w+)", text, re.MULTILINE)
    assert headings == ["Who", "Functional", "Performance", "Privacy", "Security", "Acceptability"]
    assert text.count("**to fill in**") > 12
    assert "claims conformity with no standard" in text
    accuracy = evidence["accuracy"]
    assert f"Mean absolute error: {accuracy['mae_years']:.2f} years" in text
    for years, at in accuracy["cutoffs"].items():
        [line] = [line for line in text.splitlines() if f"cut-off of {years} years" in line]
        for found in at.values():
            assert f"{found['hits']} of {found['n']}" in line
    for point in accuracy["operating_points"]:
        [line] = [line for line in text.splitlines() if line.startswith(f"- Over {point['years']},")]
        assert line.endswith(f": {point['here']['false_positive']['verdict']}.")


def test_the_draft_says_where_nothing_is_known_of_errors(evidence):
    from ageinfer.proving.statement import statement

    text = statement(evidence | {"accuracy": None})
    assert "Errors are not known" in text
    assert "cut-off" not in text
