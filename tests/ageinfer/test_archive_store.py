"""A file of an archive is there whole or not at all, and addresses give no secrets away."""

import errno
import os
from pathlib import Path

import pytest

from ageinfer.archive import store as storing
from ageinfer.archive.store import Store, StoreError, file_system, shown, tried
from ageinfer.errors import OutputError, SourceError, UsageError


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "out"))


def test_files_come_back_and_can_be_replaced_listed_and_removed(store):
    store.put("faces/a", b"one")
    store.put("faces/a", b"two")
    store.put("faces/b", b"")
    assert store.read("faces/a") == store.opened("faces/a").read() == b"two"
    assert (store.names(), store.names("faces"), store.names("nothing")) == (["faces"], ["a", "b"], [])
    store.remove("faces/a")
    store.remove("faces/a")
    assert store.names("faces") == ["b"]
    with pytest.raises(FileNotFoundError):
        store.read("faces/a")


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_disk_that_fails_leaves_what_was_there_and_nothing_else(store, monkeypatch, step):
    store.put("faces/a", b"before")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_):
        raise full

    if step == "write":
        opened = Path.open

        def failing(path, mode="r", **more):
            stream = opened(path, mode, buffering=0, **more)
            stream.close()
            raise full

        monkeypatch.setattr(Path, "open", failing)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match=r"faces/a: cannot be written: No space left on device; make room"):
        store.put("faces/a", b"after")
    monkeypatch.undo()
    assert store.read("faces/a") == b"before"
    assert store.names("faces", begun=True) == []


def test_what_was_begun_is_not_among_the_names(store):
    store.put("faces/a", b"1")
    store.put("faces/.a-123", b"1")
    assert store.names("faces") == ["a"]
    assert store.names("faces", begun=True) == [".a-123"]


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        Store(str(tmp_path / "file")).put("faces/a", b"")


def test_what_fails_is_tried_again_and_what_is_not_there_is_not(monkeypatch):
    waits = []
    monkeypatch.setattr(storing.time, "sleep", waits.append)
    answers = [OSError("busy"), OSError("busy"), OSError("busy"), "there"]

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert tried(ask, "x") == "there"
    assert waits == [0.5, 1.0, 2.0]
    answers[:] = [OSError("one\ntwo")] * 9
    with pytest.raises(StoreError, match=r"^x: one; --resume goes on$"):
        tried(ask, "x")
    assert len(answers) == 5
    answers[:] = [FileNotFoundError()] * 2
    with pytest.raises(FileNotFoundError):
        tried(ask, "x")
    assert len(answers) == 1


@pytest.mark.parametrize(
    "address",
    ["s3://AKIA:hunter2@bucket/x", "s3://bucket/x?secret_key=hunter2", "abfs://c@a/x?region=a&sas_token=hunter2"],
)
def test_an_address_with_a_password_is_refused_without_showing_it(address):
    with pytest.raises(UsageError, match="environment") as caught:
        file_system(address)
    assert "hunter2" not in str(caught.value)


def test_an_address_is_shown_without_its_options():
    assert shown("s3://bucket/year=2020/a%20b.jpg?region=x") == "s3://bucket/year=2020/a%20b.jpg"
    assert shown("/a?b=c") == "/a?b=c"


def test_an_unknown_kind_of_address_is_told():
    with pytest.raises(SourceError, match="nothing://x"):
        Store("nothing://x")
