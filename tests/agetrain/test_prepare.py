"""``python -m agetrain.prepare``: downloads, unpacks and checks."""

import csv
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from archives import CONTENT, files_in, make_archive, ranges
from loopback import serving

from agetrain import prepare
from agetrain.datasets import DATASETS, afad, load_dataset


@pytest.fixture(scope="module")
def release(appa_real, tmp_path_factory):
    """The bytes of a zip of the small APPA-REAL, with its folder."""
    path = tmp_path_factory.mktemp("zip") / "release.zip"
    files = {f"appa-real-release/{p.relative_to(appa_real)}": p.read_bytes() for p in appa_real.rglob("*.*")}
    return make_archive(path, files).read_bytes()


@pytest.fixture
def release_file(release, tmp_path):
    path = tmp_path / "release.zip"
    path.write_bytes(release)
    return path


def run(capsys, *arguments, status=0):
    """Runs the command, expects this status, and returns what it printed; an error is one line."""
    found = prepare.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert found == status, err
    assert "Traceback" not in err
    assert err.count("agetrain.prepare:") == (status != 0)
    return out if status == 0 else err.splitlines()[-1]


def test_prepare_downloads_unpacks_and_checks(release, tmp_path, capsys, caplog, appa_real):
    folder = tmp_path / "data" / "appa"
    with serving({"release.zip": release}) as web:
        out = run(capsys, "appa-real", "--out", folder, "--url", f"{web.address}/release.zip")
    assert "32 pictures of 7591" in out
    assert "train 24, valid 8" in out
    assert "all 32 pictures can be decoded" in out
    assert "7559 pictures fewer" in caplog.text
    assert files_in(folder) == files_in(appa_real)
    # The archive is gone, its hash is kept.
    assert [p.name for p in (tmp_path / "data" / ".appa-real-archives").iterdir()] == ["release.zip.sha256"]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [".appa-real-archives", "appa"]


def test_the_data_set_has_the_address_that_is_known(release, tmp_path, capsys, monkeypatch):
    with serving({"x/appa-real-release.zip": release}) as web:
        monkeypatch.setattr(DATASETS["appa-real"], "DOWNLOADS", (f"{web.address}/x/appa-real-release.zip",))
        run(capsys, "appa-real", "--out", tmp_path / "appa", "--keep-archive")
    assert (tmp_path / ".appa-real-archives" / "appa-real-release.zip").read_bytes() == release


def test_a_second_run_downloads_nothing(release, tmp_path, capsys):
    arguments = ("appa-real", "--out", tmp_path / "appa")
    with serving({"r.zip": release}) as web:
        run(capsys, *arguments, "--url", f"{web.address}/r.zip")
    assert "nothing is downloaded" in run(capsys, *arguments)
    # To be asked for another source means that the folder is not what is wanted.
    assert "name another" in run(capsys, *arguments, "--url", f"{web.address}/r.zip", status=2)


def test_what_is_secret_in_an_address_is_not_told(tmp_path, capsys, caplog):
    with serving({}) as web:
        address = f"{web.address}/no.zip?token=TOPSECRET"
        told = run(capsys, "appa-real", "--out", tmp_path / "appa", "--url", address, status=3)
        assert f"{web.address}/no.zip?***: the server answers 404" in told
        address = f"{web.address}/no.zip".replace("://", "://me:TOPSECRET@")
        told += run(capsys, "appa-real", "--out", tmp_path / "appa", "--url", address, status=3)
        assert "user names in addresses are not supported" in told
        assert [path for path, _ in web.asked if "me" in path] == []
    assert "TOPSECRET" not in told + caplog.text
    assert not any("TOPSECRET" in name for name in files_in(tmp_path))


@pytest.mark.parametrize("path", ["/", "/folder/", ""])
def test_an_address_without_a_file_is_refused(tmp_path, capsys, path):
    told = run(capsys, "appa-real", "--out", tmp_path / "a", "--url", f"http://localhost{path}", status=3)
    assert "no file name" in told


