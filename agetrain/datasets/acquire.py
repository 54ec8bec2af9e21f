"""Getting a data set: downloads it, unpacks it and checks its pictures."""

import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agetrain._progress import progress
from agetrain.datasets import DATASETS, Dataset, Sample, fetch, load_dataset, unpacking
from agetrain.datasets.base import Problem, samples_of
from agetrain.datasets.problems import LIST, write_problems
from agetrain.errors import DatasetError

log = logging.getLogger(__name__)


def acquire(
    name: str,
    folder: Path,
    *,
    archives: Sequence[Path] = (),
    url: str | None = None,
    keep_archive: bool = False,
    sha256: str | None = None,
) -> Dataset:
    """Downloads and unpacks a data set, and reads its lists.

    Args:
        name: of the data set.
        folder: to unpack it into.
        archives: an archive that was downloaded by hand, or its parts in order; nothing is downloaded then.
        url: where to download it from instead of the known address.
        keep_archive: whether to keep what was downloaded.
        sha256: of what is downloaded, if it is known and one file.

    Raises:
        DatasetError: there is nothing to download and no archive was given, or either is broken.
    """
    downloaded = _download_and_unpack(name, folder, archives, url, sha256)
    try:
        dataset, _ = load_dataset(name, folder)
    except DatasetError:
        # Nothing that the next run would take for the data set; what was downloaded stays for it.
        shutil.rmtree(folder)
        raise
    if not keep_archive:
        for file in downloaded:
            file.unlink()
    return dataset


def _download_and_unpack(
    name: str, folder: Path, archives: Sequence[Path], url: str | None, sha256: str | None
) -> list[Path]:
    """Returns what was downloaded."""
    module = DATASETS[name]
    downloads = [url] if url else list(getattr(module, "DOWNLOADS", ()))
    downloaded: list[Path] = []
    if archives:
        missing = [a for a in archives if not a.is_file()]
        if missing:
            raise DatasetError(f"--archive {missing[0]}: no such file; download it from {module.PAGE}")
        files = list(archives)
    elif downloads:
        place = folder.parent / f".{module.NAME}-archives"
        if sha256 is not None and len(downloads) > 1:
            raise DatasetError(
                f"--sha256: {module.NAME} has {len(downloads)} files to download, each with another hash"
            )
        for i, address in enumerate(downloads):
            file = fetch.file_name(address)
            title = file + (f" ({i + 1} of {len(downloads)})" if len(downloads) > 1 else "")
            downloaded.append(fetch.download(address, place / file, title=title, sha256=sha256))
        files = downloaded
    else:
        raise DatasetError(
            f"{module.NAME} has no direct download: get it from {module.PAGE} and give the file with --archive"
        )
    archive = files[0]
    if len(files) > 1:
        archive = unpacking.joined_parts(files, folder.parent / f".{module.NAME}-joined")
    try:
        unpacking.unpack(archive, folder)
    finally:
        if len(files) > 1:
            archive.unlink()
    return downloaded


def missing_pictures(dataset: Dataset) -> int:
    """Returns how many pictures fewer than the release a data set holds; warns where there are any."""
    missing: int = DATASETS[dataset.name].PICTURES - len(pictures_of(dataset))
    if missing > 0:
        log.warning("%s: %d pictures fewer than in the release", dataset.name, missing)
    return max(0, missing)


def pictures_of(dataset: Dataset) -> list[Path]:
    """Returns the picture files of a data set, those that its owners call bad included."""
    return [s.path for part in dataset.parts.values() for s in part] + [s.path for s in dataset.ignored]


def broken_pictures(samples: Sequence[Sample]) -> list[Problem]:
    """Decodes every picture and returns those that cannot be, in their order."""
    from ageinfer.errors import SourceError
    from ageinfer.sources import read_picture

    def reason(sample: Sample) -> str:
        try:
            read_picture(sample.path)
        except SourceError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor() as pool:
        reasons = progress(pool.map(reason, samples), "checking", "img", len(samples))
        return [Problem(str(s.path), "broken", r) for s, r in zip(samples, reasons, strict=True) if r]


def check_pictures(dataset: Dataset, folder: Path) -> None:
    """Decodes every picture.

    Raises:
        DatasetError: some cannot be decoded; ``problems.csv`` in the folder names them.
    """
    broken = broken_pictures([*samples_of(dataset), *dataset.ignored])
    listing = folder / LIST
    write_problems(listing, broken)
    if broken:
        raise DatasetError(
            f"{folder}: {len(broken)} pictures cannot be decoded, {broken[0].file} first; {listing} names them: fetch "
            "the data set again, or delete them"
        )
