"""``ageinfer archive``: many pictures and films become one Parquet data set."""

import argparse
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
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
    from ageinfer.pipeline import Pipeline

_MOST_FAILURES = 20  # of shards, one after the other: the next ones would fail, too, and take as long
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
        "--per-shard", type=int, default=ITEMS, metavar="N",
        help="pictures of a shard, on average; a film or a tar file counts as 32 of them (default: %(default)s)",
    )  # fmt: skip


def run(options: argparse.Namespace, interrupts: Interrupts) -> ExitStatus:
    """Plans an archive, does what is missing of it, and writes its manifest.

    Raises:
        AgeError: it cannot be planned, done or written.
    """
    from ageinfer.archive import engine, ledger
    from ageinfer.archive.items import items_of
    from ageinfer.archive.plan import Plan, write_plan
    from ageinfer.archive.store import Store

    if options.check:
        store = Store(options.check)
        put(f"{store.shown}: complete: {_counts_in_words(ledger.check(store))}")
        return ExitStatus.OK
    _check_options(options)
    model, work, pipeline = _opened(options)
    store = Store(options.output)
    before = None
    if store.names():
        if not options.resume:
            raise UsageError(f"{store.shown}: is not empty; --resume goes on with an archive, or choose another place")
        before = Plan(store)
    with ExitStack() as stack:
        if options.dry_run:
            planned = Store(stack.enter_context(tempfile.TemporaryDirectory(prefix="ageinfer-")))
        plan = write_plan(
            planned if options.dry_run else store,
            items_of(options.source), work.answers(model), options.per_shard, before,
        )  # fmt: skip
        left = ledger.left_of(plan, store)
        if not options.dry_run:
            ledger.tidy(store, left)
        _say_plan(options, left)
        if left.shards:
            workers = engine.workers_here(options.workers, options.gpus)
            if options.address or not options.dry_run:
                workers = stack.enter_context(engine.cluster(options.address, options.workers, options.gpus))
            _say_rate(options, plan, left, workers, pipeline)
            if not options.dry_run:
                running = engine.run(store.place, left.shards, work, model, workers, gpus=options.gpus)
                with closing(running) as summaries:
                    _follow(summaries, left, len(plan.shards), quiet=options.quiet)
    if options.dry_run:
        return ExitStatus.OK
    manifest = ledger.write_manifest(plan)
    if not options.quiet:
        say(f"{store.shown}: {_counts_in_words(manifest)}")
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


def _opened(options: argparse.Namespace) -> "tuple[bytes, Work, Pipeline]":
    """The bytes of the age model, how items are looked at, and a pipeline of this machine's processor that does so.

    Raises:
        AgeError: a network is broken or missing; so it is told before anything is listed.
    """
    from ageinfer.archive.engine import workers_here
    from ageinfer.archive.shard import Work
    from ageinfer.engine.cores import usable_cores
    from ageinfer.engine.estimator import chosen_file
    from ageinfer.engine.modelfile import read_model

    file = chosen_file(options.model, options.precision, options.provider)
    detector = os.path.abspath(options.detector) if options.detector.endswith(".onnx") else options.detector  # noqa: PTH100
    cores_left = options.address is None and workers_here(options.workers, options.gpus) < usable_cores()
    work = Work(
        detector, options.detector_file and os.path.abspath(options.detector_file), looking_of(options),  # noqa: PTH100
        options.precision, options.provider, options.threads or 1, _seconds(options.every), options.people,
        options.over, in_threads=cores_left,
    )  # fmt: skip
    return read_model(file), work, replace(work, provider="cpu").open(file)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", text)
    seconds = float(found[1]) * {"ms": 0.001, "m": 60.0}.get(found[2], 1.0) if found else 0.0
    if not seconds > 0:
        raise UsageError(f"--every {text}: use a time, such as 1s, 500ms or 2m")
    return seconds


def _say_plan(options: argparse.Namespace, left: "Left") -> None:
    if options.quiet and not options.dry_run:
        return
    todo = left.shards
    pictures, films, tars = (sum(getattr(shard, name) for shard in todo) for name in ("pictures", "films", "tars"))
    size = sum(shard.bytes for shard in todo)
    done = f"; {left.done} shards are done" if left.done else ""
    stale = f"; {len(left.stale)} shards have changed or gone" if left.stale else ""
    say(
        f"plan: {pictures} pictures, {films} films and {tars} tar files ({size / 1e6:,.0f} MB) in {len(todo)} shards"
        f"{done}{stale}"
    )


def _say_rate(options: argparse.Namespace, plan: "Plan", left: "Left", workers: int, pipeline: "Pipeline") -> None:
    """Tells how long it may take, by a trial of two seconds on this machine's processor."""
    from ageinfer.archive.trial import trial

    if options.quiet and not options.dry_run:
        return
    rate = None if options.gpus else trial(plan, left.shards, pipeline)
    if rate is None or not rate.items:
        say(f"plan: {workers} workers; how long that takes is not known before")
        return
    pictures = sum(shard.pictures for shard in left.shards)
    rest = " without films and tar files" if any(shard.films or shard.tars for shard in left.shards) else ""
    say(
        f"plan: {workers} workers, each {rate.items / rate.seconds:.0f} pictures a second in a trial of "
        f"{rate.items}: about {_in_words(rate.seconds_for(pictures) / workers)}{rest}"
    )


def _in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _follow(summaries: Iterator[dict[str, Any]], left: "Left", shards: int, *, quiet: bool) -> None:
    """Shows how far the work is.

    Raises:
        OutputError: shards have failed; after 20 in a row no others are tried.
    """
    progress = ProgressLine(sum(shard.items for shard in left.shards), quiet=quiet, what="files")
    missing, reason, in_a_row = len(left.shards), "", 0
    try:
        for summary in summaries:
            if summary["error"]:
                reason, in_a_row = summary["error"], in_a_row + 1
                if in_a_row >= _MOST_FAILURES:
                    break
            else:
                missing, in_a_row = missing - 1, 0
                progress.step(summary["faces"], summary["items"])
    finally:
        progress.clear()
    if missing:
        raise OutputError(f"{missing} of {shards} shards are missing: {reason}")


def _counts_in_words(counts: dict[str, Any]) -> str:
    others = "".join(f", {counts[key]} {key}" for key in ("people", "unreadable", "damaged") if counts[key])
    return (
        f"{counts['faces']} faces in {counts['frames']} pictures and frames of {counts['items']} files{others}; "
        f"{counts['rows']} rows in {counts['shards']} shards"
    )
