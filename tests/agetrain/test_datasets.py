import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from portraits import write_appa_real, write_list

from agetrain import splits
from agetrain.datasets import load_dataset
from agetrain.datasets.base import Sample, hold_out
from agetrain.datasets.parts import with_csvs, with_split_file
from agetrain.errors import DatasetError, UsageError
from agetrain.experiments import EXPERIMENTS
from agetrain.train import build_parser, config_of
from agetrain.training.prepared import open_datasets


@pytest.fixture
def tree(tmp_path, astronaut):
    return write_appa_real(tmp_path / "release", astronaut, train=5, valid=3)


def load(folder, label="real", name="appa-real"):
    dataset, _ = load_dataset(name, folder, label)
    return dataset


def opened(*arguments):
    """The data sets of a command line, their folders, and what is to be said of them."""
    config = config_of(build_parser().parse_args([*map(str, arguments)]))
    return open_datasets(config, EXPERIMENTS["best"])


def replaced(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_real_age(tree):
    dataset = load(tree)
    assert [s.age_years for s in dataset.parts["train"]] == [10, 12, 14, 16, 18]
    assert [s.age_years for s in dataset.parts["valid"]] == [20, 22, 24]
    # Nobody was asked how sure they are of a date of birth.
    assert {s.std_years for s in dataset.parts["train"]} == {None}
    assert set(dataset.parts) == {"train", "valid"}
    assert all(s.path.is_file() for part in dataset.parts.values() for s in part)
    assert dataset.parts["train"][3].path == tree / "train" / "000003.jpg_face.jpg"
    assert (dataset.name, dataset.label) == ("appa-real", "real")
    assert "research" in dataset.licence


def test_apparent_age_comes_with_the_spread_of_the_raters(tree):
    dataset = load(tree, "apparent")
    assert [s.age_years for s in dataset.parts["train"]] == [10.5, 12.5, 14.5, 16.5, 18.5]
    assert [s.std_years for s in dataset.parts["train"]] == pytest.approx([1, 1.1, 1.2, 1.3, 1.4])


def test_each_label_carries_the_other_one(tree):
    real, apparent = load(tree).parts["train"], load(tree, "apparent").parts["train"]
    assert [s.other_years for s in real] == [10.5, 12.5, 14.5, 16.5, 18.5]
    assert [s.other_std_years for s in real] == pytest.approx([1, 1.1, 1.2, 1.3, 1.4])
    assert [s.other_years for s in apparent] == [10, 12, 14, 16, 18]
    assert {s.other_std_years for s in apparent} == {None}


def test_its_own_lists_can_be_given_as_the_split(tree):
    lists = [tree / "gt_avg_valid.csv", tree / "gt_avg_train.csv"]
    dataset = with_csvs(load(tree), lists)
    assert [s.age_years for s in dataset.parts["train"]] == [20, 22, 24]
    assert [s.age_years for s in dataset.parts["valid"]] == [10, 12, 14, 16, 18]
    with pytest.raises(UsageError, match="real ages"):
        with_csvs(load(tree, "apparent"), lists)


def test_the_test_part_is_read_where_there_is_one(tree):
    (tree / "valid").rename(tree / "test")
    (tree / "gt_avg_valid.csv").rename(tree / "gt_avg_test.csv")
    (tree / "valid").symlink_to(tree / "train")
    (tree / "gt_avg_valid.csv").write_text((tree / "gt_avg_train.csv").read_text())
    assert [s.age_years for s in load(tree).parts["test"]] == [20, 22, 24]


def test_the_ignore_list_cleans_train_alone(tree):
    # Picture 2 is in train, 6 in valid; figures on valid have to stay comparable with published ones.
    write_list(tree / "ignore_list.csv", [("000002.jpg",), ("000006.jpg",)], ("img_name",))
    dataset = load(tree)
    assert [s.age_years for s in dataset.parts["train"]] == [10, 12, 16, 18]
    assert len(dataset.parts["valid"]) == 3
    # The original experiments learned from them too.
    assert [s.age_years for s in dataset.ignored] == [14]


def test_lists_may_name_the_bad_pictures(tree):
    """The release's own lists do; what a list does not name is not learned from either."""
    write_list(tree / "ignore_list.csv", [("000002.jpg",)], ("img_name",))
    dataset = load(tree)
    own = with_csvs(dataset, [tree / "gt_avg_train.csv", tree / "gt_avg_valid.csv"])
    assert [s.age_years for s in own.parts["train"]] == [10, 12, 14, 16, 18]
    assert own.ignored == ()

    rows = [("train", "train/000000.jpg_face.jpg"), ("valid", "valid/000005.jpg_face.jpg")]
    write_list(tree / "split.csv", rows, ("part", "file"))
    without = with_split_file(dataset, tree / "split.csv", tree)
    assert ([s.age_years for s in without.parts["train"]], without.ignored) == ([10], ())
    write_list(tree / "split.csv", [*rows, ("train", "train/000002.jpg_face.jpg")], ("part", "file"))
    assert [s.age_years for s in with_split_file(dataset, tree / "split.csv", tree).parts["train"]] == [10, 14]
    assert [s.age_years for s in dataset.ignored] == [14]


def test_bad_pictures_are_not_dealt_into_a_split(tree, tmp_path):
    write_list(tree / "ignore_list.csv", [("000002.jpg",)], ("img_name",))
    kind = ["--kind", "random", "-o", str(tmp_path / "split.csv")]
    assert splits.main(["appa-real", "--data", str(tree), *kind]) == 0
    text = (tmp_path / "split.csv").read_text()
    assert len(text.splitlines()) == 1 + 7
    assert "000002" not in text


def test_a_missing_list(tree):
    (tree / "gt_avg_valid.csv").unlink()
    with pytest.raises(DatasetError, match=r"gt_avg_valid\.csv: not there.*Download it from http"):
        load(tree)


def test_a_missing_column(tree):
    replaced(tree / "gt_avg_train.csv", "real_age", "age")
    with pytest.raises(DatasetError, match=r"gt_avg_train\.csv: no column 'real_age'.*original release"):
        load(tree)


def test_an_ignore_list_without_its_column(tree):
    write_list(tree / "ignore_list.csv", [("000002.jpg",)], ("file",))
    with pytest.raises(DatasetError, match=r"ignore_list\.csv.*img_name"):
        load(tree)


def test_a_missing_picture(tree):
    (tree / "valid" / "000006.jpg_face.jpg").unlink()
    with pytest.raises(DatasetError, match=r"000006\.jpg_face\.jpg: not there.*gt_avg_valid\.csv; unpack it again"):
        load(tree)


@pytest.mark.parametrize("bad", ["forty", "", "nan", "inf", "-3"])
def test_a_label_that_is_no_age(tree, bad):
    # 14 is the age of the third picture: line 4 of the file, under the line of names.
    replaced(tree / "gt_avg_train.csv", ",14\n", f",{bad}\n")
    with pytest.raises(DatasetError, match=r"gt_avg_train\.csv: line 4: .*fetch the release again"):
        load(tree)


def test_a_line_that_is_cut_off(tree):
    file = tree / "gt_avg_train.csv"
    file.write_text(file.read_text().rsplit(",", 1)[0])
    with pytest.raises(DatasetError, match=r"gt_avg_train\.csv: line 6"):
        load(tree)


@pytest.mark.parametrize("content", ["", "file_name,apparent_age_avg,apparent_age_std,real_age\n"])
def test_an_empty_list(tree, content):
    (tree / "gt_avg_train.csv").write_text(content)
    with pytest.raises(DatasetError, match=r"gt_avg_train\.csv: the list is empty"):
        load(tree)


def test_a_list_that_is_not_text(tree):
    (tree / "gt_avg_train.csv").write_bytes(b"\xff\xd8\xff\xe0" * 50)
    with pytest.raises(DatasetError, match=r"gt_avg_train\.csv"):
        load(tree)


def test_the_folder_that_it_was_found_in_is_told(tree, tmp_path, monkeypatch):
    tree.rename(tmp_path / "appa-real")
    monkeypatch.setenv("AGETRAIN_DATA", str(tmp_path))
    assert load_dataset("appa-real")[1] == tmp_path / "appa-real"
    monkeypatch.setenv("AGETRAIN_DATA", "/nowhere")
    assert load_dataset("appa-real", str(tmp_path / "appa-real"))[1] == tmp_path / "appa-real"


def test_found_through_the_variable(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree.rename(tmp_path / "appa-real")
    monkeypatch.setenv("AGETRAIN_DATA", str(tmp_path))
    assert len(load(None).parts["train"]) == 5


def test_found_in_data_below_the_current_folder(tree, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    tree.rename(tmp_path / "data" / "appa-real")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AGETRAIN_DATA", raising=False)
    assert len(load(None).parts["train"]) == 5
    # A variable that points elsewhere does not hide it.
    monkeypatch.setenv("AGETRAIN_DATA", str(tmp_path / "elsewhere"))
    assert len(load(None).parts["train"]) == 5


def test_the_option_goes_before_the_variable(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("AGETRAIN_DATA", str(tmp_path / "elsewhere"))
    for arguments in (["--dataset", "appa-real", "--data", str(tree)], ["--dataset", f"appa-real={tree}"]):
        [found], _ = opened(*arguments)
        assert found.dataset.parts["train"][0].path.is_relative_to(tree)
        assert found.folder == tree
    with pytest.raises(DatasetError, match=r"nowhere: no such folder.*http"):
        load(tmp_path / "nowhere")


def test_not_found_names_every_place_and_the_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGETRAIN_DATA", "/nowhere")
    with pytest.raises(DatasetError, match=r"/nowhere/appa-real nor data/appa-real.*http.*--data"):
        load(None)


def test_options_that_do_not_fit_together(tree):
    with pytest.raises(UsageError, match="twice"):
        opened("--dataset", f"appa-real={tree}", "--dataset", "appa-real")
    with pytest.raises(UsageError, match="NAME=DIR"):
        opened("--dataset", "appa-real", "--dataset", "utkface", "--data", tree)
    with pytest.raises(UsageError, match="one of --split and --split-csv"):
        opened("--dataset", f"appa-real={tree}", "--split", "a.csv", "--split-csv", "b.csv", "c.csv")


def test_unknown_names(tree):
    with pytest.raises(UsageError, match=r"'imdb'.*appa-real"):
        load_dataset("imdb", tree)
    with pytest.raises(UsageError, match=r"'perceived'.*real or apparent"):
        load(tree, "perceived")


def test_split_hash(tree):
    before = load(tree).split_sha256()
    assert load(tree).split_sha256() == before
    assert load(tree, "apparent").split_sha256() != before

    file = tree / "gt_avg_train.csv"
    names, *rows = file.read_text().splitlines()
    file.write_text("\n".join([names, *reversed(rows)]) + "\n")
    reordered = load(tree)
    assert [s.age_years for s in reordered.parts["train"]] == [18, 16, 14, 12, 10]
    assert reordered.split_sha256() == before

    replaced(file, ",14\n", ",15\n")
    changed = load(tree).split_sha256()
    assert changed != before
    file.write_text("\n".join([names, *rows[1:]]) + "\n")
    assert load(tree).split_sha256() not in (before, changed)


def test_split_hash_knows_the_parts(tree):
    dataset = load(tree)
    train, valid = dataset.parts["train"], dataset.parts["valid"]
    moved = dataclasses.replace(dataset, parts={"train": train[1:], "valid": (train[0], *valid)})
    assert moved.split_sha256() != dataset.split_sha256()


def test_utkface_and_all_age_faces_say_age_in_the_file_name(tmp_path):
    faces = tmp_path / "UTKFace"
    named = tmp_path / "original images"
    for folder in (faces, named):
        folder.mkdir()
    for i in range(20):
        (faces / f"{i + 1}_{i % 2}_3_201701{i:02d}.jpg.chip.jpg").touch()
        (named / f"{i:05d}A{i + 1:02d}.jpg").touch()
    (faces / "61_1_20170109150557335.jpg.chip.jpg").touch()  # the release has such names, without a race
    (faces / "desktop.ini").touch()
    for name, folder in (("utkface", faces), ("all-age-faces", tmp_path)):
        dataset = load(folder, name=name)
        assert sorted(s.age_years for part in dataset.parts.values() for s in part) == list(range(1, 21))
        assert len(dataset.parts["valid"]) == 10
        with pytest.raises(UsageError, match="apparent"):
            load_dataset(name, folder, "apparent")


@pytest.mark.parametrize("name", ["utkface", "all-age-faces"])
def test_a_folder_of_something_else(name, tmp_path):
    (tmp_path / "original images").mkdir()
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(DatasetError, match=r"no picture .* download it from http"):
        load_dataset(name, tmp_path)


@given(st.lists(st.integers(0, 30).map(str), min_size=2, max_size=60), st.integers(1, 20))
def test_held_out_groups_are_whole(groups, count):
    samples = [Sample(Path(str(i)), 20, subject=group) for i, group in enumerate(groups)]
    parts = hold_out(samples, count)
    assert sorted([*parts["train"], *parts["valid"]], key=lambda s: int(s.path.name)) == samples
    sides = [{groups[int(s.path.name)] for s in parts[part]} for part in ("train", "valid")]
    assert not sides[0] & sides[1]
    assert len(parts["valid"]) >= min(count, len(samples) // 2)


def test_held_out_samples_stay_when_others_come():
    """A new release of a data set must not move many pictures between the sides."""
    samples = [Sample(Path(str(i)), 20, subject=f"person {i}") for i in range(1000)]
    few, all_of_them = hold_out(samples[:990], 200), hold_out(samples, 200)
    assert len(all_of_them["valid"]) == 200
    assert len(set(few["valid"]) - set(all_of_them["valid"])) <= 10
