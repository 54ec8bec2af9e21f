"""AFAD and CACD: names that tell age and person, lists with offset labels, and splits that share nobody."""

import csv
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from runs import history_of, one_line, start_weights, words
from scipy.io import savemat

from agetrain.crops.cache import open_crops
from agetrain.datasets import afad, cacd, load_dataset
from agetrain.datasets.dealing import make_parts
from agetrain.datasets.parts import check_overlap, read_csv, with_csvs
from agetrain.errors import AgeError, DatasetError, UsageError
from agetrain.network.checkpoint import Checkpoint
from agetrain.train import main
from agetrain.training.predict import predict

CPU = torch.device("cpu")


def write_afad(folder, pictures):
    """``AGE/SEX/ID-K.jpg`` for tuples of these four; empty files."""
    for age, sex, number, k in pictures:
        path = folder / str(age) / str(sex) / f"{number}-{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def write_cacd(folder, pictures):
    """``AGE_NAME_NNNN.jpg`` for tuples of these three; empty files."""
    folder.mkdir(parents=True, exist_ok=True)
    for age, name, k in pictures:
        (folder / f"{age}_{name}_{k:04d}.jpg").touch()
    return folder


def fill(folder):
    """Makes small pictures of all files: the same coarse pattern with another noise on each."""
    pattern = np.random.default_rng(0).integers(60, 200, (6, 6, 3)).astype(np.uint8)
    pattern = cv2.resize(pattern, (40, 40), interpolation=cv2.INTER_CUBIC).astype(int)
    for i, path in enumerate(sorted(folder.rglob("*.jpg"))):
        noise = np.random.default_rng(i).integers(-20, 21, pattern.shape)
        cv2.imwrite(str(path), (pattern + noise).astype(np.uint8))
    return folder


