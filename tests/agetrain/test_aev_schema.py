"""The JSON Schema of ``aev.json``: a real document fits it, and one with a changed key or a wrong number does not."""

import copy
import json
import platform
import re
from datetime import date

import cv2
import jsonschema
import numpy as np
import onnxruntime
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_aev import as_document, population, row

import ageinfer
import agetrain
from agetrain._files import file_sha256
from agetrain.datasets import load_dataset
from agetrain.evaluate import main
from agetrain.evaluation import aev, answers
from agetrain.evaluation.aev_document import VERSION, aev_schema, document
from agetrain.evaluation.film_steadiness import TrackAges, of_track, overall

SCHEMA = aev_schema()
MODEL = ROOT / "models" / "age-small.onnx"
FITS = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture(scope="module")
def written(appa_real, tmp_path_factory):
    """The ``aev.json`` of a run."""
    out = tmp_path_factory.mktemp("report")
    arguments = [str(MODEL), "--dataset", f"appa-real={appa_real}", "--part", "train", "--resamples", "20"]
    assert main([*arguments, "--report", "aev", "--out", str(out)]) == 0
    return json.loads((out / "aev.json").read_text())


@pytest.fixture(scope="module")
def whole(written):
    """The same with a record of many people, and with a film of two faces, one of which is seen for a second only."""
    times_s = np.arange(100) / 25
    tracks = [
        of_track(TrackAges(n, times_s[:count], 25 + np.sin(times_s[:count] * 7), 25 + times_s[:count] / 9))
        for n, count in enumerate((100, 26))
    ]
    film = {"film": "a.mp4", "film_sha256": "0" * 64, "frames": 120, "short_tracks": 1, "tracks": tracks}
    found = {"model": "m.onnx", "model_sha256": "1" * 64, "detector": "yunet", "least_frames": 25, "settled_s": 2.0,
             "films": [film], "overall": overall(tracks)}  # fmt: skip
    many = as_document(aev.report(population(500), resamples=5))
    return written | {"aev": [*written["aev"], *many["aev"]], "films": [found]}


