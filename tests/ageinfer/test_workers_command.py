"""``ageinfer`` with worker processes: every output is the same as without them, and so is the exit status."""

import json
import subprocess
import threading

import cv2
import numpy as np
import pytest
from portraits import variation
from worker_openers import IMPATIENT

from ageinfer.commands import run, side_by_side
from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.main import main
from ageinfer.commands.options import build_parser
from ageinfer.errors import ExitStatus
from ageinfer.pipeline import Pipeline
from ageinfer.sources import open_source

pytest_plugins = ["command_line"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, persons):
    """Thirty faces, one of them damaged, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("folder")
    for i in range(30):
        assert cv2.imwrite(str(folder / f"{i:02}.jpg"), variation(persons[i % 3], i))
    whole = (folder / "07.jpg").read_bytes()
    (folder / "07.jpg").write_bytes(whole[: len(whole) // 2] + bytes(400) + whole[len(whole) // 2 + 400 :])
    (folder / "20.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture
def few(monkeypatch):
    """Workers do all the work, however little it is; notes how many processes each run has."""
    counts = []
    monkeypatch.setattr("ageinfer.workers.run.Run._alone", lambda *_: ())
    made = run.open_workers

    def counted(*arguments, **more):
        workers = made(*arguments, **more)
        counts.append(1 if workers is None else workers.count)
        return workers

    monkeypatch.setattr(run, "open_workers", counted)
    return counts


def everything_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_with(workers, source, out, *options):
    """The exit status, and all that was written."""
    out.mkdir()
    return main([*map(str, source), *options, "--workers", workers, "--quiet", "--provider", "cpu"]), everything_in(out)


def test_every_output_is_byte_for_byte_the_same(folder, tmp_path, few, capsys):
    written = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        files = {name: str(out / name) for name in ("r.jsonl", "r.csv", "a.jsonl", "drawn", "faces")}
        status, found = run_with(
            workers, [folder], out, "--jsonl", files["r.jsonl"], "--csv", files["r.csv"], "--audience",
            files["a.jsonl"], "--output", files["drawn"], "--faces", files["faces"],
        )  # fmt: skip
        written.append((status, found, capsys.readouterr().err))
    assert few == [1, 2]
    assert written[0] == written[1]
    status, found, said = written[1]
    assert status == ExitStatus.DAMAGED
    assert [line.split(": ")[1] for line in said.splitlines()] == [str(folder / f"{i}.jpg") for i in ("07", "20")]
    assert sum(path.parts[0] == "drawn" for path in found) == 29
    assert sum(path.parts[0] == "faces" for path in found) >= 25


def test_blurred_pictures_are_the_same(folder, tmp_path, few):
    names = [folder / f"{i:02}.jpg" for i in range(10)]
    assert run_with("1", names, tmp_path / "1", "--blur", "--output", str(tmp_path / "1")) == run_with(
        "2", names, tmp_path / "2", "--blur", "--output", str(tmp_path / "2")
    )
    assert few == [1, 2]


def test_films_side_by_side_give_what_they_give_one_after_the_other(folder, tmp_path, persons, write_video, few):
    """Faces come and go, so that tracks, people and windows differ from film to film."""
    blank = np.full((160, 160, 3), 90, np.uint8)
    films = []
    for i, person in enumerate(persons[:2]):
        face = cv2.resize(person, (160, 160))
        films.append(write_video(tmp_path / f"{i}.avi", [np.roll(face, j, axis=1) for j in range(40)] + [blank] * 5))
    given = [films[0], folder / "01.jpg", folder / "02.jpg", films[1]]
    outputs = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        names = ("r.jsonl", "r.csv", "p.jsonl", "a.jsonl")
        r, table, p, a = (str(out / name) for name in names)
        zone = ("--zone", "left=0,0;0.5,0;0.5,1;0,1")
        outputs.append(
            run_with(workers, given, out, "--jsonl", r, "--csv", table, "--people", p, "--audience", a, *zone)
        )
    assert few == [1, 2]
    assert outputs[0] == outputs[1]
    status, found = outputs[1]
    assert status == ExitStatus.OK
    texts = {str(name): data.decode() for name, data in found.items()}
    assert texts["r.jsonl"].count("\n") == 92
    assert [texts["p.jsonl"].count(str(film)) for film in films] == [1, 1]
    assert '"source": "2 pictures"' in texts["a.jsonl"]
    assert texts["a.jsonl"].count("\n") == 3
    records = texts["r.jsonl"].splitlines(keepends=True)
    for film, its_own in zip(films, (records[:45], records[47:]), strict=True):
        alone = tmp_path / f"only-{film.stem}"
        _, found = run_with("1", [film], alone, "--jsonl", str(alone / "r"))
        assert b"".join(found.values()).decode() == "".join(its_own)  # as if it was given alone


def test_the_best_views_of_faces_of_several_films(tmp_path, persons, write_video, few):
    films = [write_video(tmp_path / f"{i}.avi", [cv2.resize(persons[i], (160, 160))] * 3) for i in range(2)]
    status, found = run_with("2", films, tmp_path / "out", "--faces", str(tmp_path / "out"))
    assert status == ExitStatus.OK
    assert sorted(map(str, found)) == ["0-track-00001.jpg", "1-track-00001.jpg"]
    assert few == [1]


@pytest.mark.parametrize("option", [["--output", "out.mp4"], ["--window"], ["--serve"], ["--serve-at", ":0"]])
def test_an_output_for_one_film_is_refused_for_several(clip, tmp_path, option, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.avi"
    other.write_bytes(clip.read_bytes())
    assert main([str(clip), str(other), *option]) == ExitStatus.USAGE
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ageinfer: {option[0]} is for one video; give videos one by one")
    assert [path.name for path in tmp_path.iterdir()] == ["other.avi"]


@pytest.mark.parametrize("workers", ["0", "-1", "many", "1.5", "257", ""])
def test_another_number_of_workers_is_refused(folder, workers, capsys):
    assert main([str(folder), f"--workers={workers}"]) == ExitStatus.USAGE
    assert capsys.readouterr().err.startswith(f"ageinfer: --workers {workers}: use auto, or 1 to 256")


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.default(provider="cpu")


def workers_for(source, pipeline, *options, pixels=False):
    parsed = build_parser().parse_args(["x", *options])
    with source:
        workers = side_by_side.open_workers(parsed, source, pipeline, Interrupts(), pixels=pixels)
    return 1 if workers is None else workers.count


@pytest.mark.parametrize(
    ("cores", "options", "count"),
    [
        (8.0, [], 8), (2.7, [], 2), (0.5, [], 1), (1.0, [], 1), (8.0, ["--workers", "3"], 3),
        (8.0, ["--threads", "2"], 4), (8.0, ["--workers", "1"], 1), (1.0, ["--workers", "2"], 2),
        (8.0, ["--workers", "256"], 256),
    ],
)  # fmt: skip
def test_there_are_as_many_workers_as_this_process_may_use_cores(folder, monkeypatch, pipeline, cores, options, count):
    monkeypatch.setattr("ageinfer.engine.cores.usable_cores", lambda: cores)
    assert workers_for(open_source(folder), pipeline, *options) == count


def test_what_cannot_be_shared_out_stays_in_one_process(folder, clip, astronaut_path, monkeypatch, pipeline):
    monkeypatch.setattr("ageinfer.engine.cores.usable_cores", lambda: 4)
    assert workers_for(open_source(folder), pipeline) == 4
    assert workers_for(open_source(clip), pipeline) == 1
    assert workers_for(open_source(astronaut_path), pipeline) == 1
    monkeypatch.setattr(type(pipeline.estimator), "provider", "cuda")
    assert workers_for(open_source(folder), pipeline) == 1


def write(stream, paths):
    stream.write("".join(f"{path}\n" for path in paths))
    stream.flush()


def test_paths_on_standard_input_are_shared_out_and_each_is_answered_before_the_next_one_comes(folder):
    names = [str(folder / f"{i:02}.jpg") for i in range(4)]
    command = [*IMPATIENT, "-", "--workers", "2", "--jsonl", "-", "--provider", "cpu"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        for count in (600, 1, 1, 1):
            given = (names * 150)[:count]
            threading.Thread(target=write, args=(run.stdin, given)).start()
            assert [json.loads(run.stdout.readline())["source"] for _ in range(count)] == given
        run.stdin.close()
        assert run.wait(30) == ExitStatus.OK


def test_work_of_a_moment_starts_no_process(folder, monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr("ageinfer.workers.Workers.start_one", started.append)
    assert main([str(folder), "--workers", "2", "--jsonl", str(tmp_path / "r"), "--quiet"]) == ExitStatus.DAMAGED
    assert started == []
