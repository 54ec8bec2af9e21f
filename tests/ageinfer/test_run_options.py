"""Options of a run: help, blurring, detection, kept faces, the schema, progress."""

import json
import threading

import cv2
import numpy as np
import pytest
from command_line import records_of

from ageinfer.commands.main import main
from ageinfer.commands.options import build_parser, looking_of
from ageinfer.commands.progress_line import ProgressLine
from ageinfer.detect import YuNet, detect_at_all_scales
from ageinfer.errors import ExitStatus, UsageError
from ageinfer.sources import open_source

pytest_plugins = ["command_line"]


def test_help_lists_every_exit_status(run_cli):
    done = run_cli("--help")
    listed = done.stdout.split("exit status:")[1].splitlines()[1:]
    statuses = [int(line.split()[0]) for line in listed if line.strip()]
    assert statuses == [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 130]
    assert run_cli("--version").stdout.startswith("ageinfer ")


def test_faces_that_are_left_out_could_not_be_hidden(astronaut_path, capsys):
    assert main([str(astronaut_path), "--blur", "--min-face", "200", "--jsonl", "-"]) == ExitStatus.USAGE
    assert "--min-face" in capsys.readouterr().err


def test_blur_hides_faces_in_the_picture_and_not_in_the_records(run_cli, astronaut_path, tmp_path):
    done = run_cli(astronaut_path, "--blur", "--output", tmp_path / "hidden.png", "--jsonl", "-")
    [record] = records_of(done.stdout)
    assert len(record["faces"]) == 1
    again = run_cli(tmp_path / "hidden.png", "--jsonl", "-")
    assert records_of(again.stdout)[0]["faces"] == []


def test_blur_hides_who_enters_a_video_from_the_first_frame_on(run_cli, write_video, portrait, tmp_path):
    """A whole frame is else looked at now and then only, in calm scenes."""
    empty = np.full((256, 512, 3), 90, np.uint8)
    alone, both = empty.copy(), empty.copy()
    alone[:, :256] = both[:, :256] = both[:, 256:] = portrait
    clip = write_video(tmp_path / "v.avi", [alone] * 43 + [both] * 3)
    done = run_cli(clip, "--blur", "--output", tmp_path / "hidden.avi", "--jsonl", "-")
    assert [len(record["faces"]) for record in records_of(done.stdout)] == [1] * 43 + [2] * 3
    again = run_cli(tmp_path / "hidden.avi", "--jsonl", "-", "--detect-every", "1")
    assert [record["faces"] for record in records_of(again.stdout)] == [[]] * 46


def test_with_blur_every_frame_is_searched_at_all_scales():
    """Whom a search misses would be shown; ages do without faces that are so small or so large."""
    for more in ([], ["--detect-size", "full"]):
        looking = looking_of(build_parser().parse_args(["v.mp4", "--blur", *more]))
        assert (looking.max_side, looking.every) == ("all", 1)
    looking = looking_of(build_parser().parse_args(["v.mp4"]))
    assert (looking.max_side, looking.every) == ("auto", None)
    with pytest.raises(UsageError, match="--detect-size leaves out faces that --blur has to hide"):
        looking_of(build_parser().parse_args(["v.mp4", "--blur", "--detect-size", "640"]))


