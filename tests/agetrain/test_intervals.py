"""Ages that are only known as intervals: what is learned from them, and their figures, apart from exact ages."""

import csv
import json
import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from portraits import variation
from runs import start_weights, words
from torch.nn import functional as F

import agetrain
from agetrain import evaluate
from agetrain.__main__ import main
from agetrain.crops.cache import CropCache
from agetrain.crops.training_set import TrainingSet
from agetrain.evaluation.metrics import chosen_error, distances, figures_of_part, measure_intervals
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Augmentation, Recipe
from agetrain.training.batches import Batches
from agetrain.training.frozen import Frozen, learn_head
from agetrain.training.losses import log_mass_inside, loss_and_age
from agetrain.training.teachers import Teacher

NAN = math.nan
CPU = torch.device("cpu")
BINS = torch.arange(101, dtype=torch.float32)


def network(head):
    return AgeNet("mobilenet_v2", head)


# Losses


def test_the_loss_is_minus_the_log_of_the_mass_inside():
    raw = torch.zeros(2, 101)  # the same for every year
    raw[1, 40] = 50.0  # all of it in one
    lows, highs = torch.tensor([20.0, 30.0]), torch.tensor([29.0, 50.0])
    log_probability = raw.log_softmax(dim=1)
    assert log_mass_inside(log_probability, BINS, lows, highs).tolist() == pytest.approx(
        [math.log(10 / 101), 0], abs=1e-5
    )
    recipe = Recipe(l1_weight=0)
    loss, _ = loss_and_age(
        network("distribution"), raw, torch.tensor([24.5, 40.0]), torch.full((2,), NAN), recipe, bounds=(lows, highs)
    )
    assert loss.item() == pytest.approx(-math.log(10 / 101) / 2, abs=1e-5)


@pytest.mark.parametrize("ends", [(0, 0), (100, 100), (95, 130), (110, 120), (20.5, 22.5)])
def test_any_interval_holds_a_bin(ends):
    mass = log_mass_inside(torch.zeros(1, 101).log_softmax(1), BINS, *(torch.tensor([float(e)]) for e in ends))
    bins = {(0, 0): 1, (100, 100): 1, (95, 130): 6, (110, 120): 1, (20.5, 22.5): 4}[ends]
    assert mass.exp().item() == pytest.approx(bins / 101, abs=1e-5)


@pytest.mark.parametrize("loss", ["l1", "mse"])
def test_an_answer_inside_is_no_error_and_outside_the_distance_is(loss):
    raw = torch.tensor([[25.0], [35.0], [10.0], [50.0]], requires_grad=True)
    ages = torch.tensor([24.5, 24.5, 24.5, 47.0])
    bounds = torch.tensor([20.0, 20, 20, NAN]), torch.tensor([29.0, 29, 29, NAN])
    recipe = Recipe(head="linear", loss=loss)
    found, decoded = loss_and_age(network("linear"), raw, ages, torch.full((4,), NAN), recipe, bounds=bounds)
    errors = [0, 6, 10, 3]
    assert found.item() == pytest.approx(np.mean(errors if loss == "l1" else np.square(errors)))
    assert decoded.tolist() == [25, 35, 10, 50]
    found.backward()
    assert raw.grad[0].item() == 0
    assert raw.grad[1].item() > 0 > raw.grad[2].item()


@pytest.mark.parametrize("weighted", [False, True])
def test_exact_ages_beside_intervals_are_learned_as_without_them(weighted):
    torch.manual_seed(0)
    raw = torch.randn(6, 101)
    ages, stds = torch.tensor([20.0, 30, 40, 50, 60, 70]), torch.full((6,), NAN)
    weights = torch.linspace(0.5, 2, 101) if weighted else None
    recipe = Recipe()
    alone, _ = loss_and_age(network("distribution"), raw[:4], ages[:4], stds[:4], recipe, weights)
    unknown = torch.full((4,), NAN)
    beside, _ = loss_and_age(
        network("distribution"), raw[:4], ages[:4], stds[:4], recipe, weights, bounds=(unknown, unknown)
    )
    assert beside.item() == pytest.approx(alone.item(), rel=1e-6)


