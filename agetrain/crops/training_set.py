"""The training set: the crops of all data sets that a run needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.crop.spec import CropSpec
from agetrain.crops import cache
from agetrain.crops.cache import CropCache, join
from agetrain.crops.parity_pack import ParityPictures
from agetrain.datasets import Dataset, Sample
from agetrain.datasets.base import Problem
from agetrain.errors import UsageError
from agetrain.recipe import AGE_BALANCES, Recipe

WIDE_CROP_FACTOR = 1.4


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """Everything that training needs of the data sets; no picture file is opened any more.

    Attributes:
        facts: of each data set: name, label, licence, page, split and its hash, for the record.
        label: ``real`` or ``apparent``.
        label_offset: years that the original lists take off the true age; one for all data sets.
        crop: that a model must be given.
        learn: of each data set, wide crops, see `agetrain.training.augment`.
        select: of all of them together, exact crops on which the best epoch is chosen.
        valid: of each data set, exact crops, measured once at the end.
        problems: of each data set, the pictures that are left out or hold no face.
        groups: of each of ``learn``, the values that the recipe balances by, ``[n]``; empty where it balances by age or
            not at all.
    """

    facts: tuple[dict[str, Any], ...]
    label: str
    label_offset: float
    crop: CropSpec
    learn: tuple[CropCache, ...]
    select: CropCache
    valid: tuple[CropCache, ...]
    problems: tuple[tuple[Problem, ...], ...] = ()
    groups: tuple[np.ndarray, ...] = ()

    @property
    def error_name(self) -> str:
        """What the epochs are told apart by: errors of exact ages, or without any distances to intervals."""
        return "MAE" if self.select.exact.any() else "distance to the interval"

    @property
    def name(self) -> str:
        """Names of all data sets, joined by ``+``."""
        return "+".join(facts["dataset"] for facts in self.facts)


def training_set(
    datasets: Sequence[Dataset], recipe: Recipe, folder: Path
) -> tuple[TrainingSet, ParityPictures]:  # fmt: skip
    """Makes the training set of data sets; pictures are cropped where the cache does not hold them yet.

    Pictures that cannot be read, or hold no face, become problems of their data set.

    Args:
        datasets: to learn from, and to report on.
        recipe: how to crop and to choose.
        folder: holds all caches of crops.

    Returns:
        The training set, and the pictures for a parity pack.

    Raises:
        UsageError: the data sets store their labels differently.
        DatasetError: the cache cannot be read or written.
    """
    exact = recipe.crop_spec
    wide = exact.widened(WIDE_CROP_FACTOR)
    offsets = {d.label_offset for d in datasets}
    if recipe.labels == "stored" and len(offsets) > 1:
        raise UsageError("--label-values stored: these data sets store labels differently; use --label-values true")
    facts, learn, select, valid, problems, groups = [], [], [], [], [], []
    learned: list[Sample] = []
    unreadable: dict[Path, str] = {}
    for dataset in datasets:
        bad: dict[Path, str] = {}
        opened: list[tuple[Sequence[Sample], CropCache]] = []

        def crops(
            samples: Sequence[Sample], spec: CropSpec, what: str, dataset: Dataset = dataset,
            bad: dict[Path, str] = bad, opened: list[tuple[Sequence[Sample], CropCache]] = opened,
        ) -> CropCache:  # fmt: skip
            opened.append((samples, cache.open_crops(samples, spec, folder, f"{dataset.name}: {what}", bad)))
            return opened[-1][1]

        train_samples = dataset.parts["train"] + (() if recipe.ignore_bad else dataset.ignored)
        if recipe.select_on == "valid":
            learn_samples = list(train_samples)
        else:
            chosen, held_out = split_selection(train_samples, recipe.selection_share, recipe.selection_seed)
            learn_samples = [train_samples[i] for i in chosen]
            select.append(crops([train_samples[i] for i in held_out], exact, "choose"))
        learn.append(crops(learn_samples, wide, "learn"))
        valid.append(crops(dataset.parts["valid"], exact, "report"))
        problems.append((*dataset.problems, *_problems(opened, bad)))
        learned += learn_samples
        if recipe.balance not in AGE_BALANCES:
            groups.append(_values_of(learn_samples, recipe.balance, dataset.name))
        unreadable |= bad
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
        tuple(facts), datasets[0].label, max(offsets), exact, tuple(learn), join(select or valid), tuple(valid),
        tuple(problems), tuple(groups),
    )  # fmt: skip
    return data, ParityPictures(
        tuple(s for d in datasets for s in d.parts["valid"]), tuple(learned), frozenset(unreadable)
    )


def _values_of(samples: Sequence[Sample], column: str, name: str) -> np.ndarray:
    """The values of a column of own data, empty where it has none.

    Raises:
        UsageError: no picture has such a column.
    """
    values = [dict(sample.attributes).get(column, "") for sample in samples]
    if not any(values):
        known = sorted({key for sample in samples for key, _ in sample.attributes})
        raise UsageError(
            f"--balance {column}: {name} has no such column; use {', '.join(AGE_BALANCES)}"
            + (f" or one of {', '.join(known)}" if known else "")
        )
    return np.array(values)


def _problems(opened: Sequence[tuple[Sequence[Sample], CropCache]], bad: Mapping[Path, str]) -> list[Problem]:
    """What cropping found out about pictures, in their order."""
    found = []
    for samples, crops in opened:
        for sample, has_face in zip(samples, crops.found.tolist(), strict=True):
            if sample.path in bad:
                found.append(Problem(str(sample.path), "broken", bad[sample.path]))
            elif not has_face:
                found.append(Problem(str(sample.path), "no face", "no face was found in it"))
    return found


def split_selection(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Returns sorted indices of the samples to learn from, and of a seeded part that chooses the epoch.

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
