"""Files are written in one piece, under a temporary name that nobody can foresee."""

import secrets
import sys
from pathlib import Path

import pytest

from agetrain._files import replacing, write_text


def test_a_temporary_name_differs_each_time_and_keeps_the_suffix(tmp_path):
    seen = []
    for _ in range(3):
        with replacing(tmp_path / "figure.png") as unfinished:
            seen.append(unfinished.name)
            assert unfinished.exists()
    assert len(set(seen)) == 3
    assert all(len(name) == len(".0123456789abcdef.png") and name.endswith(".png") for name in seen)


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a permission")
def test_what_lies_under_the_temporary_name_is_never_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "token_hex", lambda count: "0" * 2 * count)  # as if somebody had foreseen it
    victim, trap = tmp_path / "victim", tmp_path / f".{'0' * 16}.txt"
    victim.write_text("mine")
    trap.symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "t.txt", "theirs")
    assert victim.read_text() == "mine"
    assert trap.is_symlink()
    assert not (tmp_path / "t.txt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a permission")
def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(Path("real") / "file.txt")
    write_text(tmp_path / "link.txt", "text")
    assert (tmp_path / "real" / "file.txt").read_text() == "text"
    assert (tmp_path / "link.txt").is_symlink()
