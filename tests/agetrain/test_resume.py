"""Runs that stop halfway, and go on as if they had not."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
import torchvision
from runs import (
    again_in,
    alone,
    command,
    environment,
    history_of,
    interrupt_at,
    one_line,
    options_in,
    same_run,
    same_weights,
    wandb_records,
)

from agetrain._files import file_sha256
from agetrain.errors import OutputError, UsageError
from agetrain.network import checkpoint
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Recipe
from agetrain.train import main
from agetrain.training import loop
from agetrain.training.finish import TrainingResult
from agetrain.training.state import check_same_run


@pytest.fixture(autouse=True)
def _alone():
    with alone():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def arguments(place, appa_real):
    return options_in(place, appa_real)


@pytest.fixture(scope="module")
def again(place):
    return again_in(place)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, arguments):
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    with alone():
        assert main(arguments(out)) == 0
    return out


@pytest.fixture
def copy(uninterrupted, tmp_path):
    """A finished run, to be spoiled."""
    return shutil.copytree(uninterrupted, tmp_path / "out")


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def record_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def state_of(folder):
    return checkpoint.read(folder / "last.pth")["progress"]


def tracked(folder):
    """Of each part of a tracked run, in the order of time: its id, its epochs, and the losses logged for them."""
    parts = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        losses = {}
        for record in wandb_records(file):
            items = {".".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            if "train_loss" in items:
                losses[int(record.history.step.num)] = json.loads(items["train_loss"])
        parts.append((re.fullmatch(r"run-(\w+)", file.stem)[1], losses))
    return parts


def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path, arguments, uninterrupted):
    out = tmp_path / "out"
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            command(*arguments(out, wandb="offline")), env=environment(), stdout=err, stderr=err
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while not (out / "last.pth").is_file():
                assert process.poll() is None, (tmp_path / "err").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert process.returncode == -signal.SIGKILL
    killed = state_of(out)
    done = len(killed["history"])
    assert done in (1, 2)
    assert not TrainingResult.read(out).finished
    assert killed["tracker_id"]

    assert main(arguments(out, wandb="offline", resume=True)) == 0
    assert same_run(out, uninterrupted)
    assert len(history_of(out)) == 3

    assert state_of(out)["tracker_id"] == killed["tracker_id"]
    first, second = tracked(out)
    assert first[0] == second[0] == killed["tracker_id"]
    # One axis of epochs. The tracker of a killed run may lose its last figures, but never tells an epoch twice.
    assert list(second[1]) == list(range(done + 1, 4))
    assert set(first[1]) <= set(range(1, done + 1))
    for epoch, loss in {**first[1], **second[1]}.items():
        assert loss == pytest.approx(history_of(uninterrupted)[epoch - 1]["train_loss"])


@pytest.mark.slow
def test_a_run_that_dies_before_an_epoch_is_written_repeats_it(tmp_path, arguments, uninterrupted):
    """And Ctrl-C of the run that goes on leaves the best epoch so far."""
    out = tmp_path / "out"
    code = (
        "import os, signal, sys\n"
        "from agetrain.training.start import Run\n"
        "save = Run.save_state\n"
        "def die(run, better):\n"
        "    if run.state.epoch == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    save(run, better)\n"
        "Run.save_state = die\n"
        "from agetrain.train import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments(out)], env=environment(), check=False)
    assert ran.returncode == -signal.SIGKILL
    assert len(state_of(out)["history"]) == 1
    kept = Checkpoint.load(out / "best.pth")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 1)
        assert main(arguments(out, resume=True)) == 130
    best = Checkpoint.load(out / "best.pth")
    assert best.training["epoch"] == kept.training["epoch"] == 1
    assert all(torch.equal(best.weights[name], weight) for name, weight in kept.weights.items())
    assert [m["part"] for m in best.metrics] == ["selection"]
    assert main(arguments(out, resume=True)) == 0
    assert same_run(out, uninterrupted)


@pytest.mark.parametrize("beside", [False, True], ids=["in the state", "beside it"])
def test_the_state_of_an_older_release_has_its_best_epochs_in_it_or_beside_it(copy, arguments, uninterrupted, beside):
    """And more of its progress, which follows from the history."""
    state = checkpoint.read(copy / "last.pth")
    state["best"] = {path.name: checkpoint.read(path) for path in copy.glob("best*.pth")}
    older = {"epoch": 3, "best_mae": 1.0, "best_epoch": 3, "best_other_mae": 1.0}
    state["progress"] = {**state["progress"], **older}
    for path in copy.iterdir():
        if path.name not in ("config.json", "last.pth") and not (beside and path.suffix == ".pth"):
            path.unlink()  # it wrote them at its end, with the figures of valid
    for best in state["best"].values():
        best["metrics"] = best["metrics"][:1]
    if beside:
        for name, best in state.pop("best").items():
            checkpoint.write(copy / name, best)
    checkpoint.write(copy / "last.pth", state)
    assert not TrainingResult.read(copy).finished
    assert len(TrainingResult.read(copy).history) == 3
    assert main(arguments(copy, resume=True)) == 0
    assert same_run(copy, uninterrupted)
    assert bytes_of(copy).keys() == bytes_of(uninterrupted).keys()


def test_nothing_unfinished_is_left_beside_a_run(uninterrupted):
    assert sorted(p.name for p in uninterrupted.iterdir()) == [
        "best-apparent.pth", "best.pth", "config.json", "curve.png", "last.pth", "metrics-apparent.json",
        "metrics.json", "parity.npz", "report.md",
    ]  # fmt: skip


def test_a_finished_run_is_not_trained_again(copy, arguments, uninterrupted, monkeypatch):
    def never(*_):
        raise AssertionError("trained")

    monkeypatch.setattr("agetrain.training.loop.augment", never)
    assert main(arguments(copy, resume=True)) == 0
    assert same_weights(copy, uninterrupted)
    assert history_of(copy) == history_of(uninterrupted)


def test_without_a_state_a_resumed_run_begins_at_the_beginning(tmp_path, arguments, caplog):
    caplog.set_level("INFO")
    assert main(arguments(tmp_path / "out", resume=True, epochs=1)) == 0
    assert "starting from the beginning" in caplog.text
    assert len(history_of(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"lr": 2e-3}, "lr 0.001 there, 0.002 here"),
        ({"flip": 0.1}, "flip 0.5 there, 0.1 here"),
        ({"repeats": 2, "seed": 1}, "repeats [1.0] there, [2.0] here; seed 0 there, 1 here"),
        ({"label": "apparent"}, "label real there, apparent here"),
        ({"epochs": 2}, "--epochs 2: 3 epochs are done already; give 3 or more"),
    ],
    ids=str,
)
def test_a_run_does_not_go_on_with_other_options_and_says_which(copy, arguments, again, capsys, other, told):
    before = bytes_of(copy)
    for line in (arguments(copy, resume=True, **other), again(resume=copy, **other)):
        assert main(line) == 2
        said = one_line(capsys.readouterr().err)
        assert told in said
        assert "--out" in said
        assert bytes_of(copy) == before


def test_a_state_from_before_a_field_of_the_recipe_was_added_goes_on(copy, arguments, uninterrupted):
    state = checkpoint.read(copy / "last.pth")
    del state["config"]["recipe"]["doubt_beyond"]
    checkpoint.write(copy / "last.pth", state)
    assert main(arguments(copy, resume=True)) == 0
    assert same_weights(copy, uninterrupted)
    state["config"]["recipe"]["unheard_of"] = 1
    checkpoint.write(copy / "last.pth", state)
    assert main(arguments(copy, resume=True)) == 2


def test_a_run_does_not_go_on_with_another_split(copy, tmp_path, arguments, appa_real, capsys):
    from agetrain import splits

    kind = ["--kind", "random", "-o", str(tmp_path / "split.csv")]
    assert splits.main(["appa-real", "--data", str(appa_real), *kind]) == 0
    before = bytes_of(copy)
    assert main(arguments(copy, resume=True, split=tmp_path / "split.csv")) == 2
    digest = json.loads((copy / "config.json").read_text())["split_sha256"][0]
    line = one_line(capsys.readouterr().err)
    assert f"--split the usual split ({digest[:8]}) there, {tmp_path / 'split.csv'} (" in line
    assert bytes_of(copy) == before


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "start.pth"
    torch.manual_seed(8)
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), path)
    return path


def test_a_run_does_not_go_on_from_other_weights(copy, arguments, other_weights, capsys):
    before = bytes_of(copy)
    assert main(arguments(copy, resume=True, weights=other_weights)) == 2
    line = one_line(capsys.readouterr().err)
    first = json.loads((copy / "config.json").read_text())
    digests = first["weights_sha256"][:8], file_sha256(other_weights)[:8]
    assert f"--weights {first['weights']} ({digests[0]}) there, {other_weights} ({digests[1]}) here" in line
    assert "--out" in line
    assert bytes_of(copy) == before


def test_weights_that_were_moved_are_the_same(copy, arguments, uninterrupted, tmp_path):
    start = json.loads((copy / "config.json").read_text())["weights"]
    assert main(arguments(copy, resume=True, weights=shutil.copy(start, tmp_path / "moved.pth"))) == 0
    assert same_weights(copy, uninterrupted)


def test_a_state_from_before_weights_were_recorded_goes_on(copy, arguments, uninterrupted, other_weights):
    state = checkpoint.read(copy / "last.pth")
    for name in ("weights", "weights_sha256", "teacher_sha256"):
        del state["config"][name]
    checkpoint.write(copy / "last.pth", state)
    assert main(arguments(copy, resume=True, weights=other_weights)) == 0
    assert same_weights(copy, uninterrupted)


OF_A_TEACHER = {
    "recipe": Recipe().to_dict(), "label": "real", "split_sha256": ["1"], "weights": "a.pth", "weights_sha256": "2",
    "teacher": ["t.npz"], "teacher_sha256": ["3"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ({}, {}, None),
        ({}, {"teacher": ["moved.npz"]}, None),
        ({}, {"teacher_sha256": ["4"]}, "--teacher"),
        ({}, {"teacher": [], "teacher_sha256": []}, "--teacher"),
        ({"teacher": [], "teacher_sha256": []}, {}, "--teacher"),
        ({"teacher_sha256": None}, {"teacher_sha256": ["4"]}, None),
        ({"teacher_sha256": None}, {"teacher": ["other.npz"]}, "--teacher"),
        ({"teacher_sha256": None, "teacher": []}, {"packed": "pack"}, None),
        ({}, {"weights": "b.pth", "weights_sha256": "5"}, "--weights"),
        ({}, {"weights": "", "weights_sha256": ""}, "--weights"),
        ({}, {"weights_sha256": ""}, None),  # the file is gone, and not needed any more
    ],
)
def test_whether_a_run_goes_on_depends_on_what_its_files_hold(tmp_path, before, now, refused):
    """None stands for a key that the state does not have."""
    config = {k: v for k, v in {**OF_A_TEACHER, **before}.items() if v is not None}
    state = {"config": config, "progress": {"history": [], "tracker_id": ""}}
    if refused is None:
        check_same_run(tmp_path, state, {**OF_A_TEACHER, **now})
    else:
        with pytest.raises(UsageError, match=f": {refused} .* there, .* here; give"):
            check_same_run(tmp_path, state, {**OF_A_TEACHER, **now})


@pytest.mark.parametrize("resume", [{}, {"resume": True}], ids=["anew", "resume without a state"])
def test_a_run_that_begins_leaves_nothing_of_an_earlier_one_to_go_on_from(
    copy, arguments, other_weights, monkeypatch, capsys, resume
):
    if resume:
        (copy / "last.pth").unlink()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert main(arguments(copy, weights=other_weights, overwrite=True, **resume)) == 130
    assert "no epoch was finished" in one_line(capsys.readouterr().err)
    assert not [path.name for path in copy.iterdir() if path.suffix == ".pth" or path.name.startswith("metrics")]
    assert main(arguments(copy, weights=other_weights, resume=True, epochs=1)) == 0
    digest = file_sha256(other_weights)
    assert digest[:16] in Checkpoint.load(copy / "best.pth").training["start"]
    assert json.loads((copy / "config.json").read_text())["weights_sha256"] == digest


def test_an_interrupted_run_says_what_is_left_and_what_comes_next(tmp_path, place, arguments, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        assert main(arguments(out)) == 130
    line = one_line(capsys.readouterr().err)
    assert "the best epoch so far is in best.pth, --resume goes on" in line
    assert f"python -m agetrain --resume {out} --cache {place / 'cache'}, or python -m ageexport {out}/best.pth" in line
    assert Checkpoint.load(out / "best.pth").training["epoch"] == 1


def test_a_run_that_is_interrupted_before_it_begins_leaves_the_folder_as_it_is(copy, arguments, monkeypatch, capsys):
    """And does not take the state of the earlier run in it for its own."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    before = bytes_of(copy)
    monkeypatch.setattr("agetrain.training.prepared.training_set", stop)
    assert main(arguments(copy)) == 130
    assert "no epoch was finished" in one_line(capsys.readouterr().err)
    assert bytes_of(copy) == before


