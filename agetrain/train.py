"""``python -m agetrain``: trains an age network and leaves a checkpoint that ageexport turns into a model file."""

import argparse
import json
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, ExitStatus, status_table
from agetrain import experiments
from agetrain.datasets import DATASETS
from agetrain.errors import UsageError
from agetrain.recipe import AUGMENTATIONS, CHOICES, Augmentation, Recipe
from agetrain.training.wandb_log import MODES

log = logging.getLogger("agetrain")


def build_parser() -> argparse.ArgumentParser:
    """The options; every field of `Recipe` and of `Augmentation` is one."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain",
        usage="python -m agetrain --dataset NAME[=DIR] [--experiment ID] [options]\n"
        "       python -m agetrain --list | --help",  # argparse's own would be all of the options
        description="Train an age network from ImageNet weights: an experiment of the original work, or the recipe "
        "'best'. Without --experiment a data set's final original experiment is run, and 'best' where there is none.",
        epilog=status_table(*DATA_STATUSES, ExitStatus.DIVERGED),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dataset", action="append", metavar="NAME[=DIR]", default=[],
        help=f"one of: {', '.join(DATASETS)}; may be repeated, to learn from several together",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR", help="its folder (else $AGETRAIN_DATA/NAME, data/NAME)")
    parser.add_argument("--label", choices=("real", "apparent"), help="which age to learn (default: real)")
    parser.add_argument("--experiment", metavar="ID", help=f"one of: {', '.join(experiments.EXPERIMENTS)}")
    parser.add_argument("--list", action="store_true", help="print all experiments")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the config.json of a run, to run it again")
    splits = parser.add_argument_group("split")
    splits.add_argument("--split", type=Path, metavar="FILE", help="a split file of python -m agetrain.splits")
    splits.add_argument(
        "--split-csv", type=Path, nargs="+", metavar="CSV",
        help="the original work's lists: train, valid and if you like test",
    )  # fmt: skip
    splits.add_argument("--allow-overlap", action="store_true", help="train although a person is in more than one part")
    parser.add_argument("--out", type=Path, metavar="DIR", help="results (default: runs/NAME-LABEL-EXPERIMENT)")
    parser.add_argument("--cache", type=Path, default=Path("cache"), metavar="DIR", help="face crops, made once")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="ImageNet weights, a file or a folder with BACKBONE*.pth (else $AGETRAIN_WEIGHTS, else a download); or a "
        "checkpoint of agetrain to start from",
    )  # fmt: skip
    parser.add_argument(
        "--teacher", type=Path, action="append", default=[], metavar="FILE",
        help="what to learn from beside the labels: a checkpoint (.pth), which answers to the very faces that the "
        "network is shown, or predictions (.npz), see agetrain.evaluate --predictions; several are averaged. Beside "
        "checkpoints, predictions only serve --doubt-beyond",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is in --out")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="do not train: pack all that training needs into DIR")
    parser.add_argument("--packed", type=Path, metavar="DIR", help="train from such a folder; no pictures are needed")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    parser.add_argument("--wandb", choices=MODES, default="auto", help="auto: online with an API key, else offline")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(config_values=None)  # of --config or --packed, once read
    _add_recipe_options(parser)
    return parser


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    recipe = parser.add_argument_group("recipe", "what is to differ from the experiment")
    said = described_fields(Recipe)
    for field in fields(Recipe):
        if field.name == "augmentation":
            recipe.add_argument("--augmentation", choices=AUGMENTATIONS, help="all that is below at once")
            continue
        kind: Any = type(field.default)
        if field.name == "repeats":
            recipe.add_argument("--repeats", type=_numbers, metavar="R[,R...]", help=said.get(field.name))
        elif kind is bool:
            recipe.add_argument(
                f"--{_dashed(field.name)}",
                action=argparse.BooleanOptionalAction,
                default=None,
                help=said.get(field.name),
            )
        else:
            choices = CHOICES.get(field.name)
            metavar = None if choices else "X"
            recipe.add_argument(
                f"--{_dashed(field.name)}", type=kind, choices=choices, metavar=metavar, help=said.get(field.name)
            )
    augmentation = parser.add_argument_group("augmentation", "how far training faces are varied")
    said = described_fields(Augmentation)
    for field in fields(Augmentation):
        if type(field.default) is bool:
            augmentation.add_argument(
                f"--{_dashed(field.name)}",
                action=argparse.BooleanOptionalAction,
                default=None,
                help=said.get(field.name),
            )
        else:
            augmentation.add_argument(f"--{_dashed(field.name)}", type=float, metavar="X", help=said.get(field.name))


def described_fields(of: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each of its attributes, for ``--help``."""
    said: dict[str, str] = {}
    names: list[str] = []
    for line in (of.__doc__ or "").partition("Attributes:")[2].splitlines():
        started = re.match(r" {8}([a-z][a-z0-9_, ]*): (.*)", line)
        if started:
            names = started[1].split(", ")
            said |= dict.fromkeys(names, started[2])
        elif line.strip():
            said |= {name: f"{said[name]} {line.strip()}" for name in names}
    return {name: text.replace("``", "").replace("`", "").replace("%", "%%").rstrip(".") for name, text in said.items()}


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: use a number, or one for each data set, as 3,1,1") from None


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def resolve(options: argparse.Namespace) -> tuple[experiments.Experiment, Recipe]:
    """The experiment, and its recipe with what was changed on the command line.

    Raises:
        UsageError: there is no such experiment, or a value does not fit.
    """
    chosen = experiments.experiment(options.experiment, [name.partition("=")[0] for name in options.dataset])
    base = chosen.recipe
    if options.config_values is not None:
        base = Recipe.from_dict(options.config_values["recipe"])
    augmentation = Augmentation.named(options.augmentation) if options.augmentation else base.augmentation
    return chosen, replace(
        base,
        **_given(options, Recipe, "augmentation"),
        augmentation=replace(augmentation, **_given(options, Augmentation)),
    )


