"""Downloads against a server of our own, and files that come in parts."""

import hashlib
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from archives import DATA, LittleSpace, files_in, ranges
from loopback import serving

from agetrain.datasets import afad, fetch, unpacking
from agetrain.errors import DatasetError


@pytest.fixture(autouse=True)
def _no_waits(waits):
    """Whatever is tried again is tried at once."""


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


def test_a_download_is_what_the_server_holds(web, tmp_path):
    assert download(web, tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "file.bin"
    assert sorted(files_in(tmp_path / "new" / "folder")) == ["file.bin", "file.bin.sha256"]
    assert (tmp_path / "new" / "folder" / "file.bin").read_bytes() == DATA
    assert ranges(web) == [None]


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
    web.faults = [("cut", 100_000)] * 4
    message = refused(web, tmp_path)
    assert "run the same command again" in message
    assert (tmp_path / "file.bin.part").read_bytes() == DATA[:400_000]
    assert not (tmp_path / "file.bin.sha256").exists()
    assert download(web, tmp_path).read_bytes() == DATA
    assert ranges(web)[-1] == "bytes=400000-"


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
    web.faults = [("longer", 10)] * 4
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


@pytest.mark.parametrize("faults", [[500], [503, 502], [429]])
def test_a_server_in_trouble_is_asked_again(web, tmp_path, faults, waits):
    web.faults = list(faults)
    assert download(web, tmp_path).read_bytes() == DATA
    assert waits == [1, 4][: len(faults)]


@pytest.mark.parametrize("status", [500, 429])
def test_a_server_that_stays_in_trouble_is_given_up_after_waits_that_grow(web, tmp_path, waits, caplog, status):
    web.faults = [status] * 4
    assert f"answers {status}" in (message := refused(web, tmp_path))
    assert message.endswith("run the same command again later")
    assert len(web.asked) == 4
    assert waits == [1, 4, 16]
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.rpartition("; ")[2] for line in told] == [f"trying again in {s} s" for s in (1, 4, 16)]
    assert all(web.address in line for line in told)


@pytest.mark.parametrize(
    ("asked", "waited"), [("30", 30), ("0", 1), ("86400", 300), ("9" * 400, 300), ("soon", 1), ("", 1), ("-5", 1)]
)
def test_as_long_is_waited_as_the_server_asks_for_but_not_endlessly(web, tmp_path, waits, asked, waited):
    web.faults = [(503, asked)]
    assert download(web, tmp_path).read_bytes() == DATA
    assert waits == [waited]


@pytest.mark.parametrize(("later_s", "least", "most"), [(120, 100, 120), (-120, 1, 1), (10**8, 300, 300)])
def test_a_server_may_say_when_to_come_again(web, tmp_path, waits, later_s, least, most):
    web.faults = [(429, format_datetime(datetime.now(UTC) + timedelta(seconds=later_s), usegmt=True))]
    assert download(web, tmp_path).read_bytes() == DATA
    [waited] = waits
    assert least <= waited <= most


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_address_that_is_gone_is_not_asked_twice(web, tmp_path, status, waits):
    web.faults = [status]
    message = refused(web, tmp_path)
    assert f"answers {status}" in message
    assert "is there a new address?" in message
    assert web.address in message
    assert len(web.asked) == 1
    assert waits == []


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


def test_a_full_disk_while_downloading(web, tmp_path):
    with LittleSpace():
        message = refused(web, tmp_path)
    assert "File too large" in message
    assert "file.bin.part" in message
    assert len(web.asked) == 1


def test_a_file_that_changed_in_between_is_begun_anew(web, tmp_path):
    web.version = '"one"'
    web.faults = [("cut", 100_000)] * 4
    refused(web, tmp_path)
    web.version, web.files["file.bin"] = '"two"', DATA[::-1]
    assert download(web, tmp_path).read_bytes() == DATA[::-1]
    assert sorted(files_in(tmp_path)) == ["file.bin", "file.bin.sha256"]


