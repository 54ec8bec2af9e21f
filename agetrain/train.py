"""``python -m agetrain``: trains an age network and leaves a checkpoint that ageexport turns into a model file."""

import argparse
import logging
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import Field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, ExitStatus, status_table
from agetrain import experiments
from agetrain._data_options import DATASET_HELP, DATASET_METAVAR, add_reading, reading_of
from agetrain.datasets.own import Reading
from agetrain.errors import UsageError
from agetrain.evaluation.metrics import in_words
from agetrain.network.names import weights_named
from agetrain.recipe import AUGMENTATIONS, CHOICES, Augmentation, Recipe, option
from agetrain.run_config import RunConfig, read_record
from agetrain.training.wandb_log import MODES

if TYPE_CHECKING:
    from agetrain.training.finish import TrainingResult

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command; every field of `Recipe` and of `Augmentation` is an option."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain",
        # argparse's own would be all of the options
        usage="python -m agetrain --dataset NAME[=DIR] [--experiment ID] [options]\n"
        "       python -m agetrain --resume DIR | --finish DIR [options]\n"
        "       python -m agetrain --list | --list-backbones [TEXT] | --help",  # argparse's own would be all options
        description="Train an age network from ImageNet weights: an experiment of the original work, or the recipe "
        "'best'. Without --experiment a data set's final original experiment is run, and 'best' where there is none.",
        epilog=status_table(*DATA_STATUSES, ExitStatus.DIVERGED),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dataset", action="append", metavar=DATASET_METAVAR, default=[],
        help=f"{DATASET_HELP}; may be repeated, to learn from several together",
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
    add_reading(parser)
    splits = parser.add_argument_group("split")
    splits.add_argument("--split", type=Path, metavar="FILE", help="a split file of python -m agetrain.splits")
    splits.add_argument(
        "--split-csv", type=Path, nargs="+", metavar="CSV",
        help="the lists of the original work: train, valid and, optionally, test",
    )  # fmt: skip
    splits.add_argument("--allow-overlap", action="store_true", help="train although a person is in more than one part")
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
    parser.add_argument(
        "--resume", type=Path, nargs="?", const=True, default=False, metavar="DIR",
        help="go on with the interrupted run in DIR by its config.json, with --epochs N for longer; without DIR: with "
        "the run in --out, by the same options",
    )  # fmt: skip
    parser.add_argument(
        "--finish", type=Path, metavar="DIR",
        help="do not train; measure the best epoch of the run that was stopped in DIR and write its report, as if it "
        "had ended there",
    )  # fmt: skip
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
    name = option(field.name)
    if kind is bool:
        group.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=_help(field))
        return
    choices = CHOICES.get(field.name)
    metavar = None if choices else "X"
    group.add_argument(name, dest=field.name, type=kind, choices=choices, metavar=metavar, help=_help(field))


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
    if options.weights is not None and base.recipe is None:
        from agetrain.network.weights import recipe_of_start

        recipe = recipe_of_start(recipe, options.weights, _given(options, Recipe, "augmentation"))
    return RunConfig(
        datasets=datasets, label=label, experiment=experiment.id, recipe=recipe,
        split=options.split or base.split, split_csv=tuple(options.split_csv or base.split_csv),
        allow_overlap=options.allow_overlap or base.allow_overlap,
        reading=reading_of(options) if reading_of(options) != Reading(cache=options.cache) else base.reading,
        out=options.out or _folder(options), cache=options.cache,
        weights=options.weights or base.weights, teachers=tuple(options.teacher or base.teachers), packed=packed,
        resume=bool(options.resume), overwrite=options.overwrite, device=options.device, wandb=options.wandb,
        trust_code=options.trust_code,
    )  # fmt: skip


