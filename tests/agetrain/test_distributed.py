"""Two processes that share every batch, as ``torchrun`` starts them, against one process alone."""

import socket
import subprocess
import sys
import types
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from runs import environment, history_of, start_weights, words

from ageinfer.crop.spec import CropSpec
from agetrain.network import checkpoint
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.train import main
from agetrain.training.distributed import joined

# Python runs a module of this name first: it notes each path in the folder of the run that the process opens for
# writing, makes or moves something to.
WATCH = """
import os, sys
folder, notes, rank = (os.environ.get(name, "") for name in ("WATCHED", "NOTES", "RANK"))
def watch(event, values):
    if event == "open" and isinstance(values[1], str) and set(values[1]) & set("wax+"):
        path = values[0]
    elif event in ("os.mkdir", "os.rename"):
        path = values[event == "os.rename"]
    else:
        return
    if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(folder + os.sep):
        os.write(log, (os.fspath(path) + "\\n").encode())
if rank:
    log = os.open(f"{notes}-{rank}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    sys.addaudithook(watch)
"""


@pytest.fixture(autouse=True)
def _alike(monkeypatch):
    for name in ("AGETRAIN_WEIGHTS", "AGETRAIN_DATA", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def options(tmp_path_factory, appa_real):
    """The head alone learns: normalisation over half a batch cannot make a difference. All else is the recipe best."""
    place = tmp_path_factory.mktemp("distributed")
    return {
        "dataset": "appa-real", "data": appa_real, "cache": place / "cache", "weights": start_weights(place),
        "device": "cpu", "experiment": "best", "size": 64, "epochs": 2, "batch_size": 5, "selection_share": 0.25,
        "frozen_children": -1, "frozen_batchnorm": "eval", "dropout": 0, "lr": 1e-2,
        "precision": "fp32",  # where a processor multiplies in bf16, half a batch is rounded otherwise
    }  # fmt: skip


def test_processes_wait_for_the_one_that_makes_the_crops(monkeypatch):
    """That takes hours for a large data set, and torch's own patience is of minutes."""
    asked = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", lambda *_, timeout=None: asked.update(timeout=timeout))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with joined("cpu") as processes:
        assert (processes.rank, processes.world) == (1, 2)
    assert asked["timeout"] >= timedelta(hours=6)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def two_processes(arguments, watched, folder):
    """Runs ``python -m agetrain`` as two processes; what each wrote is noted in ``folder``."""
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
        "--master-port", str(free_port()), "-m", "agetrain", *arguments,
    ]  # fmt: skip
    (folder / "sitecustomize.py").write_text(WATCH)
    surroundings = environment(
        MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo", WATCHED=str(watched), NOTES=str(folder / "notes")
    )
    surroundings["PYTHONPATH"] = f"{folder}:{surroundings['PYTHONPATH']}"
    return subprocess.run(launch, env=surroundings, capture_output=True, text=True, timeout=300, check=False)


# 18 faces in batches of 5, of which the first process gets 3 and the second 2; the last batch is of 2 + 1.
@pytest.mark.parametrize(
    ("drop_last", "steps", "tracking", "taught"),
    [("no_drop_last", 4, "offline", True), pytest.param("drop_last", 3, "disabled", False, marks=pytest.mark.slow)],
)
def test_two_processes_learn_as_one_does_and_the_first_one_writes(
    tmp_path, options, drop_last, steps, tracking, taught
):
    one, two = tmp_path / "one", tmp_path / "two"
    if taught:
        network = AgeNet("mobilenet_v2", "distribution")
        crop = CropSpec(size=96, margin=0.2, kind="landmarks")
        Checkpoint.of_network(network, crop, "real", 0.0, {"data": []}).save(tmp_path / "teacher.pth")
        options = options | {"teacher": tmp_path / "teacher.pth"}
    assert main(words(**options, **{drop_last: True}, wandb="disabled", out=one)) == 0
    ran = two_processes(words(**options, **{drop_last: True}, wandb=tracking, out=two), two, tmp_path)
    assert ran.returncode == 0, ran.stderr

    expected, found = history_of(one), history_of(two)
    assert [figures["train_loss"] for figures in found] == pytest.approx([f["train_loss"] for f in expected], abs=1e-4)
    for figures, others in zip(expected, found, strict=True):
        assert others == pytest.approx(figures, abs=1e-4, rel=1e-5)
    first, second = (Checkpoint.load(out / "best.pth") for out in (one, two))
    for name, value in first.weights.items():
        assert torch.allclose(value.float(), second.weights[name].float(), atol=1e-4), name
    assert first.metrics[-1]["mae"] == pytest.approx(second.metrics[-1]["mae"], abs=1e-3)
    # It did learn, in as many steps as it should.
    optimiser = checkpoint.read(two / "last.pth")["optimiser"]
    assert {state["step"].item() for state in optimiser["state"].values()} == {2 * steps}
    assert abs(found[0]["train_loss"] - found[1]["train_loss"]) > 0.01

    written = [(tmp_path / f"notes-{rank}").read_text() for rank in (0, 1)]
    assert all(name in written[0] for name in ("config.json", "best.pth", "last.pth", "metrics.json", "report.md"))
    assert written[1] == ""
    assert ran.stdout.count("MAE") == 1
    assert ran.stderr.count("epoch 2/2") == 1
    assert {p.name for p in two.iterdir()} - {p.name for p in one.iterdir()} <= {"wandb"}
    assert len(list(two.glob("wandb/offline-run-*"))) == (tracking == "offline")


def test_a_plain_cuda_is_the_device_that_its_tensors_lie_on(monkeypatch):
    """Not all of torch takes a device without number; there is no GPU here, so its answers are made up."""
    chosen = []
    monkeypatch.setattr("torch.zeros", lambda *_, device: types.SimpleNamespace(device=torch.device(device, 1)))
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    monkeypatch.setattr("torch.backends.cudnn.benchmark", False)
    with joined("cuda") as processes:
        assert processes.device == torch.device("cuda:1")
    assert chosen == [torch.device("cuda:1")]
