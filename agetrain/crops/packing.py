"""Packs: folders with everything that training needs, for a machine without the pictures and without OpenCV.

``training-set.json`` describes it; crops lie in NumPy files of at most 48 MB, so that they travel easily, and labels
beside them. It contains faces of the data sets: their licences apply.
"""

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ageinfer.crop.spec import CropSpec
from agetrain._files import replacing, write_json
from agetrain.crops.cache import VALUES, CropCache, JoinedCrops, join
from agetrain.crops.parity_pack import ParityPictures, write_parity_pack
from agetrain.crops.training_set import TrainingSet
from agetrain.datasets import DATASETS
from agetrain.errors import DatasetError, UsageError
from agetrain.recipe import Recipe
from agetrain.run_config import RunConfig

DESCRIPTION = "training-set.json"
_VERSION = 1
_SHARD_BYTES = 48_000_000 - 1000  # the rest is for the header
# What of a recipe decides which pixels and which faces are in a pack.
_PIXELS = (
    "ignore_bad",
    "crop",
    "size",
    "margin",
    "resize_to",
    "keep_aspect",
    "select_on",
    "selection_share",
    "selection_seed",
)


def save(
    folder: Path, data: TrainingSet, config: dict[str, Any], recipe: Recipe,
    parity: ParityPictures | None,
) -> None:  # fmt: skip
    """Writes a training set into a folder; the description comes last, so a folder that has one is complete.

    Raises:
        DatasetError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        caches = {f"learn-{i}": cache for i, cache in enumerate(data.learn)}
        caches |= {f"valid-{i}": cache for i, cache in enumerate(data.valid)}
        if recipe.select_on != "valid":
            caches["select"] = data.select
        shards = {name: _save_cache(folder, name, cache) for name, cache in caches.items()}
        if parity is not None:
            crops = join(data.valid)
            write_parity_pack(folder / "parity.npz", parity, crops, data.label, recipe.seed)
        description = {
            "version": _VERSION, "facts": list(data.facts), "label": data.label, "label_offset": data.label_offset,
            "crop": data.crop.to_dict(), "shards": shards, "config": config,
            "groups": [values.tolist() for values in data.groups],
        }  # fmt: skip
        write_json(folder / DESCRIPTION, description)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written: {error.strerror or error}; free some space") from error


def _save_cache(folder: Path, name: str, cache: CropCache) -> int:
    n = len(cache)
    each = max(1, _SHARD_BYTES // max(1, cache.crops[np.arange(1)].nbytes)) if n else 1
    starts = range(0, n, each)
    for shard, start in enumerate(starts):
        with replacing(folder / f"{name}-{shard:03d}.npy") as unfinished:
            np.save(unfinished, cache.crops[np.arange(start, min(start + each, n))])
    with replacing(folder / f"{name}.npz") as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, **{value: getattr(cache, value) for value in VALUES})
    return len(starts)


def config_of(folder: Path) -> RunConfig:
    """Returns the configuration that a folder was packed by.

    Raises:
        DatasetError: it is not a packed training set.
    """
    try:
        return RunConfig.from_dict(json.loads((folder / DESCRIPTION).read_text())["config"])
    except OSError as error:
        raise DatasetError(f"{folder / DESCRIPTION}: cannot be read: {error.strerror}; pack it again") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{folder}: not a packed training set ({error!r}); make one with --pack") from error


def load(folder: Path, recipe: Recipe) -> tuple[TrainingSet, dict[str, Any]]:
    """Opens a packed training set; returns it with the configuration that it was packed by.

    Raises:
        DatasetError: it is not complete.
        UsageError: the recipe needs other crops or another selection than it holds.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        if description["version"] != _VERSION:
            raise DatasetError(f"{folder}: packed by another release; pack it again")
        caches = {name: _load_cache(folder, name, count) for name, count in description["shards"].items()}
        packed = description["config"]["recipe"]
        facts = tuple(description["facts"])
        learn = tuple(caches[f"learn-{i}"] for i in range(len(facts)))
        valid = tuple(caches[f"valid-{i}"] for i in range(len(facts)))
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot be read: {error.strerror}; pack it again") from error
    except (KeyError, TypeError, ValueError, EOFError, BadZipFile) as error:
        raise DatasetError(f"{folder}: not a packed training set ({error!r}); make one with --pack") from error
    for name in _PIXELS:
        if packed[name] != getattr(recipe, name):
            raise UsageError(
                f"{folder} was packed with {name} {packed[name]}, the run wants {getattr(recipe, name)}; pack it again"
            )
    offsets = {DATASETS[f["dataset"]].LABEL_OFFSET if f["dataset"] in DATASETS else 0 for f in facts}
    if recipe.labels == "stored" and len(offsets) > 1:
        raise UsageError("--label-values stored: these data sets store labels differently; use --label-values true")
    data = TrainingSet(
        facts, description["label"], description["label_offset"], CropSpec.from_dict(description["crop"]), learn,
        caches.get("select") or join(valid), valid,
        groups=tuple(np.array(values, str) for values in description.get("groups", ())),
    )  # fmt: skip
    return data, description["config"]


def _load_cache(folder: Path, name: str, count: int) -> CropCache:
    arrays = [np.load(folder / f"{name}-{shard:03d}.npy", mmap_mode="r") for shard in range(count)]
    with np.load(folder / f"{name}.npz", allow_pickle=False) as values:
        # Packs from before there were intervals have no ends of them.
        unknown = np.full(len(values["ages"]), np.nan, np.float32)
        known: dict[str, Any] = {name: values.get(name, unknown) for name in VALUES}
        cache = CropCache(JoinedCrops(arrays), **known)
    if sum(map(len, arrays)) != len(cache):
        raise ValueError(f"{name}: crops and labels differ in number")
    return cache