def placed(portrait, places, size):
    """A noisy picture with portraits; places: x, y of the top left corner, side."""
    width, height = size
    noise = np.random.default_rng(0).integers(90, 130, (height // 40, width // 40, 3), dtype=np.uint8)
    image = cv2.resize(noise, size)
    for x, y, side in places:
        how = cv2.INTER_AREA if side < portrait.shape[0] else cv2.INTER_CUBIC
        image[y : y + side, x : x + side] = cv2.resize(portrait, (side, side), interpolation=how)
    return image


def faces_in(image) -> int:
    return len(detect_at_all_scales(YuNet(provider="cpu"), image))


LARGE_AND_SMALL = [(40, 40, 1700), *((1900 + 260 * (i % 6), 100 + 300 * (i // 6), 110) for i in range(12))]


@pytest.mark.parametrize("detect_size", ["auto", "full"])
@pytest.mark.parametrize("places", [LARGE_AND_SMALL, LARGE_AND_SMALL[:1], LARGE_AND_SMALL[1:]], ids=len)
def test_large_and_small_faces_are_hidden_beside_each_other(persons, tmp_path, places, detect_size):
    picture, out = tmp_path / "p.png", tmp_path / "hidden.png"
    before = placed(persons[1][:520, 60:580], places, (3840, 2160))
    cv2.imwrite(str(picture), before)
    assert faces_in(before) == len(places)
    arguments = [str(picture), "--blur", "--detect-size", detect_size, "--output", str(out), "--quiet"]
    assert main(arguments) == ExitStatus.OK
    assert faces_in(cv2.imread(str(out))) == 0


def test_a_face_that_fills_a_large_film_is_hidden_from_the_first_frame_on(persons, tmp_path, write_video):
    places = LARGE_AND_SMALL[:1]
    before = placed(persons[1][:520, 60:580], places, (3840, 2160))
    clip = write_video(tmp_path / "clip.mp4", [before] * 3)
    out = tmp_path / "hidden.mp4"
    assert main([str(clip), "--blur", "--output", str(out), "--quiet"]) == ExitStatus.OK
    with open_source(out) as source:
        assert [faces_in(frame.image) for frame in source] == [0, 0, 0]


def test_the_best_picture_of_each_face_is_kept(run_cli, clip, astronaut_path, tmp_path):
    assert run_cli(clip, "--faces", tmp_path / "kept").returncode == 0
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["track-00001.jpg"]
    found = run_cli(tmp_path / "kept" / "track-00001.jpg", "--jsonl", "-")
    assert len(records_of(found.stdout)[0]["faces"]) == 1


def test_detection_can_be_told_how_closely_to_look(run_cli, astronaut_path):
    boxes = {}
    for size in ("auto", "full", "64"):
        [record] = records_of(run_cli(astronaut_path, "--jsonl", "-", "--detect-size", size).stdout)
        boxes[size] = record["faces"][0]["box"]
    assert boxes["auto"] == boxes["full"] != boxes["64"]
    [record] = records_of(run_cli(astronaut_path, "--jsonl", "-", "--min-face", "150").stdout)
    assert record["faces"] == []


def test_the_schema_of_the_records_is_printed_and_fits_them(run_cli, astronaut_path, clip):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(run_cli("--json-schema").stdout)
    for source, count in ((astronaut_path, 1), (clip, 30)):
        records = records_of(run_cli(source, "--jsonl", "-").stdout)
        assert len(records) == count
        for record in records:
            jsonschema.validate(record, schema)


def test_the_progress_line_says_how_far_and_how_long(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("ageinfer.commands.progress_line.time.monotonic", lambda: now[0])
    progress = ProgressLine(200, quiet=False)
    for _ in range(50):
        now[0] += 0.1
        progress.step(2)
    assert progress.text() == "[#####...............] 25% 50/200 frames, 10 a second, 0:15 left"
    live = ProgressLine(None, quiet=False)
    now[0] += 2
    live.step(3)
    assert live.text() == "1 frames, 3 faces, 0.5 a second"


def test_the_command_can_be_run_in_a_thread(astronaut_path, tmp_path):
    statuses = []
    arguments = [str(astronaut_path), "--jsonl", str(tmp_path / "r.jsonl"), "--quiet"]
    thread = threading.Thread(target=lambda: statuses.append(main(arguments)))
    thread.start()
    thread.join(60)
    assert statuses == [ExitStatus.OK]
    assert len(records_of((tmp_path / "r.jsonl").read_text())) == 1


@pytest.mark.parametrize("option", ["--output", "--jsonl", "--csv", "--faces"])
@pytest.mark.parametrize("address", ["http://h/x.mp4", "rtsp://me:secret@h/x.mp4", "file:///tmp/x.mp4"])
def test_an_address_is_no_place_for_an_output(astronaut_path, tmp_path, monkeypatch, capsys, option, address):
    monkeypatch.chdir(tmp_path)
    assert main([str(astronaut_path), option, address]) == ExitStatus.USAGE
    said = capsys.readouterr().err
    assert "an address; only files can be written" in said
    assert "secret" not in said
    assert list(tmp_path.iterdir()) == []
