"""Training runs of a few seconds, in this process or in one of its own, and what they leave."""

import json
import os
import struct
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torchvision

from agetrain.network import checkpoint
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import option
from agetrain.training import loop

ROOT = Path(__file__).parent.parent


def start_weights(folder: Path) -> Path:
    """Random weights of a mobilenet_v2 as torchvision would save them."""
    path = folder / "start.pth"
    torch.manual_seed(7)
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), path)
    return path


def words(**options) -> list[str]:
    """Options of a command line: a list is several words, True a switch."""
    line = []
    for name, value in options.items():
        line.append(option(name))
        if value is not True:
            line += map(str, value if isinstance(value, list | tuple) else [value])
    return line


def options_in(place, data):
    """Gives the options of a run of seconds on a small APPA-REAL, with what is to differ; crops lie in ``place``."""
    weights = start_weights(place)

    def build(out, **more):
        options = {
            "dataset": "appa-real", "data": data, "out": out, "cache": place / "cache", "weights": weights,
            "device": "cpu", "wandb": "disabled", "experiment": "best", "size": 64, "batch_size": 4, "epochs": 3,
            "selection_share": 0.25, **more,
        }  # fmt: skip
        return words(**{name: value for name, value in options.items() if value is not None})

    return build


def again_in(place):
    """Gives the options of ``--resume DIR`` or ``--finish DIR``, with what is to differ."""

    def build(**more):
        return words(**{"cache": place / "cache", "device": "cpu", "wandb": "disabled", **more})

    return build


@contextmanager
def alone():
    """One thread, as in processes of their own: more would add up in another order. And nothing from outside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AGETRAIN_WEIGHTS", "AGETRAIN_DATA", "WANDB_API_KEY"):
            patch.delenv(name, raising=False)
        yield
    torch.set_num_threads(threads)


def environment(**more) -> dict[str, str]:
    """For a process of its own: one thread, as here, and nothing from outside."""
    outside = ("AGETRAIN_WEIGHTS", "AGETRAIN_DATA", "WANDB_API_KEY")
    # A service of W&B that serves this process would hold the run of a killed one open.
    kept = {k: v for k, v in os.environ.items() if k not in outside and not k.startswith("WANDB_SERVICE")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **more}


def command(*arguments) -> list[str]:
    """``python -m agetrain`` with these arguments."""
    return [sys.executable, "-m", "agetrain", *map(str, arguments)]


def same_weights(first: Path, second: Path, name: str = "best.pth") -> bool:
    """Whether two runs kept the same network to the last bit."""
    a, b = (Checkpoint.load(folder / name).weights for folder in (first, second))
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def history_of(folder: Path) -> list[dict[str, float]]:
    """The figures of each epoch, without those that a clock gives."""
    history = checkpoint.read(folder / "last.pth")["progress"]["history"]
    return [{k: v for k, v in epoch.items() if k not in ("seconds", "images_per_second")} for epoch in history]


def same_run(first: Path, second: Path) -> bool:
    """Whether two runs of both labels ended alike: weights, figures of each epoch, and final figures."""
    for name in ("best.pth", "best-apparent.pth"):
        metrics = [Checkpoint.load(folder / name).metrics for folder in (first, second)]
        if not same_weights(first, second, name) or metrics[0] != metrics[1]:
            return False
    records = [json.loads((folder / "metrics.json").read_text()) for folder in (first, second)]
    same = all(records[0][key] == records[1][key] for key in ("finished", "ended", "metrics"))
    return same and history_of(first) == history_of(second)


def interrupt_at(patch, step):
    """Ctrl-C in the n-th step; an epoch has 4."""
    take_step, steps = loop.take_step, []

    def stop(*values, **more):
        steps.append(1)
        if len(steps) == step:
            raise KeyboardInterrupt
        return take_step(*values, **more)

    patch.setattr(loop, "take_step", stop)


def one_line(err: str) -> str:
    """The error of a run, which must be one line and no traceback."""
    assert "Traceback" not in err
    [line] = [line for line in err.splitlines() if line.startswith("agetrain: ")]
    return line


def wandb_records(file: Path):
    """The records of an offline run of W&B: blocks of 32 KiB with parts of records, as in LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if kind == 0 or at + 7 + length > len(data):  # cut off where the process was killed
            return
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of a record, or its last part
            yield Record.FromString(whole)
            whole = b""