def test_a_file_that_changed_is_noticed_by_its_version_where_the_server_does_not_look_at_it(web, tmp_path):
    web.version = '"one"'
    web.faults = [("cut", 100_000)] * 4
    refused(web, tmp_path)
    web.files["file.bin"] = DATA[::-1]
    web.odd_headers = {"ETag": '"two"'}  # as a 206 to the version that was asked for
    assert download(web, tmp_path).read_bytes() == DATA[::-1]


def test_a_file_without_a_version_that_has_another_length_is_begun_anew(web, tmp_path):
    web.faults = [("cut", 100_000)] * 4
    refused(web, tmp_path)
    web.files["file.bin"] = b"new" + DATA
    assert download(web, tmp_path).read_bytes() == b"new" + DATA


@pytest.mark.parametrize(
    "told", ["bytes 0-2999999/3000000", "bytes 5-2999999/3000000", "bytes 1000-1999999/3000000", "bytes */*", "x", ""]
)
def test_a_part_that_is_not_the_one_that_was_asked_for_is_not_joined(web, tmp_path, told):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    web.odd_headers = {"Content-Range": told}
    assert download(web, tmp_path).read_bytes() == DATA
    assert ranges(web) == ["bytes=1000-", None]


@pytest.mark.parametrize("length", ["abc", "-1", "1e9", "9" * 30])
def test_a_length_that_is_no_number_is_one_line(web, tmp_path, length):
    web.odd_headers = {"Content-Length": length}
    assert "which is no number" in refused(web, tmp_path)


def test_plain_http_needs_a_known_hash(tmp_path):
    url = "http://192.0.2.1/file.bin"
    with pytest.raises(DatasetError, match="plain HTTP, anybody on the way can change it; give its hash with --sha256"):
        fetch.download(url, tmp_path / "file.bin", title="x")
    assert list(tmp_path.iterdir()) == []


def test_a_known_hash_decides(web, tmp_path):
    digest = hashlib.sha256(DATA).hexdigest()
    url = f"{web.address}/file.bin"
    assert fetch.download(url, tmp_path / "a", title="a", sha256=digest.upper()).read_bytes() == DATA
    with pytest.raises(DatasetError, match=f"its SHA-256 is {digest}, not {'0' * 64}; it is removed"):
        fetch.download(url, tmp_path / "b", title="b", sha256="0" * 64)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["file.bin.part", "file.bin.part.version", "file.bin.sha256"])
def test_a_link_that_was_laid_beforehand_is_not_followed(web, tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / name).symlink_to(victim if name != "file.bin.sha256" else tmp_path / "new")
    with suppress(DatasetError, OSError):
        download(web, tmp_path / "to")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "new").exists()


# Parts


def test_parts_are_joined_in_the_order_given(tmp_path):
    parts = [tmp_path / name for name in "cab"]
    for part in parts:
        part.write_text(part.name * 3)
    assert unpacking.joined_parts(parts, tmp_path / "new" / "whole").read_text() == "cccaaabbb"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["whole"]


def test_a_missing_part_is_named(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(DatasetError, match=r"b: not there; all 2 parts are needed"):
        unpacking.joined_parts([tmp_path / "a", tmp_path / "b"], tmp_path / "whole")
    assert list(files_in(tmp_path)) == ["a"]


def test_a_full_disk_while_joining_leaves_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 600_000)
    with LittleSpace(), pytest.raises(DatasetError, match="free some space"):
        unpacking.joined_parts([tmp_path / "a"] * 3, tmp_path / "whole")
    assert list(files_in(tmp_path)) == ["a"]


def test_afad_has_46_parts_named_as_split_names_them():
    names = [url.rpartition("/")[2] for url in afad.DOWNLOADS]
    assert len(set(names)) == 46
    assert names == sorted(names)
    assert [names[i] for i in (0, 1, 25, 26, 45)] == [f"AFAD-Full.tar.xz{s}" for s in ("aa", "ab", "az", "ba", "bt")]
    assert {url.rpartition("/")[0] for url in afad.DOWNLOADS} == {f"{afad.PAGE}/raw/master"}
