"""What W&B is given of a run: through a module that notes it, and for real without a network."""

import json
import logging
import os
import subprocess
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from portraits import checkpoint_of
from runs import wandb_records

from ageinfer.crop.spec import CropSpec
from agetrain.crops.cache import CropCache
from agetrain.network.agenet import AgeNet
from agetrain.training.finish import close_log
from agetrain.training.predict import predict
from agetrain.training.wandb_log import WandbLog

SIDE = 32


class Fake:
    """A W&B that keeps what it is given, and fails where it is told to."""

    def __init__(self, fails=""):
        self.fails, self.asked, self.given = fails, [], {"log": [], "summary": [], "artifacts": [], "finished": 0}
        module = self.module = types.ModuleType("wandb")
        module.init, module.Settings = self._init, dict
        module.Image = self._act("Image", lambda pixels, caption: (pixels, caption))
        module.Artifact = self._act("Artifact", self._artifact)

    def _act(self, name, action):
        def acted(*args, **kwargs):
            self.asked.append(name)
            if name == self.fails:
                raise ConnectionError("the tracker is gone\nand says so in two lines")
            return action(*args, **kwargs)

        return acted

    def _artifact(self, name, type):
        made = types.SimpleNamespace(name=name, type=type, files=[])
        made.add_file = self._act("add_file", made.files.append)
        return made

    def _init(self, **kwargs):
        self.settings = kwargs
        given = self.given

        def finish():
            given["finished"] += 1

        return types.SimpleNamespace(
            dir="nowhere", id=kwargs["id"] or "new-id",
            log=self._act("log", lambda values, step=None: given["log"].append((values, step))),
            log_artifact=self._act("log_artifact", given["artifacts"].append), finish=self._act("finish", finish),
            summary=types.SimpleNamespace(update=self._act("update", given["summary"].append)),
        )  # fmt: skip


@pytest.fixture
def fake(monkeypatch, tmp_path):
    def make(fails=""):
        made = Fake(fails)
        monkeypatch.setitem(sys.modules, "wandb", made.module)
        return made

    return make


def forty():
    """A network that answers 40 to every face."""
    network = AgeNet("mobilenet_v2", "linear").eval()
    with torch.no_grad():
        network.head[1].weight.zero_()
        network.head[1].bias.fill_(40)
    return network


def closed(tracker, ages, found, folder):
    """Gives a tracker what the end of a run gives it: valid pictures of these ages, each of a colour of its own."""
    n = len(ages)
    crops = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, SIDE, SIDE, 3)).copy()
    unknown = np.full(n, np.nan, np.float32)
    cache = CropCache(
        crops, np.array(found), np.array(ages, np.float32), unknown, unknown, unknown, np.arange(n).astype(np.uint64),
        unknown, unknown,
    )  # fmt: skip
    network = forty()
    checkpoint = checkpoint_of(network, CropSpec(size=SIDE))
    path = folder / "best.pth"
    checkpoint.save(path)
    estimates, _ = predict(network, cache, torch.device("cpu"))
    close_log(tracker, path, checkpoint, cache, estimates)
    return path


def test_the_worst_errors_are_shown_with_what_was_said_of_them(fake, tmp_path):
    made = fake()
    ages = [40 + (i * 7) % 20 for i in range(20)]  # errors of 0 to 19, in no order
    path = closed(WandbLog("offline", "agetrain", {}, tmp_path), ages, [True] * 20, tmp_path)
    [(pictures, _)] = made.given["log"]
    shown = {int(pixels[0, 0, 0]): caption for pixels, caption in pictures["worst errors"]}
    assert shown == {i: f"40 years, really {age}" for i, age in enumerate(ages) if age >= 44}
    assert len(shown) == 16
    [artifact] = made.given["artifacts"]
    assert (artifact.name, artifact.type, artifact.files) == ("checkpoint-new-id", "model", [str(path)])
    assert made.given["finished"] == 1