def _given(options: argparse.Namespace, of: type, *but: str) -> dict[str, Any]:
    names = [f.name for f in fields(of) if f.name not in but]
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _read_config(options: argparse.Namespace) -> None:
    """Takes from a run's ``config.json`` what the command line does not say."""
    try:
        values = json.loads(options.config.read_text())
        options.config_values = values
        options.experiment = options.experiment or values["experiment"]
        options.label = options.label or values["label"]
        if not values.get("packed"):
            options.dataset = options.dataset or [f"{d['name']}={d['folder']}" for d in values["data"]]
        options.split = options.split or (Path(values["split"]) if values["split"] else None)
        options.split_csv = options.split_csv or [Path(p) for p in values["split_csv"]] or None
        options.allow_overlap |= values["allow_overlap"]
        options.teacher = options.teacher or [Path(p) for p in values["teacher"]]
        options.packed = options.packed or (Path(values["packed"]) if values.get("packed") else None)
        # Older ones do not know it.
        options.weights = options.weights or (Path(values["weights"]) if values.get("weights") else None)
    except OSError as error:
        raise UsageError(f"--config {options.config}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--config {options.config}: not the config.json of a run ({error!r})") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.list:
        print(experiments.table())
        return 0
    if not (options.dataset or options.packed or options.config):
        parser.error("give --dataset, --config, --packed or --list")
    left = partial(_left, options, time.time())
    return guarded(
        "agetrain", lambda: train(options), debug=options.debug, level=logging.INFO, extra="train", interrupted=left
    )


def _left(options: argparse.Namespace, began_s: float) -> str:
    """What a run that was interrupted leaves; the state of an earlier run in its folder is none of its own."""
    state = options.out / "last.pth" if options.out else None
    if state and state.is_file() and (options.resume or state.stat().st_mtime >= began_s):
        return "the best epoch so far is in best.pth, --resume goes on"
    return "no epoch was finished, so there is nothing to go on from"


def train(options: argparse.Namespace) -> None:
    """Resolves the options to one configuration and trains.

    Raises:
        AgeError: they do not fit together, or the run cannot be finished.
    """
    # (The teacher of a configuration that is packed is no mistake of whoever packs it.)
    if options.pack is not None and options.teacher:
        raise UsageError(
            f"--teacher {options.teacher[0]}: a pack holds pictures and labels alone; name the teacher where it is "
            f"trained from, with --packed {options.pack}"
        )
    if options.config is not None:
        _read_config(options)
    elif options.packed is not None and options.experiment is None:
        from agetrain.crops import packing

        options.config_values = packing.config_of(options.packed)
        options.experiment = options.config_values["experiment"]
    from agetrain.training.run import run

    run(options, *resolve(options))
