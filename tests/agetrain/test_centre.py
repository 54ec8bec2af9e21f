"""The faces of a whole folder: by the rules of the original CACD preprocessing, and by the runtime's crop."""

import csv

import cv2
import numpy as np
import pytest
from portraits import variation

from ageinfer.crop.cut import central_face, crop_face
from ageinfer.crop.spec import CropSpec
from ageinfer.detect import YuNet
from ageinfer.sources import read_picture
from agetrain import prepare
from agetrain.crops import precrop
from agetrain.crops.precrop import centre_folder, original_crop
from agetrain.errors import DatasetError

# Where every pixel is from: x in the first channel, y in the second.
MAP = np.zeros((250, 250, 3), np.uint8)
MAP[:, :, 0], MAP[:, :, 1] = np.arange(250), np.arange(250)[:, None]


def hog():
    return pytest.importorskip("dlib").get_frontal_face_detector()


# The crop


@pytest.mark.parametrize(
    ("box", "left", "top"),
    [
        # 90 px and 15 on each side are 120 px: no pixel is changed.
        ((100, 80, 90, 90), 85, 60),
        # Square on the longer side, round the centre.
        ((100, 80, 60, 90), 70, 60),
        ((100, 100, 90, 50), 85, 60),
        ((115, 110, 2, 90), 56, 90),
        # An odd difference: the left and upper neighbour.
        ((100, 80, 89, 90), 84, 60),
        ((100, 80, 90, 89), 85, 59),
    ],
)
def test_the_square_grows_by_15_px_and_moves_up_by_5(box, left, top):
    crop = original_crop(MAP, *box)
    assert np.array_equal(crop, MAP[top : top + 120, left : left + 120])


def test_a_large_face_is_averaged_down_to_120_px():
    image = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    crop = original_crop(image, 30, 40, 330, 330)  # 360 px
    part = image[20:380, 15:375].astype(float)
    means = part.reshape(120, 3, 120, 3, 3).mean(axis=(1, 3))
    assert np.abs(crop - means).max() <= 0.51


def test_a_small_face_is_enlarged_to_120_px():
    image = np.random.default_rng(0).integers(0, 256, (250, 250, 3), dtype=np.uint8)
    crop = original_crop(image, 100, 100, 50, 50)  # 80 px from (85, 80)
    places = np.clip((np.arange(120) + 0.5) * 80 / 120 - 0.5, 0, 79)
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(80)))  # linear, of each pixel for each of the crop
    for channel in range(3):
        expected = weights @ image[80:160, 85:165, channel] @ weights.T
        assert np.abs(crop[:, :, channel] - expected).max() < 2


@pytest.mark.parametrize(
    ("box", "first", "last"),
    [
        ((5, 4, 90, 90), (0, 0), (109, 103)),
        ((-20, -10, 90, 90), (0, 0), (84, 89)),
        ((150, 170, 90, 90), (135, 150), (249, 249)),
        ((0, 100, 90, 90), (0, 80), (104, 199)),
    ],
)
def test_the_square_is_cut_to_the_picture(box, first, last):
    crop = original_crop(MAP, *box)
    assert crop.shape == (120, 120, 3)
    assert np.abs(crop[0, 0, :2].astype(int) - first).max() <= 1
    assert np.abs(crop[-1, -1, :2].astype(int) - last).max() <= 1


# A folder


@pytest.fixture(scope="module")
def source(astronaut_path, tmp_path_factory):
    """Nine pictures of one face, two faces side by side, a wall, and a file that is no picture, in two folders."""
    portrait = read_picture(astronaut_path)
    folder = tmp_path_factory.mktemp("source")
    for name in ("a", "b"):
        (folder / name).mkdir()
    for i in range(9):
        assert cv2.imwrite(str(folder / "ab"[i % 2] / f"one{i}.jpg"), variation(portrait, i))
    small = cv2.resize(portrait, (220, 220), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "a" / "two.jpg"), np.hstack([small, small[:, ::-1]]))
    cv2.imwrite(str(folder / "b" / "wall.jpg"), np.full((200, 150, 3), 170, np.uint8))
    (folder / "a" / "broken.jpg").write_bytes((folder / "a" / "one0.jpg").read_bytes()[:3000])
    return folder


def pictures(folder):
    return sorted(p for p in folder.rglob("*.jpg"))


def outputs(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in pictures(folder)}


def outcomes(folder):
    with (folder / "centre.csv").open(newline="") as stream:
        return {row["file"]: row["outcome"] for row in csv.DictReader(stream)}


def as_jpeg(image):
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@pytest.fixture(scope="module")
def by_dlib(source, tmp_path_factory):
    """The folder centred by dlib in one process, and the counts."""
    pytest.importorskip("dlib")
    target = tmp_path_factory.mktemp("dlib")
    return target, centre_folder("dlib", source, pictures(source), target, processes=1)


