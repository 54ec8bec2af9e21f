"""``python -m agetrain.prepare DATASET``: downloads, unpacks and checks a data set, and crops its faces if asked to."""

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._progress import progress
from agetrain.crops import precrop
from agetrain.datasets import DATASETS, Dataset, fetch, load_dataset
from agetrain.errors import DatasetError, UsageError

log = logging.getLogger("agetrain")


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.prepare",
        description="Download, unpack and check a data set; with --centre write its faces into another folder.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", choices=list(DATASETS), metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument("--out", type=Path, metavar="DIR", help="its folder (default: data/NAME)")
    parser.add_argument(
        "--archive", type=Path, nargs="+", metavar="FILE",
        help="an archive that you downloaded, or its parts in order; nothing is downloaded then",
    )  # fmt: skip
    parser.add_argument("--url", metavar="URL", help="download from this address (a mirror) instead of the known one")
    parser.add_argument("--keep-archive", action="store_true", help="keep what was downloaded")
    parser.add_argument("--no-check", action="store_true", help="do not decode every picture")
    parser.add_argument("--centre", choices=precrop.KINDS, help="crop faces: dlib: as the original CACD preprocessing")
    parser.add_argument("--centred", type=Path, metavar="DIR", help="the faces (default: data/NAME-centred-KIND)")
    parser.add_argument(
        "--csv", type=Path, nargs="+", default=[], metavar="FILE", help="lists to rewrite to kept faces"
    )
    parser.add_argument("--processes", type=int, metavar="N", help="for --centre (default: one a core)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def get(options: argparse.Namespace, folder: Path) -> list[Path]:
    """Brings the data set's folder about; returns what was downloaded for it.

    Raises:
        DatasetError: there is nothing to download and no archive was given, or either is broken.
    """
    module = DATASETS[options.dataset]
    downloads = [options.url] if options.url else list(getattr(module, "DOWNLOADS", ()))
    downloaded: list[Path] = []
    if options.archive:
        missing = [a for a in options.archive if not a.is_file()]
        if missing:
            raise DatasetError(f"--archive {missing[0]}: no such file; it can be had from {module.PAGE}")
        files = list(options.archive)
    elif downloads:
        place = folder.parent / f".{module.NAME}-archives"
        for i, url in enumerate(downloads):
            name = fetch.file_name(url)
            title = name + (f" ({i + 1} of {len(downloads)})" if len(downloads) > 1 else "")
            downloaded.append(fetch.download(url, place / name, title=title))
        files = downloaded
    else:
        raise DatasetError(
            f"{module.NAME} has no direct download: get it from {module.PAGE} and give the file with --archive"
        )
    archive = files[0]
    if len(files) > 1:
        archive = fetch.joined_parts(files, folder.parent / f".{module.NAME}-joined")
    try:
        fetch.unpack(archive, folder)
    finally:
        if len(files) > 1:
            archive.unlink()
    return downloaded


def check(dataset: Dataset, folder: Path, *, decode: bool) -> None:
    """Compares the number of pictures with the release's, and decodes every one of them.

    Raises:
        DatasetError: some cannot be decoded; ``broken.txt`` in the folder names them.
    """
    module = DATASETS[dataset.name]
    samples = [s for part in dataset.parts.values() for s in part] + list(dataset.ignored)
    counts = ", ".join(f"{part} {len(part_samples)}" for part, part_samples in dataset.parts.items())
    print(f"{folder}: {len(samples)} pictures of {module.PICTURES} in the release; split: {dataset.split} ({counts})")
    if len(samples) < module.PICTURES:
        log.warning("%s: %d pictures fewer than in the release", folder, module.PICTURES - len(samples))
    if not decode:
        return
    from ageinfer.errors import SourceError
    from ageinfer.sources import read_picture

    def broken(path: Path) -> bool:
        try:
            read_picture(path)
        except SourceError:
            return True
        return False

    paths = [s.path for s in samples]
    with ThreadPoolExecutor() as pool:
        bad = [
            p
            for p, is_bad in zip(paths, progress(pool.map(broken, paths), "checking", "img", len(paths)), strict=True)
            if is_bad
        ]
    listing = folder / "broken.txt"
    if bad:
        listing.write_text("".join(f"{p.relative_to(folder)}\n" for p in bad))
        raise DatasetError(
            f"{folder}: {len(bad)} pictures cannot be decoded, {bad[0].name} first; {listing} names them: fetch the "
            "data set again, or delete them"
        )
    listing.unlink(missing_ok=True)
    print(f"{folder}: all {len(paths)} pictures can be decoded")


def centre_faces(options: argparse.Namespace, dataset: Dataset, folder: Path) -> None:
    """Crops the faces of all pictures, and rewrites lists to those that were kept."""
    target = options.centred or folder.with_name(f"{folder.name}-centred-{options.centre}")
    files = [s.path for part in dataset.parts.values() for s in part] + [s.path for s in dataset.ignored]
    counts = precrop.centre_folder(options.centre, folder, files, target, processes=options.processes)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in precrop.OUTCOMES)
    print(f"{target}: {told} (faces by {options.centre})")
    kept = {f.relative_to(folder).as_posix() for f in files if (target / f.relative_to(folder)).is_file()}
    kept |= {Path(name).name for name in kept}
    for path in options.csv:
        before, after = precrop.rewrite_csv(path, target / path.name, kept)
        print(f"{target / path.name}: {after} of {before} lines")


def run(options: argparse.Namespace) -> None:
    """Downloads, checks and crops, as far as asked for.

    Raises:
        AgeError: something cannot be had, read or written.
    """
    folder = options.out or Path("data") / options.dataset
    if options.csv and not options.centre:
        raise UsageError("--csv rewrites lists to kept faces: it needs --centre")
    if options.archive and options.url:
        raise UsageError("give one of --archive and --url")
    if options.processes is not None and options.processes < 1:
        raise UsageError(f"--processes {options.processes}: use 1 or more")
    if folder.is_dir() and any(folder.iterdir()):
        if options.archive or options.url:
            raise UsageError(f"--out {folder}: is there already; name another")
        print(f"{folder}: is there; nothing is downloaded")
        dataset, _ = load_dataset(options.dataset, folder)
    else:
        downloaded = get(options, folder)
        try:
            dataset, _ = load_dataset(options.dataset, folder)
        except DatasetError:
            # Nothing that the next run would take for the data set; what was downloaded stays for it.
            shutil.rmtree(folder)
            raise
        if not options.keep_archive:
            for file in downloaded:
                file.unlink()
    check(dataset, folder, decode=not options.no_check)
    if options.centre:
        centre_faces(options, dataset, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(
        "agetrain.prepare",
        lambda: run(options),
        debug=options.debug,
        level=logging.INFO,
        extra="train",
        interrupted="run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
