"""Which picture is in which part: split files, random and identity-exclusive splits, and what overlaps."""

import codecs
import csv
import hashlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agetrain import splits
from agetrain.datasets import load_dataset
from agetrain.datasets.base import Dataset, Sample
from agetrain.datasets.dealing import identity_exclusive, make_parts, stratified, write_split
from agetrain.datasets.parts import overlap, with_split_file
from agetrain.errors import DatasetError, UsageError

PARTS = ("train", "valid", "test")


def write_utkface(folder, count):
    """Empty files with names as UTKFace has them; two pictures share each stamp."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{18 + i % 40}_{i % 2}_{i % 5}_{2017000 + i // 2}.jpg.chip.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_utkface(tmp_path_factory.mktemp("splits") / "utkface", 200)


@pytest.fixture
def dataset(folder):
    return load_dataset("utkface", folder)[0]


def names(dataset):
    return {part: sorted(s.path.name for s in samples) for part, samples in dataset.parts.items()}


def subjects(samples):
    return {s.subject for s in samples}


def of_ages(ages):
    return [Sample(Path(f"{i}.jpg"), float(age)) for i, age in enumerate(ages)]


def of_subjects(numbers):
    return [Sample(Path(f"{i}.jpg"), 30.0, subject=str(number)) for i, number in enumerate(numbers)]


# Split files


def test_a_split_file_gives_back_the_parts_that_were_written(tmp_path, folder, dataset):
    dealt = make_parts(dataset, "identity", rotation=0, shares=(0.6, 0.2, 0.2), seed=4, folder=folder)
    digest = write_split(tmp_path / "split.csv", dealt, folder)
    read = with_split_file(dataset, tmp_path / "split.csv", folder)
    assert names(read) == names(dealt) != names(dataset)
    assert read.split_sha256() == dealt.split_sha256() != dataset.split_sha256()
    assert {s.path: s for part in read.parts.values() for s in part} == {
        s.path: s for part in dataset.parts.values() for s in part
    }
    assert digest == hashlib.sha256((tmp_path / "split.csv").read_bytes()).hexdigest()
    assert digest[:16] in read.split
    assert "split.csv" in read.split


def test_a_split_file_that_a_spreadsheet_saved_is_read(tmp_path, folder, dataset):
    """Spreadsheets put a byte order mark before the first column's name."""
    write_split(tmp_path / "split.csv", dataset, folder)
    saved = tmp_path / "saved.csv"
    saved.write_bytes(codecs.BOM_UTF8 + (tmp_path / "split.csv").read_bytes())
    assert names(with_split_file(dataset, saved, folder)) == names(dataset)


def test_a_split_file_can_be_read_by_anyone(tmp_path, folder, dataset):
    write_split(tmp_path / "split.csv", dataset, folder)
    with (tmp_path / "split.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["part", "file", "age_years", "subject"]
    assert Counter(row["part"] for row in rows) == {part: len(s) for part, s in dataset.parts.items()}
    for row in rows:
        age, _, _, stamp = row["file"].removesuffix(".jpg.chip.jpg").split("_")
        assert (row["age_years"], row["subject"]) == (age, stamp)


def test_pictures_that_a_split_file_does_not_name_are_left_out(tmp_path, dataset, folder):
    first, second = (dataset.parts["train"][i].path.name for i in (3, 8))
    (tmp_path / "split.csv").write_text(f"part,file\ntrain,{first}\nvalid,{second}\n")
    assert names(with_split_file(dataset, tmp_path / "split.csv", folder)) == {"train": [first], "valid": [second]}


def test_two_pictures_of_one_name_are_told_apart_by_their_folders(tmp_path):
    """AFAD has the same number in several age folders."""
    parts = {
        "train": tuple(Sample(tmp_path / age / "111" / "7-0.jpg", float(age), subject="7") for age in ("18", "30"))
    }
    dataset = Dataset("afad", "real", "", "", {**parts, "valid": ()})
    (tmp_path / "split.csv").write_text("part,file\ntrain,30/111/7-0.jpg\nvalid,18/111/7-0.jpg\n")
    read = with_split_file(dataset, tmp_path / "split.csv", tmp_path).parts
    assert [s.age_years for s in read["train"]] == [30]
    assert [s.age_years for s in read["valid"]] == [18]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text.replace("part,file", "part,picture"), ("file", "agetrain.splits")),
        (lambda text: text.replace("part,file", "side,file"), ("part", "agetrain.splits")),
        (lambda text: text.replace("train,", "learn,", 1), ("learn", "train")),
        (lambda text: text.replace("valid,", "train,"), ("train and valid",)),
        (lambda text: text.replace("train,18_", "train,19_", 1), ("not among the pictures of utkface",)),
        (lambda text: text + "train\n", ("a line names no file", "agetrain.splits")),
        (lambda text: text[: len(text) // 2].rstrip(",")[:-7], ("not among the pictures",)),
        (lambda _: "", ("train and valid",)),
        (lambda text: text.encode() + b"\xff\xfe", ("not a split file",)),
    ],
)
def test_a_damaged_split_file_is_refused_in_one_line(tmp_path, folder, dataset, damage, words):
    path = tmp_path / "split.csv"
    write_split(path, dataset, folder)
    damaged = damage(path.read_text())
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    with pytest.raises(DatasetError) as caught:
        with_split_file(dataset, path, folder)
    assert all(word in str(caught.value) for word in ("split.csv", *words))
    assert "\n" not in str(caught.value)