def test_a_picture_is_kept_where_dlib_finds_exactly_one_face(source, by_dlib):
    target, counts = by_dlib
    assert counts == {"kept": 9, "many": 1, "none": 1, "failed": 1}
    assert {name: o for name, o in outcomes(target).items() if o != "kept"} == {
        "a/two.jpg": "many", "b/wall.jpg": "none", "a/broken.jpg": "failed",
    }  # fmt: skip
    assert set(outputs(target)) == {f"{'ab'[i % 2]}/one{i}.jpg" for i in range(9)}


def test_a_kept_picture_is_the_original_crop_of_the_face_found_with_one_upsample(source, by_dlib):
    detector = hog()
    for name, data in outputs(by_dlib[0]).items():
        image = read_picture(source / name)
        [face] = detector(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 1)
        expected = original_crop(image, face.left(), face.top(), face.width(), face.height())
        assert data == as_jpeg(expected), name


def test_small_faces_are_found_because_of_the_upsample(source, by_dlib):
    """Without it dlib sees nothing below 80 px: the test above would not notice its absence on large faces alone."""
    detector = hog()
    missed = [
        name for name in outputs(by_dlib[0]) if not detector(cv2.imread(str(source / name), cv2.IMREAD_GRAYSCALE), 0)
    ]
    assert missed


@pytest.mark.parametrize("kind", ["dlib", "ageinfer"])
def test_several_processes_give_the_same_bytes_as_one(source, tmp_path, kind):
    if kind == "dlib":
        hog()
    logs = []
    for processes in (1, 3):
        centre_folder(kind, source, pictures(source), tmp_path / str(processes), processes=processes)
        logs.append((tmp_path / str(processes) / "centre.csv").read_bytes())
    assert outputs(tmp_path / "1") == outputs(tmp_path / "3")
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def by_runtime(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("runtime")
    return target, centre_folder("ageinfer", source, pictures(source), target, processes=1)


def test_the_runtimes_crop_is_that_of_the_face_nearest_the_centre(source, by_runtime):
    target, counts = by_runtime
    assert counts == {"kept": 10, "none": 1, "failed": 1}
    detector = YuNet(provider="cpu", threads=1)
    found = outputs(target)
    assert "a/two.jpg" in found
    for name, data in found.items():
        image = read_picture(source / name)
        boxes = [face.box for face in detector.detect(image)]
        box = boxes[central_face(boxes, image.shape[1::-1])]
        assert data == as_jpeg(crop_face(image, box, CropSpec(size=120))[:, :, ::-1]), name


# Going on


def centred_again(source, target):
    return centre_folder("ageinfer", source, pictures(source), target, processes=1)


@pytest.fixture
def half_done(source, by_runtime, tmp_path):
    """A folder as a run leaves it that was stopped after 5 pictures; the outputs are marked to see them kept."""
    target = tmp_path / "target"
    lines = (by_runtime[0] / "centre.csv").read_text().splitlines(keepends=True)
    target.mkdir()
    (target / "centre.csv").write_text("".join(lines[:6]))
    for line in lines[1:6]:
        name, outcome, _ = line.split(",")
        if outcome == "kept":
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_text("marked")
    return target


def check_went_on(target, by_runtime):
    """All is there, the marked ones were not done again, and the log is complete."""
    finished, found = outputs(by_runtime[0]), outputs(target)
    assert set(found) == set(finished)
    marked = {name for name, data in found.items() if data == b"marked"}
    assert 0 < len(marked) <= 5
    assert all(found[name] == finished[name] for name in set(found) - marked)
    assert outcomes(target).items() >= outcomes(by_runtime[0]).items()


def test_a_second_run_does_nothing(source, tmp_path):
    target = tmp_path / "target"
    counts = centred_again(source, target)
    log = (target / "centre.csv").read_bytes()
    for path in pictures(target):
        path.write_text("marked")
    assert centred_again(source, target) == counts
    assert set(outputs(target).values()) == {b"marked"}
    assert (target / "centre.csv").read_bytes() == log


def test_faces_that_were_deleted_are_cropped_again(source, tmp_path, by_runtime):
    target = tmp_path / "target"
    centred_again(source, target)
    gone = pictures(target)[:2]
    for path in gone:
        path.unlink()
    assert centred_again(source, target) == by_runtime[1]
    assert all(path.is_file() for path in gone)
    assert len((target / "centre.csv").read_text().splitlines()) == len(
        (by_runtime[0] / "centre.csv").read_text().splitlines()
    )


def test_an_interrupted_run_goes_on(source, half_done, by_runtime):
    assert centred_again(source, half_done) == by_runtime[1]
    check_went_on(half_done, by_runtime)


@pytest.mark.parametrize("cut", [1, 2, 6, 12])
def test_a_log_that_ends_in_the_middle_of_a_line_goes_on(source, half_done, by_runtime, cut):
    log = half_done / "centre.csv"
    log.write_text(log.read_text()[:-cut])
    assert centred_again(source, half_done) == by_runtime[1]
    check_went_on(half_done, by_runtime)
    before = log.read_bytes()
    assert centred_again(source, half_done) == by_runtime[1]
    assert log.read_bytes() == before


@pytest.mark.parametrize("begun", ["", "file,outc", "file,outcome,ageinfer", "file,outcome,ageinfer\n"])
def test_a_run_that_was_stopped_before_its_first_picture_goes_on(source, tmp_path, by_runtime, begun):
    (tmp_path / "centre.csv").write_text(begun)
    assert centred_again(source, tmp_path) == by_runtime[1]
    assert (tmp_path / "centre.csv").read_bytes() == (by_runtime[0] / "centre.csv").read_bytes()


def test_a_run_of_another_kind_is_not_gone_on_with(source, by_runtime):
    hog()
    before = outputs(by_runtime[0])
    with pytest.raises(DatasetError, match="not of a run by dlib"):
        centre_folder("dlib", source, pictures(source), by_runtime[0], processes=1)
    assert outputs(by_runtime[0]) == before


def test_a_target_that_is_no_folder(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="file: cannot be written"):
        centred_again(source, tmp_path / "file")


# Lists


def test_a_list_is_rewritten_to_what_was_kept(tmp_path):
    (tmp_path / "train.csv").write_text(",file,age\n7,a.jpg,10\n8,b.jpg,11\n9,c.jpg,12\n")
    assert precrop.rewrite_csv(tmp_path / "train.csv", tmp_path / "new" / "train.csv", {"a.jpg", "c.jpg"}) == (3, 2)
    assert (tmp_path / "new" / "train.csv").read_text() == ",file,age\n7,a.jpg,10\n9,c.jpg,12\n"


def test_of_a_list_with_paths_the_paths_count(tmp_path):
    (tmp_path / "a.csv").write_text("file,path,age\n1-0.jpg,39/112/1-0.jpg,24\n1-0.jpg,40/111/1-0.jpg,25\n")
    precrop.rewrite_csv(tmp_path / "a.csv", tmp_path / "b.csv", {"1-0.jpg", "40/111/1-0.jpg"})
    assert (tmp_path / "b.csv").read_text() == "file,path,age\n1-0.jpg,40/111/1-0.jpg,25\n"


@pytest.mark.parametrize("text", ["age,sex\n1,2\n", ""])
def test_a_list_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DatasetError, match=r"a\.csv: no column"):
        precrop.rewrite_csv(tmp_path / "a.csv", tmp_path / "b.csv", set())
    with pytest.raises(DatasetError, match=r"none\.csv: No such file"):
        precrop.rewrite_csv(tmp_path / "none.csv", tmp_path / "b.csv", set())
    assert not (tmp_path / "b.csv").exists()


