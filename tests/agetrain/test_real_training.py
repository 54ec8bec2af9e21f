"""On the real APPA-REAL: what the lists hold, and what the shipped model is worth."""

import csv

import numpy as np
import pytest

from agetrain.datasets import load_dataset
from agetrain.evaluation.metrics import measure

pytestmark = pytest.mark.shared
PICTURES = 300


@pytest.fixture(scope="module")
def folder(shared_data):
    folder = shared_data / "appa-real-release"
    if not folder.is_dir():
        pytest.skip(f"no APPA-REAL in {shared_data}")
    return folder


@pytest.fixture(scope="module")
def dataset(folder):
    return load_dataset("appa-real", folder)[0]


def rows(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_picture_of_the_release_is_there(folder, dataset):
    train, valid = rows(folder / "gt_avg_train.csv"), rows(folder / "gt_avg_valid.csv")
    assert (len(train), len(valid)) == (4113, 1500)
    ignored = {row["img_name"] for row in rows(folder / "ignore_list.csv")}
    of_train = {row["file_name"] for row in train} & ignored
    assert len(of_train) > 0
    assert len(dataset.parts["train"]) == 4113 - len(of_train)
    assert not {s.path.name.removesuffix("_face.jpg") for s in dataset.parts["train"]} & ignored
    assert len(dataset.parts["valid"]) == 1500


def test_apparent_ages_have_a_spread(folder):
    spreads = [s.std_years for s in load_dataset("appa-real", folder, "apparent")[0].parts["train"]]
    assert 2 < np.median(spreads) < 8
    assert min(spreads) >= 0


def test_ages_are_those_of_the_paper(dataset):
    ages = np.array([s.age_years for part in dataset.parts.values() for s in part])
    assert ages.min() >= 0
    assert 90 <= ages.max() <= 100
    # What a model has to beat: always answering the same.
    median = np.median([s.age_years for s in dataset.parts["train"]])
    valid = np.array([s.age_years for s in dataset.parts["valid"]])
    always = measure(np.full(1500, median), valid, np.ones(1500, bool), median)
    assert 12 < always.mae < 13.5
    assert always.mae == always.mae_of_train_median


def test_the_shipped_model_is_worth_shipping(dataset):
    from ageinfer.crop.cut import central_face
    from ageinfer.pipeline import Pipeline
    from ageinfer.sources import read_picture

    pipeline = Pipeline.default(provider="cpu")
    assert pipeline.estimator.metadata.label == "real"
    estimates, found = np.full(PICTURES, np.nan), np.zeros(PICTURES, bool)
    samples = dataset.parts["valid"][:PICTURES]
    for i, sample in enumerate(samples):
        result = pipeline(read_picture(sample.path))
        central = central_face([face.detection.box for face in result.faces], result.size)
        if central is not None:
            estimates[i], found[i] = result.faces[central].age.age_years, True
    median = float(np.median([s.age_years for s in dataset.parts["train"]]))
    m = measure(estimates, np.array([s.age_years for s in samples]), found, median)
    figures = f"shipped model on the first {PICTURES} of APPA-REAL valid: {m.to_dict()}"
    assert m.detection_rate_percent > 95, figures
    assert m.mae < 8.0, figures
    assert abs(m.bias) < 3, figures
