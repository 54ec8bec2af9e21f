"""The start of a run: everything that its epochs work on, made anew or from the state of an interrupted run."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from agetrain._files import write_json
from agetrain.crops.training_set import TrainingSet
from agetrain.errors import DatasetError, UsageError
from agetrain.network import checkpoint
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.network.mobilenet_face import FaceMobileNet, put_normalisation_back
from agetrain.network.weights import Start, load_imagenet_weights, start_from
from agetrain.recipe import Recipe
from agetrain.training.augment import centre
from agetrain.training.batches import Batches
from agetrain.training.callbacks import Augment
from agetrain.training.distributed import Processes
from agetrain.training.freezing import freeze, freeze_stages, reestimate_batchnorm
from agetrain.training.losses import weights_by_age
from agetrain.training.optim import make_optimiser, running_mean
from agetrain.training.predict import uses_bf16
from agetrain.training.state import (
    CONFIG_FILE,
    STATE_FILE,
    STATE_FORMAT,
    RunState,
    beside_weights,
    carried_on,
    check_is_free,
    check_same_run,
    read_state,
    remove_earlier_run,
    settle_best,
)
from agetrain.training.teachers import NetworkTeacher, Teacher
from agetrain.training.wandb_log import WandbLog

_REESTIMATION_BATCHES = 40
_NORMALISATION_BATCHES = 10

log = logging.getLogger(__name__)


class Learner(nn.Module):
    """A network with all its heads in one call, which is what several processes have to share."""

    def __init__(self, network: AgeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.network.features(faces)
        auxiliary = self.network.auxiliary
        return self.network.head(features), None if auxiliary is None else auxiliary(features)


@dataclass(slots=True, eq=False)
class Run:
    """Everything that the epochs of a run work on.

    Attributes:
        recipe: how to train.
        data: what to learn from.
        out: folder for the results.
        processes: this process and its device.
        record: of the run, as in ``config.json``.
        predictions: of a teacher, or None.
        networks: that teach, or None.
        batches: of the training set.
        network: that is trained.
        learner: the network with all its heads, or what shares it between processes.
        averaged: running mean of its weights, or None.
        optimiser: over its weights.
        frozen: parts of the backbone that are not trained.
        start: where its weights are from.
        label_offset: years to add to what the network answers.
        age_weights: how much a label of each age counts, float32 ``[101]``; None counts all alike.
        bf16: whether to compute in bf16.
        augment: an augmentation of the caller, after that of the recipe; or None.
        wandb: W&B.
        state: how far the run is.
        best: the best epochs so far by the name of their file; in the first process alone.
        made_with: versions and commit.
    """

    recipe: Recipe
    data: TrainingSet
    out: Path
    processes: Processes
    record: dict[str, Any]
    predictions: Teacher | None
    networks: NetworkTeacher | None
    batches: Batches
    network: AgeNet
    learner: nn.Module
    averaged: AveragedModel | None
    optimiser: torch.optim.Optimizer
    frozen: list[nn.Module]
    start: Start
    label_offset: float
    age_weights: Tensor | None
    bf16: bool
    augment: Augment | None
    wandb: WandbLog
    state: RunState = field(default_factory=RunState)
    best: dict[str, Checkpoint] = field(default_factory=dict)
    made_with: dict[str, str | None] = field(default_factory=checkpoint.environment)

    @property
    def kept(self) -> AgeNet:
        """The network that is evaluated and kept: with averaged weights where the recipe asks for them."""
        return cast(AgeNet, self.averaged.module) if self.averaged else self.network

    def save_state(self, better: Iterable[str]) -> None:
        """Writes ``last.pth``, from which the run can go on.

        Args:
            better: files of ``best`` that are still to be written, because this epoch is the best one; until then
                their facts are safe in here, too.

        Raises:
            OutputError: it cannot be written.
        """
        kept = self.kept.state_dict()
        values = {
            "format": STATE_FORMAT, "config": self.record, "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "optimiser": self.optimiser.state_dict(), "start": self.start.source,
            "start_missing": list(self.start.missing), "start_terms": self.start.terms,
            "progress": self.state.to_dict(),
            "best": {name: beside_weights(self.best[name], kept) for name in better},
        }  # fmt: skip
        checkpoint.write(self.out / STATE_FILE, values)


def start_run(
    recipe: Recipe, data: TrainingSet, out: Path, processes: Processes, *, record: dict[str, Any],
    weights: str | Path | None = None, predictions: Teacher | None = None, networks: NetworkTeacher | None = None,
    augment: Augment | None = None, wandb: str = "disabled", resume: bool = False, overwrite: bool = False,
    trust_code: bool = False,
) -> Run:  # fmt: skip
    """Makes a network and all that is needed to train it, or takes them from the state of an interrupted run.

    A run that may not start leaves the folder as it is; one that starts removes an earlier run and writes
    ``config.json``.

    Args:
        recipe: how to train.
        data: what to learn from.
        out: folder for the results.
        processes: this process and its device.
        record: of the run, as in ``config.json``.
        weights: ImageNet weights, see `load_imagenet_weights`, or a checkpoint to start from.
        predictions: to learn from beside the labels; where there are ``networks``, only to doubt labels by.
        networks: to learn from beside the labels.
        augment: changes each batch after the augmentation of the recipe.
        wandb: mode of `WandbLog`.
        resume: go on where ``last.pth`` stands, if it is there.
        overwrite: replace what an earlier run left in the folder.
        trust_code: whether the user's own code may be run, for a backbone that is made by it.

    Raises:
        WeightsError: there are no ImageNet weights.
        DatasetError: too few of the pictures hold a face.
        CheckpointError: ``last.pth`` is not the state of a run, or its best epoch is lost.
        UsageError: ``last.pth`` is of another run, the folder holds an earlier one that was not to be replaced, or a
            file that is needed would be written over.
    """
    device = processes.device
    check_teachers(recipe, data, predictions, networks)
    batches = Batches(data, recipe, device, predictions, processes.rank, processes.world)
    if not len(data.select):
        raise DatasetError("no pictures to choose the epoch by: that part is empty; take more, or another split")
    if not data.select.found.any():
        raise DatasetError("none of the pictures to choose the epoch by holds a face; look at them")
    values = read_state(out / STATE_FILE) if resume else None
    if values is not None:
        check_same_run(out / STATE_FILE, values, record)
    elif not overwrite:
        check_is_free(out)
    offset = data.label_offset if recipe.labels == "stored" else 0.0
    network, start, frozen = _network(recipe, data, batches, processes, weights, offset, values, trust_code)
    averaged = None
    if recipe.ema_decay:
        averaged = AveragedModel(network, multi_avg_fn=running_mean(recipe.ema_decay), use_buffers=True)
    optimiser = make_optimiser(network, recipe)
    state = RunState()
    if values:
        network.load_state_dict(values["network"])
        if averaged:
            averaged.load_state_dict(values["averaged"])
        optimiser.load_state_dict(values["optimiser"])
        state = RunState.from_values(values)
    learner: nn.Module = Learner(network)
    if processes.world > 1:
        learner = DistributedDataParallel(learner, device_ids=[device] if device.type == "cuda" else None)
    best: dict[str, Checkpoint] = {}
    if processes.first:  # not before: a run that may not start, or not go on, leaves the folder as it is
        if values is None:
            remove_earlier_run(out, {"--weights": [weights] if weights else [], "--teacher": record.get("teacher", ())})
        else:
            best, record = (
                settle_best(values, out, recipe, data.label, trust_code=trust_code),
                carried_on(record, values),
            )
        write_json(out / CONFIG_FILE, record)
    age_weights = None
    if recipe.age_balance:
        age_weights = weights_by_age(batches.crops.ages, recipe.age_balance).to(device)
    wandb_log = WandbLog(wandb if processes.first else "disabled", "agetrain", record, out, state.tracker_id)
    state.tracker_id = wandb_log.run_id
    run = Run(
        recipe, data, out, processes, record, predictions, networks, batches, network, learner, averaged, optimiser,
        frozen, start, offset, age_weights, uses_bf16(recipe.precision, device), augment, wandb_log, state, best,
    )  # fmt: skip
    if processes.first:
        if resume and values is None:
            log.info("%s: not there; starting from the beginning", out / STATE_FILE)
        _say_what_starts(run)
    return run


def _network(
    recipe: Recipe, data: TrainingSet, batches: Batches, processes: Processes, weights: str | Path | None,
    offset: float, values: dict[str, Any] | None, trust_code: bool,
) -> tuple[AgeNet, Start, list[nn.Module]]:  # fmt: skip
    """Returns the network on its device, where its weights are from, and its frozen parts."""
    torch.manual_seed(recipe.seed)
    other_known = bool(np.isfinite(batches.crops.others).any())
    network = AgeNet(
        recipe.backbone, recipe.head, recipe.dropout, normalise=recipe.normalise,
        auxiliary=recipe.auxiliary_weight > 0 and other_known, size=recipe.size, trust_code=trust_code,
    )  # fmt: skip
    start = None
    if values:
        terms = values.get("start_terms", "")
        start = Start(values["start"], False, tuple(values["start_missing"]), terms=terms)
    start = start or start_from(network, weights) or load_imagenet_weights(network, weights)
    stages = recipe.frozen_stages
    frozen = freeze_stages(network, stages, start) if stages else freeze(network, recipe.frozen_children, start)
    if recipe.start_at_mean and recipe.head == "linear" and not start.with_head:
        nn.init.constant_(cast(nn.Linear, network.head[1]).bias, float(batches.crops.ages.mean()) - offset)
    network.to(processes.device).to(memory_format=torch.channels_last)
    if values is not None or not (start.substitute or start.folded):
        return network, start, frozen
    # Whole batches in each process, so that the start does not depend on how many there are.
    whole = batches if processes.world == 1 else Batches(data, recipe, processes.device, batches.teacher)
    if start.substitute:
        some = whole.epoch(1, _REESTIMATION_BATCHES)
        reestimate_batchnorm(network, (centre(batch.wide, recipe.size) for batch in some))
    if start.folded and isinstance(network.backbone, FaceMobileNet):
        views = (centre(batch.wide, recipe.size) for batch in whole.epoch(1, _NORMALISATION_BATCHES))
        put_normalisation_back(network.backbone, ((view - network.mean) / network.std for view in views))
    return network, start, frozen


def check_teachers(
    recipe: Recipe, data: TrainingSet, predictions: Teacher | None, networks: NetworkTeacher | None
) -> None:
    """Refuses teachers that would have no effect, or teach something else than the labels.

    Raises:
        UsageError: so it would be.
    """
    if networks and recipe.labels == "stored" and data.label_offset:
        raise UsageError("--teacher: a checkpoint answers in true years; use --label-values true, or predictions of it")
    # Networks cannot doubt: their answers are to faces as they are shown, not to pictures.
    if not recipe.teacher_weight and (networks or (predictions and not recipe.doubt_beyond)):
        raise UsageError(
            "--teacher: with --teacher-weight 0 nothing is learned from it; give a weight, or --doubt-beyond"
        )
    if predictions and networks and not recipe.doubt_beyond:
        raise UsageError(
            "--teacher: beside checkpoints, predictions only serve --doubt-beyond; give it, or leave them out"
        )


def _say_what_starts(run: Run) -> None:
    recipe, data, batches = run.recipe, run.data, run.batches
    if any(batches.doubted):
        log.info(
            "not learned, because the teacher contradicts them: labels of %s",
            ", ".join(f"{facts['dataset']} {n}" for facts, n in zip(data.facts, batches.doubted, strict=True)),
        )
    if run.networks:
        log.info("taught by %s", " and ".join(run.networks.files))
    if run.start.substitute:
        log.warning("%s: not torchvision's own; figures may differ from published ones", run.start.source)
    if run.start.source == "random" and not run.state.epoch:
        log.warning("%s starts at random: it knows nothing yet, and needs more pictures and epochs", recipe.backbone)
    log.info(
        "%s: %d faces to learn from%s, %d to choose the epoch, %d pictures to report on; %s on %s in %s%s",
        data.name, batches.faces, f" ({batches.taught} with a teacher)" if batches.taught else "", len(data.select),
        sum(len(part) for part in data.valid), recipe.backbone, run.processes.device, "bf16" if run.bf16 else "fp32",
        f"; going on after epoch {run.state.epoch}" if run.state.epoch else "",
    )  # fmt: skip
