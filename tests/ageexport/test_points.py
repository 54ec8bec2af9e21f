"""Operating points in a model file: measured by the file itself, sealed into it, and told by card and runtime."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
from portraits import write_portraits

from ageexport import points as points_module
from ageexport.card import with_points
from ageexport.errors import UsageError
from ageexport.points import main, measure_points, note_points
from ageinfer.engine.modelfile import check_age_model
from ageinfer.pipeline import Pipeline
from ageinfer.sources import read_picture
from agetrain.evaluation.records import Setup

STATED = ("--stated", "10", "--years", "18", "--least-quality", "0.1")


@pytest.fixture(scope="module")
def people(astronaut_path, tmp_path_factory):
    """A folder of 160 different pictures, half of them said to be of minors, with two groups; not to be changed."""
    folder = tmp_path_factory.mktemp("people")
    paths = write_portraits(folder, read_picture(astronaut_path), range(160))
    rows = [f"{path.name},{13 + i % 5 if i % 2 else 18 + i % 13},{'ab'[i // 2 % 2]}" for i, path in enumerate(paths)]
    (folder / "labels.csv").write_text("\n".join(["file,age,kind", *rows]) + "\n")
    return folder


@pytest.fixture
def model(exported_distribution, tmp_path):
    """A model file with its card and proof, which may be changed."""
    given = exported_distribution.model
    for file in (given, given.with_suffix(".md"), given.with_suffix(".parity.json")):
        shutil.copy(file, tmp_path / f"age{''.join(file.suffixes)}")
    return tmp_path / "age.onnx"


@pytest.fixture(scope="module")
def measured(exported_distribution, people):
    return measure_points(exported_distribution.model, [str(people)], years=(18,), stated_percent=10, least_quality=0.1)


def test_the_command_measures_prints_and_writes(model, people, capsys):
    before = check_age_model(model.read_bytes(), model)
    assert main([str(model), "--dataset", str(people), *STATED]) == 0
    [point] = check_age_model(model.read_bytes(), model).operating_points
    assert point.graph_sha256 == before.graph_sha256
    assert (point.years, point.stated_percent, point.least_quality) == (18, 10.0, 0.1)
    assert point.detector == Pipeline.default(model).detector.identifier
    assert point.false_positive.n + point.false_negative.n > 50
    assert point.worst.group.startswith("kind: ")
    out = capsys.readouterr().out
    assert f"18: over from {point.over_from_years:.2f}" in out
    assert "--over 18" in out
    card, proof = model.with_suffix(".md").read_text(), json.loads(model.with_suffix(".parity.json").read_text())
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    assert proof["sha256"] == sha256
    assert card.count(sha256) == 1
    assert f"| 18 | {point.over_from_years:.2f} |" in card
    assert card.index("## Figures") < card.index("## Operating points") < card.index("## Training")
    found = Pipeline.default(model, over_years=18)(people / "000000.jpg").faces[0]
    assert found.over.why != "no evidence"


def test_points_of_an_age_are_replaced_and_others_stay(model, measured):
    [point] = measured
    note_points(model, [point, replace(point, years=30, over_from_years=40.0, under_below_years=5.0)])
    card = model.with_suffix(".md").read_text()
    note_points(model, [replace(point, over_from_years=99.0)])
    assert [(p.years, p.over_from_years) for p in check_age_model(model.read_bytes(), model).operating_points] == [
        (18, 99.0), (30, 40.0),
    ]  # fmt: skip
    changed = model.with_suffix(".md").read_text()
    assert changed.count("## Operating points") == card.count("## Operating points") == 1
    assert "| 18 | 99.00 |" in changed
    assert "| 30 | 40.00 |" in changed


def test_a_card_without_points_is_as_it_was(model, measured):
    card = model.with_suffix(".md").read_text()
    bare = check_age_model(model.read_bytes(), model)
    filled = with_points(card, replace(bare, operating_points=measured))
    assert "## Operating points" in filled
    assert with_points(filled, bare) == card


def test_nothing_is_written_in_a_dry_run(model, people):
    before = {file: file.read_bytes() for file in model.parent.iterdir()}
    assert main([str(model), "--dataset", str(people), "--dry-run", *STATED]) == 0
    assert {file: file.read_bytes() for file in model.parent.iterdir()} == before


def test_pictures_that_training_saw_are_refused(exported_distribution, people, monkeypatch):
    learned = {"dataset": people.name, "part": "train"}
    opened = points_module.open_model
    monkeypatch.setattr(points_module, "open_model", lambda path: replace(opened(path), data=(learned,)))
    for part in ("train", "valid", "all"):  # nobody knows by which split it learned
        with pytest.raises(UsageError, match=f"{part}: the model learned from it, or may have"):
            measure_points(exported_distribution.model, [str(people)], years=(18,), setup=Setup(part=part))


def test_points_of_another_model_and_a_card_of_another_file_are_refused(model, measured):
    with pytest.raises(UsageError, match="of another model"):
        note_points(model, [replace(measured[0], graph_sha256="0" * 64)])
    proof = model.with_suffix(".parity.json")
    proof.write_text(proof.read_text().replace(hashlib.sha256(model.read_bytes()).hexdigest(), "0" * 64))
    before = model.read_bytes()
    with pytest.raises(UsageError, match="belongs to another file"):
        note_points(model, measured)
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--stated", "0"), 2, "--stated"),
        (("--years", "0"), 2, "--years"),
        (("--stated", "1"), 3, "too few people"),
        (("--part", "nowhere"), 3, "nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_one_line(exported_distribution, people, capsys, options, status, message):
    assert main([str(exported_distribution.model), "--dataset", str(people), *options]) == status
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]


def test_a_file_with_points_is_still_what_its_checkpoint_gives(model, measured):
    import onnx

    from ageexport.verify import _same_facts

    before = onnx.load_from_string(model.read_bytes())
    note_points(model, measured)
    _same_facts(model, onnx.load_from_string(model.read_bytes()), before)