def test_what_macos_packs_beside_a_data_set_is_left_away(appa_real, tmp_path, capsys):
    files = {f"appa-real-release/{p.relative_to(appa_real)}": p.read_bytes() for p in appa_real.rglob("*.*")}
    more = {"__MACOSX/appa-real-release/._train": b"x", ".DS_Store": b"x"}
    archive = make_archive(tmp_path / "mac.zip", files | more)
    run(capsys, "appa-real", "--out", tmp_path / "appa", "--archive", archive)
    assert files_in(tmp_path / "appa") == files_in(appa_real)


def test_an_archive_of_something_else_leaves_no_folder_and_its_download(tmp_path, capsys):
    other = make_archive(tmp_path / "other.zip", CONTENT).read_bytes()
    with serving({"r.zip": other}) as web:
        for _ in range(2):  # nothing that the second run would take for the data set
            arguments = ("appa-real", "--out", tmp_path / "data" / "appa", "--url", f"{web.address}/r.zip")
            assert "gt_avg_train.csv" in run(capsys, *arguments, status=3)
        assert len(web.asked) == 1
    assert not (tmp_path / "data" / "appa").exists()
    assert (tmp_path / "data" / ".appa-real-archives" / "r.zip").read_bytes() == other


def test_a_second_download_that_differs_is_refused(release, tmp_path, capsys):
    with serving({"r.zip": release}) as web:
        arguments = ("appa-real", "--out", tmp_path / "appa", "--url", f"{web.address}/r.zip")
        run(capsys, *arguments)
        shutil.rmtree(tmp_path / "appa")
        web.files["r.zip"] = release + b" "
        line = run(capsys, *arguments, status=3)
    assert hashlib.sha256(release + b" ").hexdigest() in line
    assert not (tmp_path / "appa").exists()


def test_an_interrupted_download_goes_on_with_the_next_run(release, tmp_path, capsys, waits):
    with serving({"r.zip": release}) as web:
        web.faults = [("cut", 30_000)] * 4
        arguments = ("appa-real", "--out", tmp_path / "appa", "--url", f"{web.address}/r.zip")
        assert "run the same command again" in run(capsys, *arguments, status=3)
        assert not (tmp_path / "appa").exists()
        run(capsys, *arguments)
    assert ranges(web)[-1] == "bytes=120000-"


@pytest.fixture(scope="module")
def afad_archive(portraits, tmp_path_factory):
    """A small AFAD of 12 pictures in the layout of the release, as a tar.xz."""
    pictures = sorted(portraits.iterdir())[:12]
    files = {
        f"AFAD-Full/{15 + i % 3}/{111 + i % 2}/{1000 + i}-0.jpg": picture.read_bytes()
        for i, picture in enumerate(pictures)
    }
    path = make_archive(tmp_path_factory.mktemp("afad") / "AFAD-Full.tar.xz", files)
    return path.read_bytes()


def cut_into(data, n):
    """n parts, all of them different."""
    bounds = [i * len(data) // n for i in range(n + 1)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


def test_afad_is_downloaded_in_46_parts(afad_archive, tmp_path, capsys, monkeypatch):
    names = [url.rpartition("/")[2] for url in afad.DOWNLOADS]
    parts = dict(zip(names, cut_into(afad_archive, 46), strict=True))
    with serving(parts) as web:
        monkeypatch.setattr(afad, "DOWNLOADS", tuple(f"{web.address}/{name}" for name in names))
        out = run(capsys, "afad", "--out", tmp_path / "afad")
    assert [path for path, _ in web.asked] == names
    assert "12 pictures of 165501" in out
    dataset, _ = load_dataset("afad", tmp_path / "afad")
    assert sorted({s.age_years for part in dataset.parts.values() for s in part}) == [15, 16, 17]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".afad-archives", "afad"]


def test_parts_that_were_downloaded_by_hand(afad_archive, tmp_path, capsys):
    files = []
    for i, data in enumerate(cut_into(afad_archive, 3)):
        files.append(tmp_path / f"part{i}")
        files[-1].write_bytes(data)
    # Also into a folder that is not there yet.
    run(capsys, "afad", "--out", tmp_path / "new" / "afad", "--archive", *files)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["afad"]
    assert all(f.is_file() for f in files)
    # In another order they are no archive, and nothing is left of the attempt.
    line = run(capsys, "afad", "--out", tmp_path / "other" / "afad", "--archive", *reversed(files), status=3)
    assert "fetch it again" in line
    assert files_in(tmp_path / "other") == {}


