"""``ageinfer archive`` as a whole, on Ray: its lines, its exit statuses, and what it leaves behind."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from archive_runs import archive, rows_in
from ray_runs import ended, environment, left_behind, parts, run, started, wait_for_nobody, wait_for_parts

from ageinfer.archive.ledger import MANIFEST, Left
from ageinfer.archive.plan import Shard
from ageinfer.commands.archive import _follow
from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus, OutputError

pytest.importorskip("ray")
pytest_plugins = ["archive_runs", "command_line"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def by_place(out):
    return sorted(rows_in(out), key=lambda row: (row["source"], row["frame"], row["face"] or 0))


@pytest.fixture(scope="module")
def pictures(portraits, clip, tmp_path_factory):
    """Portraits in two folders, a film, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, path in enumerate(sorted(portraits.iterdir())):
        place = folder / "in" / ("left" if number < 15 else "right") / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    shutil.copy(clip, folder / "in")
    (folder / "in" / "broken.jpg").write_bytes(b"no picture")
    return folder / "in"


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory):
    """A run of the command: what it has printed, and where it wrote to."""
    out = tmp_path_factory.mktemp("made") / "out"
    ran = run(pictures, "--output", out, "--per-shard", 6, "--workers", 2)
    return ran, out, wait_for_nobody(ran.pid, 5) if sys.platform == "linux" else []


def test_the_command_prints_its_plan_and_its_counts_and_nothing_else(made):
    ran, out, left = made
    assert ran.status == ExitStatus.SOME_FAILED
    assert ran.out == ""
    plan, rate, counts = ran.err.splitlines()
    assert re.fullmatch(r"plan: 31 pictures, 1 films and 0 tar files \(\d+ MB\) in \d+ shards", plan)
    assert re.fullmatch(r"plan: 2 workers, each \d+ pictures a second in a trial of \d+: about \d+ s without .*", rate)
    expected = f"{out}: 60 faces in 60 pictures and frames of 32 files, 1 unreadable; 61 rows in {len(parts(out))} "
    assert counts.startswith(expected)
    assert len(parts(out)) > 3
    assert left == []


def test_the_rows_are_those_of_one_worker_without_ray(made, pictures, tmp_path):
    _, out, _ = made
    archive(tmp_path / "out", pictures)
    assert by_place(out) == by_place(tmp_path / "out")


def test_a_check_prints_one_line_on_standard_output(made, capfd):
    _, out, _ = made
    assert main(["archive", "--check", str(out)]) == ExitStatus.OK
    assert capfd.readouterr().out.startswith(f"{out}: complete: 60 faces in 60 pictures and frames of 32 files")


def test_the_mean_age_of_each_folder_is_one_line_of_sql(made):
    duckdb = pytest.importorskip("duckdb")
    _, out, _ = made
    text = Path(__file__, "../../../docs/how-to/archive.md").resolve().read_text()
    [query] = re.findall(r"```sql\n(SELECT .*?GROUP BY.*?)```", text, re.DOTALL)
    found = duckdb.sql(query.replace("ages/", f"{out}/")).fetchall()
    rows = rows_in(out)
    for folder, ages, mean in found:
        ours = [row["age"] for row in rows if row["age"] is not None and str(Path(row["source"]).parent) == folder]
        assert ages == len(ours) > 0
        assert mean == pytest.approx(sum(ours) / len(ours))
    assert len(found) == 3


def test_going_on_with_what_is_complete_does_nothing_and_needs_no_ray(made, pictures, capfd, monkeypatch):
    _, out, _ = made
    monkeypatch.setattr("ageinfer.archive.engine.cluster", None)
    before = {path: path.stat().st_mtime_ns for path in (out / "faces").iterdir()}
    status = main(["archive", str(pictures), "--output", str(out), "--per-shard", "6", "--resume"])
    assert status == ExitStatus.SOME_FAILED
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].endswith(f"in 0 shards; {len(before)} shards are done")
    assert len(lines) == 2
    assert {path: path.stat().st_mtime_ns for path in (out / "faces").iterdir()} == before


