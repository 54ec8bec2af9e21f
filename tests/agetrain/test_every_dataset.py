"""What holds of every data set, whoever made its lists: those that agetrain knows and each form of somebody's own."""

import csv
import shutil
from collections import Counter

import cv2
import numpy as np
import pytest

from agetrain import splits
from agetrain.datasets import DATASETS
from agetrain.datasets.base import samples_of
from agetrain.datasets.opening import open_dataset
from agetrain.datasets.own import Reading

AGES = [16, 18, 20, 21, 23, 23, 25, 28, 30, 31, 33, 34, 36, 38, 39, 40]
_OWN = {"list", "folders", "pattern", "parquet"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 16 different pictures, 00.jpg to 15.jpg."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(len(AGES)):
        coarse = np.random.default_rng(i).integers(0, 256, (12, 12, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:02d}.jpg"), cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC))
    return folder


def _place(kind, i):
    """The path and the name in which a data set keeps picture i."""
    age, sex = AGES[i], i % 2
    return {
        "appa-real": f"{'train' if i < 12 else 'valid'}/{i:06d}.jpg_face.jpg",
        "afad": f"{age}/{111 + sex}/{100 + i}-0.jpg",
        "cacd": f"{age}_Person_{chr(65 + 3 * i)}_0001.jpg",
        "utkface": f"{age}_{sex}_2_201701{i:02d}.jpg.chip.jpg",
        "all-age-faces": f"original images/{i:05d}A{age:02d}.jpg",
        "folders": f"{age}/{i:02d}.jpg",
        "pattern": f"{age}_{sex}_{i:02d}.jpg",
    }.get(kind, f"faces/{i:02d}.jpg")


@pytest.fixture(params=[*sorted(DATASETS), *sorted(_OWN)])
def release(request, pictures, tmp_path):
    """What names a data set of each kind, how it is read, and the age of each picture by the end of its name."""
    kind, folder = request.param, tmp_path / "release"
    places = {i: folder / _place(kind, i) for i in range(len(AGES))}
    for i, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / f"{i:02d}.jpg", place)
    reading = Reading(cache=tmp_path / "cache", name_pattern="{age}_{sex}_*.jpg" if kind == "pattern" else None)
    if kind == "appa-real":
        for part, numbers in (("train", range(12)), ("valid", range(12, 16))):
            rows = [(f"{i:06d}.jpg", AGES[i], 2, AGES[i]) for i in numbers]
            columns = ("file_name", "apparent_age_avg", "apparent_age_std", "real_age")
            _write(folder / f"gt_avg_{part}.csv", columns, rows)
    elif kind in {"us-congress", "uk-mps-2017", "list"}:
        rows = [(f"faces/{i:02d}.jpg", AGES[i], AGES[i], AGES[i], f"P{i // 2}") for i in range(len(AGES))]
        rows[3] = ("faces/03.jpg", "", AGES[3] - 2, AGES[3] + 2, "P1")
        _write(folder / "labels.csv", ("file", "age", "age_min", "age_max", "person"), rows)
    elif kind == "parquet":
        arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        images = [{"bytes": place.read_bytes(), "path": place.name} for place in places.values()]
        shutil.rmtree(folder)
        folder.mkdir()
        tables.write_table(arrow.table({"image": images, "age": AGES}), folder / "faces.parquet")
    text = str(folder) if kind in _OWN else f"{kind}={folder}"
    return kind, text, reading, {place.name: AGES[i] for i, place in places.items()}


def _write(path, columns, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def test_each_picture_is_there_once_with_its_age(release):
    kind, text, reading, ages = release
    dataset, _ = open_dataset(text, reading=reading)
    found = {}
    for sample in samples_of(dataset):
        [name] = [n for n in ages if sample.path.name.endswith(n)]
        assert sample.path.is_file()
        assert name not in found
        found[name] = sample
    assert found.keys() == ages.keys()
    for name, sample in found.items():
        assert sample.age_years == ages[name]
        if sample.interval_years is not None:
            assert sample.interval_years[0] <= sample.age_years <= sample.interval_years[1]
    with_interval = [name for name, sample in found.items() if sample.interval_years is not None]
    assert with_interval == (["03.jpg"] if kind in {"us-congress", "uk-mps-2017", "list"} else [])
    assert dataset.problems == ()
    assert dataset.label == "real"
    assert dataset.licence


def test_no_subject_is_in_two_parts_and_none_is_empty_but_train_of_what_is_only_measured(release):
    kind, text, reading, _ = release
    dataset, _ = open_dataset(text, reading=reading)
    of = {part: {s.subject for s in samples if s.subject} for part, samples in dataset.parts.items()}
    assert not of["train"] & of["valid"]
    assert [part for part, samples in dataset.parts.items() if not samples] == (
        ["train"] if kind == "uk-mps-2017" else []
    )
    if kind == "list":
        assert Counter(s.subject for s in samples_of(dataset)) == {f"P{i}": 2 for i in range(8)}


def test_it_is_dealt_alike_each_time_and_read_back_from_its_split_file(release, tmp_path, capsys):
    kind, text, reading, _ = release
    first, _ = open_dataset(text, reading=reading)
    assert open_dataset(text, reading=reading)[0] == first
    options = [text, "-o", str(tmp_path / "split.csv"), "--cache", str(tmp_path / "cache")]
    if kind == "pattern":
        options += ["--name-pattern", "{age}_{sex}_*.jpg"]
    if kind == "uk-mps-2017":  # it has no train, so there is nothing to deal
        assert splits.main(options) == 3
        assert "no picture for train" in capsys.readouterr().err
        assert not (tmp_path / "split.csv").exists()
        return
    assert splits.main(options) == 0
    capsys.readouterr()
    back, _ = open_dataset(text, reading=reading, split=tmp_path / "split.csv")
    assert back.split_sha256() == first.split_sha256()


def test_an_apparent_age_is_refused_where_nobody_estimated_it(release):
    kind, text, reading, _ = release
    if kind == "appa-real":
        assert open_dataset(text, "apparent", reading=reading)[0].label == "apparent"
        return
    with pytest.raises(Exception, match="apparent"):
        open_dataset(text, "apparent", reading=reading)
