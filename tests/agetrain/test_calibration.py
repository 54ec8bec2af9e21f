"""The calibration of the deviation: what is found, what it does to a network, and that a model file carries it."""

import copy
import dataclasses
import json

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from portraits import checkpoint_of, lively_network

from ageexport import graph
from ageexport.card import _deviation
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from agetrain import calibrate, evaluate
from agetrain.datasets import load_dataset
from agetrain.errors import CheckpointError
from agetrain.evaluation import calibrating
from agetrain.evaluation.answers import answers_of, open_detector
from agetrain.evaluation.models import open_model
from agetrain.network import calibration
from agetrain.network.agenet import AgeNet
from agetrain.network.calibration import (
    SMALLEST_STD_YEARS,
    WITHIN_1_STD,
    Calibration,
    coverage_percent,
    fit_calibration,
    fit_line,
)
from agetrain.network.checkpoint import Checkpoint

SIDE = 64


def answers(n, slope, offset, seed=0):
    """Errors that are normal with a deviation of ``slope * own + offset``, the own one, and ages that say nothing."""
    random = np.random.default_rng(seed)
    own = random.uniform(3, 15, n)
    return random.normal(size=n) * (slope * own + offset), own, random.uniform(0, 90, n)


# What is found


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.7, -1.0), (1.6, 2.0), (0.2, 4.0)])
def test_the_line_that_the_errors_were_made_by_is_found(slope, offset):
    found = fit_calibration(*answers(40_000, slope, offset))
    assert found.slope == pytest.approx(slope, abs=0.05)
    assert found.offset_years == pytest.approx(offset, abs=0.3)


def test_sure_and_unsure_faces_are_covered_alike():
    errors, own, ages = answers(40_000, 1.5, -3.0)
    covered = fit_calibration(errors, own, ages).apply(own, ages)
    for low, high in ((3, 6), (6, 10), (10, 15)):
        chosen = (own >= low) & (own < high)
        assert coverage_percent(errors[chosen], covered[chosen]) == pytest.approx(68.3, abs=1.5)
        assert abs(coverage_percent(errors[chosen], own[chosen]) - 68.3) > 1.5  # not so before


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(100, 400), st.floats(0.3, 2), st.floats(-0.5, 5))
@example(261, 142, 0.3125, -0.5)
def test_so_many_of_the_faces_that_it_was_found_on_lie_within(seed, n, slope, offset):
    errors, own, ages = answers(n, slope, offset, seed)
    found = fit_line(errors, own)
    covered = coverage_percent(errors, found.apply(own, ages))
    if (found.slope * own + found.offset_years >= SMALLEST_STD_YEARS).all():
        assert covered == pytest.approx(100 * WITHIN_1_STD, abs=100 * 3 / n)
    else:  # the smallest deviation that is answered covers more
        assert covered >= 100 * (WITHIN_1_STD - 3 / n)


def test_one_deviation_for_all_is_multiplied_alone():
    errors, _, ages = answers(2000, 0, 6)
    found = fit_calibration(errors, np.full(2000, 4.0), ages)
    assert found.slope == pytest.approx(1.5, abs=0.1)
    assert found.offset_years == 0


@pytest.mark.parametrize(
    ("errors", "stds"),
    [
        (np.ones(19), np.ones(19)),
        (np.ones(200), np.ones(199)),
        (np.full(200, np.nan), np.ones(200)),
        (np.ones(200), np.zeros(200)),
        (np.ones(200), -np.ones(200)),
    ],
)
def test_what_nothing_can_be_learned_from(errors, stds):
    with pytest.raises(ValueError, match="calibrat"):
        fit_calibration(errors, stds, np.full(len(errors), 30.0))


@pytest.mark.parametrize("values", [(-0.1, 0), (5, 0), (float("nan"), 0), (1, float("inf"))])
def test_no_calibration(values):
    with pytest.raises(ValueError, match="not a calibration"):
        Calibration(*values)


# What it does to a network


@pytest.fixture(scope="module")
def faces():
    return np.random.default_rng(3).integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def values(faces):
    """A checkpoint of a network whose deviations differ from face to face."""
    return checkpoint_of(lively_network("distribution", faces), CropSpec(size=SIDE))


def decoded(values, faces):
    with torch.inference_mode():
        network = values.network()
        return [t.numpy() for t in network.decode(network(torch.from_numpy(faces).permute(0, 3, 1, 2).float()))]