def test_a_run_that_cannot_start_leaves_the_folder_as_it_is(copy, arguments, capsys):
    before = bytes_of(copy)
    assert main(arguments(copy, weights="/nowhere/w.pth", overwrite=True)) == 4
    one_line(capsys.readouterr().err)
    assert main(arguments(copy, weights=copy / "best.pth", overwrite=True)) == 2
    assert "write over it" in one_line(capsys.readouterr().err)
    for resume in ({}, {"resume": True}):
        if resume:
            (copy / "last.pth").unlink()
            del before["last.pth"]
        assert main(arguments(copy, **resume)) == 2
        assert "--overwrite replaces it" in one_line(capsys.readouterr().err.splitlines()[-1])
    assert bytes_of(copy) == before


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "other file", "older state"])
def test_a_damaged_state_is_one_line_and_the_best_network_is_still_there(copy, arguments, capsys, damage):
    last = copy / "last.pth"
    data = last.read_bytes()
    if damage == "other file":
        shutil.copy(copy / "best.pth", last)
    elif damage == "older state":
        checkpoint.write(last, {**checkpoint.read(last), "format": "agetrain-state-0"})
    else:
        last.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "garbage": b"\x00" * 4096}[damage])
    before = bytes_of(copy)
    assert main(arguments(copy, resume=True)) == 4
    assert "last.pth" in one_line(capsys.readouterr().err)
    assert bytes_of(copy) == before
    Checkpoint.load(copy / "best.pth").network()


