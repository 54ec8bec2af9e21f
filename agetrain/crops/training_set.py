"""The training set: the crops of all data sets that a run needs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.crop.spec import CropSpec
from agetrain.crops import cache
from agetrain.crops.cache import MOST_NAMED, CropCache, join
from agetrain.crops.parity_pack import ParityPictures
from agetrain.datasets import Dataset, Sample
from agetrain.errors import UsageError
from agetrain.recipe import Recipe

WIDE_CROP_FACTOR = 1.4

log = logging.getLogger(__name__)


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
    """

    facts: tuple[dict[str, Any], ...]
    label: str
    label_offset: float
    crop: CropSpec
    learn: tuple[CropCache, ...]
    select: CropCache
    valid: tuple[CropCache, ...]

    @property
    def name(self) -> str:
        """Names of all data sets, joined by ``+``."""
        return "+".join(facts["dataset"] for facts in self.facts)


def training_set(
    datasets: Sequence[Dataset], recipe: Recipe, folder: Path, *, strict: bool = False
) -> tuple[TrainingSet, ParityPictures]:
    """Makes the training set of data sets; pictures are cropped where the cache does not hold them yet.

    Pictures that cannot be read are named in the log and left out.

    Args:
        datasets: to learn from, and to report on.
        recipe: how to crop and to choose.
        folder: holds all caches of crops.
        strict: refuse pictures that cannot be read.

    Returns:
        The training set, and the pictures for a parity pack.

    Raises:
        UsageError: the data sets store their labels differently.
        DatasetError: ``strict``, and a picture cannot be read; or the cache cannot be read or written.
    """
    exact = recipe.crop_spec
    wide = exact.widened(WIDE_CROP_FACTOR)
    offsets = {d.label_offset for d in datasets}
    if recipe.labels == "stored" and len(offsets) > 1:
        raise UsageError("--labels stored: these data sets store their labels differently; use --labels true")
    facts, learn, select, valid = [], [], [], []
    learned: list[Sample] = []
    bad: dict[Path, str] | None = None if strict else {}
    for dataset in datasets:
        train_samples = dataset.parts["train"] + (() if recipe.ignore_bad else dataset.ignored)
        if recipe.select_on == "valid":
            learn_samples = list(train_samples)
        else:
            chosen, held_out = split_selection(train_samples, recipe.selection_share, recipe.selection_seed)
            learn_samples = [train_samples[i] for i in chosen]
            select.append(
                cache.open_crops([train_samples[i] for i in held_out], exact, folder, f"{dataset.name}: choose", bad)
            )
        learn.append(cache.open_crops(learn_samples, wide, folder, f"{dataset.name}: learn", bad))
        valid.append(cache.open_crops(dataset.parts["valid"], exact, folder, f"{dataset.name}: report", bad))
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
    if bad:
        _say_what_is_left_out(bad)
    return data, ParityPictures(
        tuple(s for d in datasets for s in d.parts["valid"]), tuple(learned), frozenset(bad or ())
    )


def _say_what_is_left_out(bad: Mapping[Path, str]) -> None:
    for reason in list(bad.values())[:MOST_NAMED]:
        log.warning("left out: %s", reason)
    more = f", {MOST_NAMED} of them named above" if len(bad) > MOST_NAMED else ""
    log.warning("%d pictures cannot be read and are left out%s; --strict ends the run instead", len(bad), more)


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
