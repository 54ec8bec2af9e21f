"""``--people``, ``--audience``, zones and lines of the command, and what ``--only-counts`` keeps in."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from datetime import datetime

import cv2
import jsonschema
import numpy as np
import pytest
from command_line import records_of
from conftest import ROOT
from made_results import all_of, face, film, result, walk
from mjpeg import network_camera

from ageinfer.commands.main import main
from ageinfer.people import Audience, People, Places
from ageinfer.sinks import record_schema
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sinks.people import AUDIENCE_COLUMNS, AudienceSink, PeopleSink, person_columns
from ageinfer.types import Frame

pytest_plugins = ["command_line"]

CLIP = ROOT / "samples" / "clip.mp4"
PLACES = ("--zone", "left=0,0;0.5,0;0.5,1;0,1", "--line", "middle=0.5,0;0.5,1")
EVERY_PLACE = Places.parse(["left=0,0;0.5,0;0.5,1;0,1"], ["door=0.5,1;0.5,0"])
RESULTS = film(walk(1, 0, 4, age=15, std=2), walk(2, 2, 4), walk(3, 4, 4.2), to_s=5)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_film_with_people_and_audience(tmp_path, capsys):
    people, audience = tmp_path / "new/people.jsonl", tmp_path / "audience.jsonl"
    assert main([str(CLIP), "--people", str(people), "--audience", str(audience), "--every", "2s", *PLACES]) == 0
    assert capsys.readouterr().out == ""
    persons, windows = records_of(people.read_text()), records_of(audience.read_text())
    for records, kind in ((persons, "people"), (windows, "audience")):
        for record in records:
            jsonschema.Draft202012Validator(record_schema(kind)).validate(record)
    assert [person["track"] for person in persons] == list(range(1, 9))
    assert all(list(person["at_least"]) == ["13", "16", "18", "21", "25"] for person in persons)
    assert sum(len(person["crossings"]) for person in persons) == 6
    assert [(window["from_s"], window["people"]) for window in windows] == [(0, 5), (2, 3)]
    assert sum(line["right"] for window in windows for line in window["lines"]) == 6
    assert sum(band["count"] for window in windows for band in window["bands"]) == pytest.approx(8, abs=0.1)
    assert [window["from_at"] for window in windows] == [None, None]


def test_the_same_as_tables(tmp_path):
    people, audience = tmp_path / "people.csv", tmp_path / "audience.CSV"
    assert main([
        str(CLIP), "--quiet", "--people", str(people), "--audience", str(audience), "--thresholds", "18, 65",
        "--bands", "0-17,18-49,50+", *PLACES,
    ]) == 0  # fmt: skip
    persons, rows = rows_of(people), rows_of(audience)
    assert tuple(persons[0]) == person_columns((18, 65))
    assert tuple(rows[0]) == AUDIENCE_COLUMNS
    assert len(persons) == 8
    assert [(row["zone"], row["ages"], row["line"]) for row in rows] == [
        *((zone, ages, "") for zone in ("", "left") for ages in ("0-17", "18-49", "50+")), ("", "", "middle"),
    ]  # fmt: skip
    assert (rows[0]["people"], rows[-1]["left"], rows[-1]["right"]) == ("8", "0", "6")
    assert persons[1]["crossings"].startswith("middle:right@0.7")
    assert float(persons[1]["zones"].removeprefix("left=")) > 0.5


def test_pictures_have_an_audience_and_no_people(tmp_path, capsys):
    portraits = str(ROOT / "samples" / "portraits.jpg")
    assert main([portraits, "--quiet", "--audience", "-"]) == 0
    [window] = records_of(capsys.readouterr().out)
    assert (window["people"], window["source"], window["frames"]) == (8, portraits, 1)
    jsonschema.Draft202012Validator(record_schema("audience")).validate(window)
    assert main([portraits, "--people", str(tmp_path / "p.jsonl"), "--jsonl", str(tmp_path / "r.jsonl")]) == 2
    assert "for videos and cameras" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_live_source_has_times_of_the_clock(portrait, tmp_path):
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    people, audience = tmp_path / "people.jsonl", tmp_path / "audience.jsonl"
    began = time.time()
    with network_camera(lambda number: small, fps=8) as camera:
        command = ["-m", "ageinfer", camera.address, "--people", people, "--audience", audience, "--every", "2s"]
        with subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True) as process:
            assert "age-small" in process.stderr.readline()
            time.sleep(5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 130
    persons, windows = records_of(people.read_text()), records_of(audience.read_text())
    [person] = persons
    assert not person["unsure"]
    assert abs(datetime.fromisoformat(person["first_at"]).timestamp() - began) < 30
    assert sum(window["people"] for window in windows) == 1
    starts = [datetime.fromisoformat(window["from_at"]).timestamp() for window in windows]
    assert all(start % 2 == 0 for start in starts)


def test_schemas_are_printed_and_describe_every_key(capsys):
    persons = all_of(People(EVERY_PLACE), RESULTS)
    windows = all_of(Audience(places=EVERY_PLACE), RESULTS)
    for kind, record in (("people", persons[0].to_record()), ("audience", windows[0].to_record())):
        assert main(["--json-schema", kind]) == 0
        schema = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert list(record) == [key for key in schema["properties"] if key != "over"] == schema["required"]
        assert all(len(value["description"]) > 15 for value in schema["properties"].values())


def test_the_document_has_the_keys_of_people_and_audience():
    text = (ROOT / "docs" / "reference" / "records.md").read_text()
    for title, kind in (("## People", "people"), ("## Audience", "audience")):
        part = text[text.index(title) :].split("\n## ")[0]
        known = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
        assert known[: len(record_schema(kind)["properties"])] == list(record_schema(kind)["properties"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only-counts"], "--only-counts lets nothing but --audience out"),
        *(
            (["--audience", "a.jsonl", "--only-counts", *other], f"{other[0]} shows more than counts")
            for other in (["--jsonl", "-"], ["--csv", "x"], ["--people", "x"], ["--faces", "x"], ["--output", "x.mp4"],
                          ["--window"])
        ),
        (["--every", "1m"], "are for --audience"), (["--least", "3"], "are for --audience"),
        (["--audience", "a", "--every", "0s"], "--every 0s"), (["--audience", "a", "--every", "1y"], "--every 1y"),
        (["--audience", "a", "--least", "-1"], "--least -1"), (["--audience", "a", "--bands", "5+"], "--bands 5+"),
        (["--people", "a", "--thresholds", "18,x"], "--thresholds 18,x"),
        (["--people", "a", "--least-quality", "2"], "--least-quality 2"),
        (["--people", "a", "--zone", "z=0,0"], "--zone z=0,0"),
        (["--people", "-", "--audience", "-"], "both want standard output"),
        (["--people", "a", "--audience", "a"], "would overwrite"), (["--people", str(CLIP)], "would overwrite"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_and_nothing_is_written(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(CLIP), *options]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_zone_is_drawn(tmp_path):
    plain, drawn = tmp_path / "plain.mp4", tmp_path / "drawn.mp4"
    assert main([str(CLIP), "--quiet", "--output", str(plain)]) == 0
    assert main([str(CLIP), "--quiet", "--output", str(drawn), "--zone", "z=0.2,0.3;0.8,0.3;0.8,0.9;0.2,0.9"]) == 0
    pictures = [cv2.VideoCapture(str(path)).read()[1].astype(int) for path in (plain, drawn)]
    differs = abs(pictures[0] - pictures[1]).max(axis=2) > 60
    height, width = differs.shape
    below = round(0.9 * (height - 1))
    assert differs[below - 1 : below + 2, round(0.25 * width) : round(0.75 * width)].any(axis=0).mean() > 0.9
    assert not differs[round(0.95 * height) :].any()


# Nothing but counts.

_PERSONAL = re.compile(r"box|track|face|landmark|first_|last_|in_view_s|crossings|age_std|score|quality")


def texts_in(value):
    """All keys and texts of JSON values."""
    if isinstance(value, dict):
        return [*value, *(text for each in value.values() for text in texts_in(each))]
    if isinstance(value, list):
        return [text for each in value for text in texts_in(each)]
    return [value] if isinstance(value, str) else []


def test_nothing_but_counts_leaves_the_program(run_cli, tmp_path):
    audience = tmp_path / "audience.jsonl"
    done = run_cli(CLIP, "--audience", audience, "--only-counts", *PLACES, "--least", 2)
    assert (done.returncode, done.stdout) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["audience.jsonl"]
    [window] = records_of(audience.read_text())
    assert window["people"] == 8
    assert not [text for text in texts_in(window) if _PERSONAL.search(text)]
    assert "168" not in done.stderr  # the number of faces in all frames
    assert re.fullmatch(r"ageinfer .*\nframes 80, [\d.]+ s.*\n", done.stderr)


def test_what_is_written_is_complete_after_an_error(tmp_path):
    people = tmp_path / "p.jsonl"
    sink = PeopleSink(str(people), People())

    def fail():
        with sink:
            for each in RESULTS[:20]:
                sink.write(as_frame(each))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [record["track"] for record in records_of(people.read_text())] == [1]


def as_frame(made):
    image = np.zeros((500, 1000, 3), np.uint8)
    return AnnotatedFrame(Frame(made.source, made.index, made.time_s, image), made, places=EVERY_PLACE)


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv"])
def test_a_run_that_sees_nobody_leaves_nothing_of_an_earlier_one(tmp_path, name):
    path = tmp_path / name
    path.write_text("somebody\n")
    with PeopleSink(str(path), People()) as sink:
        assert path.read_text() == "somebody\n"  # a run that fails before its first frame keeps it
        sink.write(as_frame(result(0.0)))
    assert path.read_text() == ("" if name == "p.jsonl" else ",".join(person_columns()) + "\n")


def test_a_spreadsheet_takes_no_name_for_a_formula(tmp_path):
    path = tmp_path / "a.csv"
    with AudienceSink(str(path), Audience()) as sink:
        sink.write(as_frame(result(0.0, face(1, 100), source="=1+1.mp4")))
    assert rows_of(path)[0]["source"] == "./=1+1.mp4"
