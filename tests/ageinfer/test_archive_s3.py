"""Sources and output in an object store, undisturbed, disturbed, and gone for good."""

import json
from pathlib import Path

import pytest
from archive_runs import archive, attempts, planned, rows_in

from ageinfer.archive import ledger
from ageinfer.archive import store as storing
from ageinfer.archive.items import items_of
from ageinfer.archive.store import Store, StoreError
from ageinfer.errors import SourceError

pytest.importorskip("moto")
pytest_plugins = ["archive_runs", "command_line", "object_store"]


@pytest.fixture(autouse=True)
def calm(object_store, monkeypatch):
    """Nothing is disturbed, and nobody waits long between two tries."""
    monkeypatch.setattr(storing, "_PAUSES_S", (0.01, 0.02))
    storing._folder.cache_clear()
    object_store.proxy.share, object_store.proxy.down = 0.0, False
    yield
    object_store.proxy.share, object_store.proxy.down = 0.0, False


@pytest.fixture(scope="module")
def uploaded(object_store, portraits, astronaut_path, clip, tmp_path_factory):
    """A bucket with pictures, a film and a tar file, and the folder that it was copied from."""
    import shutil
    import tarfile

    folder = tmp_path_factory.mktemp("uploaded")
    files = sorted(portraits.iterdir())
    for number, file in enumerate(files[:12]):
        place = folder / ("a b" if number < 6 else "c%d") / f"{file.stem} #{number}?.jpg"
        place.parent.mkdir(exist_ok=True)
        shutil.copy(file, place)
    shutil.copy(clip, folder / "clip.avi")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / ".hidden.jpg").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"")
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for file in files[12:16]:
            tar.add(file, arcname=file.name)
    object_store.upload(folder, "pictures/in")
    return folder


def without_sources(out):
    from urllib.parse import unquote

    rows = rows_in(out)
    for row in rows:
        row["source"] = unquote(row["source"].rpartition("/in/")[2] or row["source"])
    return rows


def local_rows(folder, tmp_path):
    archive(tmp_path / "local", folder)
    rows = rows_in(tmp_path / "local")
    return [row | {"source": str(Path(row["source"]).relative_to(folder))} for row in rows]


def test_a_bucket_is_listed_as_the_folder_that_it_was_copied_from(object_store, uploaded):
    address = object_store.address("pictures/in")
    items, local = list(items_of([address])), list(items_of([str(uploaded)]))
    assert [(item.size, item.kind) for item in items] == [(item.size, item.kind) for item in local]
    assert items[0].name == "s3://pictures/in/a%20b/000000%20%230%3F.jpg"
    assert all(item.stamp > 0 for item in items)
    assert [item.kind for item in items_of([address.replace("/in?", "/in/*.tar?")])] == ["tar"]
    assert len(list(items_of([address.replace("/in?", "/*/*/*.jpg?")]))) == 12
    assert len(list(items_of([address.replace("/in?", "/in/**/0*.jpg?")]))) == 12
    assert len(list(items_of([items[0].path]))) == 1


def test_a_list_of_addresses_has_what_is_there_and_what_is_not(object_store, uploaded, tmp_path):
    there = [item.path for item in items_of([object_store.address("pictures/in")])]
    gone = object_store.address("pictures/in/gone.jpg")
    (tmp_path / "list").write_text("\n".join([there[2], gone, there[0]]))
    assert [item.size >= 0 for item in items_of([f"@{tmp_path / 'list'}"])] == [True, False, True]
    archive(tmp_path / "out", f"@{tmp_path / 'list'}")
    assert [row["outcome"] for row in rows_in(tmp_path / "out")] == ["face", "unreadable", "face"]
    assert rows_in(tmp_path / "out")[1]["reason"] == "no such file"


@pytest.mark.parametrize("source", ["nothing/here", "pictures/nothing", "pictures/in/*.gif"])
def test_an_empty_place_is_told(object_store, uploaded, source):
    with pytest.raises(SourceError, match=r"s3://\S+: no picture"):
        list(items_of([object_store.address(source)]))


def test_rows_from_and_in_an_object_store_are_those_of_the_folder(object_store, uploaded, tmp_path):
    expected = local_rows(uploaded, tmp_path)
    out = object_store.address("results/calm")
    manifest = archive(out, object_store.address("pictures/in"))
    download(object_store, "results/calm", tmp_path / "down")
    assert without_sources(tmp_path / "down") == expected
    assert manifest["items"] == 15
    counts = ledger.check(Store(out))
    assert counts["faces"] == manifest["faces"] == sum(row["outcome"] == "face" for row in expected)
    assert archive(out, object_store.address("pictures/in"))["parts"] == manifest["parts"]  # nothing is done again


def download(object_store, place, folder):
    store = Store(object_store.address(place))
    (folder / "faces").mkdir(parents=True)
    for name in store.names("faces"):
        (folder / "faces" / name).write_bytes(store.read(f"faces/{name}"))


def test_a_store_that_fails_now_and_then_costs_no_row(object_store, uploaded, tmp_path):
    expected = local_rows(uploaded, tmp_path)
    proxy = object_store.proxy
    before, proxy.share = proxy.disturbed, 0.15
    manifest = archive(object_store.address("results/disturbed"), object_store.address("pictures/in"))
    disturbed, proxy.share = proxy.disturbed - before, 0.0
    assert disturbed >= 10
    download(object_store, "results/disturbed", tmp_path / "down")
    assert without_sources(tmp_path / "down") == expected
    assert manifest["unreadable"] == 1
    assert ledger.check(Store(object_store.address("results/disturbed")))["items"] == 15


@pytest.mark.slow
def test_a_source_that_is_gone_for_good_fails_its_shards_and_a_later_run_completes_them(
    object_store, uploaded, tmp_path, monkeypatch
):  # fmt: skip
    expected = local_rows(uploaded, tmp_path)
    source = object_store.address("pictures/in")
    plan, left = planned(tmp_path / "out", source, per_shard=50)
    object_store.proxy.down = True
    monkeypatch.setattr(storing, "_PAUSES_S", ())  # each request is tried many times by pyarrow itself
    failed = attempts(tmp_path / "out", [shard.number for shard in left.shards])
    assert len(failed) == len(left.shards)
    assert all("s3://pictures/in/" in line and "\n" not in line for line in failed)
    assert all(line.endswith("--resume goes on") for line in failed)
    assert plan.store.names("faces") == plan.store.names("_attempts") == []
    object_store.proxy.down = False
    archive(tmp_path / "out", source, per_shard=50)
    assert without_sources(tmp_path / "out") == expected


@pytest.mark.slow
def test_an_output_that_is_gone_for_good_is_told(object_store, monkeypatch):
    object_store.proxy.down = True
    monkeypatch.setattr(storing, "_PAUSES_S", ())
    with pytest.raises(StoreError, match="s3://results/down/x"):
        Store(object_store.address("results/down")).put("x", b"1")


def test_no_secret_is_in_what_is_written(object_store, uploaded, tmp_path):
    archive(tmp_path / "out", object_store.address("pictures/in"))
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"nothing-to-hide" not in written
    rows = json.dumps(rows_in(tmp_path / "out"))
    assert "endpoint_override" not in rows