def leaves(value, path=()):
    """Every key and place of a document with what is there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key), inner
        yield from leaves(inner, (*path, key))


def kind(path):
    """The same for all places of one kind: whatever the number, the age or the group."""
    kinds, names = [], 0
    for key in path:
        kinds.append("*" if names or isinstance(key, int) or key.isdigit() else key)
        names = {"groups": 2, "spread": 1}.get(key, max(0, names - 1))
    return ".".join(kinds)


def one_of_each_kind(value):
    found = {}
    for path, inner in leaves(value):
        found.setdefault((kind(path), isinstance(inner, dict) and "too_few" in inner), path)
    return list(found.values())


def changed(value, path, change):
    """A copy in which the container of the last key was changed by ``change(container, key)``."""
    value = at = copy.deepcopy(value)
    for key in path[:-1]:
        at = at[key]
    change(at, path[-1])
    return value


def test_a_document_says_what_was_measured_with_what(written):
    FITS.validate(written)
    [record] = written["aev"]
    assert written["films"] == []
    assert (written["version"], written["date"]) == (VERSION, date.today().isoformat())
    assert written["versions"].items() >= {
        "ageinfer": ageinfer.__version__, "python": platform.python_version(), "numpy": np.__version__,
        "opencv": cv2.__version__, "onnxruntime": onnxruntime.__version__,
    }.items()  # fmt: skip
    assert {key: record[key] for key in ("model", "dataset", "part", "label", "detector")} == {
        "model": MODEL.name, "dataset": "appa-real", "part": "train", "label": "real", "detector": "yunet-2023mar",
    }  # fmt: skip
    assert record["model_sha256"] == file_sha256(MODEL)
    assert record["seen_in_training"] == answers.OTHER_SPLIT
    assert record["n"] == 24


def test_the_split_is_that_of_the_data_set(written, appa_real):
    dataset, _ = load_dataset("appa-real", appa_real)
    [record] = written["aev"]
    assert (record["split"], record["split_sha256"]) == (dataset.split, dataset.split_sha256())


def test_a_key_of_another_name_does_not_fit(whole):
    FITS.validate(whole)

    def rename(container, key):
        container[f"{key}_"] = container.pop(key)

    keys = [path for path in one_of_each_kind(whole) if isinstance(path[-1], str)]
    fitting = {kind(path) for path in keys if FITS.is_valid(changed(whole, path, rename))}
    # Names of groups are whatever the data set has, and torch is only there with checkpoints.
    assert {name for name in fitting if not re.search(r"(groups(\.\*)?|spread)\.\*$", name)} <= {"versions.torch"}
    assert len(keys) > 60


def test_a_number_out_of_its_range_does_not_fit(whole):
    numbers = [p for p in one_of_each_kind(whole) if isinstance(value_at(whole, p), int | float)]
    below = {kind(p) for p in numbers if FITS.is_valid(changed(whole, p, lambda at, key: at.__setitem__(key, -1)))}
    assert below == {  # years of a model may be any
        "films.*.films.*.tracks.*.mean_years", "films.*.films.*.tracks.*.steady_p5_p95_years.*",
    }  # fmt: skip
    percent = [p for p in numbers if "percent" in str(p[-1]) or "interval_95" in p]
    assert len(percent) > 15
    for path in percent:
        assert not FITS.is_valid(changed(whole, path, lambda at, key: at.__setitem__(key, 100.1))), path


def value_at(value, path):
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize(
    ("rate", "fits"),
    [
        ({"n": 20, "hits": 1, "percent": 5.0, "interval_95": [0.9, 23.6]}, True),
        ({"n": 19, "hits": 1, "too_few": True}, True),
        ({"n": 19, "hits": 1, "percent": 5.3, "interval_95": [0.9, 23.6]}, False),
        ({"n": 20, "hits": 1, "too_few": True}, False),
        ({"n": 20, "hits": 1}, False),
        ({"n": 20, "hits": 1, "percent": 5.0, "interval_95": [0.9]}, False),
    ],
)
def test_a_rate_of_few_people_has_no_percent(rate, fits):
    part = jsonschema.Draft202012Validator({"$ref": "#/$defs/rate", "$defs": SCHEMA["$defs"]})
    assert part.is_valid(rate) == fits


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.floats(5, 60), st.floats(0, 90), st.booleans(), st.booleans()), min_size=1, max_size=120),
    st.integers(1, 40),
)
def test_whoever_is_measured_every_number_is_in_its_range(people, subjects):
    rows = [
        row(age, answer, i, found=found, subject=str(i % subjects), sex="female" if woman else "male")
        for i, (age, answer, found, woman) in enumerate(people)
    ]
    values = as_document(aev.report(rows, resamples=5))
    FITS.validate(values)
    rates = [inner for _, inner in leaves(values) if isinstance(inner, dict) and "percent" in inner]
    for rate in rates:
        low, high = rate["interval_95"]
        assert 0 <= low <= high <= 100
        assert rate["percent"] == pytest.approx(100 * rate["hits"] / rate["n"], abs=1e-3)
        assert rate["hits"] <= rate["n"]


def test_the_schema_is_one_and_describes_every_key():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    described = [SCHEMA, *(part for part in SCHEMA["$defs"].values() if "title" in part)]
    assert all(len(key["description"]) > 15 for part in described for key in part["properties"].values())
    assert SCHEMA["$defs"]["record"]["properties"]["seen_in_training"]["enum"] == [
        answers.OTHER_DATA, answers.THIS_SPLIT, answers.OTHER_SPLIT,
    ]  # fmt: skip
    for part in ("record", "track", "overall"):
        years = SCHEMA["$defs"][part]["properties"]["cutoffs"]["required"]
        assert [int(each) for each in years] == list(aev.CUTOFFS_YEARS)
    FITS.validate(document([]) | {"of a later version": 1})


def test_the_command_prints_the_schema_and_needs_nothing_else(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--json-schema"])
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA == agetrain.aev_schema()
