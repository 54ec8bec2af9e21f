"""The audit of a split: small lists with known answers, duplicates, and the real lists of the original work."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from portraits import write_appa_real

from agetrain.audit import build_parser, main, parts_of
from agetrain.datasets import copies as copies_module
from agetrain.datasets.auditing import Part, audit, wasserstein
from agetrain.datasets.copies import SAME_SCORE, find_copies, same_photograph
from agetrain.datasets.parts import PARTS


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What is kept of pictures lies in the current folder."""
    monkeypatch.chdir(tmp_path)


def write_csv(path, rows, columns="file,age"):
    path.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows), ""]))
    return path


def of_utkface(ages, first=0):
    """Rows of persons that are all different."""
    return [(f"{age}_0_0_{first + i}.jpg", age) for i, age in enumerate(ages)]


def of_cacd(persons, ages):
    """Rows for pictures of persons, labels as stored: 14 years less."""
    pairs = [(person, age) for person in persons for age in ages]
    return [(f"{age}_{person}_{i:04d}.jpg", age - 14) for i, (person, age) in enumerate(pairs)]


def of_afad(ages, first=0):
    return [(f"{first + i}-0.jpg", f"{age}/111/{first + i}-0.jpg", age - 15, "male") for i, age in enumerate(ages)]


AFAD_COLUMNS = "file,path,age,gender"


def run(capsys, *arguments, status=0):
    """Runs the command, expects this status; returns what it printed, or its one line of error."""
    found = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert found == status, err
    if status == 0:
        assert err == ""
        return out
    [line] = err.splitlines()
    assert line.startswith("agetrain.audit: ")
    return line


def figures_of(*arguments):
    """The figures of a command line, as JSON values."""
    options = build_parser().parse_args([str(a) for a in arguments])
    return json.loads(json.dumps(audit(parts_of(options.datasets[0], options))))


def check_finding(figures, *texts):
    """Exactly one finding says this."""
    assert len([f for f in figures["findings"] if all(text in f for text in texts)]) == 1, figures["findings"]


def test_a_clean_split_has_no_findings(capsys, tmp_path):
    ages = list(range(20, 60))
    lists = [write_csv(tmp_path / f"{name}.csv", of_utkface(ages, 100 * i)) for i, name in enumerate(PARTS)]
    figures = figures_of("utkface", "--csv", *lists)
    assert figures["findings"] == []
    assert "## Findings\n\n- nothing\n" in run(capsys, "utkface", "--csv", *lists)
    assert figures["subject_overlap"] == {}
    assert figures["pictures_listed_in_two_parts"] == {}
    assert "duplicates" not in figures


def test_a_validation_list_of_four_ages_is_exposed(tmp_path):
    train = write_csv(tmp_path / "train.csv", of_afad(list(range(15, 41)) * 4), AFAD_COLUMNS)
    valid = write_csv(tmp_path / "valid.csv", of_afad([30, 32, 37, 39] * 10, 1000), AFAD_COLUMNS)
    figures = figures_of("afad", "--csv", train, valid)
    check_finding(figures, "valid holds 4 different ages only (30, 32, 37, 39), another part has 26")
    apart = scipy.stats.wasserstein_distance(range(15, 41), [30, 32, 37, 39])
    check_finding(figures, "ages of train and valid", f"{apart:.2f} years apart")
    assert figures["parts"]["valid"]["ages"] == {"30": 10, "32": 10, "37": 10, "39": 10}
    assert not [f for f in figures["findings"] if f.startswith("train holds")]


@pytest.mark.parametrize(("different", "exposed"), [(19, True), (20, False)])
def test_less_than_half_of_the_ages_are_few(tmp_path, different, exposed):
    train = write_csv(tmp_path / "train.csv", of_utkface(range(20, 60)))
    ages = np.linspace(20, 59, different).round().astype(int)
    valid = write_csv(tmp_path / "valid.csv", of_utkface(ages, 100))
    found = figures_of("utkface", "--csv", train, valid)["findings"]
    assert [f"valid holds {different} different ages only" in f for f in found] == [True] * exposed


def test_a_list_of_few_ages_alone_is_exposed_too(tmp_path):
    valid = write_csv(tmp_path / "valid.csv", of_utkface([30, 32, 37, 39]))
    figures = figures_of("utkface", "--csv", valid)
    check_finding(figures, "valid holds 4 different ages only")
    check_finding(figures, "no train list was given")