def test_a_broken_picture_is_named(release_file, tmp_path, capsys):
    folder = tmp_path / "appa"
    arguments = ("appa-real", "--out", folder)
    run(capsys, *arguments, "--archive", release_file)
    assert release_file.is_file()
    picture = folder / "valid" / "000027.jpg_face.jpg"
    data = picture.read_bytes()
    picture.write_bytes(data[: len(data) // 2])
    (folder / "train" / "000003.jpg_face.jpg").write_text("no picture")
    line = run(capsys, *arguments, status=3)
    assert "2 pictures cannot be decoded" in line
    assert "000003.jpg_face.jpg" in line
    with (folder / "problems.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows] == [str(folder / "train/000003.jpg_face.jpg"), str(picture)]
    assert {row["kind"] for row in rows} == {"broken"}
    assert "32 pictures" in run(capsys, *arguments, "--no-check")
    picture.write_bytes(data)
    (folder / "train" / "000003.jpg_face.jpg").write_bytes(data)
    run(capsys, *arguments)
    assert not (folder / "broken.txt").exists()


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(release_file, tmp_path, capsys):
    folder = tmp_path / "appa"
    run(capsys, "appa-real", "--out", folder, "--archive", release_file)
    (folder / "valid" / "000027.jpg_face.jpg").write_text("no picture")
    (folder / "problems.csv").mkdir()
    assert "problems.csv" in run(capsys, "appa-real", "--out", folder, status=5)


def test_cacd_must_be_fetched_by_hand_and_its_page_is_named(tmp_path, capsys):
    line = run(capsys, "cacd", "--out", tmp_path / "cacd", status=3)
    assert "https://bcsiriuschen.github.io/CARC/" in line
    assert "--archive" in line
    line = run(capsys, "cacd", "--out", tmp_path / "cacd", "--archive", tmp_path / "none.tar", status=3)
    assert "none.tar: no such file" in line
    assert list(tmp_path.iterdir()) == []


def test_an_archive_of_something_else(tmp_path, capsys):
    archive = make_archive(tmp_path / "a.zip", CONTENT)
    line = run(capsys, "appa-real", "--out", tmp_path / "appa", "--archive", archive, status=3)
    assert "gt_avg_train.csv" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--csv", "a.csv"], "--centre"),
        (["--archive", "a.zip", "--url", "http://127.0.0.1/"], "one of"),
        (["--centre", "ageinfer", "--processes", "-1"], "--processes"),
    ],
)
def test_options_that_do_not_fit(tmp_path, capsys, arguments, told):
    assert told in run(capsys, "appa-real", "--out", tmp_path / "appa", *arguments, status=2)


@pytest.mark.parametrize("where", ["file", "file/appa"])
def test_a_place_where_no_folder_can_be(release_file, tmp_path, capsys, where):
    (tmp_path / "file").write_text("mine")
    line = run(capsys, "appa-real", "--out", tmp_path / where, "--archive", release_file, status=3)
    assert "file" in line
    assert (tmp_path / "file").read_text() == "mine"


def test_an_interrupt_is_told_and_leaves_nothing(release_file, tmp_path, capsys, monkeypatch):
    def interrupted(self, member, path):
        if "000004" in member.filename:
            raise KeyboardInterrupt
        return extract(self, member, path)

    extract = zipfile.ZipFile.extract
    monkeypatch.setattr(zipfile.ZipFile, "extract", interrupted)
    line = run(capsys, "appa-real", "--out", tmp_path / "appa", "--archive", release_file, status=130)
    assert "again" in line
    assert [p.name for p in tmp_path.iterdir()] == ["release.zip"]
    monkeypatch.undo()
    run(capsys, "appa-real", "--out", tmp_path / "appa", "--archive", release_file)


def test_it_runs_as_a_command(release_file, tmp_path):
    command = [sys.executable, "-m", "agetrain.prepare", "appa-real", "--out", str(tmp_path / "appa"), "--archive",
               str(release_file)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "7559 pictures fewer" in done.stderr
    assert "all 32 pictures" in done.stdout
