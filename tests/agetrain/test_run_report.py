"""The report of a run: reproduced beside published, and what it hides nothing of."""

from dataclasses import asdict

import pytest

from agetrain.experiments import EXPERIMENTS, FLAWS
from agetrain.recipe import Augmentation
from agetrain.training.report import run_report

HISTORY = [
    {"train_loss": 90.0, "train_mae": 8.0, "selection_mae": 9.5, "selection_mse": 150.25, "seconds": 30.0},
    {"train_loss": 50.0, "train_mae": 6.0, "selection_mae": 8.5, "selection_mse": 120.5, "seconds": 60.0},
    {"train_loss": 20.5, "train_mae": 4.0, "selection_mae": 9.0, "selection_mse": 130.75, "seconds": 90.0},
]
METRICS = [
    {
        "dataset": "appa-real", "label": "real", "part": "valid", "n": 1500, "mae": 8.123, "rmse": 11.0,
        "cs5_percent": 41.26, "bias": -0.5, "detection_rate_percent": 99.53, "mae_found": 8.0,
        "mae_of_train_median": 12.75,
    }
]  # fmt: skip


def report_of(name, notes=(), epoch=2, start="torchvision IMAGENET1K_V1", far=None, metrics=METRICS, **changed):
    experiment = EXPERIMENTS[name]
    recipe = {**experiment.recipe.to_dict(), **changed}
    data = [{"dataset": "appa-real", "split": "official", "split_sha256": "ab" * 32}]
    training = {"recipe": recipe, "epoch": epoch, "start": start, "data": data}
    return run_report(experiment, {"history": HISTORY, "metrics": metrics, "training": training, **(far or {})}, notes)


def row(text, first):
    """The cells of the only row that begins so."""
    [line] = [line for line in text.splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_run_by_squared_error_stands_beside_what_was_published():
    text = report_of("A1")
    assert text.startswith(f"# A1: {EXPERIMENTS['A1'].title}\n")
    assert row(text, "loss, years squared")[1:] == ["train", "valid"]
    assert row(text, "published")[1:] == ["33.811", "158.182"]
    assert row(text, "reproduced, kept epoch 2 of 3")[1:] == ["50", "120.5"]
    assert row(text, "reproduced, last epoch")[1:] == ["20.5", "130.8"]


def test_a_run_by_absolute_error_is_in_years():
    text = report_of("A8")
    assert row(text, "loss, years")[1:] == ["train", "valid"]
    assert "squared" not in text.split("Known flaws")[0]
    assert row(text, "published")[1:] == ["1", "7.863"]
    assert row(text, "reproduced, kept epoch 2 of 3")[1:] == ["50", "8.5"]


def test_another_start_does_not_stand_beside_what_was_published():
    text = report_of("A8", start="checkpoint best.pth, SHA-256 00")
    assert row(text, "published")[1] == "not comparable: changed the start"


def test_the_split_and_notes_of_the_experiment_are_told():
    assert "\n- appa-real: split official, SHA-256 abababababababab\n" in report_of("A8")
    assert "first 14 of 19 blocks" in report_of("A7")
    assert row(report_of("A3"), "published")[0] == "published, epoch 12"


def test_what_was_read_off_a_plot_is_about_so():
    assert row(report_of("A5"), "published")[1:] == ["about 10.2", "about 10.7"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"loss": "mse"}, "loss"),
        ({"select_on": "train-part", "lr": 1e-4}, "lr, select_on"),
        ({"augmentation": asdict(Augmentation.named("original"))}, "augmentation"),
        ({"repeats": [1.0]}, "repeats"),
    ],
)
def test_another_recipe_does_not_stand_beside_what_was_published(changed, told):
    text = report_of("A8", **changed)
    assert row(text, "published") == ["published", f"not comparable: changed {told}", ""]
    assert "7.863" not in text
    assert "reproduced, kept epoch 2 of 3" in text


def test_chance_arithmetic_and_length_are_no_other_recipe():
    text = report_of("A8", seed=4, selection_seed=1, precision="bf16", epochs=3, patience=2)
    assert row(text, "published")[1:] == ["1", "7.863"]


@pytest.mark.parametrize("name", ["F0", "best"])
def test_without_a_published_figure_there_is_no_such_table(name):
    text = report_of(name)
    assert "published" not in text.split("Known flaws")[0]
    assert "reproduced" not in text


def test_the_final_figures_are_there_with_what_a_constant_answer_costs():
    assert row(report_of("best"), "appa-real valid")[:] == [
        "appa-real valid, real age", "1500", "8.12", "41.3 %", "-0.50", "99.5 %", "12.75",
    ]  # fmt: skip


def test_flaws_assumptions_and_notes_are_told():
    experiment = EXPERIMENTS["F2"]
    text = report_of("F2", ["the split is another one"])
    assert "- the split is another one" in text.splitlines()
    for number in experiment.flaws:
        assert f"{number}. {FLAWS[number]}" in text.splitlines()
    assert not [n for n in FLAWS if n not in experiment.flaws and f"{n}. {FLAWS[n]}" in text]
    assert "Assumed" not in text
    assert "Assumed, because it was not recorded: frozen_children, lr, repeats, dropout." in report_of("A7")


def test_the_start_and_the_time_are_told():
    assert "Start: torchvision IMAGENET1K_V1. 60 s an epoch, 3 min in all." in report_of("best")


def test_a_run_that_is_not_finished_says_how_far_it_is():
    text = report_of("A8", far={"finished": False, "epochs": 20, "ended": ""}, metrics=[])
    assert "Epoch 3 of 20, not finished; the final figures are measured once, at the end." in text.splitlines()
    assert row(text, "reproduced, kept epoch 2 of 3")[1:] == ["50", "8.5"]
    assert "always answering" not in text  # a table without a row


def test_a_run_that_ended_early_says_why():
    text = report_of("A8", far={"finished": True, "epochs": 20, "ended": "3 epochs without a better one"})
    assert "Ended after epoch 3 of 20: 3 epochs without a better one." in text.splitlines()
    for far in ({"finished": True, "epochs": 3, "ended": ""}, {}):  # the second is of an older release
        assert "Ended" not in report_of("A8", far=far)
        assert "not finished" not in report_of("A8", far=far)