def test_a_picture_named_twice_is_refused(tmp_path, folder, dataset):
    """It would be learned from and reported on; APPA-REAL tells no subjects, so nothing else would notice."""
    path = tmp_path / "split.csv"
    write_split(path, dataset, folder)
    name = dataset.parts["valid"][0].path.name
    path.write_text(path.read_text() + f"train,{name},30,1\n")
    with pytest.raises(DatasetError, match="twice") as caught:
        with_split_file(dataset, path, folder)
    assert name in str(caught.value)


def test_a_split_file_that_is_not_there_is_named(tmp_path, dataset, folder):
    with pytest.raises(DatasetError, match=r"nowhere\.csv: .*No such file"):
        with_split_file(dataset, tmp_path / "nowhere.csv", folder)


def test_a_split_file_that_cannot_be_written_is_named(tmp_path, folder, dataset):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"split\.csv: cannot be written"):
        write_split(tmp_path / "file" / "split.csv", dataset, folder)


# Random and identity-exclusive splits

AGES = st.lists(st.integers(15, 22), min_size=1, max_size=300)
SHARES = st.sampled_from([(0.8, 0.1, 0.1), (0.72, 0.08, 0.2), (0.5, 0.5), (9, 1), (1, 1, 2)])


@given(ages=AGES, shares=SHARES, seed=st.integers(0, 2**32))
def test_a_random_split_deals_each_picture_once_and_every_part_has_the_same_ages(ages, shares, seed):
    samples = of_ages(ages)
    parts = stratified(samples, shares, seed)
    assert Counter(s.path for part in parts.values() for s in part) == Counter(s.path for s in samples)
    assert set(parts) <= set(PARTS[: len(shares)])
    assert parts == stratified(samples, shares, seed)
    total = Counter(ages)
    for part, share in zip(PARTS, shares, strict=False):
        dealt = Counter(s.age_years for s in parts.get(part, ()))
        for age, n in total.items():
            # Evenly spread points: a run of n of them is never more than a few off its share.
            assert abs(dealt[age] - n * share / sum(shares)) < 3
        assert abs(sum(dealt.values()) - len(ages) * share / sum(shares)) < 3


@given(seeds=st.lists(st.integers(0, 10_000), min_size=2, max_size=2, unique=True))
def test_another_seed_deals_other_pictures(seeds):
    samples = of_ages([20] * 40 + [30] * 40)
    first, second = (stratified(samples, (0.5, 0.5), seed) for seed in seeds)
    assert {s.path for s in first["train"]} != {s.path for s in second["train"]}


def test_a_random_split_of_many_pictures_has_the_same_ages_in_every_part():
    """By chance alone, the 100 test pictures of 1,000 of an age would be 10 more or fewer."""
    samples = of_ages([age for age in range(15, 40) for _ in range(1000)])
    parts = stratified(samples, (0.8, 0.1, 0.1), 3)
    for part, expected in (("train", 800), ("valid", 100), ("test", 100)):
        dealt = Counter(s.age_years for s in parts[part])
        assert set(dealt) == set(range(15, 40))
        assert max(abs(n - expected) for n in dealt.values()) <= 3


