"""``python -m agetrain``: trains an age network and leaves a checkpoint that ageexport turns into a model file."""

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from ageinfer.errors import AgeInferError
from agetrain.datasets import LOADERS, Dataset, Sample, load_dataset
from agetrain.errors import AgeTrainError, CheckpointError, MissingDependencyError, UsageError
from agetrain.recipe import Recipe
from agetrain.tracking import MODES

WIDE_CROP_FACTOR = 1.4

log = logging.getLogger("agetrain")


def build_parser() -> argparse.ArgumentParser:
    """The options; every simple field of `Recipe` is one."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain",
        description="Fine-tune a network from ImageNet weights to estimate age.",
        epilog="exit status: 0 done, 1 internal error, 2 wrong options, 3 data set, 4 starting weights, 5 checkpoint, "
        "6 missing package, 7 the loss diverged, 130 interrupted (the best epoch so far is kept)",
    )
    parser.add_argument(
        "--dataset", required=True, action="append", metavar="NAME[=DIR]",
        help=f"one of: {', '.join(LOADERS)}; may be repeated, to learn from several together",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR", help="its folder (else $AGETRAIN_DATA/NAME, data/NAME)")
    parser.add_argument("--label", choices=("real", "apparent"), default="real", help="which age to learn")
    parser.add_argument("--out", type=Path, metavar="DIR", help="results (default: runs/NAME-LABEL)")
    parser.add_argument("--cache", type=Path, default=Path("cache"), metavar="DIR", help="face crops, made once")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="ImageNet weights, a file or a folder with BACKBONE*.pth (else $AGETRAIN_WEIGHTS, else a download)",
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    parser.add_argument("--wandb", choices=MODES, default="auto", help="auto: online with an API key, else offline")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    recipe = parser.add_argument_group("recipe")
    for field in fields(Recipe):
        if isinstance(field.default, str | int | float):
            recipe.add_argument(
                f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default, metavar="X",
                help=f"default: {field.default}",
            )  # fmt: skip
    return parser


def run(options: argparse.Namespace) -> None:
    """Prepares the crops, trains, and says what came out."""
    recipe = Recipe(**{f.name: getattr(options, f.name) for f in fields(Recipe) if hasattr(options, f.name)})
    out_name = f"{'+'.join(name.partition('=')[0] for name in options.dataset)}-{options.label}"
    out = options.out or Path("runs") / out_name
    datasets = load_datasets(options.dataset, options.data, options.label)

    import torch

    from ageinfer.cropspec import CropSpec
    from agetrain.cache import prepare
    from agetrain.train import Part, joined, split_selection, train

    try:
        device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch says an absent CUDA by assertion
        raise UsageError(f"--device {options.device}: {str(error).splitlines()[0]}; use cpu, or cuda") from error
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be made a folder: {error.strerror}; choose another --out") from error
    exact = CropSpec(size=recipe.size, margin=recipe.margin)
    wide = exact.widened(WIDE_CROP_FACTOR)

    def part(samples: Iterable[Sample], spec: CropSpec, title: str) -> Part:
        samples = tuple(samples)
        return Part(samples, prepare(samples, spec, options.cache, title))

    learn, select, valid = [], [], []
    for dataset in datasets:
        train_samples = dataset.parts["train"]
        learn_indices, select_indices = split_selection(train_samples, recipe.selection_share, recipe.seed)
        learn.append(part((train_samples[i] for i in learn_indices), wide, f"{dataset.name}: to learn from"))
        select.append(part((train_samples[i] for i in select_indices), exact, f"{dataset.name}: to choose by"))
        valid.append(part(dataset.parts["valid"], exact, f"{dataset.name}: to report on"))
    results = train(
        recipe, datasets, learn, joined(select), valid, exact.to_dict(), out, device, options.weights, options.wandb
    )
    for dataset, result in zip(datasets, results, strict=True):
        print(
            f"{dataset.name} valid, {dataset.label} age: MAE {result.mae:.2f} years over {result.n} pictures "
            f"(always answering the training median: {result.mae_of_train_median:.2f}; a face was found in "
            f"{result.detection_rate_percent:.1f} %)"
        )
    print(f"{out}: best.pth, metrics.json, curve.png, parity.npz\nnext: python -m ageexport {out / 'best.pth'}")


def load_datasets(names: Sequence[str], folder: Path | None, label: str) -> list[Dataset]:
    """Opens the data sets of ``--dataset NAME[=DIR]``.

    Raises:
        UsageError: a name is unknown or given twice, or one ``--data`` is to serve several.
        DatasetError: one of them is not there.
    """
    pairs = [name.partition("=")[::2] for name in names]
    if len({name for name, _ in pairs}) < len(pairs):
        raise UsageError("--dataset names the same data set twice")
    if folder is not None and len(pairs) > 1:
        raise UsageError("--data serves one data set; with several, write --dataset NAME=DIR")
    return [load_dataset(name, own or folder, label) for name, own in pairs]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        run(options)
    except (AgeTrainError, AgeInferError) as error:
        if options.debug:
            raise
        print(f"agetrain: {error}", file=sys.stderr)
        return error.exit_status if isinstance(error, AgeTrainError) else MissingDependencyError.exit_status
    except KeyboardInterrupt:
        print("\nagetrain: interrupted; of the epochs that were finished, the best is in best.pth", file=sys.stderr)
        return 130
    return 0
