"""The real pictures on which an export is proved."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ageexport.errors import EvidenceError
from ageinfer.errors import SourceError
from ageinfer.sources import FolderSource, read_picture

FEWEST_FACES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Encoded pictures, as they lie on disk.

    Attributes:
        pictures: bytes of JPEG or PNG files.
        origin: where they are from, for the report.
    """

    pictures: tuple[bytes, ...]
    origin: str


def from_pack(path: Path) -> Evidence:
    """Reads the validation pictures of a parity pack that agetrain wrote.

    Raises:
        EvidenceError: it is broken.
    """
    try:
        with zipfile.ZipFile(path):  # else NumPy would take the file for an array or a pickle
            pass
        with np.load(path, allow_pickle=False) as pack:
            data, ends = pack["valid_bytes"].tobytes(), pack["valid_ends"].tolist()
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise EvidenceError(f"{path}: not a parity pack ({error}); train again or give --data") from error
    starts = [0, *ends][: len(ends)]
    return Evidence(tuple(data[a:b] for a, b in zip(starts, ends, strict=True)), f"{path.name} of the training run")


def from_folder(folder: Path) -> Evidence:
    """Reads the pictures of a folder.

    Raises:
        EvidenceError: there are none.
    """
    try:
        if not folder.is_dir():
            raise EvidenceError(f"{folder}: no such folder; --data takes a folder of pictures with faces")
        files = FolderSource(folder).files
        for file in files:
            read_picture(file)  # a broken one is named by its own path
        pictures = tuple(file.read_bytes() for file in files)
    except (SourceError, OSError) as error:
        raise EvidenceError(str(error)) from error
    return Evidence(pictures, f"the pictures of folder {folder.name}")
