"""Downloads against a server of our own, archives of all kinds and ill will, and the command that uses both."""

import hashlib
import io
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from loopback import serving

from agetrain import prepare
from agetrain.datasets import DATASETS, afad, fetch, load_dataset
from agetrain.errors import DatasetError

DATA = random.Random(0).randbytes(3_000_000)  # noqa: S311


@pytest.fixture
def web():
    """A server with one file of 3 MB."""
    with serving({"file.bin": DATA}) as web:
        yield web


def download(web, folder, name="file.bin"):
    return fetch.download(f"{web.address}/{name}", folder / name, title=name)


def refused(web, folder):
    """Downloads, expects a refusal in one line that names the address, and returns it."""
    with pytest.raises(DatasetError) as error:
        download(web, folder)
    assert "\n" not in str(error.value)
    assert not (folder / "file.bin").exists()
    return str(error.value)


def ranges(web):
    return [asked for _, asked in web.asked]


def files_in(folder):
    """Every file under a folder with its bytes, and every folder and link."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in folder.rglob("*")
    }


# Downloads


def test_a_download_is_what_the_server_holds(web, tmp_path, caplog):
    assert download(web, tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "file.bin"
    assert sorted(files_in(tmp_path / "new" / "folder")) == ["file.bin", "file.bin.sha256"]
    assert (tmp_path / "new" / "folder" / "file.bin").read_bytes() == DATA
    assert ranges(web) == [None]
    assert "plain HTTP" in caplog.text
    assert f"{web.address}/file.bin" in caplog.text


def test_what_is_there_is_not_downloaded_again(web, tmp_path):
    download(web, tmp_path)
    download(web, tmp_path)
    assert len(web.asked) == 1


@pytest.mark.parametrize("have", [1, 1_000_000, 2_999_999])
def test_a_download_goes_on_where_it_stopped(web, tmp_path, have):
    (tmp_path / "file.bin.part").write_bytes(DATA[:have])
    assert download(web, tmp_path).read_bytes() == DATA
    assert ranges(web) == [f"bytes={have}-"]
    assert not (tmp_path / "file.bin.part").exists()


def test_a_connection_that_breaks_is_tried_again_from_there(web, tmp_path):
    web.faults = [("cut", 1_234_567), ("cut", 500_000)]
    assert download(web, tmp_path).read_bytes() == DATA
    assert ranges(web) == [None, "bytes=1234567-", "bytes=1734567-"]


def test_a_connection_that_keeps_breaking_is_given_up_and_gone_on_with_by_the_next_run(web, tmp_path):
    web.faults = [("cut", 100_000)] * 3
    message = refused(web, tmp_path)
    assert "run the same command again" in message
    assert (tmp_path / "file.bin.part").read_bytes() == DATA[:300_000]
    assert not (tmp_path / "file.bin.sha256").exists()
    assert download(web, tmp_path).read_bytes() == DATA
    assert ranges(web)[-1] == "bytes=300000-"


def test_a_server_that_ignores_ranges_sends_all_of_it_again(web, tmp_path):
    web.takes_ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 700_000)
    web.faults = [("cut", 900_000)]
    assert download(web, tmp_path).read_bytes() == DATA
    assert ranges(web) == ["bytes=700000-", "bytes=900000-"]


def test_a_server_that_tells_no_length_is_believed(web, tmp_path):
    web.tells_length = False
    assert download(web, tmp_path).read_bytes() == DATA


def test_fewer_bytes_than_announced_are_refused(web, tmp_path):
    web.takes_ranges = False
    web.faults = [("longer", 10)] * 3
    assert "3000000 of 3000010 bytes" in refused(web, tmp_path)


def test_a_file_that_is_complete_already_is_taken_as_it_is(web, tmp_path):
    """Killed between the last byte and the renaming: the server answers 416."""
    (tmp_path / "file.bin.part").write_bytes(DATA)
    assert download(web, tmp_path).read_bytes() == DATA
    assert ranges(web) == [f"bytes={len(DATA)}-"]


def test_a_file_that_is_longer_than_the_servers_is_begun_anew(web, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(DATA + b"more")
    assert download(web, tmp_path).read_bytes() == DATA
    assert ranges(web) == [f"bytes={len(DATA) + 4}-", None]


@pytest.mark.parametrize("faults", [[500], [503, 502]])
def test_a_server_in_trouble_is_asked_again(web, tmp_path, faults):
    web.faults = faults
    assert download(web, tmp_path).read_bytes() == DATA


def test_a_server_that_stays_in_trouble_is_given_up(web, tmp_path):
    web.faults = [500] * 3
    assert "answers 500" in refused(web, tmp_path)
    assert len(web.asked) == 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_address_that_is_gone_is_not_asked_twice(web, tmp_path, status):
    web.faults = [status]
    message = refused(web, tmp_path)
    assert f"answers {status}" in message
    assert web.address in message
    assert len(web.asked) == 1


def test_no_server_at_all(tmp_path):
    with serving({}) as web:
        pass
    assert "cannot be downloaded" in refused(web, tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "a.zip"])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(DatasetError, match="not an http or https address"):
        fetch.download(url, tmp_path / "a", title="a")
    assert not (tmp_path / "a").exists()


def test_the_first_hash_is_recorded_and_another_file_refused(web, tmp_path):
    download(web, tmp_path)
    digest = hashlib.sha256(DATA).hexdigest()
    assert (tmp_path / "file.bin.sha256").read_text() == f"{digest}  file.bin\n"
    (tmp_path / "file.bin").unlink()
    download(web, tmp_path)  # the same again
    (tmp_path / "file.bin").unlink()
    web.files["file.bin"] = DATA[:-1] + b"x"
    with pytest.raises(DatasetError, match="the first download had another"):
        download(web, tmp_path)
    assert (tmp_path / "file.bin.sha256").read_text().startswith(digest)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_while_downloading(web, tmp_path):
    (tmp_path / "file.bin.part").symlink_to("/dev/full")
    message = refused(web, tmp_path)
    assert "No space left on device" in message
    assert "file.bin.part" in message
    assert len(web.asked) == 1


# Parts


def test_parts_are_joined_in_the_order_given(tmp_path):
    parts = [tmp_path / name for name in "cab"]
    for part in parts:
        part.write_text(part.name * 3)
    assert fetch.joined_parts(parts, tmp_path / "new" / "whole").read_text() == "cccaaabbb"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["whole"]


def test_a_missing_part_is_named(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(DatasetError, match=r"b: not there; all 2 parts are needed"):
        fetch.joined_parts([tmp_path / "a", tmp_path / "b"], tmp_path / "whole")
    assert list(files_in(tmp_path)) == ["a"]


def test_a_full_disk_while_joining_leaves_nothing(tmp_path, little_space):
    (tmp_path / "a").write_bytes(b"x" * 600_000)
    with little_space(), pytest.raises(DatasetError, match="free some space"):
        fetch.joined_parts([tmp_path / "a"] * 3, tmp_path / "whole")
    assert list(files_in(tmp_path)) == ["a"]


def test_afad_has_46_parts_named_as_split_names_them():
    names = [url.rpartition("/")[2] for url in afad.DOWNLOADS]
    assert len(set(names)) == 46
    assert names == sorted(names)
    assert [names[i] for i in (0, 1, 25, 26, 45)] == [f"AFAD-Full.tar.xz{s}" for s in ("aa", "ab", "az", "ba", "bt")]
    assert {url.rpartition("/")[0] for url in afad.DOWNLOADS} == {f"{afad.PAGE}/raw/master"}


# Archives


class LittleSpace:
    """No file can grow beyond 1 MB meanwhile."""

    def __enter__(self):
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, self._before[1]))

    def __exit__(self, *args):
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


@pytest.fixture
def little_space():
    return LittleSpace


CONTENT = {"top/a.txt": b"a" * 1000, "top/deep/b.bin": DATA[:50_000], "top/c with space.txt": b""}
KINDS = ("zip", "tar", "tar.xz", "tar.gz", "tar.bz2")


def make_archive(path, files):
    """Writes an archive; what it is, its suffix says. Values are bytes, or a function that changes a tar member."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix != '.tar' else ''}") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


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
        fetch.unpack(archive, target)
    assert files_in(target.parent) == before
    assert "\n" not in str(error.value)
    assert str(archive) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_unpacked_without_the_folder_round_it(tmp_path, kind):
    archive = make_archive(tmp_path / f"a.{kind}", CONTENT)
    fetch.unpack(archive, tmp_path / "new" / "data")
    found = {name: data for name, data in files_in(tmp_path / "new").items() if data is not None}
    assert found == {f"data/{name.removeprefix('top/')}": data for name, data in CONTENT.items()}


