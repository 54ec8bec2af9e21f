"""How far the answers to one face differ in films: made-up tracks whose figures are known, and the sample clip."""

import json
import math
import statistics
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from conftest import ROOT
from films import moving_face, write_film
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.commands.main import main as ageinfer
from ageinfer.sources import read_picture
from agetrain._files import file_sha256
from agetrain.evaluate import main
from agetrain.evaluation.aev import CUTOFFS_YEARS
from agetrain.evaluation.aev_document import aev_schema
from agetrain.evaluation.film_steadiness import LEAST_FRAMES, TrackAges, crossings, line, of_track, overall
from agetrain.evaluation.film_tables import tables

CLIP, MODEL = ROOT / "samples" / "clip.mp4", ROOT / "models" / "age-small.onnx"
FPS = 25


def track(answers, steady=None, number=1):
    answers = np.asarray(answers, float)
    times_s = np.arange(len(answers)) / FPS
    return TrackAges(number, times_s, answers, answers if steady is None else np.asarray(steady, float))


def sine(middle, height, seconds=10, phase=0.3):
    """An age that swings once a second."""
    times_s = np.arange(seconds * FPS + 1) / FPS
    return middle + height * np.sin(2 * math.pi * times_s + phase)


def test_a_sine_across_a_cut_off_crosses_it_twice_a_second():
    found = of_track(track(sine(25.5, 2), np.full(251, 25.5)))
    assert (found["frames"], found["seconds"]) == (251, 10)
    assert found["mean_years"] == pytest.approx(25.5, abs=0.02)
    assert found["std_years"] == pytest.approx(2 / math.sqrt(2), abs=0.02)
    assert found["largest_change_years"] == pytest.approx(2 * 2 * math.sin(math.pi / FPS), abs=0.01)
    assert found["steady_p5_p95_years"] == [25.5, 25.5]
    at = found["cutoffs"]["25"]
    assert (at["crossings"], at["crossings_per_minute"]) == (20, 120)
    assert (at["steady_crossings"], at["steady_crossings_per_minute"]) == (0, 0)
    # Below 25 is where the sine is below -1/4, to one frame of a swing.
    assert at["other_side_percent"] == pytest.approx(100 * (0.5 - math.asin(0.25) / math.pi), abs=100 / FPS)
    for years in ("18", "21", "28", "30"):
        assert not any(found["cutoffs"][years].values())


def test_the_steady_age_crosses_by_itself():
    found = of_track(track(np.full(251, 30.0), sine(28, 1)))
    assert found["std_years"] == found["largest_change_years"] == 0
    assert found["cutoffs"]["28"] == {
        "other_side_percent": 0, "crossings": 0, "crossings_per_minute": 0, "steady_crossings": 20,
        "steady_crossings_per_minute": 120,
    }  # fmt: skip


def test_a_cut_off_belongs_to_the_upper_side():
    assert crossings(np.array([25.0, 25.0, 26.0]), 25) == 0
    assert crossings(np.array([24.999, 25.0, 24.999, 26.0]), 25) == 3


def test_the_range_of_the_steady_age_begins_after_two_seconds():
    settling, settled = np.full(2 * FPS, 90.0), np.linspace(30, 32, 201)
    assert of_track(track(np.full(251, 31.0), [*settling, *settled]))["steady_p5_p95_years"] == [30.1, 31.9]
    assert of_track(track(np.full(2 * FPS, 31.0)))["steady_p5_p95_years"] is None
    assert of_track(track(np.full(2 * FPS + 1, 31.0)))["steady_p5_p95_years"] == [31, 31]


AGES = st.lists(st.floats(0, 100), min_size=LEAST_FRAMES, max_size=80)


@given(AGES, st.data())
def test_the_figures_of_any_track_hold_together(answers, data):
    steady = data.draw(st.lists(st.floats(0, 100), min_size=len(answers), max_size=len(answers)))
    found = of_track(track(answers, steady))
    schema = aev_schema()
    jsonschema.Draft202012Validator({"$ref": "#/$defs/track", "$defs": schema["$defs"]}).validate(found)
    assert found["mean_years"] == pytest.approx(statistics.fmean(answers), abs=1e-4)
    assert found["std_years"] == pytest.approx(statistics.pstdev(answers), abs=1e-4)
    assert found["std_years"] <= (max(answers) - min(answers)) / 2 + 1e-4
    assert found["largest_change_years"] == pytest.approx(max(abs(b - a) for a, b in pairwise(answers)), abs=1e-4)
    if found["steady_p5_p95_years"]:
        low, high = found["steady_p5_p95_years"]
        assert min(steady) - 1e-4 <= low <= high <= max(steady) + 1e-4
    for years, at in ((int(years), at) for years, at in found["cutoffs"].items()):
        sides = [answer >= years for answer in answers]
        assert at["crossings"] == sum(a != b for a, b in pairwise(sides))
        assert at["crossings"] % 2 == (sides[0] != sides[-1])
        assert at["crossings_per_minute"] == pytest.approx(60 * at["crossings"] * FPS / (len(answers) - 1), abs=1e-3)
        assert at["other_side_percent"] == pytest.approx(
            100 * min(sum(sides), len(sides) - sum(sides)) / len(sides), abs=1e-3
        )


