"""Lists of labels may hold anything: they are read, or refused in one line that names the list."""

import csv
import io
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agetrain.datasets import DATASETS, load_dataset
from agetrain.datasets.base import Dataset, Sample
from agetrain.datasets.opening import named
from agetrain.datasets.parts import read_csv, with_split_file
from agetrain.errors import DatasetError, UsageError

WORDS = st.one_of(
    st.sampled_from(["a", "b", "", "train", "valid", "30", "-1", "nan", "inf", "1e999", "131", "٣",
                     "x" * 300, "a\0b", "../a"]),
    st.text(max_size=8),
)  # fmt: skip
COLUMNS = st.lists(
    st.sampled_from(["part", "file", "file_name", "path", "age", "real_age", "apparent_age_avg", "apparent_age_std",
                     "age_min",
                     "age_max", "person", "img_name", "gender", "sex", "", "x"]), max_size=8,
)  # fmt: skip


def table(columns, rows) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([columns, *rows])
    return out.getvalue().encode("utf-8", "surrogatepass")


LISTS = st.one_of(
    st.binary(max_size=200),
    st.builds(table, COLUMNS, st.lists(st.lists(WORDS, max_size=8), max_size=4)),
    st.builds(lambda data, end: data + end,
              st.builds(table, COLUMNS, st.lists(st.lists(WORDS, min_size=5), max_size=2)),
              st.sampled_from([b"\xff", b'"', b"\0", b"a" * 200_000, b"\r\r"])),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        for picture in ("a", "b"):
            for part in ("train", "valid"):
                Path(name, part).mkdir(exist_ok=True)
                Path(name, part, f"{picture}_face.jpg").touch()
        yield Path(name)


def read_or_refused(read, name):
    try:
        return read()
    except DatasetError as error:
        said = str(error)
    assert name in said
    return None


def ages_of(dataset):
    samples = [sample for part in dataset.parts.values() for sample in part]
    return [(s.age_years, s.std_years or 0.0, s.other_years or 0.0, s.other_std_years or 0.0) for s in samples]


def ends_of(dataset):
    """The ends of all intervals, and the age that stands for each."""
    samples = [sample for part in dataset.parts.values() for sample in part]
    return [(s.interval_years[0], s.age_years, s.interval_years[1]) for s in samples if s.interval_years]


@settings(max_examples=200)
@given(LISTS, st.sampled_from(sorted(DATASETS)))
@example(b"file,age\na\n", "utkface")
def test_any_list_of_the_original_work_is_read_or_refused(folder, data, name):
    path = folder / "list.csv"
    path.write_bytes(data)
    rows = read_or_refused(lambda: read_csv(path, name), "list.csv")
    assert rows is None or all(0 <= row.stored_age <= 130 for row in rows)


@settings(max_examples=200)
@given(LISTS)
@example(b"part,file\ntrain,a.jpg\nvalid,b.jpg\n")
@example(b"part,file\ntrain\n")
def test_any_split_file_is_read_or_refused(folder, data):
    path = folder / "split.csv"
    path.write_bytes(data)
    dataset = Dataset("x", "real", "", "", {"train": (Sample(Path("a.jpg"), 30.0), Sample(Path("b.jpg"), 40.0))})
    read = read_or_refused(lambda: with_split_file(dataset, path, folder), "split.csv")
    if read is not None:
        names = [sample.path.name for part in read.parts.values() for sample in part]
        assert sorted(names) == ["a.jpg", "b.jpg"]


HEAD = b"file,age,age_min,age_max,person\n"


@settings(max_examples=200)
@given(st.one_of(LISTS, st.lists(st.lists(WORDS, max_size=6), max_size=3).map(lambda rows: HEAD + table([], rows)[2:])))
@example(HEAD + b"a.jpg,nan,30,40,p\n")
@example(HEAD + b"a.jpg,-5,30,40,p\n")
@example(HEAD + b"a.jpg,1e999,30,40,p\n")
@example(b"age_min,age_max,person,file\n30,40,p\n")
@example(HEAD + b",,30,40,p\n")
def test_any_list_of_intervals_is_read_or_refused(folder, data):
    (folder / "labels.csv").write_bytes(data)
    for name in ("uk-mps-2017", "us-congress"):
        read = read_or_refused(lambda name=name: load_dataset(name, folder)[0], "labels.csv")
        if read is not None:
            assert all(0 <= age <= 130 and math.isfinite(std) for age, std, _, _ in ages_of(read))
            assert all(0 <= low <= age <= high <= 130 for low, age, high in ends_of(read))


GOOD = b"file_name,real_age,apparent_age_avg,apparent_age_std\na,30,31,2\nb,40,41,3\n"


@settings(max_examples=200)
@given(
    st.one_of(st.just(GOOD), LISTS, st.lists(st.lists(WORDS, max_size=5), max_size=3).map(
        lambda rows: GOOD.splitlines(keepends=True)[0] + table([], rows)[2:])),
    st.one_of(st.just(b"img_name\nb\n"), LISTS), st.one_of(st.none(), LISTS), st.sampled_from(["real", "apparent"]),
)  # fmt: skip
@example(GOOD.replace(b",2\n", b",nan\n"), b"", None, "real")
@example(GOOD.replace(b",2\n", b",-1\n"), b"", None, "apparent")
@example(GOOD.replace(b"\na,", b"\n" + b"a" * 300 + b","), b"", None, "real")
@example(GOOD, b"img_name\n\xff", None, "real")
@example(GOOD, b"img_name\n" + b"a" * 200_000, None, "real")
@example(GOOD, b"", b"file,gender\n\xff", "real")
def test_any_list_of_appa_real_is_read_or_refused(folder, train, ignored, attributes, label):
    (folder / "gt_avg_train.csv").write_bytes(train)
    (folder / "gt_avg_valid.csv").write_bytes(GOOD)
    (folder / "ignore_list.csv").write_bytes(ignored)
    categories = folder / "allcategories_train.csv"
    categories.unlink(missing_ok=True)
    if attributes is not None:
        categories.write_bytes(attributes)
    read = read_or_refused(lambda: load_dataset("appa-real", folder, label)[0], str(folder))
    if read is not None:
        assert all(0 <= value <= 130 for values in ages_of(read) for value in values)


@given(st.text())
@example("utkface=")
@example("mine=a=b")
@example("x" * 300)
@example("a\0b")
def test_whatever_names_a_data_set_has_a_name_or_a_place_or_is_refused(text):
    try:
        name, place = named(text)
    except UsageError:
        assert text.partition("=")[0] not in DATASETS
        return
    assert text.startswith(name)
    assert place is None or str(place) in (text, str(Path(text.partition("=")[2])))
    assert name or place


@given(st.sampled_from(sorted(DATASETS)), st.text())
def test_any_file_name_tells_who_it_is_or_not(name, file):
    assert isinstance(DATASETS[name].subject_of(file), str | None)