@pytest.mark.parametrize("found", [Calibration(0.5, 1.25), Calibration(1.5, -9.0)])
def test_a_checkpoint_answers_the_calibrated_deviation_and_the_same_age(values, faces, found):
    age, own = decoded(values, faces)
    same, calibrated = decoded(dataclasses.replace(values, calibration=found), faces)
    assert np.array_equal(same, age)
    assert calibrated == pytest.approx(found.apply(own, age), rel=1e-5)
    assert not np.allclose(calibrated, own)
    assert calibrated.min() >= 0.5


def test_a_checkpoint_from_before_is_not_calibrated(values, faces):
    old = values.to_values()
    del old["calibration"]
    old = Checkpoint.from_values(old, "of a test")
    assert np.array_equal(decoded(old, faces)[1], decoded(values, faces)[1])


@pytest.mark.parametrize("wrong", [{"slope": -1.0}, {"factor": 1.0}, {"slope": "much"}])
def test_a_calibration_that_is_none_is_refused(values, wrong):
    with pytest.raises(CheckpointError):
        Checkpoint.from_values(values.to_values() | {"calibration": wrong}, "of a test")


def test_what_is_saved_of_a_calibrated_network_keeps_it():
    network = AgeNet("mobilenet_v2", "linear")
    network.calibration = Calibration(2.0, 0.5)
    network.residual_std.fill_(3.0)
    kept = Checkpoint.of_network(network, CropSpec(size=SIDE), "real", 0, {})
    again = kept.network()
    assert again.calibration == network.calibration
    with torch.inference_mode():
        assert again.decode(torch.full((2, 1), 40.0))[1].tolist() == [6.5, 6.5]


# With the mirror image


@pytest.mark.parametrize("head", ["distribution", "linear"])
def test_a_mirrored_network_answers_with_the_mean_over_both_sides(head, faces):
    values = checkpoint_of(lively_network(head, faces), CropSpec(size=SIDE))
    one, other = (values.network(), torch.from_numpy(faces).permute(0, 3, 1, 2).float())
    with torch.inference_mode():
        sides = [one(other), one(other.flip(3))]
        both = dataclasses.replace(values, mirrored=True).network()(other)
        if head == "linear":
            expected = (sides[0] + sides[1]) / 2
        else:
            sides, both = [side.softmax(dim=1) for side in sides], both.softmax(dim=1)
            expected = (sides[0] + sides[1]) / 2
    assert torch.allclose(both, expected, atol=1e-4)
    assert not torch.allclose(both, sides[0], atol=1e-3)


@pytest.fixture(scope="module")
def plain_file(values):
    return graph.sealed(graph.convert(values), values, "x", "0" * 64)


def test_a_model_file_answers_mirrored_and_calibrated_as_its_checkpoint_does(values, faces, plain_file):
    changed = dataclasses.replace(copy.deepcopy(values), mirrored=True, calibration=Calibration(0.6, -0.5))
    data = graph.sealed(graph.convert(changed), changed, "x", "0" * 64)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    age, std, probabilities = session.run(None, {"face": faces})
    for found, expected in zip((age, std), decoded(changed, faces), strict=True):
        assert found == pytest.approx(expected, abs=1e-3)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    turned = session.run(None, {"face": np.ascontiguousarray(faces[:, :, ::-1])})
    assert turned[0] == pytest.approx(age, abs=1e-3)
    assert session.run(None, {"face": faces[2:3]})[0] == pytest.approx(age[2:3], abs=1e-3)  # one face is a batch too
    plain = onnxruntime.InferenceSession(plain_file, providers=["CPUExecutionProvider"]).run(None, {"face": faces})
    assert np.abs(age - plain[0]).max() > 0.1
    assert np.abs(std - plain[1]).max() > 0.1
    assert json.loads(metadata_properties(data)[METADATA_KEY])["training"]["mirrored"] is True
    assert "mirrored" not in json.loads(metadata_properties(plain_file)[METADATA_KEY])["training"]


# The command


@pytest.fixture
def few(monkeypatch):
    """Lets a dozen faces be enough."""
    monkeypatch.setattr(calibration, "FEWEST_FACES", 8)
    monkeypatch.setattr(calibrating, "FEWEST_FACES", 8)


@pytest.fixture
def lively(tmp_path, faces):
    path = tmp_path / "best.pth"
    checkpoint_of(lively_network("distribution", faces), CropSpec(size=SIDE)).save(path)
    return path