def test_all_tracks_together_have_medians_and_shares():
    still, swinging = np.full(251, 31.0), sine(25, 2)
    tracks = [track(still), track(swinging, still), track(sine(25, 1)), track(np.full(30, 17.0))]
    found = overall([of_track(each) for each in tracks])
    assert (found["tracks"], found["seconds"]) == (4, 10)
    assert found["std_years"] == pytest.approx(1 / math.sqrt(2) / 2, abs=0.01)
    assert found["steady_width_years"] == 0  # the median of the three that are long enough
    assert found["cutoffs"]["25"] == {
        "other_side_percent": pytest.approx(100 / 2 / 2, abs=2), "crossings_per_minute": 60,
        "steady_crossings_per_minute": 0, "crossing_tracks_percent": 50, "steady_crossing_tracks_percent": 25,
    }  # fmt: skip
    assert found["cutoffs"]["18"]["crossing_tracks_percent"] == 0
    assert overall([]) == {"tracks": 0}


@pytest.fixture(scope="module")
def empty_film(write_video, tmp_path_factory):
    """30 grey frames."""
    return write_video(tmp_path_factory.mktemp("films") / "grey.mp4", [np.full((120, 160, 3), 90, np.uint8)] * 30)


@pytest.fixture(scope="module")
def lamp_film(astronaut_path, tmp_path_factory):
    """A face in a light that comes and goes, for 3.5 s."""
    face = read_picture(astronaut_path)[20:300, 90:370]
    images = (
        cv2.convertScaleAbs(image, alpha=0.75 + 0.35 * math.sin(i / 3)) for i, image in enumerate(moving_face(face, 88))
    )
    return write_film(tmp_path_factory.mktemp("films") / "lamp.mp4", images)


@pytest.fixture(scope="module")
def report(appa_real, lamp_film, empty_film, tmp_path_factory):
    """The folder of a report on the sample clip, a film of one face, and a film in which nobody is."""
    out = tmp_path_factory.mktemp("report")
    arguments = [MODEL, "--dataset", f"appa-real={appa_real}", "--resamples", "20", "--report", "aev", "--out", out]
    assert main([*map(str, arguments), "--films", str(CLIP), str(lamp_film), str(empty_film)]) == 0
    return out


@pytest.mark.parametrize("place", [0, 1])
def test_the_command_measures_what_the_records_of_the_runtime_say(report, tmp_path, place):
    [found] = json.loads((report / "aev.json").read_text())["films"]
    film, records = found["films"][place], tmp_path / "records.jsonl"
    arguments = [film["film"], "--model", str(MODEL), "--age-interval", "0", "--quiet", "--jsonl", str(records)]
    assert ageinfer(arguments) == 0
    frames = [json.loads(record) for record in records.read_text().splitlines()]
    seen = defaultdict(list)
    for frame in frames:
        for face in frame["faces"]:
            seen[face["track"]].append((frame["time_s"], face["age"], face["age_smoothed"]))
    long = {number: rows for number, rows in seen.items() if len(rows) >= 25}
    assert (film["frames"], film["short_tracks"]) == (len(frames), len(seen) - len(long))
    assert [each["track"] for each in film["tracks"]] == sorted(long) != []
    for each in film["tracks"]:
        times_s, ages, steady = zip(*long[each["track"]], strict=True)
        assert (each["frames"], each["seconds"]) == (len(ages), pytest.approx(times_s[-1] - times_s[0], abs=1e-3))
        assert each["mean_years"] == pytest.approx(statistics.fmean(ages), abs=0.01)
        assert each["std_years"] == pytest.approx(statistics.pstdev(ages), abs=0.01)
        assert each["std_years"] > 0.3
        assert each["largest_change_years"] == pytest.approx(max(abs(b - a) for a, b in pairwise(ages)), abs=0.02)
        late = [age for time_s, age in zip(times_s, steady, strict=True) if time_s - times_s[0] >= 2]
        range_years = pytest.approx(np.percentile(late, [5, 95]).tolist(), abs=0.01) if late else None
        assert each["steady_p5_p95_years"] == range_years