def test_a_dry_run_writes_nothing_and_needs_no_ray(made, pictures, tmp_path, capfd, monkeypatch):
    _, out, _ = made
    monkeypatch.setattr("ageinfer.archive.engine.cluster", None)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    command = ["archive", str(pictures / "left"), "--per-shard", "6", "--dry-run", "--output"]
    assert main([*command, str(out), "--resume"]) == ExitStatus.OK
    assert "shards have changed or gone" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert main([*command, str(tmp_path / "new"), "--quiet"]) == ExitStatus.OK
    assert re.match(r"plan: 15 pictures, 0 films and 0 tar files", capfd.readouterr().err)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["{in}"], ExitStatus.USAGE, "--output DIR"),
        (["--output", "{new}"], ExitStatus.USAGE, "SOURCE"),
        (["{in}", "--output", "{in}"], ExitStatus.USAGE, "is not empty; --resume goes on"),
        (["{in}", "--output", "{in}", "--resume"], ExitStatus.SOURCE, "no archive"),
        (["{in}/nothing", "--output", "{new}"], ExitStatus.SOURCE, "nothing: no such file"),
        (["{in}", "--output", "{in}/broken.jpg/x"], ExitStatus.OUTPUT, "cannot be written"),
        (["{in}", "--output", "{new}", "--workers", "0"], ExitStatus.USAGE, "--workers 0: use 1 or more"),
        (["{in}", "--output", "{new}", "--per-shard", "0"], ExitStatus.USAGE, "--per-shard 0: use 1 or more"),
        (["{in}", "--output", "{new}", "--every", "0s"], ExitStatus.USAGE, "--every 0s: use a time"),
        (["{in}", "--output", "{new}", "--every", "1s", "--people"], ExitStatus.USAGE, "leave out --every"),
        (["{in}", "--output", "{new}", "--model", "{in}/broken.jpg"], ExitStatus.MODEL, "broken.jpg"),
        (["{in}", "--output", "{new}", "--detector", "{in}/no.onnx"], ExitStatus.MODEL, "no.onnx"),
        (["{in}", "--output", "s3://me:hunter2@bucket/x"], ExitStatus.USAGE, "environment"),
        (["--check", "{in}"], ExitStatus.SOURCE, "has no manifest"),
        (["--check", "{new}"], ExitStatus.SOURCE, "has no manifest"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_before_anything_is_done(
    pictures, tmp_path, capfd, monkeypatch, arguments, status, said
):  # fmt: skip
    monkeypatch.setattr("ageinfer.archive.engine.cluster", None)
    places = {"in": pictures, "new": tmp_path / "new"}
    assert main(["archive", *(argument.format(**places) for argument in arguments)]) == status
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert "hunter2" not in captured.err
    assert not (tmp_path / "new").exists()


def test_a_cluster_that_is_not_there_is_told(pictures, tmp_path):
    ran = run(pictures, "--output", tmp_path / "out", "--address", "127.0.0.1:1")
    assert ran.status == ExitStatus.SOURCE
    assert ran.err.splitlines()[-1].startswith("ageinfer: --address 127.0.0.1:1: ")
    assert len(ran.err.splitlines()) == 2


def test_ray_sends_no_statistics_and_is_asked_for_where_it_is_missing(pictures, tmp_path, run_cli):
    (tmp_path / "ray").mkdir()
    text = 'import os\nprint("statistics:", os.environ["RAY_USAGE_STATS_ENABLED"])\nraise ImportError("ray")\n'
    (tmp_path / "ray" / "__init__.py").write_text(text)
    environ = environment() | {"RAY_USAGE_STATS_ENABLED": "1"}
    environ["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environ['PYTHONPATH']}"
    ran = run_cli("archive", pictures, "--output", tmp_path / "out", env=environ)
    assert ran.stdout == "statistics: 0\n"
    assert ran.returncode == ExitStatus.MISSING
    assert ran.stderr.splitlines()[-1] == "ageinfer: archives need Ray: pip install 'ageinfer[archive]'"


def test_so_many_failures_in_a_row_end_a_run():
    shards = tuple(Shard(number, "", 1, 1, 0, 0, 0) for number in range(100))
    failed = [{"error": f"disk {number} is full"} for number in range(60)]
    done = {"error": "", "faces": 1, "items": 1}
    left = Left(shards, 0, ())
    told = iter([*failed[:19], done, *failed])
    with pytest.raises(OutputError, match="99 of 100 shards are missing: disk 19 is full"):
        _follow(told, left, 100, quiet=True)
    assert len(list(told)) == 40
    with pytest.raises(OutputError, match="1 of 100 shards are missing: disk 3 is full"):
        _follow(iter([*[done] * 50, failed[3], *[done] * 49]), left, 100, quiet=True)
    _follow(iter([done] * 100), left, 100, quiet=True)


@linux
def test_ctrl_c_keeps_what_is_done_and_a_later_run_completes_it(made, pictures, tmp_path):
    _, whole, _ = made
    out = tmp_path / "out"
    process = started(pictures, "--output", out, "--per-shard", 1, "--workers", 1)
    done = wait_for_parts(process, out, 3)
    process.send_signal(signal.SIGINT)
    ran = ended(process)
    assert ran.status == ExitStatus.INTERRUPTED
    assert ran.err.splitlines()[-1] == "ageinfer: interrupted; what was written is complete up to there"
    assert len(ran.err.splitlines()) == 3
    assert wait_for_nobody(ran.pid, 10) == []
    assert 3 <= done <= len(parts(out)) < 32
    assert not (out / MANIFEST).exists()
    kept = {path: path.stat().st_mtime_ns for path in (out / "faces").glob("part-*")}
    archive(out, pictures, per_shard=1)  # what a run with --resume does, without the time that Ray takes to start
    assert by_place(out) == by_place(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert main(["archive", "--check", str(out)]) == ExitStatus.OK


@linux
@pytest.mark.slow
def test_nothing_of_ray_is_left_some_time_after_the_command_was_killed(made, pictures, tmp_path):
    _, whole, _ = made
    out = tmp_path / "out"
    process = started(pictures, "--output", out, "--per-shard", 1, "--workers", 1)
    wait_for_parts(process, out, 3)
    process.kill()
    ran = ended(process)
    assert left_behind(ran.pid) != []
    again = run(pictures, "--output", out, "--per-shard", 1, "--workers", 1, "--resume", "--quiet")
    assert again.status == ExitStatus.SOME_FAILED
    assert by_place(out) == by_place(whole)
    assert wait_for_nobody(ran.pid, 120) == []  # two processes of it wait for a minute