def run(capsys, *arguments, status=0):
    found = calibrate.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert found == status, err
    assert "Traceback" not in err
    return out if status == 0 else err.splitlines()[-1]


def test_it_is_written_into_the_checkpoint_with_what_was_measured(capsys, few, lively, appa_real):
    before = Checkpoint.load(lively)
    out = run(capsys, lively, "--dataset", f"appa-real={appa_real}", "--part", "train", "--in-place")
    after = Checkpoint.load(lively)
    assert after.calibration != before.calibration
    said = after.training["calibration"]
    assert {k: said[k] for k in ("slope", "offset_years")} == after.calibration.to_dict()
    [own, overall] = said["other_half"]
    assert (own["dataset"], overall["dataset"]) == ("appa-real", "all")
    assert said["n"] + overall["n"] == 24
    assert f"{overall['within_1_std_percent']:.1f} %" in out
    json.dumps(said)

    # The same from the answers themselves.
    [sample_set] = [load_dataset("appa-real", appa_real)[0].parts["train"]]
    options = evaluate.build_parser().parse_args([str(lively), "--dataset", f"appa-real={appa_real}"])
    assert options.part is None
    before.save(lively)
    model = open_model(lively)
    told = answers_of(model, sample_set, open_detector("yunet"), "real")
    first = np.array([calibrating.in_first_half(s) for s in sample_set])
    assert fit_calibration(told.errors[first], told.stds[first], told.answers[first]) == after.calibration
    stds = after.calibration.apply(told.stds[~first], told.answers[~first])
    assert coverage_percent(told.errors[~first], stds) == overall["within_1_std_percent"]


def test_ages_of_a_calibration_are_those_before_the_offset_of_labels(monkeypatch, few, lively, appa_real):
    given = []

    def fit(errors, stds, ages):
        given.append(ages)
        return Calibration(1.0, 0.0, ((0.0, 0.0), (49.0, 0.0), (51.0, 9.0)))

    monkeypatch.setattr(calibrating, "fit_calibration", fit)
    checkpoint, percents = Checkpoint.load(lively), []
    for offset in (0.0, 15.0):
        dataclasses.replace(checkpoint, label_offset=offset).save(lively)
        done = calibrating.calibrate_checkpoint(lively, [f"appa-real={appa_real}"], part="train")
        percents.append(done.measured[-1]["within_1_std_percent_before"])
    assert given[1] == pytest.approx(given[0])
    assert percents[0] != percents[1]  # but errors are those of the answer


def test_a_second_time_finds_the_same(capsys, few, lively, appa_real):
    run(capsys, lively, "--dataset", f"appa-real={appa_real}", "--part", "train", "--in-place")
    once = Checkpoint.load(lively).calibration
    run(capsys, lively, "--dataset", f"appa-real={appa_real}", "--part", "train", "--in-place")
    assert Checkpoint.load(lively).calibration == once


def test_mirroring_is_written_and_what_it_answers_is_calibrated(capsys, few, lively, appa_real):
    part = ("--dataset", f"appa-real={appa_real}", "--part", "train", "--in-place")
    run(capsys, lively, *part)
    alone = Checkpoint.load(lively)
    run(capsys, lively, *part, "--mirror")
    both = Checkpoint.load(lively)
    assert (alone.mirrored, both.mirrored) == (False, True)
    assert both.calibration != alone.calibration
    # Its other figures were measured before.
    assert [m["mirrored"] for m in both.metrics] == [False] * len(both.metrics)
    assert both.metrics
    run(capsys, lively, *part, "--no-mirror")
    again = Checkpoint.load(lively)
    assert (again.mirrored, again.calibration) == (False, alone.calibration)


def test_without_the_option_a_model_answers_as_it_did(capsys, few, lively, appa_real):
    part = ("--dataset", f"appa-real={appa_real}", "--part", "train", "--in-place")
    assert "it answers for the face alone" in run(capsys, lively, *part)
    assert "it answers for a face and its mirror image" in run(capsys, lively, *part, "--mirror")
    both = Checkpoint.load(lively)
    assert "it answers for a face and its mirror image" in run(capsys, lively, *part)
    again = Checkpoint.load(lively)
    assert again.mirrored is True
    assert again.calibration == both.calibration


