"""The data sets that agetrain knows, one module each. Labels handed out are always true years."""

import os
from pathlib import Path

from agetrain.datasets import all_age_faces, appa_real, utkface
from agetrain.datasets.base import Dataset, Sample
from agetrain.errors import DatasetError, UsageError

_MODULES = (appa_real, utkface, all_age_faces)
LOADERS = {module.NAME: module.load for module in _MODULES}
PAGES = {module.NAME: module.PAGE for module in _MODULES}

__all__ = ["LOADERS", "Dataset", "Sample", "load_dataset"]


def load_dataset(name: str, folder: str | Path | None = None, label: str = "real") -> Dataset:
    """Reads the lists of a data set; no picture is opened.

    Args:
        name: one of `LOADERS`.
        folder: where it lies; None for ``$AGETRAIN_DATA/NAME``, then ``data/NAME``.
        label: ``real`` or ``apparent`` age.

    Raises:
        UsageError: there is no data set of that name, or it has no such label.
        DatasetError: it is not there or not complete.
    """
    if name not in LOADERS:
        raise UsageError(f"unknown data set {name!r}: use one of {', '.join(LOADERS)}")
    return LOADERS[name](_locate(name, folder), label)


def _locate(name: str, folder: str | Path | None) -> Path:
    if folder is not None:
        if not Path(folder).is_dir():
            raise DatasetError(f"{folder}: no such folder; {name} can be had from {PAGES[name]}")
        return Path(folder)
    root = os.environ.get("AGETRAIN_DATA")
    candidates = ([Path(root) / name] if root else []) + [Path("data") / name]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    looked = " nor ".join(str(c) for c in candidates)
    raise DatasetError(f"{name} is not in {looked}; get it from {PAGES[name]} and name its folder with --data")
