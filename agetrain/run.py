"""One run from pictures to report: opens the data sets, prepares the crops, trains, measures, writes."""

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agetrain import cache, centre, checkpoint, packing, report, teachers
from agetrain.cache import CropCache, join
from agetrain.data import Teacher, TrainingSet
from agetrain.datasets import Dataset, Sample, load_dataset
from agetrain.distributed import Processes, joined
from agetrain.errors import CheckpointError, UsageError, WeightsError
from agetrain.experiments import Experiment
from agetrain.metrics import Metrics, measure
from agetrain.networks import WEIGHTS_VARIABLE, weights_file
from agetrain.predict import predict
from agetrain.recipe import Recipe
from agetrain.splits import check_overlap, with_csvs, with_split_file
from agetrain.teachers import NetworkTeacher
from agetrain.tracking import Tracker
from agetrain.train import BEST_FILES, STATE_FILE, train

WIDE_CROP_FACTOR = 1.4
WORST_ERRORS = 16

log = logging.getLogger("agetrain")


def run(options: argparse.Namespace, experiment: Experiment, recipe: Recipe) -> None:
    """Does what the command line says."""
    label = options.label or "real"
    with joined(options.device) as processes:
        if options.packed is not None:
            data, pack_config = packing.load(options.packed, recipe)
            _check_packed(options, pack_config)
            own = {"experiment": experiment.id, "recipe": recipe.to_dict(), "packed": str(options.packed)}
            config = {**pack_config, **own}
            parity: tuple[Sequence[Sample], Sequence[Sample]] | None = None
            notes: list[str] = pack_config["notes"]
        else:
            datasets, folders, notes = open_datasets(options, label, experiment)
            config = {
                "experiment": experiment.id, "label": label,
                "data": [{"name": d.name, "folder": str(f)} for d, f in zip(datasets, folders, strict=True)],
                "split": str(options.split) if options.split else "",
                "split_csv": [str(p) for p in options.split_csv or []], "allow_overlap": options.allow_overlap,
                "recipe": recipe.to_dict(), "notes": notes,
            }  # fmt: skip
            # The first process makes the crops, the others then find them.
            if processes.first:
                data, parity = training_set(datasets, recipe, options.cache)
            processes.agreed(None)
            if not processes.first:
                data, parity = training_set(datasets, recipe, options.cache)
        if options.pack is not None:
            packing.save(options.pack, data, config, recipe, parity)
            print(f"{options.pack}: all that training needs; python -m agetrain --packed {options.pack} ...")
            return
        config["split_sha256"] = [facts["split_sha256"] for facts in data.facts]
        out = options.out = options.out or Path("runs") / f"{data.name}-{data.label}-{experiment.id}"
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{out}: cannot be made a folder: {error.strerror}; choose another --out") from error
        predictions = [path for path in options.teacher if path.suffix != teachers.SUFFIX]
        checkpoints = [path for path in options.teacher if path.suffix == teachers.SUFFIX]
        teacher = Teacher.load(predictions) if predictions else None
        networks = NetworkTeacher.load(checkpoints, data, processes.device) if checkpoints else None
        config |= _sources(options, recipe)
        tracker = train(
            recipe, data, out, processes, weights=options.weights, teacher=teacher, networks=networks,
            wandb_mode=options.wandb, resume=options.resume, overwrite=options.overwrite, config=config,
        )  # fmt: skip
        if not processes.first:
            return
        # Before the tracker is closed, which may wait for a server.
        if parity is not None:
            report.write_parity_pack(out / "parity.npz", *parity, join(data.valid), data.label, recipe.seed)
        elif (options.packed / "parity.npz").is_file():
            (out / "parity.npz").write_bytes((options.packed / "parity.npz").read_bytes())
        results = _finish(out, experiment, data, processes, notes, tracker)
    for facts, result in zip(data.facts, results, strict=True):
        print(
            f"{facts['dataset']} valid, {data.label} age: MAE {result.mae:.2f} years over {result.n} pictures "
            f"(always answering the training median: {result.mae_of_train_median:.2f}; a face was found in "
            f"{result.detection_rate_percent:.1f} %)"
        )
    print(
        f"{out}: best.pth, report.md, metrics.json, curve.png, parity.npz\nnext: python -m ageexport {out / 'best.pth'}"
    )


