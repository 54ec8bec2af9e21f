"""The state of a run: how far it is, and the files in its folder.

After each epoch ``last.pth`` is written first, then each ``best*.pth`` of which the epoch is the best, then the
reports. What a kill keeps from the later files, `settle_best` gets from ``last.pth``.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agetrain.errors import CheckpointError, UsageError
from agetrain.network import checkpoint
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Recipe

STATE_FILE, CONFIG_FILE, METRICS_FILE, BEST_FILE = "last.pth", "config.json", "metrics.json", "best.pth"
# Of the label that was asked for, and of the other one where a second head learns it.
BEST_FILES = (BEST_FILE, "best-real.pth", "best-apparent.pth")
STATE_FORMAT = "agetrain-state-1"
_REPORTS = (METRICS_FILE, "metrics-real.json", "metrics-apparent.json", "report.md", "curve.png", "parity.npz")

_NO_FILE = {"split": "the usual split", "weights": "the usual weights", "teacher": "none", "backbone": "its file"}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RunState:
    """How far a run is.

    Attributes:
        history: figures of each epoch that is done.
        tracker_id: id of the run in W&B.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    tracker_id: str = ""

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "RunState":
        """Reads what ``last.pth`` holds; those of older releases hold more, which follows from the history."""
        return cls(values["progress"]["history"], values["progress"]["tracker_id"])

    @property
    def epoch(self) -> int:
        """The last epoch that was finished."""
        return len(self.history)

    def to_dict(self) -> dict[str, Any]:
        """Returns the state as plain values."""
        return asdict(self)


def selection_figure(loss: str) -> str:
    """Returns the figure that the best epoch has the least of; the original runs compared their loss, not its age."""
    return "selection_mse" if loss == "mse" else "selection_mae"


def best_epoch(history: Sequence[Mapping[str, float]], figure: str) -> int:
    """Returns the number of the epoch that has the least of a figure, of several the last; 0: none has it."""
    having = [epoch for epoch, figures in enumerate(history, 1) if figure in figures]
    return min(reversed(having), key=lambda epoch: history[epoch - 1][figure], default=0)


def best_epochs(history: Sequence[Mapping[str, float]], loss: str, label: str) -> dict[str, int]:
    """Returns the number of the best epoch for the name of each file that keeps one.

    Args:
        history: figures of each epoch.
        loss: of the recipe.
        label: of the run, ``real`` or ``apparent``.
    """
    figures = {BEST_FILE: selection_figure(loss), f"best-{other_label(label)}.pth": "other_selection_mae"}
    found = {name: best_epoch(history, figure) for name, figure in figures.items()}
    return {name: epoch for name, epoch in found.items() if epoch}


def other_label(label: str) -> str:
    """Returns ``apparent`` for ``real``, and ``real`` for ``apparent``."""
    return "apparent" if label == "real" else "real"


