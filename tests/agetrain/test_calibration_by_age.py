"""The part of the calibration that follows the answered age: what is found, and that every form of it answers alike."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from portraits import checkpoint_of, lively_network

from ageexport import graph, precision
from ageexport.card import _deviation
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from agetrain.errors import CheckpointError
from agetrain.evaluation.coverage import BANDS, bands, cells, coverage
from agetrain.network.agenet import AgeNet
from agetrain.network.calibration import SMALLEST_STD_YEARS, Calibration, coverage_percent, fit_calibration
from agetrain.network.checkpoint import Checkpoint

SIDE = 64
SHIPPED = Path(__file__).parents[2] / "models" / "age-small.onnx"
# The network below answers 47 to 53 years.
BENT = Calibration(1.2, -0.5, ((2.0, 4.0), (48.5, -1.0), (50.0, 0.5), (51.5, 6.0)))


def spreads(ages):
    """How far true ages lie from answered ones, years: children and old people are farther off than a network says."""
    return np.interp(ages, [0, 13, 25, 45, 65, 90], [3, 6, 4, 5, 10, 14])


def answers(n, seed=0, own=None):
    """Errors that are as wide as `spreads`, what a network says of that, and the ages that it answers."""
    random = np.random.default_rng(seed)
    ages = random.uniform(0, 85, n)
    said = random.uniform(3, 7, n) if own is None else own(ages)
    return random.normal(size=n) * (spreads(ages) + said - 5), said, ages


def line_of(found):
    return Calibration(found.slope, found.offset_years)


# What is found


def test_every_band_of_answered_ages_is_covered_alike():
    errors, own, ages = answers(6000)
    found = fit_calibration(errors, own, ages)
    line = line_of(found)
    errors, own, ages = answers(30_000, seed=1)
    for name in BANDS:
        band = bands(ages) == name
        covered = coverage_percent(errors[band], found.apply(own, ages)[band])
        assert covered == pytest.approx(68.3, abs=3), name
    old = bands(ages) == "65+"
    assert coverage_percent(errors[old], line.apply(own, ages)[old]) < 60  # not so by the line


def test_where_age_says_nothing_the_line_is_left_alone():
    added = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        own, ages = random.uniform(3, 15, 1000), random.uniform(0, 90, 1000)
        found = fit_calibration(random.normal(size=1000) * own, own, ages)
        added.append(np.abs(found.apply(own, ages) - line_of(found).apply(own, ages)).mean())
    assert np.median(added) < 0.4  # of 9 years
    assert max(added) < 0.8


def test_an_age_of_few_faces_adds_next_to_nothing():
    errors, own, ages = answers(3000)
    many = ages < 60
    random = np.random.default_rng(5)
    errors, own, ages = (np.append(v[many], few) for v, few in (
        (errors, random.normal(size=4) * 60), (own, np.full(4, 5.0)), (ages, np.array([80.0, 82, 84, 86]))
    ))  # fmt: skip
    found = fit_calibration(errors, own, ages)
    assert found.apply(np.full(1, 5.0), np.array([84.0]))[0] < 15


def test_a_calibration_of_few_faces_follows_no_age():
    errors, own, ages = answers(99)
    assert fit_calibration(errors, own, ages).by_age == ()
    errors, own, ages = answers(2000, own=lambda ages: np.full(len(ages), 5.0))
    assert fit_calibration(errors, own, ages).by_age == ()  # of a linear head's constant, one number is found


def test_ages_that_are_no_numbers_are_refused():
    errors, own, ages = answers(200)
    ages[3] = np.nan
    with pytest.raises(ValueError, match="calibrat"):
        fit_calibration(errors, own, ages)


# What it answers


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-20, 100), st.floats(-100, 100)), min_size=2, max_size=8, unique_by=lambda p: p[0]),
    st.floats(0, 4), st.floats(-100, 100), st.floats(0, 50), st.floats(-1e6, 1e6),
)  # fmt: skip
@example([(0.0, -100.0), (50.0, 100.0)], 0.0, -100.0, 0.0, 0.0)
def test_deviations_are_finite_and_half_a_year_at_least(pairs, slope, offset, std, age):
    pairs = sorted((round(a, 1), years) for a, years in pairs)
    pairs = [p for i, p in enumerate(pairs) if i == 0 or p[0] > pairs[i - 1][0]]
    found = Calibration(slope, offset, tuple(pairs) if len(pairs) > 1 else ())
    if not found.changes:
        return
    [answer] = found.apply(np.array([std]), np.array([age]))
    assert np.isfinite(answer)
    assert answer >= SMALLEST_STD_YEARS
    network = AgeNet.__new__(AgeNet)
    torch.nn.Module.__init__(network)
    network.calibration = found
    [same] = network._calibrated(torch.tensor([std]), torch.tensor([age])).tolist()
    assert same == pytest.approx(answer, rel=1e-4, abs=1e-2)
    assert same >= SMALLEST_STD_YEARS


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 4), st.floats(-20, 20), st.lists(st.floats(0, 50), min_size=1, max_size=9))
def test_two_numbers_answer_what_they_always_did(slope, offset, stds):
    found = Calibration(slope, offset)
    if not found.changes:
        return
    ages = np.linspace(0, 100, len(stds))
    assert found.apply(np.array(stds), ages).tolist() == np.maximum(slope * np.array(stds) + offset, 0.5).tolist()
    network = AgeNet.__new__(AgeNet)
    torch.nn.Module.__init__(network)
    network.calibration = found
    given_stds = torch.tensor(stds)
    before = (slope * given_stds + offset).clamp_min(0.5)
    assert torch.equal(network._calibrated(given_stds, torch.from_numpy(ages).float()), before)


@pytest.mark.parametrize(
    "by_age",
    [((10.0, 1.0),), ((10.0, 1.0), (10.0, 2.0)), ((20.0, 1.0), (10.0, 2.0)), ((0.0, float("nan")), (9.0, 1.0)),
     ((0.0, 1.0), (float("inf"), 1.0)), ((0.0, 101.0), (9.0, 1.0))],
)  # fmt: skip
def test_years_by_age_that_are_none(by_age):
    with pytest.raises(ValueError, match="are not a calibration"):
        Calibration(1.0, 0.0, by_age)


# Checkpoint and model file


@pytest.fixture(scope="module")
def faces():
    return np.random.default_rng(3).integers(0, 256, (12, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def plain(faces):
    return checkpoint_of(lively_network("distribution", faces), CropSpec(size=SIDE))


@pytest.fixture(scope="module")
def bent(plain):
    return dataclasses.replace(copy.deepcopy(plain), calibration=BENT)


def decoded(checkpoint, faces):
    with torch.inference_mode():
        network = checkpoint.network()
        return [t.numpy() for t in network.decode(network(torch.from_numpy(faces).permute(0, 3, 1, 2).float()))]


def test_a_checkpoint_keeps_it(bent, plain, faces, tmp_path):
    bent.save(tmp_path / "bent.pth")
    again = Checkpoint.load(tmp_path / "bent.pth")
    assert again.calibration == BENT
    age, own = decoded(plain, faces)
    same, calibrated = decoded(again, faces)
    assert np.array_equal(same, age)
    assert calibrated == pytest.approx(BENT.apply(own, age), rel=1e-5)
    assert np.abs(calibrated - Calibration(1.2, -0.5).apply(own, age)).max() > 0.2


def test_two_numbers_are_written_as_they_always_were():
    assert Calibration(1.2, -0.5).to_dict() == {"slope": 1.2, "offset_years": -0.5}
    assert Calibration.from_dict({"slope": 1.2, "offset_years": -0.5}) == Calibration(1.2, -0.5)
    assert Calibration.from_dict(BENT.to_dict()) == BENT


@pytest.mark.parametrize("wrong", [3, [3], [[1.0]], [[0.0, 1.0], ["x", 1.0]], [[0.0, 1.0]]])
def test_what_is_no_list_of_ages_and_years_is_refused(plain, wrong):
    with pytest.raises(CheckpointError):
        Checkpoint.from_values(plain.to_values() | {"calibration": {"by_age": wrong}}, "of a test")


@pytest.fixture(scope="module")
def converted(bent):
    return graph.convert(bent)


@pytest.mark.parametrize("form", ["fp32", "fp16"])
def test_a_model_file_answers_the_deviation_of_its_checkpoint(bent, converted, faces, form):
    made = converted if form == "fp32" else precision.fp16(converted).model
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    age, std, probabilities = session.run(None, {"face": faces})
    expected = decoded(bent, faces)
    assert expected[0].min() < 48.5
    assert expected[0].max() > 51.5  # on every straight line
    if form == "fp32":
        assert age == pytest.approx(expected[0], abs=1e-3)
        assert std == pytest.approx(expected[1], abs=1e-3)
    # In half precision the network answers another age; what follows is in single precision all the same.
    own = np.sqrt((probabilities * (np.arange(101) - age[:, None]) ** 2).sum(axis=1))
    assert std == pytest.approx(BENT.apply(own, age), abs=1e-3)
    assert std.dtype == np.float32
    assert session.run(None, {"face": faces[:1]})[1] == pytest.approx(std[:1], abs=0.05)  # one face is a batch too


def test_a_linear_head_takes_it_too():
    network = AgeNet("mobilenet_v2", "linear")
    network.calibration = Calibration(2.0, 0.0, ((0.0, 1.0), (50.0, 3.0)))
    network.residual_std.fill_(3.0)
    with torch.inference_mode():
        assert network.decode(torch.tensor([[0.0], [25.0], [70.0]]))[1].tolist() == [7.0, 8.0, 9.0]


# Words


def test_coverage_is_told_by_band():
    ages, labels = np.array([5.0] * 30 + [30.0] * 40 + [70.0] * 3), np.array([8.0] * 30 + [33.0] * 40 + [60.0] * 3)
    told = coverage(ages, labels, np.full(73, 2.0), np.where(ages < 13, 4.0, 2.0))
    assert told["n"] == 73
    assert told["within_1_std_percent"] == pytest.approx(41.1, abs=0.1)
    assert told["by_predicted_age"]["0-12"] == {
        "n": 30, "within_1_std_percent": 100.0, "within_1_std_percent_before": 0.0
    }  # fmt: skip
    assert told["by_predicted_age"]["65+"] == {"n": 3}  # too few for a figure
    assert told["by_true_age"]["45-64"] == {"n": 3}
    assert cells(told, "by_predicted_age") == ["0, 100 (30)", "- (0)", "0, 0 (40)", "- (0)", "- (3)"]
    assert coverage(ages[:0], labels[:0], ages[:0], ages[:0]) == {"n": 0}


def test_the_card_says_it_by_band():
    metadata = ModelMetadata.from_json(metadata_properties(SHIPPED.read_bytes())[METADATA_KEY])
    ages = np.random.default_rng(0).uniform(0, 60, 500)
    told = coverage(ages, ages + 1, np.full(500, 2.0), np.where(ages < 13, 0.5, 2.0))
    metadata.training["calibration"] = {"n": 500, "other_half": [{"dataset": "x", "part": "valid", **told}] * 2}
    said = _deviation(metadata)
    assert "by predicted age 0 % at 0-12, 100 % at 13-24" in said
    assert "by true age" in said
    assert "65+" not in said