def test_a_face_whose_label_is_doubted_is_not_learned_as_an_interval_either():
    raw = torch.randn(2, 101, requires_grad=True)
    bounds = torch.tensor([20.0, 20.0]), torch.tensor([29.0, 29.0])
    loss, _ = loss_and_age(
        network("distribution"), raw, torch.tensor([NAN, 24.5]), torch.full((2,), NAN), Recipe(), bounds=bounds
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert raw.grad[0].abs().max() == 0
    assert raw.grad[1].abs().max() > 0


# Batches


def crops_of(ages, lows, highs, side=64):
    n, unknown = len(ages), np.full(len(ages), np.nan, np.float32)
    pixels = np.zeros((n, side, side, 3), np.uint8)
    known = (np.array(values, np.float32) for values in (lows, highs))
    digests = np.arange(n).astype(np.uint64)
    return CropCache(pixels, np.ones(n, bool), np.array(ages, np.float32), unknown, unknown, unknown, digests, *known)


def training_set(crops):
    facts = ({"dataset": "x", "label": "real"},)
    return TrainingSet(facts, "real", 0.0, Recipe(size=64).crop_spec, (crops,), crops, (crops,))


PLAIN = Recipe(size=64, batch_size=4, augmentation=Augmentation.named("none"), drop_last=False)


def test_batches_carry_the_ends_where_there_are_intervals_alone():
    mixed = crops_of([24.5, 30, 70, 41], [20, NAN, 60, NAN], [29, NAN, 100, NAN])
    [batch] = Batches(training_set(mixed), PLAIN, CPU).epoch(1)
    order = batch.ages.argsort().tolist()
    assert batch.lows[order].nan_to_num(-1).tolist() == [20, -1, -1, 60]
    assert batch.highs[order].nan_to_num(-1).tolist() == [29, -1, -1, 100]
    [exact] = Batches(training_set(crops_of([24, 30], [NAN] * 2, [NAN] * 2)), PLAIN, CPU).epoch(1)
    assert exact.bounds is None


def test_a_teacher_doubts_an_interval_by_its_distance():
    crops = crops_of([24.5, 24.5, 30, 30], [20, 20, NAN, NAN], [29, 29, NAN, NAN])
    teacher = Teacher(crops.digests, np.array([29.5, 60, 31, 60], np.float32), np.full(4, 4, np.float32), ("t",))
    batches = Batches(training_set(crops), Recipe(size=64, batch_size=4, doubt_beyond=2, drop_last=False), CPU, teacher)
    assert batches.doubted == (2,)
    [batch] = batches.epoch(1)
    assert int(batch.ages.isnan().sum()) == 2


# Heads on frozen features


def test_a_head_learned_from_decades_finds_ages_within_them():
    random = np.random.default_rng(0)
    ages = random.uniform(10, 80, 900).astype(np.float32)
    features = np.stack([ages, -ages, random.normal(size=900)], axis=1).astype(np.float32)
    answers = np.full((900, 101), 1 / 101, np.float32)
    lows = np.floor(ages / 10) * 10
    unknown = np.full(900, np.nan, np.float32)
    part = Frozen(features, answers, lows + 4.5, unknown, lows, lows + 9)
    head = learn_head([part.rows(np.arange(900) < 700)], teacher_weight=0.0, epochs=60, dropout=0.0)
    found = head.ages(features[700:])
    assert np.abs(distances(found, lows[700:], lows[700:] + 9)).mean() < 1
    assert np.abs(found - ages[700:]).mean() < 4.5


# Figures


def test_intervals_are_counted_apart_from_exact_ages():
    estimates = np.array([22.0, 35.0, NAN, 44.0])
    labels, lows = np.array([24.0, 24.5, 24.5, 40.0]), np.array([NAN, 20, 20, NAN])
    highs, found = np.array([NAN, 29, 29, NAN]), np.array([True, True, False, True])
    figures = figures_of_part(estimates, labels, lows, highs, found, 31.0)
    assert (figures["n"], figures["mae"]) == (2, 3)
    assert figures["intervals"] == {
        "n": 2, "interval_error": 4, "inside_percent": 0, "detection_rate_percent": 50,
        "interval_error_of_train_median": 2,
    }  # fmt: skip
    alone = figures_of_part(estimates[1:3], labels[1:3], lows[1:3], highs[1:3], found[1:3], 31.0)
    assert alone.keys() == {"n", "intervals"}
    assert alone["n"] == 0
    # What chooses the epoch: exact ages, and only without any the distances.
    assert chosen_error(estimates, labels, lows, highs, found, 31.0).mae == 3
    assert chosen_error(estimates[1:3], labels[1:3], lows[1:3], highs[1:3], found[1:3], 31.0).mae == 4


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_a_distance_is_to_the_nearest_end(answer, a, b):
    low, high = sorted((a, b))
    [gap] = distances(np.array([answer]), np.array([low]), np.array([high]))
    assert abs(gap) == pytest.approx(0 if low <= answer <= high else min(abs(answer - low), abs(answer - high)))
    assert gap == 0 or (gap > 0) == (answer > high)


def test_nothing_cannot_be_measured():
    with pytest.raises(ValueError, match="no picture"):
        measure_intervals(np.array([]), np.array([]), np.array([]), np.array([], bool), 30.0)


# A run from folder to evaluation


@pytest.fixture(scope="module")
def decades(tmp_path_factory, astronaut_path):
    """24 pictures in folders of intervals, each person told."""
    folder, image = tmp_path_factory.mktemp("decades"), cv2.imread(str(astronaut_path))
    rows = []
    for i in range(24):
        cv2.imwrite(str(folder / f"{i:02d}.jpg"), variation(image, i))
        rows.append((f"{i:02d}.jpg", ("20-29", "30-39", "60+")[i % 3], f"P{i}", "valid" if i % 4 == 3 else "train"))
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "age", "person", "part"), *rows])
    return folder