def beside_weights(best: Checkpoint, kept: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the values of a checkpoint without those weights that the state holds anyway.

    Args:
        best: of the epoch that the state is of.
        kept: state dict of the network that was evaluated.
    """
    own = {name: w for name, w in best.weights.items() if name not in kept or not torch.equal(w, kept[name].cpu())}
    return {**best.to_values(), "weights": own}


def _of_last_epoch(values: dict[str, Any], name: str, path: Path) -> Checkpoint | None:
    """The checkpoint that ``last.pth`` holds for a file, see `beside_weights`; those of older releases hold all of it.

    Raises:
        CheckpointError: it is broken.
    """
    best = values.get("best", {}).get(name)
    if best is None:
        return None
    network: dict[str, Tensor] = values["averaged"] or values["network"]
    kept = {k.removeprefix("module."): weight.contiguous() for k, weight in network.items() if k != "n_averaged"}
    kept = {k: weight for k, weight in kept.items() if not k.startswith("auxiliary.")}
    return Checkpoint.from_values({**best, "weights": kept | best["weights"]}, path)


def settle_best(
    values: dict[str, Any], out: Path, recipe: Recipe, label: str, *, trust_code: bool = False
) -> dict[str, Checkpoint]:
    """Returns the best epochs so far by the name of their file, and writes a file that a kill kept from being written.

    Args:
        values: of ``last.pth``.
        out: its folder.
        recipe: of the run.
        label: of the run.
        trust_code: whether the user's own code may be run, for a backbone that is made by it.

    Raises:
        CheckpointError: a file is broken, or lost.
        OutputError: it cannot be written.
    """
    best = {}
    for name, epoch in best_epochs(RunState.from_values(values).history, recipe.loss, label).items():
        path = out / name
        found = Checkpoint.load(path) if path.is_file() else None
        if found is None or found.training.get("epoch") != epoch:
            found = _of_last_epoch(values, name, out / STATE_FILE)
            if found is None or found.training.get("epoch") != epoch:
                raise CheckpointError(
                    f"{path}: is not the best epoch of this run, which is epoch {epoch}; put that file back, or begin "
                    "anew with --overwrite"
                )
            found.save(path)
        best[name] = replace(found, trust_code=trust_code)
    return best


def read_state(path: Path) -> dict[str, Any] | None:
    """Reads ``last.pth``; returns None where there is none yet.

    Raises:
        CheckpointError: it is not the state of a run.
    """
    if not path.is_file():
        return None
    values = checkpoint.read(path)
    if values.get("format") != STATE_FORMAT:
        raise CheckpointError(f"{path}: not the state of a run; start anew without --resume")
    return values


def check_same_run(path: Path, values: dict[str, Any], record: dict[str, Any]) -> None:
    """Refuses to go on with a run by other options. The number of epochs may differ: a run may be longer.

    Args:
        path: of ``last.pth``.
        values: in it.
        record: of the run that is to go on, as in ``config.json``; what it does not say may be anything.

    Raises:
        UsageError: the options differ, or more epochs are done than are wanted.
    """
    different = differences(values["config"], record)
    if different:
        raise UsageError(
            f"{path}: of a run by other options: {'; '.join(different)}; give the same options, or another --out"
        )
    done, epochs = RunState.from_values(values).epoch, record["recipe"]["epochs"]
    if epochs < done:
        raise UsageError(f"--epochs {epochs}: {done} epochs are done already; give {done} or more, or another --out")


def carried_on(record: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of a run that goes on, which also says how many epochs it was to have before.

    Args:
        record: of the run that goes on.
        values: of ``last.pth``.
    """
    before, done = values["config"], RunState.from_values(values).epoch
    planned, epochs = Recipe.from_dict(before["recipe"]).epochs, record["recipe"]["epochs"]
    earlier = list(before.get("epochs_before", ()))
    if planned != epochs:
        earlier.append({"up_to": done, "epochs": planned})
        log.info("%d epochs instead of %d; from epoch %d on the learning rate follows them", epochs, planned, done + 1)
    return {**record, "epochs_before": earlier} if earlier else record


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Lists what differs between the records of two runs and makes them two, as ``lr 0.001 there, 0.0005 here``.

    Args:
        before: of the run that is there. What it does not say, because it is older, may be anything.
        now: of the run that is to go on.
    """
    # A recipe from before a field was added did without it, as the field's default does.
    old, new = (_fields(Recipe.from_dict(record["recipe"])) for record in (before, now))
    pairs = [(name, old[name], value) for name, value in new.items() if name != "epochs"]
    pairs.append(("label", before["label"], now["label"]))
    pairs.append(("augment", before.get("augment", "none"), now.get("augment", "none")))
    for name in ("split", "weights", "teacher", "backbone"):
        # What is in a file counts, not where it lies; but a hash is not always known.
        digest = f"{name}_sha256"
        key = digest if before.get(digest) and now.get(digest) else name
        if name == "teacher" and digest not in before and now.get("packed"):
            continue  # it names the teacher of the packing, whoever taught the run
        if key in before and key in now and before[key] != now[key]:
            pairs.append((f"--{name}", _shown(before, name), _shown(now, name)))
    return [f"{name} {there} there, {here} here" for name, there, here in pairs if there != here]


def _fields(recipe: Recipe) -> dict[str, Any]:
    values = recipe.to_dict()
    return {**{k: v for k, v in values.items() if k != "augmentation"}, **values["augmentation"]}


def _shown(record: dict[str, Any], name: str) -> str:
    """The files of a record, with the beginnings of their hashes where these are known."""
    files = record.get(name) or (name == "split" and record.get("split_csv")) or _NO_FILE[name]
    digests = record.get(f"{name}_sha256") or ()
    text = " and ".join([files] if isinstance(files, str) else files)
    short = " ".join(digest[:8] for digest in ([digests] if isinstance(digests, str) else digests))
    return f"{text} ({short})" if short else text


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
    # The state goes first: without it, nobody goes on with a run of which something else is gone already.
    checkpoints = [out / name for name in (STATE_FILE, *BEST_FILES)]
    for option, files in needed.items():
        for file in files:
            if Path(file).resolve() in [path.resolve() for path in checkpoints]:
                raise UsageError(f"{option} {file}: this run would write over it; choose another --out")
    for path in (*checkpoints, *(out / name for name in _REPORTS), out / CONFIG_FILE):
        path.unlink(missing_ok=True)