def test_which_pictures_are_dealt_where_does_not_follow_their_order():
    """Within an age it is random: each picture is in valid with some seed."""
    samples = of_ages([25] * 30)
    seen = {s.path for seed in range(60) for s in stratified(samples, (0.8, 0.2), seed)["valid"]}
    assert len(seen) == 30


@given(
    numbers=st.lists(st.integers(0, 60), min_size=1, max_size=200), shares=SHARES, seed=st.integers(0, 2**32)
)  # fmt: skip
def test_an_identity_split_never_shares_a_subject(numbers, shares, seed):
    samples = of_subjects(numbers)
    parts = identity_exclusive(samples, shares, seed)
    assert Counter(s.path for part in parts.values() for s in part) == Counter(s.path for s in samples)
    assert sum(len(subjects(part)) for part in parts.values()) == len(set(numbers))
    assert overlap({part: [s.subject for s in of] for part, of in parts.items()}) == {}
    assert parts == identity_exclusive(samples, shares, seed)


def test_an_identity_split_has_about_its_shares_and_depends_on_the_seed():
    samples = of_subjects(range(2000))
    parts = identity_exclusive(samples, (0.7, 0.1, 0.2), 0)
    assert [len(parts[part]) / 2000 for part in PARTS] == pytest.approx([0.7, 0.1, 0.2], abs=0.04)
    assert parts != identity_exclusive(samples, (0.7, 0.1, 0.2), 1)


def test_without_subjects_there_is_no_identity_split():
    with pytest.raises(UsageError, match="who is who"):
        identity_exclusive(of_ages([20, 30]), (1, 1), 0)


def test_overlap_counts_subjects_of_each_pair_of_parts():
    found = overlap({"train": ["a", "b", "c", None], "valid": ["b", "b", "d", None], "test": ["c", "b", "e"]})
    assert found == {("train", "valid"): (1, 2), ("train", "test"): (2, 3), ("valid", "test"): (1, 3)}
    assert overlap({"train": [None, "a"], "valid": [None, "b"]}) == {}


# python -m agetrain.splits


@pytest.mark.parametrize("kind", ["default", "random", "identity"])
def test_the_command_writes_a_split_that_can_be_read_and_says_its_hash(tmp_path, folder, dataset, capsys, kind):
    path = tmp_path / "made" / "split.csv"
    more = ["--kind", kind, "--seed", "2", "--shares", "0.7", "0.1", "0.2"]
    assert splits.main(["utkface", "--data", str(folder), *more, "-o", str(path)]) == 0
    out = capsys.readouterr().out
    assert hashlib.sha256(path.read_bytes()).hexdigest() in out
    read = with_split_file(dataset, path, folder)
    expected = make_parts(dataset, kind, rotation=0, shares=(0.7, 0.1, 0.2), seed=2, folder=folder)
    assert names(read) == names(expected)
    for part, samples in expected.parts.items():
        assert f"{part} {len(samples)}" in out
    shared = sum(len(subjects(s)) for s in read.parts.values()) - len(subjects(sum(read.parts.values(), ())))
    assert (shared > 0) == (kind == "random")  # 100 pairs dealt one by one do not all stay together


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        (["utkface", "--data", "/nowhere"], 3, ("/nowhere", "https://susanqq.github.io")),
        (["utkface", "--kind", "rank"], 2, ("rank", "cacd")),
        (["utkface", "--shares", "1"], 2, ("--shares",)),
        (["utkface", "--shares", "0.5", "0.5", "0"], 2, ("--shares",)),
        (["utkface", "--shares", "1", "1", "1", "1"], 2, ("--shares",)),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, folder, capsys, wrong, status, words):
    data = [] if "--data" in wrong else ["--data", str(folder)]
    assert splits.main([*wrong, *data, "-o", str(tmp_path / "split.csv")]) == status
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("agetrain.splits: ")
    assert all(word in line for word in words)
    assert not (tmp_path / "split.csv").exists()