@pytest.mark.parametrize(
    ("split", "part", "label", "warned"),
    [
        ("this", "valid", "real", None),
        ("this", "train", "real", "appa-real train: the network learned this part"),
        ("another", "valid", "real", "appa-real valid: the network learned from another split"),
        ("another", "train", "real", "appa-real train: the network learned from another split"),
        ("none", "train", "real", None),
        # The second head of a run answers the other label than the split's hash was made with.
        ("this", "valid", "apparent", None),
        ("another", "valid", "apparent", "appa-real valid: the network learned from another split"),
    ],
)
def test_pictures_that_were_learned_are_warned_of(capsys, monkeypatch, lively, appa_real, split, part, label, warned):
    values = Checkpoint.load(lively)
    digest = {"this": load_dataset("appa-real", appa_real)[0].split_sha256()}.get(split, "0" * 64)
    name = "utkface" if split == "none" else "appa-real"
    data = [{**values.training["data"][0], "dataset": name, "split_sha256": digest}]
    dataclasses.replace(values, label=label, training={**values.training, "data": data}).save(lively)
    monkeypatch.setattr(calibration, "FEWEST_FACES", 1)
    monkeypatch.setattr(calibrating, "FEWEST_FACES", 1)
    status = calibrate.main([str(lively), "--dataset", f"appa-real={appa_real}", "--part", part])
    err = capsys.readouterr().err
    assert status == 0, err
    lines = [line for line in err.splitlines() if "learned" in line]
    assert len(lines) == (warned is not None)
    if warned:
        assert warned in lines[0]
        assert "would be found too small" in lines[0]


def test_the_checkpoint_is_left_alone_unless_told_otherwise(capsys, few, lively, appa_real):
    before = lively.read_bytes()
    beside = lively.with_name("best.calibrated.pth")
    out = run(capsys, lively, "--dataset", f"appa-real={appa_real}", "--part", "train")
    assert lively.read_bytes() == before
    assert f"next: python -m ageexport {beside}" in out
    found = Checkpoint.load(beside).calibration
    assert found != Checkpoint.load(lively).calibration
    assert "--in-place" in run(
        capsys, lively, "--dataset", f"appa-real={appa_real}", "--in-place", "-o", lively, status=2
    )
    run(capsys, lively, "--dataset", f"appa-real={appa_real}", "--part", "train", "--in-place")
    assert Checkpoint.load(lively).calibration == found


def test_another_file_can_be_written(capsys, few, lively, appa_real, tmp_path):
    before = lively.read_bytes()
    other = tmp_path / "other.pth"
    run(capsys, lively, "--dataset", f"appa-real={appa_real}", "--part", "train", "-o", other)
    assert lively.read_bytes() == before
    assert Checkpoint.load(other).calibration != Checkpoint.load(lively).calibration


def test_too_few_faces(capsys, lively, appa_real):
    before = lively.read_bytes()
    said = run(capsys, lively, "--dataset", f"appa-real={appa_real}", status=3)
    assert "faces to calibrate on; 20 are needed" in said
    assert lively.read_bytes() == before


def test_no_checkpoint(capsys, tmp_path, appa_real):
    assert "no such checkpoint" in run(capsys, tmp_path / "x.pth", "--dataset", f"appa-real={appa_real}", status=4)


def test_pictures_of_a_subject_are_in_one_half(tmp_path):
    from agetrain.datasets import Sample

    halves = {
        subject: {calibrating.in_first_half(Sample(tmp_path / f"{k}.jpg", 30.0, subject=subject)) for k in range(5)}
        for subject in map(str, range(200))
    }
    assert all(len(sides) == 1 for sides in halves.values())
    assert 70 < sum(sides == {True} for sides in halves.values()) < 130


def test_the_card_says_whether_it_is_calibrated(plain_file):
    metadata = ModelMetadata.from_json(metadata_properties(plain_file)[METADATA_KEY])
    assert "not calibrated" in _deviation(metadata)
    figures = [
        {"dataset": name, "part": "valid", "n": n, "within_1_std_percent": c, "within_1_std_percent_before": 50.0}
        for name, n, c in (("utkface", 740, 69.12), ("all", 740, 67.5))
    ]
    metadata.training["calibration"] = {"n": 760, "slope": 1.1, "offset_years": 0.2, "other_half": figures}
    said = _deviation(metadata)
    assert "calibrated on 760 faces" in said
    assert "67.5 %" in said
    assert "69.1 % on utkface valid" in said