def test_persons_in_two_parts_are_counted(tmp_path):
    ages = range(20, 50)
    train = write_csv(tmp_path / "train.csv", of_cacd(["Ann_Lee", "Bob_Ray", "Cy_Fox", "Di_Poe"], ages))
    valid = write_csv(tmp_path / "valid.csv", of_cacd(["Cy_Fox", "Di_Poe", "Ed_Low"], ages))
    test = write_csv(tmp_path / "test.csv", of_cacd(["Ed_Low", "Fay_Orr"], ages))
    figures = figures_of("cacd", "--csv", train, valid, test)
    assert figures["subject_overlap"] == {
        "valid in train": {"shared": 2, "of": 3}, "test in valid": {"shared": 1, "of": 2},
    }  # fmt: skip
    check_finding(figures, "2 of 3 persons of valid (66.7 %) are in train too")
    check_finding(figures, "1 of 2 persons of test (50.0 %) are in valid too")
    assert [figures["parts"][name]["subjects"] for name in PARTS] == [4, 3, 2]


@pytest.mark.parametrize(("dataset", "columns", "offset"), [("cacd", "file,age", 14), ("afad", AFAD_COLUMNS, 15)])
def test_the_offset_of_stored_labels_is_told_and_taken_back(tmp_path, dataset, columns, offset):
    rows = of_cacd(["Ann_Lee"], range(20, 50)) if dataset == "cacd" else of_afad(range(20, 50))
    figures = figures_of(dataset, "--csv", write_csv(tmp_path / "train.csv", rows, columns))
    check_finding(figures, f"store the age less {offset} years")
    assert (figures["parts"]["train"]["youngest"], figures["parts"]["train"]["oldest"]) == (20, 49)
    assert figures["parts"]["train"]["stored_labels_from"] == 20 - offset


def test_what_constant_answers_cost(capsys, tmp_path):
    train = write_csv(tmp_path / "train.csv", of_utkface([10, 20, 30, 40, 100]))
    valid = write_csv(tmp_path / "valid.csv", of_utkface([20, 22, 60], 50))
    out = run(capsys, "utkface", "--csv", train, valid)
    parts = figures_of("utkface", "--csv", train, valid)["parts"]
    assert (parts["train"]["own_median"], parts["valid"]["own_median"]) == (30, 22)
    assert parts["train"]["constant_mae_own_median"] == pytest.approx((20 + 10 + 0 + 10 + 70) / 5)
    assert parts["valid"]["constant_mae_own_median"] == pytest.approx((2 + 0 + 38) / 3, abs=1e-4)
    assert parts["valid"]["constant_mae_other_medians"] == {"train": pytest.approx((10 + 8 + 30) / 3)}
    assert parts["train"]["constant_mae_other_medians"] == {"valid": pytest.approx((12 + 2 + 8 + 18 + 78) / 5)}
    assert "| train (30) | 22.00 | 16.00 |" in out
    assert "| valid (22) | 23.60 | 13.33 |" in out


def test_a_median_that_fits_another_part_badly_is_a_finding(tmp_path):
    train = write_csv(tmp_path / "train.csv", of_utkface(range(15, 35)))
    valid = write_csv(tmp_path / "valid.csv", of_utkface(range(35, 55), 100))
    figures = figures_of("utkface", "--csv", train, valid)
    check_finding(figures, "train's median (24.5) has a MAE of 20.00 on valid", "own median (44.5) has 5.00")


def test_pictures_that_are_listed_twice_are_counted(tmp_path):
    rows = of_utkface(range(20, 60))
    train = write_csv(tmp_path / "train.csv", [*rows, rows[0], rows[0], rows[5]])
    valid = write_csv(tmp_path / "valid.csv", [*of_utkface(range(20, 60), 100), *rows[:2]])
    figures = figures_of("utkface", "--csv", train, valid)
    check_finding(figures, "2 pictures are listed in train and valid")
    check_finding(figures, "train lists 3 pictures more than once")


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.lists(st.integers(0, 100), min_size=1, max_size=30))
def test_the_distance_of_ages_is_scipys(a, b):
    a, b = np.array(a, float), np.array(b, float)
    assert wasserstein(a, b) == pytest.approx(scipy.stats.wasserstein_distance(a, b), abs=1e-9)


# Files and options


def test_the_document_the_figures_and_the_picture_are_written(capsys, tmp_path):
    train = write_csv(tmp_path / "train.csv", of_utkface(range(20, 60)))
    valid = write_csv(tmp_path / "valid.csv", of_utkface(range(40, 50), 100))
    out = run(capsys, "utkface", "--csv", train, valid, "--out", tmp_path / "new" / "audit")
    folder = tmp_path / "new" / "audit"
    assert sorted(p.name for p in folder.iterdir()) == ["audit.json", "audit.md", "audit.png"]
    assert out.startswith((folder / "audit.md").read_text())
    picture = cv2.imread(str(folder / "audit.png"))
    assert min(picture.shape[:2]) > 200
    assert picture.std() > 10
    assert json.loads((folder / "audit.json").read_text()) == figures_of("utkface", "--csv", train, valid)
    row = next(line for line in out.splitlines() if line.startswith("| valid |"))
    assert row == "| valid | 10 | 10 | 10 | 40 | 49 | 44.5 | 2.50 |"