def write_csv(path, columns, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return path


def write_metadata(path, ranks):
    """``celebrity2000_meta.mat``: a struct of columns; ``ranks`` by file name."""
    column = np.empty((len(ranks), 1), object)
    column[:, 0] = list(ranks)
    rank = np.array(list(ranks.values()), np.uint8)[:, None]
    savemat(path, {"celebrityImageData": {"name": column, "rank": rank}})


def parts_of(dataset):
    return {part: sorted(s.path.name for s in samples) for part, samples in dataset.parts.items()}


def everything(dataset):
    return [s for samples in dataset.parts.values() for s in samples]


@pytest.fixture(scope="module")
def many_afad(tmp_path_factory):
    """400 persons with 1 to 3 pictures, each at several ages."""
    pictures = [(15 + (n + k) % 26, 111 + n % 2, n, k) for n in range(400) for k in range(1 + n % 3)]
    return write_afad(tmp_path_factory.mktemp("many") / "afad", pictures)


# AFAD


def test_afad_names_tell_age_sex_and_person(tmp_path):
    folder = write_afad(tmp_path, [(15, 111, 7, 0), (15, 112, 8, 1), (40, 111, 7, 1)])
    for stray in ("15/111/Thumbs.db", "15/111/x-0.jpg", "40/113/9-0.jpg", "restore.sh", "ages/111/7-0.jpg"):
        (folder / stray).parent.mkdir(parents=True, exist_ok=True)
        (folder / stray).touch()
    dataset, where = load_dataset("afad", folder)
    assert where == folder
    assert {("/".join(s.path.parts[-3:]), s.age_years, s.subject, s.attributes) for s in everything(dataset)} == {
        ("15/111/7-0.jpg", 15, "7", (("sex", "male"),)),
        ("15/112/8-1.jpg", 15, "8", (("sex", "female"),)),
        ("40/111/7-1.jpg", 40, "7", (("sex", "male"),)),
    }
    assert {s.std_years for s in everything(dataset)} == {s.other_years for s in everything(dataset)} == {None}
    assert (dataset.label_offset, dataset.label) == (15, "real")
    assert "academic" in dataset.licence
    assert "AFAD" in dataset.page or "John-niu-07" in dataset.page


def test_the_five_rotations_of_afad_test_every_picture_once_and_never_share_a_person(many_afad):
    dataset, _ = load_dataset("afad", many_afad)
    samples = everything(dataset)
    assert len(samples) == sum(1 + n % 3 for n in range(400))
    tested, validated = Counter(), Counter()
    for rotation in range(5):
        dealt = make_parts(dataset, "identity", rotation=rotation, shares=(), seed=0, folder=many_afad)
        assert set(dealt.parts) == {"train", "valid", "test"}
        assert Counter(s.path for s in everything(dealt)) == Counter(s.path for s in samples)
        persons = {part: {s.subject for s in of} for part, of in dealt.parts.items()}
        assert sum(len(p) for p in persons.values()) == 400
        # 6, 2 and 2 of 10 folds of 400 persons.
        for part, share in (("train", 0.6), ("valid", 0.2), ("test", 0.2)):
            assert len(persons[part]) / 400 == pytest.approx(share, abs=0.08)
        tested.update(s.path for s in dealt.parts["test"])
        validated.update(s.path for s in dealt.parts["valid"])
        assert str(rotation) in dealt.split
    assert set(tested.values()) == set(validated.values()) == {1}
    assert len(tested) == len(validated) == len(samples)


def test_afad_is_by_default_the_first_rotation_and_does_not_move_with_other_pictures(many_afad, tmp_path):
    dataset, _ = load_dataset("afad", many_afad)
    first = make_parts(dataset, "identity", rotation=0, shares=(), seed=9, folder=many_afad)
    assert dataset.parts == first.parts
    fewer, _ = load_dataset("afad", write_afad(tmp_path, [(20, 111, n, 0) for n in range(50, 150)]))
    side = {s.subject: part for part, samples in dataset.parts.items() for s in samples}
    assert all(side[s.subject] == part for part, samples in fewer.parts.items() for s in samples)


@pytest.mark.parametrize("rotation", [-1, 5])
def test_there_is_no_sixth_rotation(many_afad, rotation):
    dataset, _ = load_dataset("afad", many_afad)
    with pytest.raises(UsageError, match="0 to 4"):
        make_parts(dataset, "identity", rotation=rotation, shares=(), seed=0, folder=many_afad)


# CACD

NAMES = ["Ann_Lee", "Bo_Derek", "José_María_Olazábal", "Emma_Stone", "Val_Kilmer", "Zoë_Saldana", "Rip_Torn", "Al"]


def test_cacd_names_tell_age_and_person(tmp_path):
    folder = write_cacd(tmp_path, [(14, "Ann_Lee", 1), (62, "José_María_Olazábal", 12)])
    for stray in ("celebrity.txt", "30_Ann_Lee.jpg", "x_Ann_Lee_0001.jpg", "30_Ann_Lee_0001.png"):
        (folder / stray).touch()
    dataset, _ = load_dataset("cacd", folder)
    assert {(s.age_years, s.subject) for s in everything(dataset)} == {(14, "Ann_Lee"), (62, "José_María_Olazábal")}
    assert dataset.label_offset == 14
    assert "research" in dataset.licence
    assert "CARC" in dataset.page


@pytest.mark.parametrize("beside", [False, True])
def test_cacd_is_split_by_the_ranks_of_its_metadata(tmp_path, beside):
    """Ranks 1 and 2 are valid, 3 to 5 test, all others train."""
    pictures = [(20 + k, name, k) for name in NAMES for k in (1, 2)]
    folder = write_cacd(tmp_path / "cacd" / "CACD2000", pictures)
    ranks = {f"{20 + k}_{name}_{k:04d}.jpg": rank for rank, name in enumerate(NAMES, 1) for k in (1, 2)}
    write_metadata((folder.parent if beside else folder) / cacd.METADATA, ranks)
    dataset, _ = load_dataset("cacd", folder)
    assert {part: {s.subject for s in samples} for part, samples in dataset.parts.items()} == {
        "valid": {"Ann_Lee", "Bo_Derek"},
        "test": {"José_María_Olazábal", "Emma_Stone", "Val_Kilmer"},
        "train": {"Zoë_Saldana", "Rip_Torn", "Al"},
    }
    assert len(everything(dataset)) == 16
    assert "rank" in dataset.split
    again = make_parts(dataset, "rank", rotation=0, shares=(), seed=0, folder=folder)
    assert parts_of(again) == parts_of(dataset)


def test_cacd_without_metadata_is_split_by_a_hash_of_the_person(tmp_path):
    people = [f"First{i}_Last" for i in range(1000)]
    folder = write_cacd(tmp_path, [(20 + k, name, k) for name in people for k in (1, 2)])
    dataset, _ = load_dataset("cacd", folder)
    persons = {part: {s.subject for s in samples} for part, samples in dataset.parts.items()}
    assert sum(len(p) for p in persons.values()) == 1000
    assert {part: len(p) / 1000 for part, p in persons.items()} == pytest.approx(
        {"train": 0.9, "valid": 0.04, "test": 0.06}, abs=0.03
    )
    assert "hash" in dataset.split
    for name in people[:500]:
        for path in folder.glob(f"*_{name}_*.jpg"):
            path.unlink()
    half, _ = load_dataset("cacd", folder)
    side = {s.subject: part for part, samples in dataset.parts.items() for s in samples}
    assert all(side[s.subject] == part for part, samples in half.parts.items() for s in samples)


def test_a_picture_that_the_metadata_does_not_know_is_named(tmp_path):
    folder = write_cacd(tmp_path, [(20, "Ann_Lee", 1), (30, "Bo_Derek", 1)])
    write_metadata(folder / cacd.METADATA, {"20_Ann_Lee_0001.jpg": 1, "20_Ann_Lee_0002.jpg": 1})
    with pytest.raises(DatasetError, match=r"30_Bo_Derek_0001\.jpg: not in celebrity2000_meta\.mat"):
        load_dataset("cacd", folder)


@pytest.mark.parametrize("damage", ["empty", "garbage", "another struct"])
def test_metadata_that_cannot_be_read_says_where_to_get_it(tmp_path, damage):
    folder = write_cacd(tmp_path, [(20, "Ann_Lee", 1)])
    file = folder / cacd.METADATA
    if damage == "another struct":
        savemat(file, {"celebrityData": {"name": "x"}})
    else:
        file.write_bytes(b"" if damage == "empty" else b"no MATLAB" * 100)
    with pytest.raises(DatasetError, match=r"celebrity2000_meta\.mat: not the metadata.*https://") as caught:
        load_dataset("cacd", folder)
    assert "\n" not in str(caught.value)


# Original lists


def test_an_original_list_of_afad_is_read_as_it_is(tmp_path):
    path = write_csv(
        tmp_path / "afad_valid.csv", ("file", "path", "age", "gender"),
        [("474596-0.jpg", "39/112/474596-0.jpg", 24, "female"), ("7-3.jpg", "15/111/7-3.jpg", 0, "male")],
    )  # fmt: skip
    rows = read_csv(path, "afad")
    assert [(r.file, r.stored_age, r.age_years, r.subject, r.sex) for r in rows] == [
        ("39/112/474596-0.jpg", 24, 39, "474596", "female"),
        ("15/111/7-3.jpg", 0, 15, "7", "male"),
    ]


def test_a_list_that_a_spreadsheet_saved_is_read(tmp_path):
    """Its first column is the one that is needed, behind a byte order mark."""
    path = tmp_path / "afad_valid.csv"
    path.write_text("path,age\r\n39/112/474596-0.jpg,24\r\n", encoding="utf-8-sig")
    assert [(r.file, r.age_years) for r in read_csv(path, "afad")] == [("39/112/474596-0.jpg", 39)]


def test_an_original_list_of_cacd_is_read_as_it_is(tmp_path):
    """Its first column is an index without a name."""
    path = write_csv(
        tmp_path / "cacd_test.csv", ("", "file", "age"),
        [(127559, "54_Bill_Pullman_0006.jpg", 40), (127560, "30_Brittany_Murphy_0004.jpg", 16)],
    )  # fmt: skip
    rows = read_csv(path, "cacd")
    assert [(r.file, r.stored_age, r.age_years, r.subject) for r in rows] == [
        ("54_Bill_Pullman_0006.jpg", 40, 54, "Bill_Pullman"),
        ("30_Brittany_Murphy_0004.jpg", 16, 30, "Brittany_Murphy"),
    ]


def afad_row(age, sex, number, k=0):
    return (f"{number}-{k}.jpg", f"{age}/{sex}/{number}-{k}.jpg", age - 15, "male" if sex == 111 else "female")


AFAD_COLUMNS = ("file", "path", "age", "gender")


@pytest.fixture
def small_afad(tmp_path):
    """12 persons of 30 years; person 7 has a second picture, and of 18 years one with the same name as the first."""
    folder = tmp_path / "afad"
    return write_afad(folder, [*((30, 111, n, 0) for n in range(12)), (30, 111, 7, 1), (18, 112, 7, 0)])


@pytest.fixture
def lists(tmp_path):
    """Train and valid as the original work lists them; person 7 is in both."""
    train = [afad_row(30, 111, n) for n in range(8)]
    valid = [afad_row(30, 111, 7, 1), *(afad_row(30, 111, n) for n in range(8, 12)), afad_row(18, 112, 7)]
    return [
        write_csv(tmp_path / "train.csv", AFAD_COLUMNS, train), write_csv(tmp_path / "valid.csv", AFAD_COLUMNS, valid)
    ]  # fmt: skip


def test_original_lists_give_true_years_and_find_each_picture_by_its_path(small_afad, lists):
    dataset = with_csvs(load_dataset("afad", small_afad)[0], lists)
    assert set(dataset.parts) == {"train", "valid"}
    assert {s.age_years for s in dataset.parts["train"]} == {30}
    assert [s.age_years for s in dataset.parts["valid"]] == [30] * 5 + [18]
    assert dataset.parts["valid"][-1].path == small_afad / "18" / "112" / "7-0.jpg"
    assert dataset.parts["train"][7].path == small_afad / "30" / "111" / "7-0.jpg"
    assert dataset.label_offset == 15


def test_a_list_wins_over_the_name_where_ages_differ(tmp_path):
    folder = write_cacd(tmp_path / "cacd", [(30, "Ann_Lee", 1), (40, "Bo_Derek", 1)])
    files = [
        write_csv(tmp_path / f"{part}.csv", ("", "file", "age"), [(0, name, stored)])
        for part, name, stored in (("train", "30_Ann_Lee_0001.jpg", 17), ("valid", "40_Bo_Derek_0001.jpg", 26))
    ]
    parts = with_csvs(load_dataset("cacd", folder)[0], files).parts
    assert [s.age_years for s in parts["train"]] == [31]
    assert [s.age_years for s in parts["valid"]] == [40]


# Training on them


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return start_weights(tmp_path_factory.mktemp("start"))


@pytest.fixture
def arguments(tmp_path, weights):
    """A few steps of F3 or C1, on a network and a size that are quick."""

    def build(dataset, folder, *more, **options):
        tiny = {
            "dataset": dataset, "data": folder, "out": tmp_path / "out", "cache": tmp_path / "cache",
            "weights": weights, "device": "cpu", "wandb": "disabled", "backbone": "mobilenet_v2", "size": 32,
            "resize_to": 36, "batch_size": 4, "epochs": 1, "dropout": 0,
        }  # fmt: skip
        return [*words(**{**tiny, **options}), *more]

    return build


@pytest.mark.parametrize("labels", ["stored", "true"])
@pytest.mark.parametrize(("name", "offset"), [("afad", 15), ("cacd", 14)])
def test_a_network_that_learned_offset_labels_answers_true_years(tmp_path, arguments, name, offset, labels):
    """Everybody is 30: the network itself learns to say 15, 16 or 30, and with the offset of its checkpoint 30."""
    if name == "afad":
        folder = fill(write_afad(tmp_path / "pictures", [(30, 111, n, 0) for n in range(40)]))
    else:
        folder = fill(write_cacd(tmp_path / "pictures", [(30, f"First{n}_Last", 1) for n in range(40)]))
    learning = {"epochs": 10, "frozen_children": -1, "frozen_batchnorm": "eval", "lr": 1e-2, "schedule": "cosine"}
    assert main(arguments(name, folder, **learning, labels=labels, loss="l1")) == 0

    values = Checkpoint.load(tmp_path / "out" / "best.pth")
    assert values.label_offset == (offset if labels == "stored" else 0)
    network = values.network()
    dataset, _ = load_dataset(name, folder)
    crops = open_crops(dataset.parts["train"], values.crop, tmp_path / "cache", "")
    assert set(crops.ages.tolist()) == {30}
    itself, _ = predict(network, crops, CPU)
    assert np.median(itself) == pytest.approx(30 - values.label_offset, abs=4)
    years, _ = predict(network, crops, CPU, label_offset=values.label_offset)
    assert years == pytest.approx(itself + values.label_offset)
    assert np.median(years) == pytest.approx(30, abs=4)
    # And what is reported was measured on true years.
    for figures in values.metrics:
        assert abs(figures["bias"]) < 4
        assert figures["mae_of_train_median"] == 0
    # To the end, so that it did not pass by 30 on its way to somewhere else.
    last = history_of(tmp_path / "out")[-1]
    assert last["train_mae"] < 4
    assert last["selection_mae"] < 4


def warnings_of(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and "person" in r.getMessage()]


def test_original_lists_are_trained_on_with_one_warning(small_afad, lists, arguments, tmp_path, caplog):
    fill(small_afad)
    assert main(arguments("afad", small_afad, "--split-csv", *map(str, lists))) == 0
    [line] = warnings_of(caplog)
    assert "1 of 5 in valid are in train too" in line  # persons 7 to 11
    values = Checkpoint.load(tmp_path / "out" / "best.pth")
    [facts] = values.training["data"]
    assert (facts["split"], facts["n"]) == ("original lists", 8)
    assert {m["n"] for m in values.metrics} == {6}
    # F3 was published on just this: nothing makes its figure not comparable.
    assert json.loads((tmp_path / "out" / "config.json").read_text())["notes"] == []


def test_without_the_original_lists_the_published_figure_is_not_comparable(small_afad, arguments, tmp_path):
    write_afad(small_afad, [(30, 111, n, 0) for n in range(12, 40)])
    assert main(arguments("afad", fill(small_afad), pack=tmp_path / "pack")) == 0
    [note] = json.loads((tmp_path / "pack" / "training-set.json").read_text())["config"]["notes"]
    assert "--split-csv" in note
    assert "not comparable" in note


@pytest.mark.parametrize("centred", [False, True])
def test_c2_says_where_its_pictures_are_not_centred(arguments, tmp_path, caplog, centred):
    folder = fill(write_cacd(tmp_path / "pictures", [(30, f"First{n}_Last", 1) for n in range(40)]))
    (folder / "centre.csv").write_text(f"file,outcome,{'dlib' if centred else 'ageinfer'}\n")
    assert main(arguments("cacd", folder, pack=tmp_path / "pack", experiment="C2")) == 0
    notes = json.loads((tmp_path / "pack" / "training-set.json").read_text())["config"]["notes"]
    assert [note for note in notes if "--centre dlib" in note] == ([] if centred else notes[-1:])
    assert ("--centre dlib" in caplog.text) == (not centred)


def test_another_split_or_label_is_not_comparable_with_what_was_published(small_afad, arguments, tmp_path, appa_real):
    write_afad(small_afad, [(30, 111, n, 0) for n in range(12, 40)])
    fill(small_afad)
    train = [("train", f"30/111/{n}-0.jpg") for n in range(12, 30)]
    valid = [("valid", f"30/111/{n}-0.jpg") for n in range(30, 40)]
    split = write_csv(tmp_path / "split.csv", ("part", "file"), train + valid)
    assert main(arguments("afad", small_afad, split=split, pack=tmp_path / "pack")) == 0
    [note] = json.loads((tmp_path / "pack" / "training-set.json").read_text())["config"]["notes"]
    assert str(split) in note
    assert "not comparable" in note
    assert main(arguments("appa-real", appa_real, label="apparent", experiment="A8", pack=tmp_path / "other")) == 0
    [note] = json.loads((tmp_path / "other" / "training-set.json").read_text())["config"]["notes"]
    assert "published for real age" in note


def overlapping_split(small_afad, tmp_path):
    """A split file with person 7 on both sides."""
    train = [("train", f"30/111/{n}-0.jpg") for n in range(8)]
    valid = [("valid", f"30/111/{name}.jpg") for name in ("7-1", "9-0")]
    return write_csv(tmp_path / "split.csv", ("part", "file"), train + valid)


def test_persons_in_two_parts_are_refused(small_afad, arguments, tmp_path, capsys):
    split = overlapping_split(small_afad, tmp_path)
    assert main(arguments("afad", small_afad, split=split)) == 3
    line = one_line(capsys.readouterr().err)
    assert "1 of 2 in valid are in train too" in line
    assert "--allow-overlap" in line
    assert "agetrain.splits afad --kind identity" in line
    assert not (tmp_path / "out").exists()


def test_persons_in_two_parts_can_be_allowed(small_afad, arguments, tmp_path, caplog):
    split, pack = overlapping_split(fill(small_afad), tmp_path), tmp_path / "pack"
    assert main(arguments("afad", small_afad, "--allow-overlap", split=split, pack=pack)) == 0
    assert len(warnings_of(caplog)) == 1
    assert (pack / "training-set.json").is_file()


def test_parts_that_share_nobody_need_no_warning(many_afad, caplog):
    check_overlap(load_dataset("afad", many_afad)[0], consent=True)
    assert warnings_of(caplog) == []


def test_labels_stored_in_different_ways_cannot_be_learned_together(tmp_path, arguments, capsys):
    people = [f"First{n}_Last" for n in range(60)]
    fill(write_cacd(tmp_path / "cacd", [(30, name, 1) for name in people]))
    fill(write_afad(tmp_path / "afad", [(30, 111, n, 0) for n in range(20)]))
    both = ["--dataset", f"cacd={tmp_path / 'cacd'}", "--experiment", "C1"]

    def run(*more, **options):
        line = arguments(f"afad={tmp_path / 'afad'}", "", *both, *more, **options)
        at = line.index("--data")
        return main([*line[:at], *line[at + 2 :]])

    assert run() == 2
    assert "--label-values true" in one_line(capsys.readouterr().err)
    # Nor from a pack, which holds true years and could be trained on either way.
    assert run(labels="true", pack=tmp_path / "pack") == 0
    packed = words(packed=tmp_path / "pack", experiment="C1", size=32, resize_to=36, out=tmp_path / "out")
    capsys.readouterr()
    assert main([*packed, "--device", "cpu", "--wandb", "disabled"]) == 2
    assert "--label-values true" in one_line(capsys.readouterr().err)


# Refusals


@pytest.mark.parametrize("name", ["afad", "cacd"])
def test_a_folder_that_is_not_there_says_where_to_get_it(name, monkeypatch, tmp_path, capsys):
    module = {"afad": afad, "cacd": cacd}[name]
    assert main(["--dataset", name, "--data", "/nowhere"]) == 3
    line = one_line(capsys.readouterr().err)
    assert "/nowhere" in line
    assert module.PAGE in line
    monkeypatch.delenv("AGETRAIN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["--dataset", name]) == 3
    line = one_line(capsys.readouterr().err)
    assert f"data/{name}" in line
    assert f"agetrain.prepare {name}" in line
    assert module.PAGE in line


@pytest.mark.parametrize(("name", "form"), [("afad", "AGE/111/ID-K.jpg"), ("cacd", "AGE_First_Last_NNNN.jpg")])
def test_a_folder_without_pictures_says_how_they_are_named(tmp_path, capsys, name, form):
    (tmp_path / "notes.txt").touch()
    assert main(["--dataset", name, "--data", str(tmp_path)]) == 3
    line = one_line(capsys.readouterr().err)
    assert str(tmp_path) in line
    assert form in line
    assert "https://" in line


@pytest.mark.parametrize("name", ["afad", "cacd"])
def test_nobody_judged_apparent_age(tmp_path, capsys, name):
    assert main(["--dataset", name, "--data", str(tmp_path), "--label", "apparent"]) == 2
    assert "use real" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,path,gender\n1-0.jpg,30/111/1-0.jpg,male\n", "no column age or real_age; it has file, path, gender"),
        ("name,age\n1-0.jpg,15\n", "no column path or file or file_name"),
        ("", "it has none"),
        ("file,path,age,gender\n", "the list is empty"),
        ("file,path,age,gender\n1-0.jpg,30/111/1-0.jpg,15,male\n2-0.jpg,30/111/2-0.jpg,old,male\n", "line 3"),
        ("file,path,age,gender\n1-0.jpg,30/111/1-0.jpg,-3,male\n", "line 2: age '-3' is no age"),
        ("file,path,age,gender\n1-0.jpg,30/111/1-0.jpg,nan,male\n", "no age"),
        ("file,path,age,gender\n1-0.jpg\n", "line 2"),
        ("file,path,age,gender\n99-0.jpg,30/111/99-0.jpg,15,male\n", "lists 30/111/99-0.jpg, which is not among"),
        (None, "cannot be read: No such file"),
        (b"\xff\xfe\x00", "train.csv"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line(small_afad, lists, arguments, capsys, text, reason):
    if text is None:
        lists[0].unlink()
    else:
        lists[0].write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(arguments("afad", small_afad, "--split-csv", *map(str, lists))) == 3
    line = one_line(capsys.readouterr().err)
    assert "train.csv" in line
    assert reason in line


@pytest.mark.parametrize("count", [1, 4])
def test_one_list_or_four_are_refused(small_afad, lists, count):
    with pytest.raises(AgeError, match="two or three lists"):
        with_csvs(load_dataset("afad", small_afad)[0], [Path(lists[0])] * count)
