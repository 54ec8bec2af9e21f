"""CACD2000 (Chen, Chen and Hsu, ECCV 2014): 163,446 pictures of 2,000 celebrities, ages 14 to 62."""

import re
from pathlib import Path

from agetrain.datasets.base import Dataset, Sample, by_hash, only_real
from agetrain.errors import DatasetError, MissingDependencyError

NAME = "cacd"
PAGE = "https://bcsiriuschen.github.io/CARC/"
LICENCE = "research use only"
LABEL_OFFSET = 14
PICTURES = 163446
METADATA = "celebrity2000_meta.mat"
_NAME = re.compile(r"(?P<age>\d{1,3})_(?P<celebrity>.+)_(?P<k>\d{4})\.jpg")


def subject_of(file: str) -> str | None:
    """Returns the celebrity's name in the file's name."""
    match = _NAME.fullmatch(file)
    return match["celebrity"] if match else None


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads a flat folder of ``AGE_First_Last_NNNN.jpg``; names of any other form are passed over.

    There is no official split. Where the metadata file lies in the folder or beside it, celebrities of rank 1 and 2 are
    ``valid``, 3 to 5 ``test`` and the others ``train``; elsewhere 4 % and 6 % of the celebrities, chosen by a hash. The
    train celebrities' labels are the noisy ones of the release.

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no such picture in the folder, or the metadata cannot be read.
    """
    only_real(NAME, label)
    samples = []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            samples.append(Sample(path, float(match["age"]), subject=match["celebrity"]))
    if not samples:
        raise DatasetError(f"{folder}: no picture AGE_First_Last_NNNN.jpg; download it from {PAGE}")
    for metadata in (folder / METADATA, folder.parent / METADATA):
        if metadata.is_file():
            parts = parts_by_rank(samples, read_ranks(metadata))
            return Dataset(NAME, label, PAGE, LICENCE, parts, "identity-exclusive by celebrity rank", LABEL_OFFSET)
    parts = parts_by_hash(samples)
    return Dataset(NAME, label, PAGE, LICENCE, parts, "identity-exclusive by a hash", LABEL_OFFSET)


def read_ranks(path: Path) -> dict[str, int]:
    """Reads the rank of each picture's celebrity, by file name, from ``celebrity2000_meta.mat``.

    Raises:
        MissingDependencyError: SciPy, which reads MATLAB's files, is not installed.
        DatasetError: it is not that file.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingDependencyError(f"{path.name} is read with SciPy: pip install 'ageinfer[train]'") from error
    if not path.is_file():
        raise DatasetError(f"{path}: not there; it is the metadata of CACD, download it from {PAGE}")
    try:
        images = loadmat(str(path), squeeze_me=True, struct_as_record=True)["celebrityImageData"]
        names, ranks = images["name"].item(), images["rank"].item()
        return {str(name): int(rank) for name, rank in zip(names, ranks, strict=True)}
    except Exception as error:  # a broken file raises nearly anything in there
        raise DatasetError(f"{path}: not the metadata of CACD ({type(error).__name__}); get it from {PAGE}") from error


def parts_by_rank(samples: list[Sample], ranks: dict[str, int]) -> dict[str, tuple[Sample, ...]]:
    """Deals celebrities by rank: 1 and 2 are ``valid`` (80), 3 to 5 ``test`` (120), the others ``train`` (1,800).

    Raises:
        DatasetError: a picture is not in the metadata.
    """
    sides: dict[str, list[Sample]] = {"train": [], "valid": [], "test": []}
    for sample in samples:
        rank = ranks.get(sample.path.name)
        if rank is None:
            raise DatasetError(f"{sample.path}: not in {METADATA}; take both from one release")
        sides["valid" if rank <= 2 else "test" if rank <= 5 else "train"].append(sample)
    return {part: tuple(side) for part, side in sides.items()}


def parts_by_hash(samples: list[Sample]) -> dict[str, tuple[Sample, ...]]:
    """Deals celebrities by a hash: about 4 % are ``valid``, 6 % ``test``, the others ``train``."""
    sides: dict[str, list[Sample]] = {"train": [], "valid": [], "test": []}
    for sample in samples:
        fold = by_hash(str(sample.subject)) % 50
        sides["valid" if fold < 2 else "test" if fold < 5 else "train"].append(sample)
    return {part: tuple(side) for part, side in sides.items()}
