"""Anybody's own faces: lists, folders of ages, Parquet and names, read into the same samples by one reader."""

import codecs
import csv
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from portraits import variation

from agetrain import prepare, splits
from agetrain.crops.training_set import training_set
from agetrain.data import Data
from agetrain.datasets import DATASETS
from agetrain.datasets.opening import named, open_dataset
from agetrain.datasets.own import Reading, load_own
from agetrain.datasets.own.ages import parse_age
from agetrain.datasets.own.reading import NO_LICENCE
from agetrain.datasets.own.tables import read_table
from agetrain.errors import DatasetError, UsageError
from agetrain.recipe import Recipe

AGES = [3, 8, 15, 21, 23, 23, 30, 34, 38, 41, 47, 52, 58, 63, 70, 77]


def photograph(seed, side=120):
    """A picture that has nothing in common with one of another seed."""
    random = np.random.default_rng(seed)
    fields = [
        cv2.resize(random.normal(0, 1, (n, n, 3)), (side, side), interpolation=cv2.INTER_CUBIC) for n in (4, 12, 30)
    ]
    return np.clip(128 + 30 * fields[0] + 25 * fields[1] + 20 * fields[2], 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of different pictures, 00.jpg to 15.jpg."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(len(AGES)):
        cv2.imwrite(str(folder / f"{i:02d}.jpg"), photograph(i))
    return folder


@pytest.fixture
def faces(pictures, tmp_path):
    """The pictures with a list of their ages."""
    folder = shutil.copytree(pictures, tmp_path / "faces")
    write_list(folder / "labels.csv", ("file", "age"), [(f"{i:02d}.jpg", age) for i, age in enumerate(AGES)])
    return folder


def write_list(path, columns, rows, *, delimiter=",", encoding="utf-8", end="\n"):
    lines = [delimiter.join(map(str, row)) for row in (columns, *rows)]
    path.write_bytes((end.join(lines) + end).encode(encoding))
    return path


def by_name(dataset):
    return {s.path.name: s for part in dataset.parts.values() for s in part}


def read(place, name="", label=None, **how):
    return load_own(Path(place), name, label, Reading(**how))[0]


# Ages


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("23", 23, 23), ("23.5", 23.5, 23.5), ("23,5", 23.5, 23.5), (" 23 ", 23, 23), ("7 years", 7, 7), ("0", 0, 0),
        ("20-29", 20, 29), ("20 - 29", 20, 29), ("20\u201329", 20, 29), ("(25, 32)", 25, 32), ("20 to 29", 20, 29),
        ("60+", 60, 100), (">=60", 60, 100), ("more than 70", 71, 100), ("70 and older", 70, 100), ("<3", 0, 2),
        ("20_29", 20, 29), ("104+", 104, 104), ("\u0663", 3, 3),
    ],
)  # fmt: skip
def test_an_age_is_read_as_people_write_it(text, low, high):
    age = parse_age(text)
    assert (age.low_years, age.high_years) == (low, high)
    assert age.exact == (low == high)
    assert low <= age.years <= high


@pytest.mark.parametrize("text", ["", "x", "-3", "131", "nan", "inf", "1e3", "29-20", "20-", "-", "2 3"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(ValueError, match=r"age|interval"):
        parse_age(text)


def test_an_interval_without_an_end_is_stood_for_by_its_first_years():
    assert parse_age("60+").years == 70
    assert parse_age("90+").years == 95


@given(st.text(max_size=12))
def test_any_text_is_an_age_or_refused(text):
    try:
        age = parse_age(text)
    except ValueError:
        return
    assert 0 <= age.low_years <= age.years <= age.high_years <= 130


# Lists


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE), ("cp1252", b"")],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_is_read_whatever_program_wrote_it(tmp_path, delimiter, encoding, mark, end):
    rows = [("Zoë.jpg", "23", "weiblich, jung" if delimiter != "," else "weiblich"), ("b.jpg", "40", "männlich")]
    path = write_list(
        tmp_path / "l.csv", ("file", "age", "Größe"), rows, delimiter=delimiter, encoding=encoding, end=end
    )
    path.write_bytes(mark + path.read_bytes())
    table = read_table(path)
    assert table.columns == ("file", "age", "Größe")
    assert [tuple(row.values()) for _, row in table.rows] == rows