@pytest.mark.parametrize("kind", ["zip", "tar.xz"])
def test_without_a_folder_round_it_all_is_kept(tmp_path, kind):
    archive = make_archive(tmp_path / f"a.{kind}", {"a/1.txt": b"1", "b/2.txt": b"2"})
    (tmp_path / "data").mkdir()  # empty: as good as none
    fetch.unpack(archive, tmp_path / "data")
    assert sorted(files_in(tmp_path / "data")) == ["a", "a/1.txt", "b", "b/2.txt"]


def test_the_content_decides_what_an_archive_is_not_its_name(tmp_path):
    archive = make_archive(tmp_path / "a.zip", CONTENT).rename(tmp_path / "a.tar.xz")
    fetch.unpack(archive, tmp_path / "data")
    assert (tmp_path / "data" / "a.txt").read_bytes() == b"a" * 1000


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").touch()
    archive = make_archive(tmp_path / "a.zip", CONTENT)
    before = files_in(tmp_path)
    with pytest.raises(DatasetError, match="is there already"):
        fetch.unpack(archive, tmp_path / "data")
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
    fetch.unpack(archive, tmp_path / "data")
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
def test_a_full_disk_while_unpacking_leaves_nothing(tmp_path, kind, little_space):
    archive = make_archive(tmp_path / f"a.{kind}", {"a": b"a", "large": b"0" * 2_000_000})
    with little_space():
        message = unpack_refused(archive, tmp_path / "data")
    assert "cannot be unpacked" in message
    fetch.unpack(archive, tmp_path / "data")  # with space it can


