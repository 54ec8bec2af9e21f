"""Several pictures in one call, lists from other systems, and side files that nobody means."""

import codecs
import json
import subprocess
import sys

import cv2
import pytest

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus, SourceError
from ageinfer.sources import open_source, open_sources


@pytest.fixture
def folder(tmp_path, persons):
    for i, person in enumerate(persons):
        cv2.imwrite(str(tmp_path / f"{i}.png"), cv2.resize(person, (160, 160)))
        (tmp_path / f"._{i}.png").write_bytes(b"\0\5\x16\7 Mac OS X side file")
    return tmp_path


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_a_shell_makes_of_a_pattern_is_done_in_its_order(folder, tmp_path):
    paths = [str(folder / f"{i}.png") for i in (2, 0, 1)]
    assert main([*paths, "--jsonl", str(tmp_path / "r.jsonl"), "--quiet", "--provider", "cpu"]) == ExitStatus.OK
    assert [record["source"] for record in records(tmp_path / "r.jsonl")] == paths
    out = tmp_path / "out"
    assert main([*paths, "--output", str(out), "--quiet", "--provider", "cpu"]) == ExitStatus.OK
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "2.png"]


def test_pictures_and_folders_may_be_mixed(folder, astronaut_path):
    with open_sources([astronaut_path, folder]) as source:
        assert [frame.source for frame in source] == [
            str(astronaut_path),
            *(str(folder / f"{i}.png") for i in range(3)),
        ]


def test_a_missing_file_among_several_is_named(folder):
    with pytest.raises(SourceError, match=r"gone\.png: no such picture, folder or film"):
        open_sources([folder / "0.png", folder / "gone.png"])


def test_videos_and_pictures_are_read_in_the_order_given(folder, tmp_path, write_video, persons):
    clips = [write_video(tmp_path / f"{i}.avi", [cv2.resize(persons[0], (64, 64))] * (2 + i)) for i in range(2)]
    with open_sources([clips[0], folder / "0.png", folder, clips[1]]) as source:
        assert source.frame_count == 2 + 4 + 3
        frames = [(frame.source, frame.index) for frame in source]
    pictures = [str(folder / f"{i}.png") for i in (0, 0, 1, 2)]
    films = [[(str(clip), i) for i in range(2 + number)] for number, clip in enumerate(clips)]
    assert frames == [*films[0], *((name, 0) for name in pictures), *films[1]]


def test_a_video_that_cannot_be_read_is_named_and_the_others_go_on(tmp_path, write_video, persons, caplog):
    clips = [write_video(tmp_path / f"{i}.avi", [cv2.resize(persons[0], (64, 64))] * 2) for i in range(3)]
    with open_sources(clips) as source:
        clips[1].write_bytes(b"gone by now")
        assert {frame.source for frame in source} == {str(clips[0]), str(clips[2])}
        assert source.failed == 1
    [text] = caplog.messages
    assert text.startswith(f"{clips[1]}: ")
    assert text.endswith("; the others go on")
    clips[1].write_bytes(clips[0].read_bytes())
    with open_sources(clips) as source:
        for clip in clips:
            clip.write_bytes(b"gone by now")
        with pytest.raises(SourceError, match="none of the 3 sources can be read"):
            list(source)


def test_an_output_that_would_replace_one_of_several_sources_is_refused(folder, capsys):
    paths = [str(folder / f"{i}.png") for i in range(2)]
    assert main([*paths, "--jsonl", paths[1]]) == ExitStatus.USAGE
    assert "would overwrite the source" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["FOLDER", "FOLDER/*", "FOLDER/**"])
def test_hidden_files_of_other_systems_are_left_out(folder, source):
    with open_source(source.replace("FOLDER", str(folder))) as opened:
        assert [frame.source for frame in opened] == [str(folder / f"{i}.png") for i in range(3)]
        assert opened.failed == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_a_list_with_a_byte_order_mark_keeps_its_first_picture(folder, end):
    listed = codecs.BOM_UTF8 + end.join(str(folder / f"{i}.png") for i in range(2)).encode()
    command = [sys.executable, "-m", "ageinfer", "-", "--quiet", "--provider", "cpu"]
    done = subprocess.run(command, input=listed, capture_output=True, timeout=120, check=False)
    assert done.returncode == ExitStatus.OK, done.stderr
    assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == [
        str(folder / f"{i}.png") for i in range(2)
    ]


def test_a_list_in_utf16_is_named(folder):
    command = [sys.executable, "-m", "ageinfer", "-", "--quiet", "--provider", "cpu"]
    done = subprocess.run(
        command, input=str(folder / "0.png").encode("utf-16"), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == ExitStatus.SOURCE
    assert done.stderr.decode().splitlines() == ["ageinfer: standard input: the list is in UTF-16; save it in UTF-8"]