def fill_disk_from(monkeypatch, call):
    """Lets the disk be full from the n-th file on that torch writes; half of that file is there by then."""
    save, calls = torch.save, []

    def full(values, path):
        calls.append(path)
        if len(calls) < call:
            return save(values, path)
        save(values, path)
        os.truncate(path, path.stat().st_size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)


def test_a_full_disk_leaves_the_old_checkpoint(copy, monkeypatch):
    before = bytes_of(copy)
    values = Checkpoint.load(copy / "best.pth")
    fill_disk_from(monkeypatch, 1)
    with pytest.raises(OutputError, match="No space left"):
        replace(values, label="apparent").save(copy / "best.pth")
    assert bytes_of(copy) == before  # and nothing half written


# Every epoch is the best one here: it writes last.pth, best.pth and best-apparent.pth. At the end come the last two.
@pytest.mark.parametrize(("call", "done", "best"), [(1, 0, 0), (2, 1, 0), (5, 2, 1), (7, 2, 2), (8, 3, 2), (10, 3, 3)])
def test_a_disk_that_is_full_during_a_run_leaves_what_was_saved(
    tmp_path, arguments, monkeypatch, capsys, call, done, best
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("agetrain.training.selection.best_epoch", lambda history, _: len(history))
        fill_disk_from(patch, call)
        assert main(arguments(out)) == 5
    assert "No space left" in one_line(capsys.readouterr().err)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
    assert (out / "last.pth").is_file() == (done > 0)
    assert (out / "best.pth").is_file() == (best > 0)
    if best:
        assert Checkpoint.load(out / "best.pth").training["epoch"] == best
    if done:
        assert len(state_of(out)["history"]) == done


def test_a_loss_that_is_no_number_keeps_the_earlier_checkpoint(tmp_path, arguments, monkeypatch, capsys, uninterrupted):
    total_loss, out = loop.total_loss, tmp_path / "out"
    steps = []

    def bursting(*values):
        loss, decoded = total_loss(*values)
        steps.append(1)
        return (loss * float("nan") if len(steps) == 7 else loss), decoded  # in the second epoch of 4 steps

    with monkeypatch.context() as patch:
        patch.setattr(loop, "total_loss", bursting)
        assert main(arguments(out)) == 9
    line = one_line(capsys.readouterr().err)
    assert "epoch 2, step 3" in line
    assert "--lr" in line
    assert Checkpoint.load(out / "best.pth").training["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in Checkpoint.load(out / "best.pth").weights.values())
    assert history_of(out) == history_of(uninterrupted)[:1]
    # And the state before that is good to go on from.
    assert main(arguments(out, resume=True)) == 0
    assert same_weights(out, uninterrupted)
