"""Archives of all kinds and ill will."""

import io
import random
import signal
import subprocess
import sys
import tarfile
import zipfile

import pytest
from archives import CONTENT, DATA, KINDS, LittleSpace, files_in, make_archive

from agetrain.datasets import unpacking
from agetrain.errors import DatasetError


def make_tar_with(path, **attributes):
    """A tar file with a good member, and one behind it that is something else."""
    with tarfile.open(path, "w") as archive:
        good = tarfile.TarInfo("top/good.txt")
        archive.addfile(good, io.BytesIO())
        bad = tarfile.TarInfo("top/bad")
        for name, value in attributes.items():
            setattr(bad, name, value)
        archive.addfile(bad)
    return path


def unpack_refused(archive, target):
    """Unpacks, expects a refusal in one line, and that not a byte is left anywhere; returns the line."""
    before = files_in(target.parent)
    with pytest.raises(DatasetError) as error:
        unpacking.unpack(archive, target)
    assert files_in(target.parent) == before
    assert "\n" not in str(error.value)
    assert str(archive) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_unpacked_without_the_folder_round_it(tmp_path, kind):
    archive = make_archive(tmp_path / f"a.{kind}", CONTENT)
    unpacking.unpack(archive, tmp_path / "new" / "data")
    found = {name: data for name, data in files_in(tmp_path / "new").items() if data is not None}
    assert found == {f"data/{name.removeprefix('top/')}": data for name, data in CONTENT.items()}


@pytest.mark.parametrize("kind", ["zip", "tar.xz"])
def test_without_a_folder_round_it_all_is_kept(tmp_path, kind):
    archive = make_archive(tmp_path / f"a.{kind}", {"a/1.txt": b"1", "b/2.txt": b"2"})
    (tmp_path / "data").mkdir()  # empty: as good as none
    unpacking.unpack(archive, tmp_path / "data")
    assert sorted(files_in(tmp_path / "data")) == ["a", "a/1.txt", "b", "b/2.txt"]


def test_the_content_decides_what_an_archive_is_not_its_name(tmp_path):
    archive = make_archive(tmp_path / "a.zip", CONTENT).rename(tmp_path / "a.tar.xz")
    unpacking.unpack(archive, tmp_path / "data")
    assert (tmp_path / "data" / "a.txt").read_bytes() == b"a" * 1000


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").touch()
    archive = make_archive(tmp_path / "a.zip", CONTENT)
    before = files_in(tmp_path)
    with pytest.raises(DatasetError, match="is there already"):
        unpacking.unpack(archive, tmp_path / "data")
    assert files_in(tmp_path) == before


EVIL_NAMES = (
    "../evil",
    "top/../../evil",
    "{outside}/evil",
    "C:/evil",
    "C:\\evil",
    "c:evil",
    "..\\evil",
    "a\\..\\..\\e",
)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.xz"])
@pytest.mark.parametrize("name", EVIL_NAMES)
def test_names_that_lead_out_are_refused(tmp_path, kind, name):
    name = name.format(outside=tmp_path)
    archive = make_archive(tmp_path / f"a.{kind}", {"top/good.txt": b"good", name: b"evil"})
    if kind == "zip":
        # Python's own writer makes names harmless on some systems; make sure that it did not here.
        assert name in zipfile.ZipFile(archive).namelist()
    message = unpack_refused(archive, tmp_path / "data")
    assert name in message


@pytest.mark.parametrize("name", ["a..b.txt", "...", "top/..hidden", "noon 12:00"])
def test_names_that_only_look_so_are_kept(tmp_path, name):
    archive = make_archive(tmp_path / "a.tar", {name: b"x", "other": b"y"})
    unpacking.unpack(archive, tmp_path / "data")
    assert (tmp_path / "data" / name).read_bytes() == b"x"


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "good.txt"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_refused(tmp_path, kind, target):
    archive = make_tar_with(tmp_path / "a.tar", type=kind, linkname=target)
    assert "top/bad" in unpack_refused(archive, tmp_path / "data")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path, kind):
    archive = make_tar_with(tmp_path / "a.tar", type=kind, devmajor=1, devminor=3)
    assert "top/bad" in unpack_refused(archive, tmp_path / "data")


def test_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("top/link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    archive = make_archive(tmp_path / "a.zip", CONTENT)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "/etc/passwd")
    assert "top/link" in unpack_refused(archive, tmp_path / "data")


def test_a_file_cannot_be_written_through_a_link_of_the_same_archive(tmp_path):
    (tmp_path / "outside").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("top/dir")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("top/dir/evil"), io.BytesIO())
    unpack_refused(tmp_path / "a.tar", tmp_path / "data")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.98])
def test_a_truncated_archive_is_refused(tmp_path, kind, share):
    archive = make_archive(tmp_path / f"a.{kind}", CONTENT)
    data = archive.read_bytes()
    # A tar file ends with up to 10 kB of zeros, which may be missing.
    data = data[: data.rindex(DATA[49_990:50_000]) + 10] if kind == "tar" else data
    archive.write_bytes(data[: int(share * len(data))])
    assert "fetch it again" in unpack_refused(archive, tmp_path / "data")


@pytest.mark.parametrize("kind", ["zip", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_in_an_archive_are_noticed(tmp_path, kind, seed):
    archive = make_archive(tmp_path / f"a.{kind}", {"a": bytes(range(256)) * 300, "b": b"b" * 10_000})
    data = bytearray(archive.read_bytes())
    begin = random.Random(seed).randrange(len(data) // 4, len(data) // 2)  # noqa: S311
    for i in range(begin, begin + 16):
        data[i] ^= 0x55
    archive.write_bytes(data)
    assert "fetch it again" in unpack_refused(archive, tmp_path / "data")


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_text("<html>Sign in to download</html>")
    assert "not a zip or tar file" in unpack_refused(tmp_path / "a.zip", tmp_path / "data")


@pytest.mark.parametrize("kind", ["zip", "tar.xz"])
def test_a_full_disk_while_unpacking_leaves_nothing(tmp_path, kind):
    archive = make_archive(tmp_path / f"a.{kind}", {"a": b"a", "large": b"0" * 2_000_000})
    with LittleSpace():
        message = unpack_refused(archive, tmp_path / "data")
    assert "cannot be unpacked" in message
    unpacking.unpack(archive, tmp_path / "data")  # with space it can


KILLED = """
import os, pathlib, signal, sys, tarfile
from agetrain.datasets import unpacking
extract = tarfile.TarFile.extract
def killed(self, member, *args, **kwargs):
    if member.name == "top/c with space.txt":
        os.kill(os.getpid(), signal.SIGKILL)
    extract(self, member, *args, **kwargs)
tarfile.TarFile.extract = killed
unpacking.unpack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""


def test_unpacking_that_was_killed_leaves_nothing_that_looks_like_the_folder(tmp_path):
    archive = make_archive(tmp_path / "a.tar.xz", CONTENT)
    command = [sys.executable, "-c", KILLED, str(archive), str(tmp_path / "data")]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert len(files_in(tmp_path)) > 1  # it had begun
    assert not (tmp_path / "data").exists()
    assert all(p.name.startswith(".") for p in tmp_path.iterdir() if p != archive)
    unpacking.unpack(archive, tmp_path / "data")
    assert len(files_in(tmp_path / "data")) == 4