def test_the_part_of_a_list_can_be_named(tmp_path):
    one = write_csv(tmp_path / "first.csv", of_utkface(range(20, 60)))
    two = write_csv(tmp_path / "second.csv", of_utkface(range(20, 50), 100))
    parts = figures_of("utkface", "--csv", f"test={two}", f"train={one}")["parts"]
    assert {name: p["n"] for name, p in parts.items()} == {"train": 40, "test": 30}
    assert list(parts) == ["train", "test"]


def listed(tmp_path, name="train.csv", rows=None, **options):
    return write_csv(tmp_path / name, rows or of_utkface(range(20, 60)), **options)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--csv", "none_train.csv"], 3, "none_train.csv"),
        (["--csv", "first.csv"], 2, "which part is it"),
        (["--csv", "train_valid.csv"], 2, "which part is it"),
        (["--csv", "train.csv", "train=first.csv"], 2, "two lists for one part"),
        (["--csv", "bad_train.csv"], 3, "bad_train.csv: line 3"),
        (["--csv", "columns_train.csv"], 3, "no column"),
        (["--csv", "empty_train.csv"], 3, "empty"),
        (["--csv", "train.csv", "--split", "split.csv"], 2, "--csv and --split"),
        (["--data", "nowhere"], 3, "nowhere"),
        (["--csv", "train.csv", "--out", "first.csv"], 5, "first.csv"),
    ],
)
def test_an_error_is_one_line(capsys, tmp_path, monkeypatch, arguments, status, told):
    monkeypatch.chdir(tmp_path)
    for name in ("train.csv", "first.csv", "train_valid.csv"):
        listed(tmp_path, name)
    listed(tmp_path, "bad_train.csv", [("20_0_0_1.jpg", 20), ("21_0_0_1.jpg", "old")])
    listed(tmp_path, "columns_train.csv", columns="name,years")
    (tmp_path / "empty_train.csv").write_text("file,age\n")
    assert told in run(capsys, "utkface", *arguments, status=status)


# With the pictures


def jpeg(image, quality=95):
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.fixture(scope="module")
def faces(portraits):
    return [cv2.imread(str(path)) for path in sorted(portraits.iterdir())]


@pytest.fixture(scope="module")
def photographs():
    """Pictures that have nothing in common, with detail of all sizes; the portraits here are all of one photograph."""
    made = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        layers = [
            cv2.resize(random.normal(0, 1, (n, n, 3)), (240, 240), interpolation=cv2.INTER_CUBIC) for n in (4, 12, 40)
        ]
        picture = sum(weight * layer for weight, layer in zip((30, 25, 20), layers, strict=True))
        made.append(np.clip(128 + picture, 0, 255).astype(np.uint8))
    return made


def copies(image):
    """The same picture as people pass it on."""
    return {
        "coded again": jpeg(image, 60),
        "as PNG": cv2.imencode(".png", image)[1].tobytes(),
        "brighter": jpeg(cv2.convertScaleAbs(image, alpha=1.05, beta=5)),
        "smaller": jpeg(cv2.resize(image, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)),
    }


def grey(data, side=96):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)


def test_copies_score_high_and_different_pictures_do_not(photographs, persons):
    pictures = [*photographs[:8], *persons]
    of_copies = [
        same_photograph(grey(jpeg(image)), grey(data)) for image in pictures for data in copies(image).values()
    ]
    assert min(of_copies) > SAME_SCORE + 0.1
    between = [same_photograph(grey(jpeg(a)), grey(jpeg(b))) for i, a in enumerate(pictures) for b in pictures[:i]]
    assert max(between) < SAME_SCORE - 0.2


def test_a_copy_may_be_cut_turned_or_mirrored(persons, tmp_path):
    image = persons[0]
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 2, 1.02)
    made = {
        "whole": image,
        "cut": image[height // 50 :, : width - width // 50],
        "turned": cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE),
        "mirrored": image[:, ::-1],
        "another": persons[1],
    }
    paths = []
    for name, picture in made.items():
        paths.append(tmp_path / f"{name}.jpg")
        paths[-1].write_bytes(jpeg(picture))
    found = find_copies(paths)
    assert found.groups(5) == [0, 0, 0, 0, 4]
    assert {(c.first, c.second): c.mirrored for c in found.pairs}[0, 3]


