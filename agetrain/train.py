"""``python -m agetrain``: trains an age network and leaves a checkpoint that ageexport turns into a model file."""

import argparse
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import Field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, ExitStatus, status_table
from agetrain import experiments
from agetrain.datasets import DATASETS
from agetrain.errors import UsageError
from agetrain.network.names import weights_named
from agetrain.recipe import AUGMENTATIONS, CHOICES, Augmentation, Recipe
from agetrain.run_config import RunConfig, default_out
from agetrain.training.wandb_log import MODES


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command; every field of `Recipe` and of `Augmentation` is an option."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain",
        # argparse's own would be all of the options
        usage="python -m agetrain --dataset NAME[=DIR] [--experiment ID] [options]\n"
        "       python -m agetrain --list | --list-backbones [TEXT] | --help",
        description="Train an age network from ImageNet weights: an experiment of the original work, or the recipe "
        "'best'. Without --experiment a data set's final original experiment is run, and 'best' where there is none.",
        epilog=status_table(*DATA_STATUSES, ExitStatus.DIVERGED),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dataset", action="append", metavar="NAME[=DIR]", default=[],
        help=f"one of: {', '.join(DATASETS)}; may be repeated, to learn from several together",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data set (default: $AGETRAIN_DATA/NAME, then data/NAME)"
    )
    parser.add_argument("--label", choices=("real", "apparent"), help="age to learn (default: real)")
    parser.add_argument("--experiment", metavar="ID", help=f"one of: {', '.join(experiments.EXPERIMENTS)}")
    parser.add_argument("--list", action="store_true", help="print all experiments")
    parser.add_argument(
        "--list-backbones", nargs="?", const="", metavar="TEXT",
        help="print what --backbone takes, those with TEXT in their name: networks of agetrain, of torchvision, and of "
        "timm where it is installed",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="run again by the config.json of a run")
    splits = parser.add_argument_group("split")
    splits.add_argument("--split", type=Path, metavar="FILE", help="a split file of python -m agetrain.splits")
    splits.add_argument(
        "--split-csv", type=Path, nargs="+", metavar="CSV",
        help="the lists of the original work: train, valid and, optionally, test",
    )  # fmt: skip
    splits.add_argument("--allow-overlap", action="store_true", help="train although a person is in more than one part")
    parser.add_argument(
        "--strict", action="store_true", help="end at pictures that cannot be read instead of leaving them out"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the results (default: runs/NAME-LABEL-EXPERIMENT)"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("cache"), metavar="DIR", help="folder of the face crops (default: cache)"
    )
    parser.add_argument(
        "--weights", type=weights_named, metavar="FILE",
        help="starting weights: a state dict of the backbone as a file or a folder with BACKBONE*.pth, a checkpoint of "
        "agetrain, default for the download of torchvision or timm, or none to start at random (default: "
        "$AGETRAIN_WEIGHTS, then a download)",
    )  # fmt: skip
    parser.add_argument(
        "--trust-code", action="store_true",
        help="allow code of your own to run: the file of --backbone FILE.py:FUNCTION, also where a configuration or a "
        "checkpoint names it",
    )  # fmt: skip
    parser.add_argument(
        "--teacher", type=Path, action="append", default=[], metavar="FILE",
        help="what to learn from beside the labels: a checkpoint (.pth), which answers to the very faces that the "
        "network is shown, or predictions (.npz) of agetrain.evaluate --predictions. Several teachers are averaged. "
        "Predictions beside checkpoints are only used by --doubt-beyond",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is in --out")
    parser.add_argument(
        "--pack", type=Path, metavar="DIR", help="do not train; write everything that training needs into DIR"
    )
    parser.add_argument(
        "--packed", type=Path, metavar="DIR", help="train from a folder that --pack wrote, without any picture"
    )
    parser.add_argument(
        "--device", help="device to train on: cpu, cuda, cuda:1, ... (default: cuda where there is one)"
    )
    parser.add_argument(
        "--wandb",
        choices=MODES,
        default="auto",
        help="Weights & Biases; auto: online with an API key, else offline (default: auto)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    _add_recipe_options(parser)
    return parser


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    recipe = parser.add_argument_group("recipe", "what differs from the experiment")
    for field in fields(Recipe):
        if field.name == "augmentation":
            recipe.add_argument("--augmentation", choices=AUGMENTATIONS, help=_help(field))
        elif field.name == "repeats":
            recipe.add_argument("--repeats", type=_numbers, metavar="R[,R...]", help=_help(field))
        elif field.name == "frozen_stages":
            recipe.add_argument("--frozen-stages", type=_names, metavar="NAME[,NAME...]", help=_help(field))
        else:
            _add_field(recipe, field, type(field.default))
    augmentation = parser.add_argument_group("augmentation", "how far training faces are varied")
    for each in fields(Augmentation):
        _add_field(augmentation, each, bool if type(each.default) is bool else float)


def _add_field(group: Any, field: "Field[Any]", kind: type) -> None:
    option = f"--{field.name.replace('_', '-')}"
    if kind is bool:
        group.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=_help(field))
        return
    choices = CHOICES.get(field.name)
    group.add_argument(option, type=kind, choices=choices, metavar=None if choices else "X", help=_help(field))


def _help(field: "Field[Any]") -> str:
    return str(field.metadata["help"]).replace("%", "%%")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: use a number, or one for each data set, as 3,1,1") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def config_of(options: argparse.Namespace) -> RunConfig:
    """Turns the options into the configuration of a run, with its experiment, its recipe and its folder.

    Raises:
        UsageError: there is no such experiment, or values do not fit together.
        DatasetError: ``--packed`` is no pack.
    """
    base = _base(options)
    datasets = _datasets(options) or base.datasets
    packed = options.packed or base.packed
    names = RunConfig(datasets=datasets).names
    experiment = experiments.experiment(options.experiment or base.experiment, names)
    recipe = base.recipe or experiment.recipe
    augmentation = Augmentation.named(options.augmentation) if options.augmentation else recipe.augmentation
    recipe = replace(
        recipe,
        **_given(options, Recipe, "augmentation"),
        augmentation=replace(augmentation, **_given(options, Augmentation)),
    )
    label = options.label or base.label
    return RunConfig(
        datasets=datasets, label=label, experiment=experiment.id, recipe=recipe,
        split=options.split or base.split, split_csv=tuple(options.split_csv or base.split_csv),
        allow_overlap=options.allow_overlap or base.allow_overlap, strict=options.strict,
        out=options.out or _default_out(names, label, experiment.id, packed), cache=options.cache,
        weights=options.weights or base.weights, teachers=tuple(options.teacher or base.teachers), packed=packed,
        resume=options.resume, overwrite=options.overwrite, device=options.device, wandb=options.wandb,
        trust_code=options.trust_code,
    )  # fmt: skip


def _base(options: argparse.Namespace) -> RunConfig:
    """What the options change: the configuration of ``--config`` or, without an experiment, of a pack."""
    if options.config is not None:
        try:
            base = RunConfig.from_dict(json.loads(options.config.read_text()))
        except OSError as error:
            raise UsageError(f"--config {options.config}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"--config {options.config}: not the config.json of a run ({error!r})") from error
        return replace(base, datasets=()) if base.packed else base
    if options.packed is not None and options.experiment is None:
        from agetrain.crops import packing

        packed = packing.config_of(options.packed)
        return RunConfig(experiment=packed.experiment, recipe=packed.recipe)
    return RunConfig()


def _datasets(options: argparse.Namespace) -> tuple[str, ...]:
    if options.data is None:
        return tuple(options.dataset)
    if len(options.dataset) > 1:
        raise UsageError("--data, --split and --split-csv serve one data set; with several, write --dataset NAME=DIR")
    return tuple(text if "=" in text else f"{text}={options.data}" for text in options.dataset)


def _given(options: argparse.Namespace, of: type, *but: str) -> dict[str, Any]:
    names = [f.name for f in fields(of) if f.name not in but]
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _default_out(names: list[str], label: str | None, experiment: str, packed: Path | None) -> Path:
    if packed is not None:
        from agetrain.crops import packing

        config = packing.config_of(packed)
        names, label = config.names, config.label
    return default_out("+".join(names), label or "real", experiment)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.list:
        print(experiments.table())
        return 0
    if options.list_backbones is not None:
        return guarded("agetrain", lambda: list_backbones(options.list_backbones), debug=options.debug, extra="train")
    if not (options.dataset or options.packed or options.config):
        parser.error("give --dataset, --config, --packed, --list or --list-backbones")
    left = partial(_left, options, time.time())
    return guarded(
        "agetrain", lambda: train(options), debug=options.debug, level=logging.INFO, extra="train", interrupted=left
    )


def list_backbones(containing: str) -> None:
    """Prints the networks that ``--backbone`` takes, a name a line.

    Raises:
        UsageError: there is none with this text in its name.
    """
    from agetrain.network.backbones import backbone_names

    names = backbone_names(containing)
    if not names:
        raise UsageError(f"--list-backbones {containing}: no network has this in its name; use a part of a name")
    print("\n".join(names))


def _left(options: argparse.Namespace, began_s: float) -> str:
    """What a run that was interrupted leaves; the state of an earlier run in its folder is none of its own."""
    state = options.out / "last.pth" if options.out else None
    if state and state.is_file() and (options.resume or state.stat().st_mtime >= began_s):
        return "the best epoch so far is in best.pth, --resume goes on"
    return "no epoch was finished, so there is nothing to go on from"


def train(options: argparse.Namespace) -> None:
    """Trains, or packs, what the options say, and prints the result.

    Raises:
        AgeError: the options do not fit together, or the run cannot be finished.
    """
    # (The teacher of a configuration that is packed is no mistake of whoever packs it.)
    if options.pack is not None and options.teacher:
        raise UsageError(
            f"--teacher {options.teacher[0]}: a pack holds pictures and labels alone; name the teacher where it is "
            f"trained from, with --packed {options.pack}"
        )
    config = config_of(options)
    options.out = config.out
    from agetrain.training.run import fit, pack

    if options.pack is not None:
        pack(config, options.pack)
        print(f"{options.pack}: all that training needs; python -m agetrain --packed {options.pack} ...")
        return
    result = fit(config)
    if os.environ.get("RANK", "0") != "0":  # torchrun: the first process speaks for all
        return
    for m in result.metrics:
        if m["part"] == "valid":
            print(
                f"{m['dataset']} valid, {m['label']} age: MAE {m['mae']:.2f} years over {m['n']} pictures "
                f"(always answering the training median: {m['mae_of_train_median']:.2f}; a face was found in "
                f"{m['detection_rate_percent']:.1f} %)"
            )
    print(
        f"{result.out}: best.pth, report.md, metrics.json, curve.png, parity.npz\n"
        f"next: python -m ageexport {result.path}"
    )
