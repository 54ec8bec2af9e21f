"""``ageinfer archive``: many pictures and films become one Parquet data set."""

import argparse
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.options import looking_of
from ageinfer.commands.progress_line import ProgressLine
from ageinfer.console import put, say
from ageinfer.errors import ExitStatus, OutputError, UsageError, status_table

if TYPE_CHECKING:
    from ageinfer.archive.ledger import Left
    from ageinfer.archive.plan import Plan
    from ageinfer.archive.shard import Work

STATUSES = status_table(
    ExitStatus.INTERNAL, ExitStatus.USAGE, ExitStatus.SOURCE, ExitStatus.MODEL, ExitStatus.OUTPUT, ExitStatus.MISSING,
    ExitStatus.SOME_FAILED, ExitStatus.INTERRUPTED,
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is read, where the result goes, and who works."""
    from ageinfer.archive.plan import ITEMS

    parser.add_argument(
        "source", nargs="*", metavar="SOURCE",
        help="pictures, films, tar files of pictures, folders with all below them, patterns, @LIST (a text file with a "
        "path a line), - (such lines on standard input); also of an object store, such as s3://bucket/folder",
    )  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="write the data set here: a folder, or one of an object store")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the archive there: do what is missing or has changed"
    )
    parser.add_argument(
        "--check", metavar="DIR", help="count the archive there again, and compare it with its manifest"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, and do nothing")
    parser.add_argument(
        "--every", metavar="S", help="of films, look at one frame in this time (such as 1s), without following anybody"
    )
    parser.add_argument("--people", action="store_true", help="also write one row a person of each film")
    group = parser.add_argument_group("who works")
    group.add_argument("--workers", type=int, metavar="N", help="run so many workers (default: as many as cores)")
    group.add_argument("--address", metavar="A", help="join this Ray cluster (default: this machine alone)")
    group.add_argument("--gpus", type=int, default=0, metavar="N", help="use so many GPUs, one a worker (default: 0)")
    group.add_argument(
        "--per-shard", type=int, default=ITEMS, metavar="N", help="files of a shard, on average (default: %(default)s)"
    )


def run(options: argparse.Namespace, interrupts: Interrupts) -> ExitStatus:
    """Plans an archive, does what is missing of it, and writes its manifest.

    Raises:
        AgeError: it cannot be planned, done or written.
    """
    from ageinfer.archive import engine, ledger
    from ageinfer.archive.store import Store

    if options.check:
        counts = ledger.check(Store(options.check))
        put(f"{options.check}: complete: {_counts_in_words(counts)}")
        return ExitStatus.OK
    _check_options(options)
    model, work = _work(options)
    plan, left = _planned(options, work, model)
    if options.dry_run:
        with engine.cluster(options.address):
            _say_plan(options, plan, left, engine.workers_here(options.workers, options.gpus), work, model)
        return ExitStatus.OK
    failed: list[dict[str, Any]] = []
    if left.shards:
        with engine.cluster(options.address):
            workers = engine.workers_here(options.workers, options.gpus)
            _say_plan(options, plan, left, workers, work, model)
            summaries = engine.run(plan.store.place, left.shards, work, model, workers, gpus=options.gpus)
            failed = _followed(summaries, left, quiet=options.quiet)
    if failed:
        raise OutputError(f"{len(failed)} of {len(plan.shards)} shards are missing: {failed[0]['error']}")
    manifest = ledger.write_manifest(plan)
    if not options.quiet:
        say(f"{plan.store.shown}: {_counts_in_words(manifest)}")
    return ExitStatus.SOME_FAILED if manifest["unreadable"] else ExitStatus.OK


def _check_options(options: argparse.Namespace) -> None:
    if not options.source or not options.output:
        raise UsageError("name SOURCE and --output DIR, or --check DIR (see ageinfer archive --help)")
    for name, least in (("workers", 1), ("per_shard", 1), ("gpus", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} {value}: use {least} or more")
    if options.people and options.every:
        raise UsageError("--people follows everybody through all frames; leave out --every")
    if options.gpus and options.provider == "auto":
        options.provider = "cuda"


def _work(options: argparse.Namespace) -> "tuple[bytes, Work]":
    """The bytes of the age model, and how items are looked at."""
    from ageinfer.archive.shard import Work
    from ageinfer.engine.estimator import AgeEstimator, chosen_file
    from ageinfer.engine.modelfile import read_model

    path = chosen_file(options.model, options.precision, options.provider)
    model = read_model(path)
    AgeEstimator(path, precision=options.precision, provider="cpu", threads=1)  # a broken one is told before anything
    work = Work(
        options.detector, options.detector_file, looking_of(options), options.precision, options.provider,
        options.threads or 1, _seconds(options.every), options.people,
    )  # fmt: skip
    return model, work


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", text)
    seconds = float(found[1]) * {"ms": 0.001, "m": 60.0}.get(found[2], 1.0) if found else 0.0
    if not seconds > 0:
        raise UsageError(f"--every {text}: use a time, such as 1s, 500ms or 2m")
    return seconds


def _planned(options: argparse.Namespace, work: "Work", model: bytes) -> "tuple[Plan, Left]":
    """The plan of the archive, and what is left to do of it.

    Raises:
        UsageError: there is something else, or an archive that nobody wants to go on with.
    """
    from ageinfer.archive import ledger
    from ageinfer.archive.items import items_of
    from ageinfer.archive.plan import Plan, write_plan
    from ageinfer.archive.store import Store

    store = Store(options.output)
    before = None
    if not store.is_empty():
        if not options.resume:
            raise UsageError(f"{store.shown}: is not empty; --resume goes on with an archive, or choose another place")
        before = Plan(store)
    plan = write_plan(store, items_of(options.source), work.answers(model), options.per_shard, before)
    left = ledger.left_of(plan)
    if left.removed and not options.quiet:
        say(f"{store.shown}: {left.removed} shards have changed or gone, and are made anew")
    return plan, left


def _say_plan(
    options: argparse.Namespace, plan: "Plan", left: "Left", workers: int, work: "Work", model: bytes
) -> None:  # fmt: skip
    from ageinfer.archive.trial import trial

    if options.quiet and not options.dry_run:
        return
    todo = left.shards
    pictures, films, tars = (sum(getattr(shard, name) for shard in todo) for name in ("pictures", "films", "tars"))
    size = sum(shard.bytes for shard in todo)
    say(
        f"plan: {pictures} pictures, {films} films and {tars} tar files ({size / 1e6:,.0f} MB) in {len(todo)} shards"
        + (f"; {left.done} shards are done" if left.done else "")
    )
    rate = trial(plan, work.open(model))
    seconds = rate.seconds_for(pictures) / workers
    if not math.isnan(seconds):
        rest = " without films and tar files" if films or tars else ""
        say(
            f"plan: {workers} workers, each {rate.items / rate.seconds:.0f} pictures a second in a trial of "
            f"{rate.items}: about {_in_words(seconds)}{rest}"
        )
    else:
        say(f"plan: {workers} workers; how long films and tar files take is not known before")


def _in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _followed(summaries: Iterator[dict[str, Any]], left: "Left", *, quiet: bool) -> list[dict[str, Any]]:
    """Shows how far the work is; returns the shards that failed."""
    progress = ProgressLine(sum(shard.items for shard in left.shards), quiet=quiet, what="files")
    failed = []
    try:
        for row in summaries:
            summary = row["summary"]
            if summary["error"]:
                failed.append(summary)
            else:
                progress.step(summary["faces"], summary["items"])
    finally:
        progress.clear()
    return failed


def _counts_in_words(counts: dict[str, Any]) -> str:
    text = f"{counts['faces']} faces in {counts['frames']} pictures and frames of {counts['items']} files"
    others = [
        f"{counts[key]} {what}" for key, what in (("unreadable", "unreadable"), ("damaged", "damaged")) if counts[key]
    ]
    people = f", {counts['people']} people" if counts["people"] else ""
    return (
        f"{text}{people}{''.join(f', {other}' for other in others)}; {counts['rows']} rows in {counts['shards']} shards"
    )
