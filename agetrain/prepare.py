"""``python -m agetrain.prepare DATASET``: downloads, unpacks and checks a data set, and cuts out its faces if asked."""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._data_options import DATASET_HELP, DATASET_METAVAR, add_reading, reading_of
from agetrain.crops import precrop
from agetrain.datasets import DATASETS, Dataset, load_dataset
from agetrain.datasets.acquire import acquire, broken_pictures, check_pictures, missing_pictures, pictures_of
from agetrain.datasets.base import samples_of
from agetrain.datasets.opening import named, open_dataset
from agetrain.datasets.problems import LIST, check_problems, write_problems
from agetrain.errors import UsageError


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.prepare",
        description="Download, unpack and check a data set; with --centre write its faces into another folder.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "dataset", metavar=DATASET_METAVAR,
        help=f"{DATASET_HELP}; your own is checked where it lies",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the data set (default: data/NAME)")
    parser.add_argument(
        "--archive", type=Path, nargs="+", metavar="FILE",
        help="an archive that you downloaded, or its parts in order; nothing is downloaded then",
    )  # fmt: skip
    parser.add_argument("--url", metavar="URL", help="download from this address (a mirror) instead of the known one")
    parser.add_argument(
        "--sha256", metavar="HASH", help="refuse a download with another hash; a plain http address needs one"
    )
    parser.add_argument("--keep-archive", action="store_true", help="keep what was downloaded")
    parser.add_argument("--no-check", action="store_true", help="do not decode every picture")
    parser.add_argument(
        "--centre",
        choices=precrop.KINDS,
        help="cut out the faces: as the original CACD preprocessing did (dlib), or by the runtime's crop (ageinfer)",
    )
    parser.add_argument(
        "--centred", type=Path, metavar="DIR", help="folder for the faces (default: data/NAME-centred-KIND)"
    )
    parser.add_argument(
        "--csv",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="with --centre: lists to copy with only the kept faces",
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="processes for --centre (default: one for each core)"
    )
    add_reading(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def check(dataset: Dataset, folder: Path, *, decode: bool) -> None:
    """Compares the number of pictures with the release's, decodes every one of them, and prints the result."""
    pictures = len(pictures_of(dataset))
    counts = ", ".join(f"{part} {len(samples)}" for part, samples in dataset.parts.items())
    release = DATASETS[dataset.name].PICTURES
    print(f"{folder}: {pictures} pictures of {release} in the release; split: {dataset.split} ({counts})")
    missing_pictures(dataset)
    if decode:
        check_pictures(dataset, folder)
        print(f"{folder}: all {pictures} pictures can be decoded")


def centre_faces(options: argparse.Namespace, dataset: Dataset, folder: Path) -> None:
    """Cuts out the faces of all pictures, and copies lists with only those that were kept."""
    target = options.centred or folder.with_name(f"{folder.name}-centred-{options.centre}")
    files = pictures_of(dataset)
    counts = precrop.centre_folder(options.centre, folder, files, target, processes=options.processes)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in precrop.OUTCOMES)
    print(f"{target}: {told} (faces by {options.centre})")
    kept = {f.relative_to(folder).as_posix() for f in files if (target / f.relative_to(folder)).is_file()}
    kept |= {Path(name).name for name in kept}
    for path in options.csv:
        before, after = precrop.rewrite_csv(path, target / path.name, kept)
        print(f"{target / path.name}: {after} of {before} lines")


def check_own(options: argparse.Namespace) -> None:
    """Checks somebody's own data: reads its labels, decodes every picture, and prints what it found.

    Raises:
        AgeError: an option is for a data set that is downloaded, or the data cannot be read.
    """
    for option in ("out", "archive", "url", "sha256", "centre"):
        if getattr(options, option):
            raise UsageError(f"--{option} is for data sets that agetrain knows; your own data is only checked")
    dataset, folder = open_dataset(options.dataset, reading=reading_of(options), problems=Path(LIST), deal=False)
    samples = samples_of(dataset)
    broken = [] if options.no_check else broken_pictures(samples)
    problems = [*dataset.problems, *broken]
    if broken:
        check_problems(dataset, options.max_broken, broken, Path(LIST))
    ages = [s.age_years for s in samples]
    persons = {s.subject for s in samples if s.subject}
    print(
        f"{folder}: {dataset.name}: {len(samples)} pictures with {dataset.label} ages of {min(ages):g} to "
        f"{max(ages):g} years, {sum(s.interval_years is not None for s in samples)} of them intervals; "
        f"{len(persons) or 'no'} persons told; {dataset.licence}"
    )
    if problems:
        write_problems(Path(LIST), problems)
        print(f"{LIST}: {len(problems)} pictures that cannot be used, and why")


def prepare(options: argparse.Namespace) -> None:
    """Downloads, checks and cuts out faces, as far as asked for.

    Raises:
        AgeError: something cannot be had, read or written.
    """
    name, place = named(options.dataset)
    if name not in DATASETS:
        check_own(options)
        return
    options.dataset = name
    folder = options.out or place or Path("data") / name
    if options.csv and not options.centre:
        raise UsageError("--csv rewrites lists to kept faces: it needs --centre")
    if options.sha256 is not None and not re.fullmatch("[0-9A-Fa-f]{64}", options.sha256):
        raise UsageError(f"--sha256 {options.sha256}: use 64 hexadecimal digits")
    if options.sha256 is not None and options.archive:
        raise UsageError("--sha256 is for downloads; sha256sum tells the hash of an archive")
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
        dataset = acquire(
            options.dataset,
            folder,
            archives=options.archive or (),
            url=options.url,
            keep_archive=options.keep_archive,
            sha256=options.sha256,
        )
    check(dataset, folder, decode=not options.no_check)
    if options.centre:
        centre_faces(options, dataset, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(
        "agetrain.prepare",
        lambda: prepare(options),
        debug=options.debug,
        level=logging.INFO,
        extra="train",
        interrupted="run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
