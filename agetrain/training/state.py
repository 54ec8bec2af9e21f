"""The state of a run: how far it is, its best epochs so far, and the files in its folder.

While a run goes on, its best epochs live in ``last.pth``; each ``best*.pth`` is written once, when it ends.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agetrain.errors import CheckpointError, OutputError, UsageError
from agetrain.network import checkpoint
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Recipe

STATE_FILE, CONFIG_FILE, BEST_FILE = "last.pth", "config.json", "best.pth"
# Of the label that was asked for, and of the other one where a second head learns it.
BEST_FILES = (BEST_FILE, "best-real.pth", "best-apparent.pth")
STATE_FORMAT = "agetrain-state-1"
_REPORTS = ("metrics.json", "metrics-real.json", "metrics-apparent.json", "report.md", "curve.png", "parity.npz")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RunState:
    """How far a run is.

    Attributes:
        epoch: the last one that was finished.
        history: figures of each epoch.
        best_mae: of the kept epoch, in years.
        best_epoch: number of the kept epoch.
        best_other_mae: as ``best_mae``, for the other label.
        tracker_id: id of the run in W&B.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_mae: float = math.inf
    best_epoch: int = 0
    best_other_mae: float = math.inf
    tracker_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the state as plain values."""
        return asdict(self)


def best_of_state(values: dict[str, Any], out: Path) -> dict[str, Checkpoint]:
    """Returns the best epochs so far by the name of their file.

    Args:
        values: of ``last.pth``.
        out: its folder, where older releases kept them in files of their own.

    Raises:
        CheckpointError: one of them is broken.
    """
    if "best" in values:
        return {name: Checkpoint.from_values(best, out / STATE_FILE) for name, best in values["best"].items()}
    return {name: Checkpoint.load(out / name) for name in BEST_FILES if (out / name).is_file()}


def write_best_so_far(out: Path, best: dict[str, Checkpoint]) -> None:
    """Writes the best epochs of a run that ends early, without the figures that its end would have measured."""
    for name, kept in best.items():
        try:
            kept.save(out / name)
        except OutputError as error:  # what ended the run is told; last.pth still holds them
            log.warning("%s", error)


def load_state(path: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """Reads the state of an interrupted run; returns None where there is none yet.

    Args:
        path: of ``last.pth``.
        record: of the run that is to go on, as in ``config.json``.

    Raises:
        CheckpointError: it is not the state of a run.
        UsageError: it is of a run by other options.
    """
    if not path.is_file():
        log.info("%s: not there; starting from the beginning", path)
        return None
    values = checkpoint.read(path)
    if values.get("format") != STATE_FORMAT:
        raise CheckpointError(f"{path}: not the state of a run; start anew without --resume")
    # A state from before a field was added is of a run that did without it, as the field's default does. Which weights
    # it started from, it does not say.
    before = {"weights": record.get("weights"), **values["config"]}
    before["recipe"] = Recipe.from_dict(before["recipe"]).to_dict()
    if "teacher_sha256" not in before and record.get("packed"):
        before["teacher"] = record["teacher"]  # it names the teacher of the packing, whoever taught the run
    must_agree = {
        "recipe": "recipe",
        "label": "label",
        "split_sha256": "split",
        "backbone_sha256": "file of --backbone",
    }
    for name in ("weights", "teacher"):
        # What is in a file counts, not where it lies; but a hash is not always known.
        digest = f"{name}_sha256"
        must_agree[digest if before.get(digest) and record.get(digest) else name] = f"--{name}"
    different = [told for key, told in must_agree.items() if before.get(key) != record.get(key)]
    if different:
        raise UsageError(
            f"{path}: belongs to a run with another {different[0]}; give the same options, or another --out"
        )
    return values


def check_is_free(out: Path) -> None:
    """Refuses a folder that holds an earlier run.

    Raises:
        UsageError: it does.
    """
    there = [name for name in (*BEST_FILES, STATE_FILE) if (out / name).exists()]
    if there:
        goes_on = "--resume goes on with it, " if STATE_FILE in there else ""
        raise UsageError(
            f"{out}: holds {there[0]} of an earlier run; {goes_on}another --out leaves it alone, --overwrite replaces "
            "it"
        )


def remove_earlier_run(out: Path, needed: dict[str, Sequence[str | Path]]) -> None:
    """Removes what an earlier run left, so that nobody takes it for this run's; files of other names stay.

    Args:
        out: the folder.
        needed: for each option the files that this run reads.

    Raises:
        UsageError: one of these would be removed.
    """
    checkpoints = [out / name for name in (*BEST_FILES, STATE_FILE)]
    for option, files in needed.items():
        for file in files:
            if Path(file).resolve() in [path.resolve() for path in checkpoints]:
                raise UsageError(f"{option} {file}: this run would write over it; choose another --out")
    for path in (*checkpoints, *(out / name for name in _REPORTS)):
        path.unlink(missing_ok=True)