@pytest.fixture(scope="module")
def trained(decades, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    options = words(
        dataset=f"mine={decades}", size=64, batch_size=4, epochs=1, selection_share=0.25, weights=start_weights(place),
        device="cpu", wandb="disabled", out=place / "out", cache=place / "cache",
    )  # fmt: skip
    assert main(options) == 0
    return place / "out"


def test_a_run_on_intervals_alone_says_what_its_figures_are(trained, decades):
    checkpoint = Checkpoint.load(trained / "best.pth")
    selection, valid = checkpoint.metrics
    assert [m["part"] for m in (selection, valid)] == ["selection", "valid"]
    assert (valid["n"], valid["intervals"]["n"]) == (0, 6)
    assert "mae" not in valid
    assert checkpoint.training["data"][0]["licence"] == "licence not stated"
    report = (trained / "report.md").read_text()
    assert "| mine valid, real age | 6 |" in report
    assert "MAE, years" not in report
    assert (trained / "split.csv").read_text().count("valid,") == 6


def test_the_split_of_the_run_is_found_again(trained, decades, capsys):
    words = ["--dataset", f"mine={decades}", "--split", str(trained / "split.csv"), "--resamples", "20"]
    assert evaluate.main([str(trained / "best.pth"), *words]) == 0
    out = capsys.readouterr().out
    assert "of 6 ages known as intervals" in out
    assert "MAE" not in out


def test_a_report_of_intervals_can_be_read_drawn_and_compared(trained, decades, tmp_path):
    report = agetrain.evaluate_model(trained / "best.pth", agetrain.Data.from_folder(decades, name="mine"))
    [record] = report.records
    assert (record["part"], record["n"], record["intervals"]["n"]) == ("valid", 0, 6)
    assert record["intervals"]["by_attribute"]["interval"].keys() == {"20-29", "30-39", "60-100"}
    assert record["seen_in_training"] == "train part of this split"
    assert "distance to it" in report.table()
    rows = report.rows
    assert {(row.age_years, row.low_years, row.high_years) for row in rows} >= {(None, 20, 29), (None, 60, 100)}
    for row in rows:
        assert abs(row.error_years) == pytest.approx(
            max(row.low_years - row.answer_years, row.answer_years - row.high_years, 0), abs=1e-3
        )
    report.save(tmp_path / "out")
    assert cv2.imread(str(tmp_path / "out" / "evaluation.png")) is not None
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["evaluations"][0]["n"] == 0
    with (tmp_path / "out" / "rows.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 6
    [same] = report.compare(report)
    assert (same.years, same.low_years, same.high_years, same.of_intervals) == (0, 0, 0, True)
    assert "no difference is shown" in str(same)


def test_the_shipped_model_is_measured_on_all_of_what_it_never_saw(decades, tmp_path):
    pytest.importorskip("pyarrow")
    from conftest import ROOT
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    arguments = [
        str(ROOT / "models" / "age-small.onnx"),
        "--dataset",
        str(decades),
        "--part",
        "all",
        "--rows",
        str(path),
    ]
    assert evaluate.main([*arguments, "--resamples", "20"]) == 0
    table = parquet.read_table(path).to_pydict()
    assert len(table["file"]) == 24
    assert set(table["low_years"]) == {20, 30, 60}
    assert set(table["age_years"]) == {None}
    assert evaluate.main([*arguments[:-1], str(tmp_path / "rows.txt")]) == 2


def test_a_mixed_set_has_two_kinds_of_figures(tmp_path, astronaut, capsys):
    from conftest import ROOT

    rows = []
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), variation(astronaut, i))
        rows.append((f"{i}.jpg", "20-29" if i < 2 else 30 + i))
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "age"), *rows])
    [record] = agetrain.evaluate_model(ROOT / "models" / "age-small.onnx", tmp_path).records
    assert (record["part"], record["n"], record["intervals"]["n"]) == ("all", 4, 2)
    errors = [abs(r.error_years) for r in agetrain.evaluate_model(ROOT / "models" / "age-small.onnx", tmp_path).rows]
    assert record["mae"] == pytest.approx(np.mean(errors[2:]), abs=1e-3)
    assert record["intervals"]["interval_error"] == pytest.approx(np.mean(errors[:2]), abs=1e-3)


def test_a_softmax_over_the_interval_has_the_gradient_of_the_mass():
    """What a head on frozen features learns by: its own answer within the interval."""
    raw = torch.randn(3, 101, requires_grad=True)
    lows, highs = torch.tensor([20.0, 30, 60]), torch.tensor([29.0, 50, 100])
    (-log_mass_inside(raw.log_softmax(1), BINS, lows, highs)).sum().backward()
    by_mass = raw.grad.clone()
    raw.grad = None
    inside = (lows[:, None] - 0.5 <= BINS) & (highs[:, None] + 0.5 >= BINS)
    target = raw.detach().log_softmax(1).masked_fill(~inside, -torch.inf).softmax(1)
    F.kl_div(raw.log_softmax(1), target, reduction="none").nansum().backward()
    torch.testing.assert_close(raw.grad, by_mass, atol=1e-5, rtol=1e-4)