def test_what_was_found_is_kept_until_a_picture_changes(photographs, tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    for path, image in zip(paths, (photographs[0], photographs[1], photographs[0]), strict=True):
        path.write_bytes(jpeg(image))
    first = find_copies(paths, tmp_path / "cache")
    assert [(c.first, c.second) for c in first.pairs] == [(0, 2)]
    opened = []
    original = copies_module._grey
    monkeypatch.setattr(copies_module, "_grey", lambda path, side: (opened.append(path), original(path, side))[1])
    assert find_copies(paths, tmp_path / "cache") == first
    assert opened == []
    paths[2].write_bytes(jpeg(photographs[2]))
    assert find_copies(paths, tmp_path / "cache").pairs == ()
    assert set(opened) == set(paths)


def write_parts(folder, **parts):
    """Parts with these files; labels do not matter."""
    made = []
    for name, contents in parts.items():
        paths = []
        for i, data in enumerate(contents):
            paths.append(folder / f"{name}{i}.jpg")
            paths[-1].write_bytes(data)
        ages = np.arange(len(paths)) + 20.0
        made.append(Part(name, tuple(p.name for p in paths), ages, ages, (None,) * len(paths), tuple(paths), "x"))
    return made


def test_copies_are_counted_within_and_across_parts(photographs, tmp_path):
    a, b, c, d, e = (jpeg(photograph) for photograph in photographs[:5])
    parts = write_parts(
        tmp_path,
        train=[a, b, c, a],
        valid=[a, copies(photographs[1])["coded again"], d],
        test=[copies(photographs[3])["smaller"], e, copies(photographs[2])["brighter"]],
    )
    figures = audit(parts)
    counts = {place: (found["pairs"], found["pictures"]) for place, found in figures["copies"].items()}
    assert counts == {
        "train alone": (1, 2), "train and valid": (3, 5), "train and test": (1, 2), "valid and test": (1, 2)
    }  # fmt: skip
    assert figures["copies"]["train and valid"]["other_label"] == 1  # 23 and 20; the others are equal
    check_finding(figures, "3 pairs of pictures in train and valid show the same photograph")


def test_the_command_finds_copies_in_and_across_data_sets(capsys, tmp_path, monkeypatch, photographs):
    monkeypatch.chdir(tmp_path)
    rows = []
    for i, image in enumerate(photographs[:8]):
        for name in ("one", "other"):
            (tmp_path / name / "20").mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / "20" / f"{i}.jpg").write_bytes(jpeg(image))
        rows.append(f"{'valid' if i > 5 else 'train'},20/{i}.jpg")
    (tmp_path / "one" / "20" / "8.jpg").write_bytes(copies(photographs[7])["brighter"])
    (tmp_path / "split.csv").write_text("\n".join(["part,file", *rows, "train,20/8.jpg", ""]))
    figures = figures_of("one", "--split", tmp_path / "split.csv")
    assert {place: found["pairs"] for place, found in figures["copies"].items()} == {"train and valid": 1}
    # Across data sets, with a file of pairs.
    for i in range(8):
        image = photographs[i if i < 2 else 10 + i]
        (tmp_path / "other" / "20" / f"{i}.jpg").write_bytes(jpeg(image))
    out = run(capsys, "one", "other", "--duplicates", tmp_path / "pairs.csv")
    assert "show the same photograph" in out
    with (tmp_path / "pairs.csv").open(newline="") as stream:
        pairs = list(csv.DictReader(stream))
    assert {(p["first_dataset"], p["second_dataset"]) for p in pairs} == {("one", "one"), ("one", "other")}
    assert sorted((Path(p["first"]).name, Path(p["second"]).name) for p in pairs) == [
        ("0.jpg", "0.jpg"), ("1.jpg", "1.jpg"), ("7.jpg", "8.jpg")
    ]  # fmt: skip
    assert all(float(p["score"]) >= SAME_SCORE and p["first_age"] == "20" for p in pairs)
    # A picture that cannot be read is named.
    (tmp_path / "other" / "20" / "8.jpg").write_text("no picture")
    assert "8.jpg" in run(capsys, "one", "other", "--out", tmp_path / "out", status=3)
    assert main(["one", "other", "--out", str(tmp_path / "out"), "--max-broken", "20%"]) == 0
    assert "1 of 9 pictures cannot be used" in capsys.readouterr().err