def test_the_final_figures_are_named_by_data_set_and_part(fake, tmp_path):
    made = fake()
    closed(WandbLog("offline", "agetrain", {}, tmp_path), [20, 30], [True, True], tmp_path)
    [summary] = made.given["summary"]
    assert summary["appa-real_selection_mae"] == 9.5
    assert all(isinstance(v, float) for v in summary.values())


def test_a_picture_without_a_face_is_not_shown(fake, tmp_path):
    made = fake()
    closed(WandbLog("offline", "agetrain", {}, tmp_path), [40, 41, 90, 45], [True, True, False, True], tmp_path)
    [(pictures, _)] = made.given["log"]
    assert [caption for _, caption in pictures["worst errors"]] == [
        "40 years, really 40", "40 years, really 41", "40 years, really 45",
    ]  # fmt: skip


def test_a_run_without_any_face_has_no_pictures(fake, tmp_path):
    made = fake()
    closed(WandbLog("offline", "agetrain", {}, tmp_path), [40, 41], [False, False], tmp_path)
    assert made.given["log"] == []
    assert len(made.given["artifacts"]) == made.given["finished"] == 1


@pytest.mark.parametrize("fails", ["update", "Image", "log", "Artifact", "add_file", "log_artifact", "finish"])
def test_the_end_of_a_run_comes_whatever_the_tracker_does(fake, tmp_path, caplog, fails):
    made = fake(fails)
    tracker = WandbLog("offline", "agetrain", {}, tmp_path)
    closed(tracker, [40, 41], [True, True], tmp_path)
    assert made.asked.count(fails) == 1
    assert made.asked[-1] == fails  # and it is left alone from then on
    [warning] = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert warning == "W&B failed (the tracker is gone): nothing more is logged"
    tracker.log({"loss": 1.0}, 9)
    assert made.asked[-1] == fails


def test_a_run_that_goes_on_keeps_its_number(fake, tmp_path):
    made = fake()
    assert WandbLog("offline", "agetrain", {}, tmp_path).run_id == "new-id"
    assert (made.settings["id"], made.settings["resume"]) == (None, None)
    assert WandbLog("offline", "agetrain", {}, tmp_path, "old-id").run_id == "old-id"
    assert (made.settings["id"], made.settings["resume"]) == ("old-id", "allow")


def test_a_number_survives_a_run_that_is_not_tracked(tmp_path):
    assert WandbLog("disabled", "agetrain", {}, tmp_path, "old-id").run_id == "old-id"


# For real

REAL_RUN = """
import os, pathlib, signal, sys
import numpy as np
from agetrain.training.wandb_log import WandbLog

folder, run_id, fault = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
tracker = WandbLog("offline", "age-test", {"lr": 0.5}, folder, run_id)
tracker.log({"loss": 2.5}, 1)
if fault == "killed":
    children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert children, "W&B has no process of its own any more"
    for child in children:
        os.kill(int(child), signal.SIGKILL)
        os.waitpid(int(child), 0)
tracker.log({"loss": 1.5}, 2)
faces = np.zeros((2, 16, 16, 3), np.uint8)
faces[0, :, :, 0], faces[1, :, :, 2] = 200, 100
tracker.finish({"valid_mae": 4.5}, folder / "best.pth", faces, ["red", "blue"])
(folder / "run_id").write_text(tracker.run_id)
print("the run goes on")
"""


def real_run(folder, run_id="", fault=""):
    """A run of W&B in a process of its own, which never looks into the home folder or for a network."""
    pytest.importorskip("wandb")
    (folder / "best.pth").write_bytes(b"weights" * 1000)
    outside = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment = {
        **outside,
        "HOME": str(folder / "home"),
        "WANDB_DATA_DIR": str(folder / "data"),
        "WANDB_CACHE_DIR": str(folder / "cache"),
    }
    command = [sys.executable, "-c", REAL_RUN, str(folder), run_id, fault]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=environment)


def records_of(folder):
    """What the only run in a folder has recorded: for each kind of record a list."""
    [file] = folder.glob("wandb/offline-run-*/*.wandb")
    found = {}
    for record in wandb_records(file):
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