def _check_packed(options: argparse.Namespace, config: dict[str, Any]) -> None:
    """Refuses options that a packed training set cannot follow any more.

    Raises:
        UsageError: they name another label, data set or split than was packed.
    """
    given = {
        "label": options.label,
        "dataset": [name.partition("=")[0] for name in options.dataset],
        "split": options.split and str(options.split),
        "split_csv": [str(p) for p in options.split_csv or []],
    }
    packed = {**config, "dataset": [d["name"] for d in config["data"]]}
    for name, value in given.items():
        if value and value != packed[name]:
            raise UsageError(
                f"--{name.replace('_', '-')} {_said(value)}: {options.packed} was packed with "
                f"{_said(packed[name]) or 'none'}; leave the option out, or pack it again"
            )


def _said(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _sources(options: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """What a run starts and learns from beside the pictures, for its records: paths as given, and SHA-256 of files."""
    weights = str(options.weights or os.environ.get(WEIGHTS_VARIABLE) or "")
    try:
        digest = checkpoint.file_sha256(weights_file(Path(weights), recipe.backbone)) if weights else ""
    except WeightsError:  # whoever loads them says so; a run that goes on does without
        digest = ""
    return {
        "weights": weights, "weights_sha256": digest,
        "teacher": [str(p) for p in options.teacher],
        "teacher_sha256": [checkpoint.file_sha256(p) for p in options.teacher],
    }  # fmt: skip


def open_datasets(
    options: argparse.Namespace, label: str, experiment: Experiment
) -> tuple[list[Dataset], list[Path], list[str]]:
    """Opens the data sets of the command line with the split that it asks for.

    Returns:
        The data sets, their folders, and what makes figures on them not comparable with published ones.

    Raises:
        UsageError: a name is unknown or given twice, or options do not fit together.
        DatasetError: one of them is not there, or a person is in more than one part.
    """
    pairs = [name.partition("=")[::2] for name in options.dataset]
    if len({name for name, _ in pairs}) < len(pairs):
        raise UsageError("--dataset names the same data set twice")
    if len(pairs) > 1 and (options.data or options.split or options.split_csv):
        raise UsageError("--data, --split and --split-csv serve one data set; with several, write --dataset NAME=DIR")
    if options.split and options.split_csv:
        raise UsageError("give one of --split and --split-csv")
    datasets, folders, notes = [], [], []
    for name, own in pairs:
        dataset, folder = load_dataset(name, own or options.data, label)
        if not dataset.parts["train"]:
            raise UsageError(f"--dataset {name}: it is for measuring alone and has no train part; leave it out")
        if options.split_csv:
            dataset = with_csvs(dataset, options.split_csv)
        elif options.split:
            dataset = with_split_file(dataset, options.split)
            if experiment.published is not None:
                notes.append(f"trained on the split of {options.split}, so the published figure is not comparable")
        elif experiment.published is not None and dataset.split != "official":
            notes.append(
                f"the original split was not given (--split-csv): trained on the split '{dataset.split}', so the "
                "published figure is not comparable"
            )
        check_overlap(dataset, consent=bool(options.split_csv) or options.allow_overlap)
        datasets.append(dataset)
        folders.append(folder)
    if experiment.dataset and [d.name for d in datasets] != [experiment.dataset]:
        notes.append(f"{experiment.id} was published on {experiment.dataset}: the published figure is not comparable")
    if experiment.published is not None and label != "real":
        notes.append(f"{experiment.id} was published for real age: the published figure is not comparable")
    if experiment.centred and not all(centre.is_centred(folder, "dlib") for folder in folders):
        notes.append(
            f"{experiment.id} was published on pictures centred by dlib first (python -m agetrain.prepare "
            f"{experiment.dataset} --centre dlib), which these are not: the published figure is not comparable"
        )
        log.warning("%s", notes[-1])
    return datasets, folders, notes


def training_set(
    datasets: Sequence[Dataset], recipe: Recipe, folder: Path
) -> tuple[TrainingSet, tuple[Sequence[Sample], Sequence[Sample]]]:
    """Crops the pictures, or opens the crops that are there.

    Returns:
        The training set, and the valid and train pictures for a parity pack.
    """
    exact = recipe.crop_spec
    wide = exact.widened(WIDE_CROP_FACTOR)
    offsets = {d.label_offset for d in datasets}
    if recipe.labels == "stored" and len(offsets) > 1:
        raise UsageError("--labels stored: these data sets store their labels differently; use --labels true")
    facts, learn, select, valid = [], [], [], []
    learned: list[Sample] = []
    for dataset in datasets:
        train_samples = dataset.parts["train"] + (() if recipe.ignore_bad else dataset.ignored)
        if recipe.select_on == "valid":
            learn_samples = list(train_samples)
        else:
            chosen, held_out = split_selection(train_samples, recipe.selection_share, recipe.selection_seed)
            learn_samples = [train_samples[i] for i in chosen]
            select.append(cache.prepare([train_samples[i] for i in held_out], exact, folder, f"{dataset.name}: choose"))
        learn.append(cache.prepare(learn_samples, wide, folder, f"{dataset.name}: learn"))
        valid.append(cache.prepare(dataset.parts["valid"], exact, folder, f"{dataset.name}: report"))
        learned += learn_samples
        facts.append(
            {
                "dataset": dataset.name,
                "label": dataset.label,
                "licence": dataset.licence,
                "page": dataset.page,
                "part": "train",
                "n": int(learn[-1].found.sum()),
                "split": dataset.split,
                "split_sha256": dataset.split_sha256(),
            }
        )
    data = TrainingSet(
        tuple(facts), datasets[0].label, max(offsets), exact, tuple(learn), join(select or valid), tuple(valid)
    )
    return data, ([s for d in datasets for s in d.parts["valid"]], learned)


def split_selection(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of what is learned from, and of a seeded part on which the epoch is chosen; both sorted.

    A subject's pictures are all on one side.
    """
    subjects = [s.subject or str(i) for i, s in enumerate(samples)]
    names = sorted(set(subjects))
    count = max(1, round(share * len(samples)))
    chosen: set[str] = set()
    total = 0
    sizes: dict[str, int] = {}
    for subject in subjects:
        sizes[subject] = sizes.get(subject, 0) + 1
    for i in np.random.default_rng(seed).permutation(len(names)).tolist():
        if total >= count:
            break
        chosen.add(names[i])
        total += sizes[names[i]]
    sides: tuple[list[int], list[int]] = ([], [])
    for i, subject in enumerate(subjects):
        sides[subject in chosen].append(i)
    return sides


def _finish(
    out: Path, experiment: Experiment, data: TrainingSet, processes: Processes, notes: Sequence[str], tracker: Tracker
) -> list[Metrics]:
    """Measures the kept epoch on each ``valid`` and writes what lies beside the checkpoint."""
    history = checkpoint.read(out / STATE_FILE)["progress"]["history"]
    results: list[Metrics] = []
    answered: list[np.ndarray] = []
    for path in [out / name for name in BEST_FILES if (out / name).is_file()]:
        values = checkpoint.load(path)
        network = checkpoint.rebuild(values).to(processes.device)
        figures = []
        for facts, crops in zip(data.facts, data.valid, strict=True):
            labelled = _with_label(crops, data.label, values["label"])
            if labelled is None:
                continue
            estimates, _ = predict(network, labelled, processes.device, label_offset=values["label_offset"])
            result = measure(estimates, labelled.ages, labelled.found, values["training"]["train_median"])
            figures.append({"dataset": facts["dataset"], "label": values["label"], "part": "valid", **result.to_dict()})
            if path.name == "best.pth":
                results.append(result)
                answered.append(estimates)
        values["metrics"] = [*[m for m in values["metrics"] if m["part"] == "selection"], *figures]
        checkpoint.save(path, values)
        suffix = path.stem.removeprefix("best")
        record = {"metrics": values["metrics"], "history": history, "training": values["training"]}
        report.write_json(out / f"metrics{suffix}.json", record)
        if path.name == "best.pth":
            text = report.run_report(experiment, record, notes)
            report.write_text(out / "report.md", text)
            title = f"{experiment.id}: {network.backbone_name} on {data.name}, {data.label} age"
            report.draw_curve(out / "curve.png", history, title, values["training"]["recipe"]["loss"])
            _close(tracker, path, values, data.valid[0], answered[0])
    return results


def _with_label(crops: CropCache, label: str, wanted: str) -> CropCache | None:
    """The crops with the other label; None where it is not known."""
    if label == wanted:
        return crops
    if not np.isfinite(crops.others).all():
        return None
    return replace(crops, ages=crops.others, stds=crops.other_stds)


def _close(tracker: Tracker, path: Path, values: dict[str, Any], crops: CropCache, estimates: np.ndarray) -> None:
    """Gives the tracker the final figures, the worst errors and the checkpoint."""
    figures = {
        f"{m['dataset']}_{m['part']}_{k}": v for m in values["metrics"] for k, v in m.items() if isinstance(v, float)
    }
    found = np.flatnonzero(crops.found)
    errors = np.abs(estimates - crops.ages)[found]
    worst = np.sort(found[np.argsort(errors)[-WORST_ERRORS:]])
    captions = [f"{estimates[i]:.0f} years, really {crops.ages[i]:.0f}" for i in worst]
    tracker.finish(figures, path, crops.crops[worst], captions)