def test_the_parts_are_those_of_a_split_file(tmp_path, astronaut):
    folder = write_appa_real(tmp_path / "appa", astronaut, train=8, valid=4)
    rows = [f"{part},{p.relative_to(folder)},0," for part in ("valid", "train") for p in (folder / part).iterdir()]
    text = "\n".join(["part,file,age_years,subject", *rows, ""])
    swapped = text.replace("valid,", "x,").replace("train,", "valid,").replace("x,", "train,")
    (tmp_path / "split.csv").write_text(swapped)
    parts = figures_of("appa-real", "--data", folder, "--split", tmp_path / "split.csv")["parts"]
    assert {name: p["n"] for name, p in parts.items()} == {"train": 4, "valid": 8}
    assert parts["train"]["youngest"] == 26


def test_lists_and_pictures_together(tmp_path, faces):
    """The offset is known from the pictures' data set; the labels are those of the lists."""
    folder = tmp_path / "cacd"
    folder.mkdir()
    rows = of_cacd(["Ann_Lee", "Bob_Ray"], range(20, 24))
    for (name, _), face in zip(rows, faces, strict=False):
        (folder / name).write_bytes(jpeg(face))
    train = write_csv(tmp_path / "train.csv", [(name, age + 1) for name, age in rows[:5]])
    valid = write_csv(tmp_path / "valid.csv", rows[5:])
    figures = figures_of("cacd", "--data", folder, "--csv", train, valid)
    assert figures["parts"]["train"]["ages"] == {"21": 2, "22": 1, "23": 1, "24": 1}
    check_finding(figures, "less 14 years")
    check_finding(figures, "1 of 1 persons of valid (100.0 %) are in train too")
    assert "copies" in figures


def test_without_lists_nothing_is_said_of_how_they_store_ages(tmp_path, faces):
    """Ages are then from the data set itself, and true years."""
    for name, _ in of_cacd(["Ann_Lee", "Bob_Ray", "Cy_Fox"], range(20, 24)):
        (tmp_path / name).write_bytes(jpeg(faces[0]))
    figures = figures_of("cacd", "--data", tmp_path)
    assert not [text for text in figures["findings"] if "lists store" in text]
    for part in figures["parts"].values():
        assert part["stored_labels_from"] == part["youngest"] == 20


def test_a_data_set_with_an_empty_part_is_audited_all_the_same(tmp_path, faces):
    """All pictures of one celebrity are in one part; the other two are empty."""
    for name, _ in of_cacd(["Ann_Lee"], range(20, 23)):
        (tmp_path / name).write_bytes(jpeg(faces[0]))
    figures = figures_of("cacd", "--data", tmp_path)
    assert [p["n"] for p in figures["parts"].values()] == [3]


# The real lists


@pytest.fixture(scope="module")
def lists(shared_data):
    if not (shared_data / "split-csvs").is_dir():
        pytest.skip(f"no split-csvs in {shared_data}")
    return shared_data / "split-csvs"


@pytest.mark.shared
def test_the_real_list_of_afad_is_exposed(lists):
    figures = figures_of("afad", "--csv", lists / "afad_valid.csv", lists / "afad_test.csv")
    check_finding(figures, "valid holds 4 different ages only (30, 32, 37, 39)")
    check_finding(figures, "test's median", "has a MAE of 10.21 on valid")
    assert figures["parts"]["valid"]["constant_mae_other_medians"]["test"] == pytest.approx(10.21, abs=0.005)
    check_finding(figures, "less 15 years")


@pytest.mark.shared
def test_the_real_lists_of_cacd_are_exposed(lists):
    names = [lists / f"cacd_{part}.csv" for part in PARTS]
    figures = figures_of("cacd", "--csv", *names)
    assert figures["subject_overlap"]["test in train"] == {"shared": 1983, "of": 1983}
    check_finding(figures, "1983 of 1983 persons of test (100.0 %) are in train too")
    check_finding(figures, "less 14 years")
    assert [figures["parts"][name]["n"] for name in PARTS] == [114804, 12755, 31890]


@pytest.mark.shared
def test_the_lists_of_the_real_appa_real_fit_its_pictures(shared_data):
    """They name 118 bad pictures that the data set leaves out of train."""
    folder = shared_data / "appa-real-release"
    if not folder.is_dir():
        pytest.skip(f"no APPA-REAL in {shared_data}")
    lists = [str(folder / f"gt_avg_{part}.csv") for part in ("train", "valid")]
    options = build_parser().parse_args(["appa-real", "--data", str(folder), "--csv", *lists])
    parts = {part.name: part for part in parts_of("appa-real", options)}
    assert {name: len(part.ages) for name, part in parts.items()} == {"train": 4113, "valid": 1500}
    assert len(set(parts["train"].files)) == 4113