def _base(options: argparse.Namespace) -> RunConfig:
    """What the options change: the configuration of an earlier run or, without an experiment, of a pack."""
    folder = _folder(options)
    if folder is not None and (options.config or options.out not in (None, folder)):
        raise UsageError(
            f"{folder}: --resume DIR and --finish DIR take this run as it is; leave --config and --out out"
        )
    file = options.config if folder is None else folder / "config.json"
    if file is not None:
        record = read_record(file)
        if folder is None and record.get("augment"):
            log.warning("%s: that run had an augmentation of its own (%s), this one has not", file, record["augment"])
        base = RunConfig.from_dict(record)
        return replace(base, datasets=()) if base.packed else base
    if options.packed is not None and options.experiment is None:
        from agetrain.crops import packing

        packed = packing.config_of(options.packed)
        return RunConfig(experiment=packed.experiment, recipe=packed.recipe)
    return RunConfig()


def _folder(options: argparse.Namespace) -> Path | None:
    """The folder of ``--finish DIR`` and ``--resume DIR``."""
    folder = options.finish or (options.resume if isinstance(options.resume, Path) else None)
    return Path(folder) if folder else None


def _datasets(options: argparse.Namespace) -> tuple[str, ...]:
    if options.data is None:
        return tuple(options.dataset)
    if len(options.dataset) > 1:
        raise UsageError("--data, --split and --split-csv serve one data set; with several, write --dataset NAME=DIR")
    return tuple(text if "=" in text else f"{text}={options.data}" for text in options.dataset)


def _given(options: argparse.Namespace, of: type, *but: str) -> dict[str, Any]:
    names = [f.name for f in fields(of) if f.name not in but]
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.list:
        print(experiments.table())
        return 0
    if options.list_backbones is not None:
        return guarded("agetrain", lambda: list_backbones(options.list_backbones), debug=options.debug, extra="train")
    if not (options.dataset or options.packed or options.config or _folder(options)):
        parser.error("give --dataset, --config, --packed, --resume DIR, --finish DIR, --list or --list-backbones")
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
    if options.finish:
        return f"go on with python -m agetrain --finish {shlex.quote(str(options.finish))}"
    out = options.out
    if out and (state := out / "last.pth").is_file() and (options.resume or state.stat().st_mtime >= began_s):
        folder, best = shlex.quote(str(out)), shlex.quote(str(out / "best.pth"))
        cache = "" if options.cache == Path("cache") else f" --cache {shlex.quote(str(options.cache))}"
        return (
            "the best epoch so far is in best.pth, --resume goes on; "
            f"next: python -m agetrain --resume {folder}{cache}, or python -m ageexport {best}"
        )
    return "no epoch was finished, so there is nothing to go on from"


def train(options: argparse.Namespace) -> None:
    """Trains, finishes a run, or packs, as the options say, and prints the result.

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
    from agetrain.training.finish import finish
    from agetrain.training.prepared import folder_of
    from agetrain.training.run import pack, train_run

    if options.pack is not None:
        pack(config, options.pack)
        print(f"{options.pack}: all that training needs; python -m agetrain --packed {options.pack} ...")
        return
    options.out = folder_of(config)
    result = finish(config) if options.finish else train_run(replace(config, out=options.out))
    if os.environ.get("RANK", "0") == "0":  # torchrun: the first process speaks for all
        _print_result(result)


def _print_result(result: "TrainingResult") -> None:
    for m in result.metrics:
        if m["part"] == "valid":
            print(f"{m['dataset']} valid, {m['label']} age: {in_words(m)}{_beside(m)}")
    print(
        f"{result.out}: best.pth, report.md, metrics.json, curve.png, parity.npz\n"
        f"next: python -m ageexport {result.path}"
    )
    experiment, _ = result.config.chosen()
    if experiment.published is not None:
        print(
            f"hint: {experiment.id} repeats the original work with its flaws; --experiment best is the good model for "
            "this data"
        )


def _beside(metrics: dict[str, Any]) -> str:
    if not metrics["n"]:
        return ""
    return (
        f" (always answering the training median: {metrics['mae_of_train_median']:.2f}; a face was found in "
        f"{metrics['detection_rate_percent']:.1f} %)"
    )
