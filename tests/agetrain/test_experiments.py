"""The table of the fourteen original runs, against facts written down from the original work."""

import json
from dataclasses import fields, replace

import pytest
from originals import FACTS, ORIGINALS, READ_OFF_A_PLOT, TRIED_ON_WHOLE_PICTURES, UNVARIED, Facts, resolved

from agetrain.datasets import DATASETS
from agetrain.errors import UsageError
from agetrain.experiments import EXPERIMENTS, Experiment
from agetrain.recipe import CHOICES, Augmentation, Recipe
from agetrain.run_config import RunConfig
from agetrain.train import main


def check(row: Experiment, facts: Facts):
    """Raises AssertionError where a row of the table is not what is known of the run."""
    assert (row.dataset, row.title) == (facts.dataset, facts.title)
    assert row.recipe.to_dict() == facts.recipe
    assert (row.published.train, row.published.valid) == facts.published
    assert row.published.approximate == (row.id in READ_OFF_A_PLOT)
    whole = {5} if row.id in TRIED_ON_WHOLE_PICTURES else set()
    assert set(row.flaws) == facts.flaws | ({3} & set(row.flaws)) | {7} | whole
    assert (3 in row.flaws) == (facts.recipe["repeats"] == [3])


def test_the_table_holds_the_fourteen_runs_and_best():
    assert list(EXPERIMENTS) == [*FACTS, "best"]
    assert EXPERIMENTS["best"].recipe == Recipe()
    assert EXPERIMENTS["best"].published is None


@pytest.mark.parametrize("name", ORIGINALS)
def test_each_row_is_what_is_known_of_the_run(name):
    check(EXPERIMENTS[name], FACTS[name])


@pytest.mark.parametrize("name", ["A7", "F0"])
def test_what_was_not_recorded_is_marked_as_assumed(name):
    assert "lr" in EXPERIMENTS[name].assumed
    assert [row.id for row in EXPERIMENTS.values() if row.assumed] == ["A7", "F0"]


def other_value(name, value):
    """Another valid value of a field of a recipe or an augmentation, with what has to change beside it."""
    if name in ("head", "loss"):
        return {"head": "distribution", "loss": "distribution"} if name == "head" else {"loss": "l1"}
    if name in ("balance", "backbone"):
        return {name: {"balance": "age", "backbone": "vgg16"}[name]}
    if name == "frozen_stages":
        return {name: ("conv1",), "frozen_children": 0}
    if name in CHOICES:
        return {name: next(choice for choice in CHOICES[name] if choice != value)}
    if isinstance(value, bool):
        return {name: not value}
    if isinstance(value, tuple):
        return {name: (2.0,)}
    if name.startswith("zoom"):
        return {name: value + 0.5}
    if name in ("dropout", "ema_decay", "selection_share"):
        return {name: 0.3}
    return {name: value + 1 if name not in UNVARIED else 0.5}


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe) if f.name != "augmentation"])
def test_a_changed_field_of_a_row_does_not_pass_the_check(name):
    row = EXPERIMENTS["F1"]
    changed = replace(row, recipe=replace(row.recipe, **other_value(name, getattr(row.recipe, name))))
    assert changed != row
    with pytest.raises(AssertionError):
        check(changed, FACTS["F1"])


@pytest.mark.parametrize("name", [f.name for f in fields(Augmentation)])
def test_a_changed_augmentation_of_a_row_does_not_pass_the_check(name):
    row = EXPERIMENTS["C1"]
    how = row.recipe.augmentation
    other = replace(how, **other_value(name, getattr(how, name)))
    with pytest.raises(AssertionError):
        check(replace(row, recipe=replace(row.recipe, augmentation=other)), FACTS["C1"])


@pytest.mark.parametrize(
    "change", [{"dataset": "cacd"}, {"title": "fe"}, {"flaws": ()}, {"published": {"valid": 7.8}},
               {"published": {"train": 1.5}}, {"published": {"approximate": True}}],
)  # fmt: skip
def test_another_title_or_published_figure_does_not_pass_the_check(change):
    row = EXPERIMENTS["A8"]
    if "published" in change:
        change = {"published": replace(row.published, **change["published"])}
    with pytest.raises(AssertionError):
        check(replace(row, **change), FACTS["A8"])


@pytest.mark.parametrize("name", ["A8", "F0", "best"])
def test_the_end_of_an_original_run_tells_of_the_good_model(tmp_path, capsys, name):
    config = RunConfig(datasets=("appa-real=nowhere",), experiment=name)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    (tmp_path / "metrics.json").write_text(json.dumps({"finished": True, "history": [], "metrics": []}))
    assert main(["--finish", str(tmp_path)]) == 0
    hints = [line for line in capsys.readouterr().out.splitlines() if line.startswith("hint: ")]
    told = f"hint: {name} repeats the original work with its flaws; --experiment best is the good model for this data"
    assert hints == ([] if name == "best" else [told])


def test_the_list_begins_each_line_with_an_id(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*FACTS, "best"]
    for line, facts in zip(lines, FACTS.values(), strict=False):
        assert line.split()[1] == facts.dataset
        if facts.published[0]:
            assert f"{facts.published[0]:g}," in line
            assert f"{facts.published[1]:g} {'y2' if facts.recipe['loss'] == 'mse' else 'y'}" in line


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["appa-real"], "A8"), (["afad"], "F3"), (["cacd"], "C1"), (["utkface"], "best"), (["all-age-faces"], "best"),
        (["afad=/somewhere"], "F3"), (["appa-real", "utkface"], "best"), (["afad", "cacd"], "best"),
    ],
)  # fmt: skip
def test_without_an_experiment_a_data_set_runs_its_final_one(names, expected):
    experiment, recipe = resolved(*(word for name in names for word in ("--dataset", name)))
    assert experiment.id == expected
    assert recipe == EXPERIMENTS[expected].recipe


def test_every_data_set_has_a_default():
    assert {resolved("--dataset", name)[0].id for name in DATASETS} == {"A8", "F3", "C1", "best"}


@pytest.mark.parametrize("name", [*ORIGINALS, "best", "a8", "BEST"])
def test_an_experiment_can_be_named(name):
    experiment, recipe = resolved("--dataset", "utkface", "--experiment", name)
    assert experiment.id.lower() == name.lower()
    assert recipe == experiment.recipe


def test_an_unknown_experiment_names_all_there_are():
    with pytest.raises(UsageError, match=r"A9.*A1.*best"):
        resolved("--dataset", "afad", "--experiment", "A9")