def test_an_encoding_that_was_guessed_is_said(tmp_path, caplog):
    path = write_list(tmp_path / "l.csv", ("file", "age"), [("ä.jpg", 3)], encoding="cp1252")
    with caplog.at_level(logging.WARNING):
        assert read_table(path).rows[0][1]["file"] == "ä.jpg"
    assert "Windows-1252" in caplog.text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04rest", "a workbook"), (b"", "no column names"), (b"file,age,age\n", "two columns 'age'"),
        (b"file,age\n\0", "zero bytes"), (codecs.BOM_UTF8 + b"\xff", "cannot be read as utf-8"),
        (b"\x81file,age\n", "neither UTF-8 nor Windows-1252"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused_by_its_name(tmp_path, data, words):
    (tmp_path / "l.csv").write_bytes(data)
    with pytest.raises(DatasetError, match=words) as error:
        read_table(tmp_path / "l.csv")
    assert "l.csv" in str(error.value)


def test_excel_tells_its_delimiter_in_a_first_line(tmp_path):
    (tmp_path / "l.csv").write_text("sep=;\nfile;age\na.jpg;3,5\n")
    assert read_table(tmp_path / "l.csv").rows == ((2, {"file": "a.jpg", "age": "3,5"}),)


def test_a_list_beside_the_pictures_gives_labels_groups_and_persons(pictures, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "faces")
    columns = ("File_Name", "Age", "person", "sex", "note", "std", "apparent_age")
    rows = [(f"{i:02d}.jpg", age, f"P{i // 2}", "fm"[i % 2], "", 2.5, age + 1) for i, age in enumerate(AGES)]
    write_list(folder / "labels.csv", columns, rows)
    dataset = read(folder)
    assert (dataset.name, dataset.licence, dataset.page, dataset.label) == ("faces", NO_LICENCE, "", "real")
    assert dataset.listed == len(AGES)
    sample = by_name(dataset)["03.jpg"]
    assert (sample.age_years, sample.subject, sample.std_years, sample.other_years) == (21, "P1", 2.5, 22)
    assert sample.attributes == (("sex", "m"),)
    assert [s.age_years for s in read(folder, label="apparent").parts["train"]] == [age + 1 for age in AGES]


def test_columns_may_have_any_name(pictures, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "faces")
    rows = [(f"{i:02d}.jpg", age, f"P{i}", "x") for i, age in enumerate(AGES)]
    write_list(folder / "labels.csv", ("Datei", "Alter", "Wer", "age_group"), rows)
    with pytest.raises(DatasetError, match=r"no column names the picture.*Datei, Alter, Wer"):
        read(folder)
    told = {"file": "Datei", "age": "alter", "subject": "Wer"}
    dataset = read(folder, columns=told)
    assert by_name(dataset)["04.jpg"].subject == "P4"
    assert by_name(dataset)["04.jpg"].attributes == (("age_group", "x"),)
    with pytest.raises(DatasetError, match="has no column 'Name'"):
        read(folder, columns={**told, "subject": "Name"})
    with pytest.raises(UsageError, match="no such meaning"):
        read(folder, columns={"sex": "Wer"})


def test_ages_may_be_intervals_in_one_column_or_two(pictures, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "faces")
    rows = [("00.jpg", "20-29", "", ""), ("01.jpg", "", 30, 39), ("02.jpg", 31, 30, 39), ("03.jpg", "60+", "", "")]
    write_list(folder / "labels.csv", ("file", "age", "age_min", "age_max"), rows)
    samples = by_name(read(folder))
    assert [samples[f"0{i}.jpg"].interval_years for i in range(4)] == [(20, 29), (30, 39), None, (60, 100)]
    assert samples["02.jpg"].age_years == 31


def test_the_description_beside_the_data_names_it(faces):
    about = {"name": "museum", "license": "CC BY 4.0", "page": "https://example.org/", "label": "apparent"}
    (faces / "dataset.json").write_text(json.dumps(about))
    dataset = read(faces)
    assert (dataset.name, dataset.licence, dataset.page) == ("museum", "CC BY 4.0", "https://example.org/")
    assert dataset.label == "apparent"
    assert read(faces, name="mine").name == "mine"
    with pytest.raises(UsageError, match="has no real ages; use --label apparent"):
        read(faces, label="real")
    for broken in ("[]", "{", '{"name": 3}', '{"label": "guessed"}'):
        (faces / "dataset.json").write_text(broken)
        with pytest.raises(DatasetError, match=r"dataset\.json: not a description"):
            read(faces)


# Other forms give the same samples


def ages_of(dataset):
    return sorted((s.path.name, s.age_years, s.interval_years) for part in dataset.parts.values() for s in part)


def test_a_folder_for_each_age_gives_what_the_list_gives(faces, tmp_path):
    for i, age in enumerate(AGES):
        place = tmp_path / "byage" / str(age) / "more"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(faces / f"{i:02d}.jpg", place)
    (tmp_path / "byage" / ".hidden").mkdir()
    shutil.copy(faces / "00.jpg", tmp_path / "byage" / ".hidden" / "x.jpg")
    assert ages_of(read(tmp_path / "byage")) == ages_of(read(faces))


def test_folders_of_intervals_and_parts(faces, tmp_path):
    for part, age, name in (("train", "20-29", "00"), ("val", "60+", "01"), ("test", "7", "02")):
        (tmp_path / "f" / part / age).mkdir(parents=True)
        shutil.copy(faces / f"{name}.jpg", tmp_path / "f" / part / age)
    dataset = read(tmp_path / "f")
    assert {part: len(of) for part, of in dataset.parts.items()} == {"train": 1, "valid": 1, "test": 1}
    assert dataset.parts["train"][0].interval_years == (20, 29)
    assert dataset.parts["valid"][0].interval_years == (60, 100)
    assert dataset.parts["test"][0].interval_years is None


def test_a_link_in_a_circle_ends(faces, tmp_path):
    (tmp_path / "f" / "30").mkdir(parents=True)
    shutil.copy(faces / "00.jpg", tmp_path / "f" / "30")
    (tmp_path / "f" / "30" / "again").symlink_to(tmp_path / "f")
    assert len(read(tmp_path / "f").parts["train"]) == 1


def test_ages_in_names(faces, tmp_path):
    (tmp_path / "n" / "deep").mkdir(parents=True)
    for i, age in enumerate(AGES):
        shutil.copy(faces / f"{i:02d}.jpg", tmp_path / "n" / "deep" / f"{age}_{'fm'[i % 2]}_{i:02d}.jpg")
    shutil.copy(faces / "00.jpg", tmp_path / "n" / "cover.jpg")
    dataset = read(tmp_path / "n", name_pattern="{age}_{sex}_*.jpg")
    assert sorted(s.age_years for s in dataset.parts["train"]) == AGES
    assert dict(dataset.parts["train"][0].attributes).keys() == {"sex"}
    [problem] = dataset.problems
    assert (problem.file, problem.kind) == ("cover.jpg", "unlabelled")
    with pytest.raises(UsageError, match=r"has no \{age\}"):
        read(tmp_path / "n", name_pattern="{sex}_*.jpg")
    with pytest.raises(UsageError, match="leave out --labels"):
        Reading(name_pattern="{age}.jpg", columns={"age": "x"})


@pytest.fixture
def parquet(faces, tmp_path):
    """The faces as a data set of Hugging Face, in two files of parts, with names of classes beside them."""
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table(
        {
            "image": [
                {"bytes": (faces / f"{i:02d}.jpg").read_bytes(), "path": f"{i:02d}.jpg"} for i in range(len(AGES))
            ],
            "age": [i % 3 for i in range(len(AGES))],
            "gender": [i % 2 for i in range(len(AGES))],
        }
    )
    label = {"_type": "ClassLabel"}
    features = {"age": {**label, "names": ["0-2", "20-29", "more than 70"]}, "gender": {**label, "names": ["m", "f"]}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (tmp_path / "hf" / "data").mkdir(parents=True)
    tables.write_table(table.slice(0, 10), tmp_path / "hf" / "data" / "train-00000-of-00001.parquet", row_group_size=4)
    tables.write_table(table.slice(10), tmp_path / "hf" / "data" / "validation-00000-of-00001.parquet")
    return tmp_path / "hf"


def test_pictures_inside_of_parquet_are_unpacked_once(parquet, faces, tmp_path, monkeypatch):
    dataset, folder = load_own(parquet, "", None, Reading(cache=tmp_path / "cache"))
    assert {part: len(of) for part, of in dataset.parts.items()} == {"train": 10, "valid": 6}
    sample = dataset.parts["train"][4]
    assert sample.path.read_bytes() == (faces / "04.jpg").read_bytes()
    assert sample.path.name == "0000004-04.jpg"
    assert sample.interval_years == (20, 29)  # the name of class 1, not an age of 1
    assert sample.attributes == (("gender", "m"),)
    assert folder.parent == tmp_path / "cache"
    again, _ = load_own(parquet, "", None, Reading(cache=tmp_path / "cache"))
    assert again == dataset
    assert len(list((tmp_path / "cache").iterdir())) == 1
    alone = read(parquet / "data" / "validation-00000-of-00001.parquet", cache=tmp_path / "cache")
    assert alone.name == "validation-00000-of-00001"
    assert len(alone.parts["valid"]) == 6


def test_a_broken_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DatasetError, match=r"a\.parquet: cannot be read as Parquet"):
        read(tmp_path / "a.parquet", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# Naming a data set


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_known_names_stay_what_they_are(name, tmp_path):
    assert named(name) == (name, None)
    assert named(f"{name}={tmp_path}") == (name, tmp_path)
    with pytest.raises(UsageError, match="agetrain knows its lists"):
        open_dataset(f"{name}={tmp_path}", reading=Reading(columns={"age": "x"}))


def test_own_data_is_named_by_its_path(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_dataset("faces")[0].name == "faces"
    assert open_dataset("faces/labels.csv")[0].name == "faces"
    assert open_dataset("mine=faces")[0].name == "mine"
    faces.rename(tmp_path / "a=b")
    assert open_dataset("a=b")[0].name == "a=b"
    (tmp_path / "a=b").rename(tmp_path / "utkface")
    # A known name means the known layout; a path to a folder of that name is own data, under another name.
    with pytest.raises(DatasetError, match=r"UTKFace|susanqq"):
        open_dataset("utkface=utkface")
    assert open_dataset("./utkface")[0].name == "utkface-own"
    with pytest.raises(UsageError, match="neither a data set that agetrain knows"):
        open_dataset("nowhere")
    with pytest.raises(DatasetError, match="nowhere: not there"):
        open_dataset("mine=nowhere")


def test_a_folder_without_ages_says_what_would_be_one(pictures):
    with pytest.raises(DatasetError, match=r"16 pictures and no ages.*labels.csv.*--name-pattern"):
        read(pictures)


# Problems


@pytest.fixture
def damaged(faces):
    """One broken picture, one that is not there, one label that is empty and one that is none."""
    (faces / "05.jpg").write_bytes((faces / "05.jpg").read_bytes()[:500])
    (faces / "06.jpg").unlink()
    rows = [(f"{i:02d}.jpg", {7: "", 8: "old"}.get(i, age)) for i, age in enumerate(AGES)]
    write_list(faces / "labels.csv", ("file", "age"), rows)
    return faces


def test_problems_are_listed_and_too_many_are_refused(damaged, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [str(damaged), "-o", str(tmp_path / "split.csv"), "--shares", "0.8", "0.2"]
    assert splits.main(words) == 3
    line = capsys.readouterr().err.splitlines()[-1]
    assert "3 of 16 pictures cannot be used (18.8 %), and --max-broken allows 1%" in line
    assert "split.problems.csv names all" in line
    assert splits.main([*words, "--max-broken", "20%"]) == 3  # the broken picture is found when pictures are opened
    assert not (tmp_path / "split.csv").exists()
    assert splits.main([*words, "--max-broken", "25%"]) == 0
    with (tmp_path / "split.problems.csv").open(newline="") as stream:
        rows = {row["file"].rpartition("/")[2]: row for row in csv.DictReader(stream)}
    assert {name: row["kind"] for name, row in rows.items()} == {
        "05.jpg": "broken", "06.jpg": "not there", "07.jpg": "unlabelled", "08.jpg": "unlabelled"
    }  # fmt: skip
    assert "line 9: its age is empty" in rows["07.jpg"]["reason"]
    assert "'old' is no age" in rows["08.jpg"]["reason"]


def test_own_data_is_checked_before_anything_is_made_of_it(damaged, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert prepare.main([str(damaged), "--max-broken", "25"]) == 0
    out = capsys.readouterr().out
    assert (
        "13 pictures with real ages of 3 to 77 years, 0 of them intervals; no persons told; licence not stated" in out
    )
    assert "problems.csv: 4 pictures that cannot be used" in out
    assert prepare.main([str(damaged), "--url", "https://example.org/x"]) == 2
    assert "--url is for data sets that agetrain knows" in capsys.readouterr().err


def test_a_list_of_nothing_usable_says_why(faces):
    write_list(faces / "labels.csv", ("file", "age"), [("a.jpg", 3), ("b.jpg", "x")])
    with pytest.raises(DatasetError, match=r"none of 2 pictures can be used: .*a.jpg is not there.*'x' is no age"):
        read(faces)


# Parts


def test_own_data_is_dealt_by_age_and_always_alike(faces, tmp_path):
    reading = Reading(cache=tmp_path / "cache")
    dataset, _ = open_dataset(str(faces), reading=reading)
    assert {part: len(of) for part, of in dataset.parts.items()} == {"train": 13, "valid": 3}
    assert "a photograph in one part, persons may be in several" in dataset.split
    assert open_dataset(str(faces), reading=reading)[0].split_sha256() == dataset.split_sha256()
    assert open_dataset(str(faces), reading=reading, deal=False)[0].split == ""


def test_a_photograph_and_a_person_stay_in_one_part(faces, tmp_path):
    for i in range(8):  # all but two are there twice
        copy = cv2.convertScaleAbs(cv2.imread(str(faces / f"{i:02d}.jpg")), alpha=1.1)
        cv2.imwrite(str(faces / f"{i:02d}b.jpg"), copy)
    rows = [(f"{i:02d}.jpg", age) for i, age in enumerate(AGES)] + [(f"{i:02d}b.jpg", 90 - AGES[i]) for i in range(8)]
    write_list(faces / "labels.csv", ("file", "age"), rows)
    for seed in range(6):
        data = Data.from_folder(faces).split(valid=0.3, seed=seed, cache=tmp_path / "cache")
        side = {s.path.name: part for part, of in data.dataset.parts.items() for s in of}
        assert all(side[f"{i:02d}.jpg"] == side[f"{i:02d}b.jpg"] for i in range(8))
        assert 5 <= data.counts["valid"] <= 9
    persons = [(*row, f"P{i % 5}") for i, row in enumerate(rows)]
    write_list(faces / "labels.csv", ("file", "age", "person"), persons)
    data = Data.from_folder(faces).split(valid=0.3, test=0.2, cache=None)
    subjects = {part: {s.subject for s in of} for part, of in data.dataset.parts.items()}
    assert sum(map(len, subjects.values())) == 5
    assert set(subjects) == {"train", "valid", "test"}
    assert "a person in one part" in data.dataset.split


def test_duplicates_are_dropped_and_contradictions_with_them(faces, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, of in (("same", 3), ("near", 4), ("other", 5)):
        shutil.copy(faces / f"{of:02d}.jpg", faces / f"{name}.jpg")
    rows = [(f"{i:02d}.jpg", age) for i, age in enumerate(AGES)]
    rows += [("same.jpg", AGES[3]), ("near.jpg", AGES[4] + 2), ("other.jpg", AGES[5] + 30)]
    write_list(faces / "labels.csv", ("file", "age"), rows)
    assert splits.main(["faces", "-o", "split.csv", "--drop-duplicates", "--shares", "0.75", "0.25"]) == 0
    with Path("split.csv").open(newline="") as stream:
        kept = {row["file"] for row in csv.DictReader(stream)}
    assert kept == {f"{i:02d}.jpg" for i in range(16) if i != 5}
    with Path("split.problems.csv").open(newline="") as stream:
        reasons = {Path(row["file"]).name: row["reason"] for row in csv.DictReader(stream)}
    assert set(reasons) == {"same.jpg", "near.jpg", "other.jpg", "05.jpg"}
    assert "labels lie 30 years apart" in reasons["05.jpg"]
    assert reasons["same.jpg"].endswith("03.jpg")
    # The split can be read back by its file.
    dataset, _ = open_dataset("faces", split=Path("split.csv"))
    assert sum(map(len, dataset.parts.values())) == 15


def test_data_says_what_it_is(faces, tmp_path):
    data = Data.from_csv(faces / "labels.csv")
    assert repr(data) == "Data(faces, real age, train 16)"
    assert len(data) == 16
    split = data.split(valid=0.25, cache=tmp_path / "cache")
    assert split.counts == {"train": 12, "valid": 4}
    assert split.part("test") == ()
    assert sum(split.ages["valid"].values()) == 4
    with pytest.raises(UsageError, match="leave nothing to learn from"):
        data.split(valid=0.6, test=0.4)
    with pytest.raises(UsageError, match="part 'all'"):
        data.part("all")
    findings = split.audit()["findings"]
    assert any("who is on pictures is not told" in text for text in findings)
    assert "copies" not in split.audit(duplicates=False)


def test_one_photograph_alone_cannot_be_dealt(tmp_path, astronaut):
    (tmp_path / "f" / "30").mkdir(parents=True)
    for i in range(4):
        cv2.imwrite(str(tmp_path / "f" / "30" / f"{i}.jpg"), variation(astronaut, 1))
    with pytest.raises(DatasetError, match="4 pictures of 1 photograph"):
        open_dataset(str(tmp_path / "f"), reading=Reading(cache=tmp_path / "cache"))


def test_a_column_to_balance_by_must_be_there(faces, tmp_path):
    rows = [(f"{i:02d}.jpg", age, f"P{i}", "ab"[i % 2]) for i, age in enumerate(AGES)]
    write_list(faces / "labels.csv", ("file", "age", "person", "camera"), rows)
    dataset, _ = open_dataset(str(faces), reading=Reading(cache=tmp_path / "cache"))
    recipe = Recipe(balance="camera", crop="resize", size=64, resize_to=64)
    data, _ = training_set([dataset], recipe, tmp_path / "cache")
    assert set(data.groups[0].tolist()) == {"a", "b"}
    assert len(data.groups[0]) == len(data.learn[0])
    with pytest.raises(UsageError, match="has no such column; use none, sqrt, age or one of camera"):
        training_set([dataset], replace(recipe, balance="light"), tmp_path / "cache")