# The command


def test_the_command_centres_a_data_set_and_its_lists(source, tmp_path, capsys):
    """A CACD of five: three faces, a wall, two faces."""
    hog()
    folder = tmp_path / "cacd"
    folder.mkdir()
    rows = []
    for i, name in enumerate(["a/one0.jpg", "b/one1.jpg", "b/wall.jpg", "a/two.jpg", "a/one2.jpg"]):
        new = f"{30 + i}_Some_Body_{i:04d}.jpg"
        (folder / new).write_bytes((source / name).read_bytes())
        rows.append(f"{i},{new},{16 + i}")
    (tmp_path / "list.csv").write_text("\n".join([",file,age", *rows, ""]))
    arguments = [
        "cacd",
        "--out",
        str(folder),
        "--centre",
        "dlib",
        "--csv",
        str(tmp_path / "list.csv"),
        "--processes",
        "1",
    ]
    assert prepare.main(arguments) == 0
    out = capsys.readouterr().out
    assert "3 kept, 1 none, 1 many, 0 failed" in out
    assert "3 of 5 lines" in out
    target = tmp_path / "cacd-centred-dlib"
    kept = ["30_Some_Body_0000.jpg", "31_Some_Body_0001.jpg", "34_Some_Body_0004.jpg"]
    assert list(outputs(target)) == kept
    assert (target / "list.csv").read_text().splitlines() == [",file,age", rows[0], rows[1], rows[4]]
    assert {read_picture(target / name).shape for name in kept} == {(120, 120, 3)}
    # Again, into a folder of its own name.
    assert prepare.main([*arguments, "--centred", str(tmp_path / "mine")]) == 0
    assert outputs(tmp_path / "mine") == outputs(target)


def test_the_centred_folder_of_appa_real_is_appa_real(appa_real, tmp_path, capsys):
    from agetrain.datasets import load_dataset

    lists = [str(appa_real / f"gt_avg_{part}.csv") for part in ("train", "valid")]
    status = prepare.main(
        ["appa-real", "--out", str(appa_real), "--centre", "ageinfer", "--centred", str(tmp_path / "new"), "--csv",
         *lists, "--processes", "1", "--no-check"]
    )  # fmt: skip
    assert status == 0, capsys.readouterr().err
    old, new = (load_dataset("appa-real", folder)[0] for folder in (appa_real, tmp_path / "new"))
    assert new.split_sha256() == old.split_sha256()


def test_without_dlib_the_command_says_what_to_install(appa_real, tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "dlib", None)
    arguments = ["appa-real", "--out", str(appa_real), "--no-check", "--centred", str(tmp_path / "a")]
    assert prepare.main([*arguments, "--centre", "dlib"]) == 6
    assert "pip install" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
