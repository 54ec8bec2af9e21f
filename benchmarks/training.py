"""Does the loader keep the device busy? Images a second with real data over images a second with synthetic tensors.

    python benchmarks/training.py --dataset NAME=DIR [--experiment best] [--device cuda] [--rounds 5] [--steps 20]

In one run and in turn: real batches (read from the memory-mapped crops, or picked on a GPU that holds them, augmented,
learned from), synthetic tensors that are on the device from the start, and the augmentation alone. Figures are medians
over the rounds.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from agetrain import experiments
from agetrain.crops.training_set import training_set
from agetrain.datasets import load_dataset
from agetrain.network.agenet import AgeNet
from agetrain.training.augment import augment
from agetrain.training.batches import Batch, Batches
from agetrain.training.loop import take_step
from agetrain.training.optim import make_optimiser
from agetrain.training.predict import uses_bf16
from agetrain.training.start import Learner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=DIR")
    parser.add_argument("--experiment", default="best")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of each kind in a round")
    options = parser.parse_args()
    device = torch.device(options.device)
    name, _, folder = options.dataset.partition("=")
    recipe = experiments.experiment(options.experiment, [name]).recipe
    dataset, _ = load_dataset(name, folder or None)
    data, _ = training_set([dataset], recipe, options.cache)

    network = AgeNet(
        recipe.backbone, recipe.head, recipe.dropout, auxiliary=recipe.auxiliary_weight > 0, size=recipe.size
    )
    network.to(device).to(memory_format=torch.channels_last).train()
    learner, optimiser = Learner(network), make_optimiser(network, recipe)
    bf16 = uses_bf16(recipe.precision, device)
    batches = Batches(data, recipe, device)

    def faces_of(batch: Batch) -> torch.Tensor:
        return augment(batch.wide, recipe.size, data.crop.fill, recipe.augmentation, batch.draws)

    def synchronised() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def real(epoch: int) -> float:
        began, n = 0.0, 0
        for batch in batches.epoch(epoch, options.steps + 1):
            take_step(learner, network, optimiser, faces_of(batch), batch, recipe, bf16=bf16)
            if not began:  # the first batch fills the queue
                began = synchronised()
            else:
                n += len(batch.ages)
        return n / (synchronised() - began)

    def resident(batch: Batch, faces: torch.Tensor) -> float:
        began = synchronised()
        for _ in range(options.steps):
            take_step(learner, network, optimiser, faces, batch, recipe, bf16=bf16)
        return options.steps * len(faces) / (synchronised() - began)

    fixed = next(iter(batches.epoch(1, 1)))
    synthetic = torch.rand_like(faces_of(fixed)) * 255
    resident(fixed, synthetic)  # warm up
    rows = []
    for number in range(1, options.rounds + 1):
        with_data, without = real(number), resident(fixed, synthetic)
        began = synchronised()
        for _ in range(options.steps):
            faces_of(fixed)
        augmenting = options.steps * len(fixed.ages) / (synchronised() - began)
        rows.append((with_data, without, augmenting))
        print(
            f"round {number}: real {with_data:.1f}, synthetic {without:.1f} images/s, ratio {with_data / without:.3f}"
        )
    real_s, synthetic_s, augment_s = (statistics.median(column) for column in zip(*rows, strict=True))
    # What the ratio would be if the device only had to augment and to learn: the rest is the loader's fault.
    bound = 1 / (1 + synthetic_s / augment_s)
    ratio = statistics.median(a / b for a, b, _ in rows)
    print(
        f"{recipe.backbone}, {recipe.size} px, batch {recipe.batch_size}, {device}, {torch.get_num_threads()} threads, "
        f"{'bf16' if bf16 else 'fp32'}: real over synthetic {ratio:.3f} (medians: {real_s:.1f} and {synthetic_s:.1f} "
        f"images/s); augmentation alone {augment_s:.0f} images/s, so without any loading {bound:.3f}"
    )


if __name__ == "__main__":
    main()