def values_of(items):
    """The items of a record, by their dotted names."""
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """The folder of a real offline run."""
    folder = tmp_path_factory.mktemp("tracked")
    done = real_run(folder)
    assert done.returncode == 0, done.stderr
    assert "the run goes on" in done.stdout
    assert "nothing more is logged" not in done.stderr
    return folder


def test_figures_of_every_epoch_and_the_last_are_recorded(tracked):
    found = records_of(tracked)
    history = [values_of(h.item) for h in found["history"]]
    assert [(h["_step"], h["loss"]) for h in history if "loss" in h] == [(1, 2.5), (2, 1.5)]
    assert values_of(found["run"][0].config.update)["lr"] == 0.5
    assert (found["run"][0].project, found["run"][0].run_id) == ("age-test", (tracked / "run_id").read_text())
    assert {k: v for s in found["summary"] for k, v in values_of(s.update).items()}["valid_mae"] == 4.5


def test_the_worst_errors_are_recorded_as_pictures(tracked):
    history = [values_of(h.item) for h in records_of(tracked)["history"]]
    [shown] = [h for h in history if "worst errors.captions" in h]
    assert shown["worst errors.captions"] == ["red", "blue"]
    paths = [next(tracked.glob(f"wandb/offline-run-*/files/{name}")) for name in shown["worst errors.filenames"]]
    red, blue = (cv2.imread(str(path))[8, 8].tolist() for path in paths)
    assert (red, blue) == ([0, 0, 200], [100, 0, 0])  # BGR


def test_the_checkpoint_is_recorded_as_an_artifact(tracked):
    [artifact] = records_of(tracked)["artifact"]
    assert (artifact.name, artifact.type) == (f"checkpoint-{(tracked / 'run_id').read_text()}", "model")
    [entry] = artifact.manifest.contents
    assert (entry.path, entry.size) == ("best.pth", 7000)
    # A copy: the file in the run's folder may change before it is sent.
    assert Path(entry.local_path) != tracked / "best.pth"
    assert Path(entry.local_path).read_bytes() == b"weights" * 1000


def test_a_real_run_that_goes_on_keeps_its_number(tmp_path):
    done = real_run(tmp_path, run_id="first-run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run_id").read_text() == "first-run"
    assert {r.run_id for r in records_of(tmp_path)["run"]} == {"first-run"}


def test_a_run_goes_on_when_the_tracker_s_process_is_killed(tmp_path):
    done = real_run(tmp_path, fault="killed")
    assert done.returncode == 0, done.stderr
    assert "the run goes on" in done.stdout
    assert done.stderr.count("nothing more is logged") == 1


@pytest.mark.slow
def test_a_server_that_is_lost_during_a_run_does_not_hold_its_end_up(tmp_path):
    server = subprocess.Popen(
        [sys.executable, Path(__file__).parents[1] / "wandb_server.py"], stdout=subprocess.PIPE, text=True
    )
    script = f"""
import sys
from pathlib import Path
from agetrain.training import wandb_log
wandb_log._FINISH_S = 10
tracker = wandb_log.WandbLog("online", "agetrain", {{}}, Path({str(tmp_path)!r}))
tracker.log({{"loss": 1.0}}, 1)
print("begun", flush=True)
sys.stdin.readline()
tracker.log({{"loss": 1.0}}, 2)
Path("best.pth").write_bytes(b"weights")
tracker.finish({{"mae": 1.0}}, Path("best.pth"))
print("finished", flush=True)
"""
    address = server.stdout.readline().strip()
    environment = {
        **os.environ, "WANDB_BASE_URL": address, "WANDB_API_KEY": "k" * 40, "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "begun\n"
        server.kill()  # in a process of its own, so that open connections break, too
        server.communicate()
        try:
            out, err = process.communicate("\n", timeout=180)  # it was over 20 minutes without a limit
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, err
    assert out == "finished\n"
