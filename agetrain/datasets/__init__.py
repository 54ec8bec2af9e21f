"""The data sets that agetrain knows, one module each; their labels are always true years."""

import os
from pathlib import Path
from types import ModuleType

from agetrain.datasets import afad, all_age_faces, appa_real, cacd, uk_mps, us_congress, utkface
from agetrain.datasets.base import Dataset, Sample
from agetrain.errors import DatasetError, UsageError

_MODULES = (appa_real, afad, cacd, utkface, all_age_faces, us_congress, uk_mps)
DATASETS: dict[str, ModuleType] = {module.NAME: module for module in _MODULES}

__all__ = ["DATASETS", "Dataset", "Sample", "load_dataset", "module_of"]


def module_of(name: str) -> ModuleType:
    """Returns the module of a data set: ``NAME``, ``PAGE``, ``LICENCE``, ``LABEL_OFFSET``, ``subject_of``, ``load``.

    Raises:
        UsageError: there is no data set of that name.
    """
    if name not in DATASETS:
        raise UsageError(f"unknown data set {name!r}: use one of {', '.join(DATASETS)}")
    return DATASETS[name]


def load_dataset(name: str, folder: str | Path | None = None, label: str = "real") -> tuple[Dataset, Path]:
    """Reads the lists of a data set; no picture is opened.

    Args:
        name: one of `DATASETS`.
        folder: where it lies; None for ``$AGETRAIN_DATA/NAME``, then ``data/NAME``.
        label: ``real`` or ``apparent`` age.

    Returns:
        The data set, and the folder that it was found in.

    Raises:
        UsageError: there is no data set of that name, or it has no such label.
        DatasetError: it is not there or not complete.
    """
    module = module_of(name)
    found = _locate(module, folder)
    dataset: Dataset = module.load(found, label)
    return dataset, found


def _locate(module: ModuleType, folder: str | Path | None) -> Path:
    if folder is not None:
        if not Path(folder).is_dir():
            raise DatasetError(f"{folder}: no such folder; download {module.NAME} from {module.PAGE}")
        return Path(folder)
    root = os.environ.get("AGETRAIN_DATA")
    candidates = ([Path(root) / module.NAME] if root else []) + [Path("data") / module.NAME]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    looked = " nor ".join(str(c) for c in candidates)
    raise DatasetError(
        f"{module.NAME} is not in {looked}; get it with: python -m agetrain.prepare {module.NAME} "
        f"(from {module.PAGE}), or name its folder with --data"
    )