KILLED = """
import os, pathlib, signal, sys, tarfile
from agetrain.datasets import fetch
extract = tarfile.TarFile.extract
def killed(self, member, *args, **kwargs):
    if member.name == "top/c with space.txt":
        os.kill(os.getpid(), signal.SIGKILL)
    extract(self, member, *args, **kwargs)
tarfile.TarFile.extract = killed
fetch.unpack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""


def test_unpacking_that_was_killed_leaves_nothing_that_looks_like_the_folder(tmp_path):
    archive = make_archive(tmp_path / "a.tar.xz", CONTENT)
    command = [sys.executable, "-c", KILLED, str(archive), str(tmp_path / "data")]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert len(files_in(tmp_path)) > 1  # it had begun
    assert not (tmp_path / "data").exists()
    assert all(p.name.startswith(".") for p in tmp_path.iterdir() if p != archive)
    fetch.unpack(archive, tmp_path / "data")
    assert len(files_in(tmp_path / "data")) == 4


# The command


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


def test_an_interrupted_download_goes_on_with_the_next_run(release, tmp_path, capsys):
    with serving({"r.zip": release}) as web:
        web.faults = [("cut", 30_000)] * 3
        arguments = ("appa-real", "--out", tmp_path / "appa", "--url", f"{web.address}/r.zip")
        assert "run the same command again" in run(capsys, *arguments, status=3)
        assert not (tmp_path / "appa").exists()
        run(capsys, *arguments)
    assert ranges(web)[-1] == "bytes=90000-"


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
    names = (folder / "broken.txt").read_text().splitlines()
    assert names == ["train/000003.jpg_face.jpg", "valid/000027.jpg_face.jpg"]
    assert "32 pictures" in run(capsys, *arguments, "--no-check")
    picture.write_bytes(data)
    (folder / "train" / "000003.jpg_face.jpg").write_bytes(data)
    run(capsys, *arguments)
    assert not (folder / "broken.txt").exists()


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(release_file, tmp_path, capsys):
    folder = tmp_path / "appa"
    run(capsys, "appa-real", "--out", folder, "--archive", release_file)
    (folder / "valid" / "000027.jpg_face.jpg").write_text("no picture")
    (folder / "broken.txt").mkdir()
    assert "broken.txt" in run(capsys, "appa-real", "--out", folder, status=3)


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
