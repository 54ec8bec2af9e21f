"""The training loop, read from top to bottom."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from agetrain import checkpoint, report
from agetrain.augment import augment
from agetrain.cache import CropCache, join
from agetrain.datasets import Dataset, Sample
from agetrain.errors import DatasetError, DivergedError
from agetrain.metrics import Metrics, measure
from agetrain.networks import AgeNet, load_imagenet_weights
from agetrain.recipe import Recipe
from agetrain.tracking import Tracker

EVALUATION_BATCH = 128

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """Samples and their crops: wide ones to learn from, exact ones to be measured on."""

    samples: tuple[Sample, ...]
    crops: CropCache


def joined(parts: Sequence[Part]) -> Part:
    """Several parts as one."""
    return Part(tuple(s for part in parts for s in part.samples), join([part.crops for part in parts]))


def split_selection(samples: tuple[Sample, ...], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of what is learned from, and of a seeded part on which the epoch is chosen; both sorted."""
    order = np.random.default_rng(seed).permutation(len(samples))
    count = max(1, round(share * len(samples)))
    return sorted(order[count:].tolist()), sorted(order[:count].tolist())


def train(
    recipe: Recipe, datasets: Sequence[Dataset], learn: Sequence[Part], select: Part, valid: Sequence[Part],
    crop: dict[str, Any], out: Path, device: torch.device, weights: str | Path | None, wandb_mode: str,
) -> list[Metrics]:  # fmt: skip
    """Trains a network and leaves ``best.pth``, ``metrics.json``, ``curve.png`` and ``parity.npz`` in a folder.

    Args:
        recipe: how.
        datasets: what the samples were taken from, all with the same label.
        learn: of each data set, wide crops, see `agetrain.augment`.
        select: of all data sets together, exact crops; its MAE chooses the epoch.
        valid: of each data set, exact crops; measured once, at the end.
        crop: the crop specification as JSON values.
        out: the folder.
        device: to train on.
        weights: ImageNet weights, see `load_imagenet_weights`.
        wandb_mode: see `Tracker`.

    Returns:
        The kept epoch's figures on ``valid``, of each data set.

    Raises:
        WeightsError: there are no ImageNet weights.
        DatasetError: too few of the pictures hold a face.
        DivergedError: the loss is no longer a number; checkpoints so far are kept.
        CheckpointError: a checkpoint cannot be written.
    """
    torch.manual_seed(recipe.seed)
    random = torch.Generator(device).manual_seed(recipe.seed)
    network = AgeNet(recipe.backbone, recipe.head, recipe.dropout)
    start = load_imagenet_weights(network, weights)
    crops = join([part.crops for part in learn])
    _start_head_at(network, float(crops.ages.mean()))
    network.to(device).to(memory_format=torch.channels_last)
    averaged = AveragedModel(network, multi_avg_fn=_running_mean(recipe.ema_decay), use_buffers=True)
    bf16 = uses_bf16(recipe.precision, device)

    usable = np.flatnonzero(crops.found)
    if len(usable) < 2 or not select.crops.found.any():
        raise DatasetError(
            f"a face in {len(usable)} pictures to learn from and {select.crops.found.sum()} to choose by; look at them"
        )
    steps_per_epoch = max(1, len(usable) // recipe.batch_size)
    optimiser = torch.optim.AdamW(_parameter_groups(network, recipe.weight_decay), lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, _warmup_cosine(recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch)
    )
    train_median = float(np.median(crops.ages))
    names, label = "+".join(d.name for d in datasets), datasets[0].label
    config = {"dataset": names, "label": label, **recipe.to_dict(), "crop": crop}
    tracker = Tracker(wandb_mode, "agetrain", config, out)
    log.info(
        "%s: %d faces to learn from, %d to choose the epoch, %d pictures to report on; %s on %s in %s",
        names, len(usable), len(select.samples), sum(len(part.samples) for part in valid),
        recipe.backbone, device, "bf16" if bf16 else "fp32",
    )  # fmt: skip

    history: list[dict[str, float]] = []
    order = np.random.default_rng(recipe.seed)
    for epoch in range(1, recipe.epochs + 1):
        began = time.perf_counter()
        network.train()
        loss_sum, error_sum, count = 0.0, 0.0, 0
        bar = tqdm(range(steps_per_epoch), desc=f"epoch {epoch}/{recipe.epochs}", unit="step", leave=False)
        shuffled = order.permutation(usable)
        for step in bar:
            chosen = np.sort(shuffled[step * recipe.batch_size : (step + 1) * recipe.batch_size])
            wide = torch.from_numpy(crops.crops[chosen]).to(device)
            ages = torch.from_numpy(crops.ages[chosen]).to(device)
            stds = torch.from_numpy(crops.stds[chosen]).to(device)
            faces = augment(wide, recipe.size, crop["fill"], recipe.augmentation, random)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                raw = network(faces.contiguous(memory_format=torch.channels_last))
            loss, decoded = loss_and_age(network, raw, ages, stds, recipe)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            averaged.update_parameters(network)
            loss_sum += loss.item() * len(chosen)
            error_sum += float((decoded.detach() - ages).abs().sum())
            count += len(chosen)
            if not math.isfinite(loss_sum):
                raise DivergedError(f"the loss is {loss.item()} in epoch {epoch}, step {step + 1}; use a lower --lr")
            bar.set_postfix(loss=f"{loss_sum / count:.3f}", mae=f"{error_sum / count:.2f}")

        kept = cast(AgeNet, averaged.module)
        estimates = predict(kept, select.crops, device, bf16)
        selection = measure(estimates, select.crops.ages, select.crops.found, train_median)
        figures = {
            "train_loss": loss_sum / count, "train_mae": error_sum / count, "selection_mae": selection.mae,
            "lr": float(schedule.get_last_lr()[0]), "seconds": time.perf_counter() - began,
        }  # fmt: skip
        if not math.isfinite(selection.mae):
            raise DivergedError(f"the weights are no longer numbers after epoch {epoch}; use a lower --lr")
        history.append(figures)
        tracker.log(figures, epoch)
        best = selection.mae <= min(h["selection_mae"] for h in history)
        log.info(
            "epoch %d/%d: loss %.3f, train MAE %.2f, selection MAE %.2f%s, %.0f s",
            epoch, recipe.epochs, figures["train_loss"], figures["train_mae"], selection.mae,
            " (best)" if best else "", figures["seconds"],
        )  # fmt: skip
        if best:
            if kept.head_name == "linear":
                residuals = (estimates - select.crops.ages)[select.crops.found]
                kept.residual_std.fill_(float(residuals.std()))
            facts = {
                "data": _data_facts(datasets, learn), "start": start, "train_median": train_median,
                "recipe": recipe.to_dict(), "epoch": epoch, **checkpoint.environment(),
            }  # fmt: skip
            figures_of_selection = {"dataset": names, "label": label, "part": "selection", **selection.to_dict()}
            _save(out / "best.pth", kept, crop, label, facts, [figures_of_selection])

    results = _report(recipe, datasets, learn, valid, history, out, device)
    for dataset, result in zip(datasets, results, strict=True):
        tracker.summarise({f"{dataset.name}_valid_{k}": v for k, v in result.to_dict().items()})
    tracker.finish()
    return results


def _report(
    recipe: Recipe, datasets: Sequence[Dataset], learn: Sequence[Part], valid: Sequence[Part],
    history: list[dict[str, float]], out: Path, device: torch.device,
) -> list[Metrics]:  # fmt: skip
    """Measures the kept epoch on each ``valid`` and writes what lies beside the checkpoint."""
    values = checkpoint.load(out / "best.pth")
    network = checkpoint.rebuild(values).to(device)
    results, figures = [], []
    for dataset, part in zip(datasets, valid, strict=True):
        estimates = predict(network, part.crops, device, bf16=False)
        result = measure(estimates, part.crops.ages, part.crops.found, values["training"]["train_median"])
        results.append(result)
        figures.append({"dataset": dataset.name, "label": dataset.label, "part": "valid", **result.to_dict()})
    values["metrics"] = [*values["metrics"], *figures]
    checkpoint.save(out / "best.pth", values)
    report.write_json(
        out / "metrics.json",
        {"metrics": values["metrics"], "history": history, "training": values["training"]},
    )
    names = "+".join(d.name for d in datasets)
    report.draw_curve(out / "curve.png", history, f"{recipe.backbone} on {names}, {datasets[0].label} age")
    report.write_parity_pack(out / "parity.npz", joined(valid).samples, joined(learn).samples, recipe.seed)
    return results


def _data_facts(datasets: Sequence[Dataset], learn: Sequence[Part]) -> list[dict[str, Any]]:
    return [
        {
            "dataset": dataset.name, "label": dataset.label, "licence": dataset.licence, "page": dataset.page,
            "part": "train", "n": int(part.crops.found.sum()), "split_sha256": dataset.split_sha256(),
        }
        for dataset, part in zip(datasets, learn, strict=True)
    ]  # fmt: skip


def loss_and_age(network: AgeNet, raw: Tensor, ages: Tensor, stds: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The loss of a batch and its decoded ages.

    The linear head learns by absolute error. The distribution head learns a Gaussian round the true age, as wide as the
    raters disagreed, or `Recipe.target_std_years`, beside the absolute error of its mean (Gao et al., IJCAI 2018).

    Args:
        network: that gave ``raw``.
        raw: its head's output.
        ages: ``[n]`` years.
        stds: ``[n]`` years, NaN where unknown.
        recipe: for the constants.
    """
    decoded, _ = network.decode(raw)
    absolute = F.l1_loss(decoded, ages)
    if network.head_name == "linear":
        return absolute, decoded
    widths = torch.nan_to_num(stds, nan=recipe.target_std_years).clamp_min(1.0)
    target = torch.softmax(-0.5 * ((network.ages - ages[:, None]) / widths[:, None]).square(), dim=1)
    divergence = F.kl_div(raw.float().log_softmax(dim=1), target, reduction="batchmean")
    return divergence + recipe.l1_weight * absolute, decoded


@torch.inference_mode()
def predict(network: AgeNet, crops: CropCache, device: torch.device, bf16: bool) -> np.ndarray:
    """Ages of all crops, float64 ``[n]`` years; NaN where there is no face."""
    network.eval()
    ages = np.full(len(crops), np.nan)
    found = np.flatnonzero(crops.found)
    for start in range(0, len(found), EVALUATION_BATCH):
        chosen = found[start : start + EVALUATION_BATCH]
        faces = torch.from_numpy(crops.crops[chosen]).to(device).permute(0, 3, 1, 2).float()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            raw = network(faces)
        ages[chosen] = network.decode(raw)[0].cpu().numpy()
    return ages


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether a precision of the recipe means bf16 on this device."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _save(
    path: Path, network: AgeNet, crop: dict[str, Any], label: str, training: dict[str, Any],
    metrics: list[dict[str, Any]],
) -> None:  # fmt: skip
    distribution = network.head_name == "distribution"
    checkpoint.save(
        path,
        {
            "weights": {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()},
            "backbone": network.backbone_name,
            "head": network.head_name,
            "crop": crop,
            "mean": (network.mean / 255).flatten().tolist(),
            "std": (network.std / 255).flatten().tolist(),
            "label": label,
            "age_range": [0.0, 100.0],
            "decode": "expectation" if distribution else "linear",
            "age_std_kind": "distribution" if distribution else "constant",
            "label_offset": 0.0,
            "training": training,
            "metrics": metrics,
        },
    )


def _running_mean(decay: float) -> Any:
    """An exponential mean that follows quickly at first, so that early epochs are not judged on the start."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)

    return update


def _start_head_at(network: AgeNet, mean_age: float) -> None:
    """Lets a linear head begin at the mean age instead of spending epochs to climb there."""
    if network.head_name == "linear":
        nn.init.constant_(cast(nn.Linear, network.head[1]).bias, mean_age)


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _warmup_cosine(warmup_steps: float, steps: int) -> Any:
    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))

    return factor