def test_the_report_of_films_fits_the_schema_and_names_all(report, lamp_film):
    values = json.loads((report / "aev.json").read_text())
    jsonschema.Draft202012Validator(aev_schema()).validate(values)
    [found] = values["films"]
    assert (found["model"], found["model_sha256"], found["detector"]) == (
        MODEL.name,
        file_sha256(MODEL),
        "yunet-2023mar",
    )
    clip, lamp, grey = found["films"]
    assert (clip["film"], clip["film_sha256"]) == (CLIP.as_posix(), file_sha256(CLIP))
    assert [each["steady_p5_p95_years"] is None for each in (*clip["tracks"], *lamp["tracks"])] == [True] * 3 + [False]
    assert (grey["frames"], grey["short_tracks"], grey["tracks"]) == (30, 0, [])
    assert found["overall"]["tracks"] == 4
    assert [int(years) for years in found["overall"]["cutoffs"]] == list(CUTOFFS_YEARS)


def test_text_and_page_have_the_films_and_say_where_nobody_is(report):
    [found] = json.loads((report / "aev.json").read_text())["films"]
    text, page = (report / "aev.md").read_text(), (report / "aev.html").read_text()
    assert "| grey.mp4 | 30 | nobody is seen | 0 |" in text
    assert "<td>nobody is seen</td>" in page
    first = found["films"][0]["tracks"][0]
    assert f"| clip.mp4, {first['track']} | {first['seconds']:.1f} | {first['frames']} |" in text
    assert f"| standard deviation of the answers to single frames | {found['overall']['std_years']:.2f} years |" in text
    assert page.count("<table>") == text.count("\n|---|") == 7 + 6


def test_films_without_a_face_have_no_figures_and_do_no_harm():
    film = {"film": "a/b.mp4", "frames": 30, "tracks": []}
    found = {"model": "m.onnx", "least_frames": 25, "settled_s": 2.0, "overall": overall([])}
    for short, says in ((0, "nobody is seen"), (3, "0")):
        [table] = tables(found | {"films": [film | {"short_tracks": short}]})
        assert table.rows == (("b.mp4", "30", says, str(short)),)
    assert line(found | {"films": [film]}) == "m.onnx in 1 film: no face was followed for 25 frames"


def test_a_line_says_how_many_faces_cross():
    found = {"model": "m.onnx", "films": [{}, {}], "overall": overall([of_track(track(sine(25, 2)))])}
    assert line(found) == (
        "m.onnx in 2 films: faces followed for 25 frames or more: 1; standard deviation of their answers "
        f"{found['overall']['std_years']:.2f} years (median); faces whose answers ever cross 18: 0 %, 21: 0 %, "
        "25: 100 %, 28: 0 %, 30: 0 %"
    )


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        (["--films", str(CLIP), "missing.mp4"], 3, "missing.mp4: no such file or folder; check the path"),
        (["--films", "FOLDER/text.mp4"], 3, "text.mp4: neither a picture nor a video"),
        (["--films", "FOLDER/broken.mp4"], 3, "the index of this video is missing"),
        (["--films", "FOLDER/zero.mp4"], 3, "zero.mp4: no frame of this video can be decoded"),
        (["--films", "samples/obama.jpg"], 3, "samples/obama.jpg: not a film; give --films the files of films"),
        (["--films", str(CLIP), "--detector", "none"], 2, "--detector none finds no face that --films could follow"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line_before_anything_is(appa_real, tmp_path, capfd, more, status, says):
    (tmp_path / "text.mp4").write_text("no film")
    clip = CLIP.read_bytes()
    (tmp_path / "broken.mp4").write_bytes(clip[:400])
    start, end = clip.index(b"mdat") + 4, clip.index(b"moov") - 4
    (tmp_path / "zero.mp4").write_bytes(clip[:start] + bytes(end - start) + clip[end:])
    more = [argument.replace("FOLDER", str(tmp_path)) for argument in more]
    out = tmp_path / "out"
    arguments = [str(MODEL), "--dataset", f"appa-real={appa_real}", "--report", "aev", "--out", str(out), *more]
    assert main(arguments) == status
    printed, errors = capfd.readouterr()
    [error] = errors.splitlines()
    assert error.startswith("agetrain.evaluate: ")
    assert says in error
    assert printed == ""
    assert not out.exists()


def test_a_checkpoint_is_refused_and_films_need_the_report(capsys):
    arguments = ["--dataset", "appa-real", "--films", str(CLIP), "--out", "x"]
    assert main(["best.pth", *arguments, "--report", "aev"]) == 2
    assert capsys.readouterr().err == (
        "agetrain.evaluate: best.pth: --films needs a model file (*.onnx), which the runtime can run; export it first "
        "(python -m ageexport best.pth)\n"
    )
    assert main([str(MODEL), *arguments]) == 2
    assert "give --report aev as well" in capsys.readouterr().err
    assert not Path("x").exists()
