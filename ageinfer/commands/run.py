"""``ageinfer SOURCE``: opens source, models and sinks, and passes every frame through."""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import ageinfer
from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.options import check_options, open_pipeline
from ageinfer.commands.progress_line import ProgressLine
from ageinfer.console import put, say
from ageinfer.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from ageinfer.pipeline import Pipeline
    from ageinfer.sinks import Sink
    from ageinfer.sources import Source

_TOKEN_VARIABLE = "AGEINFER_TOKEN"  # noqa: S105 - the name, not the token


def run(options: argparse.Namespace, interrupts: Interrupts) -> ExitStatus:
    """Opens source, models and sinks, and passes every frame through.

    Raises:
        AgeError: something cannot be opened, read or written.
    """
    if options.json_schema:
        from ageinfer.sinks import record_schema

        put(json.dumps(record_schema(), indent=2))
        return ExitStatus.OK
    check_options(options)
    from ageinfer.sources import open_camera, open_sources

    pipeline = open_pipeline(options)
    patience_s = None if options.reconnect_for == float("inf") else options.reconnect_for
    with ExitStack() as stack:
        if options.camera is None:
            source = stack.enter_context(open_sources(options.source, reconnect_for_s=patience_s))
        else:
            source = stack.enter_context(open_camera(options.camera, reconnect_for_s=patience_s))
        sinks = [stack.enter_context(sink) for sink in open_sinks(options, source, pipeline, interrupts)]
        process(source, pipeline, sinks, interrupts, quiet=options.quiet, blur=options.blur)
    if interrupts.requested:
        raise KeyboardInterrupt
    if source.truncated:
        return ExitStatus.TRUNCATED
    if source.damaged:
        return ExitStatus.DAMAGED
    return ExitStatus.SOME_FAILED if source.failed else ExitStatus.OK


def open_sinks(
    options: argparse.Namespace, source: "Source", pipeline: "Pipeline", interrupts: Interrupts
) -> "Iterator[Sink]":
    """Opens the outputs that were asked for, one by one; without any, a window, or records on standard output.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer import sinks

    live = source.kind == "camera"
    files = getattr(source, "files", ())  # those that are still to be read, too
    window = partial(sinks.WindowSink, hold_pictures=not live, should_end=lambda: interrupts.requested)
    if options.jsonl:
        yield sinks.JsonlSink(options.jsonl, untouchable=files)
    if options.csv:
        yield sinks.CsvSink(options.csv, untouchable=files)
    if options.output:
        path = Path(options.output)
        if source.kind == "picture":
            yield sinks.PictureSink(path)
        elif source.kind == "folder":
            yield sinks.FolderSink(path, untouchable=files)
        else:
            sound_of = None if options.no_audio else source
            yield sinks.VideoSink(path, source.fps, real_time=live, sound_of=sound_of, codec=options.codec)
    if options.faces:
        yield sinks.FaceSnapshots(Path(options.faces), untouchable=files)
    serves = options.serve or options.serve_at
    if serves:
        yield _open_web_view(options, source, pipeline)
    if options.window:
        yield window()
    if not (options.jsonl or options.csv or options.output or options.faces or serves or options.window):
        shows = source.kind in ("camera", "video") and sinks.display_works()
        yield window() if shows else sinks.JsonlSink("-")


def _open_web_view(options: argparse.Namespace, source: "Source", pipeline: "Pipeline") -> "Sink":
    from ageinfer.sources.address import without_secrets
    from ageinfer.web import WebInfo, WebSink, make_token

    place = options.serve_at or "127.0.0.1:8080"
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--serve-at {without_secrets(place)}: use HOST:PORT, for example 127.0.0.1:8080")
    host = host.strip("[]")
    here_only = host in ("localhost", "::1") or host.startswith("127.")
    token = os.environ.get(_TOKEN_VARIABLE) or (None if here_only else make_token())
    metadata = pipeline.estimator.metadata
    label: Literal["real", "apparent"] = "real" if metadata.label == "real" else "apparent"
    about = WebInfo(
        model=metadata.name, label=label, provider=pipeline.estimator.provider,
        detector=pipeline.detector.identifier, source=source.name, version=ageinfer.__version__,
    )  # fmt: skip
    return WebSink(host, int(port), token=token, about=about)


def process(
    source: "Source", pipeline: "Pipeline", sinks: "Sequence[Sink]", interrupts: Interrupts, *, quiet: bool,
    blur: bool = False,
) -> None:  # fmt: skip
    """Passes every frame through pipeline and sinks, until the source ends or somebody wants no more."""
    from ageinfer.sinks.draw import AnnotatedFrame
    from ageinfer.web import WebSink

    if not quiet:
        estimator = pipeline.estimator
        model = f"{estimator.metadata.name} on {estimator.provider} ({estimator.metadata.precision})"
        faces = f"faces by {pipeline.detector.identifier}, {estimator.threads} thread(s) a network"
        say(f"ageinfer {ageinfer.__version__}: {model}, {faces}")
    for sink in sinks:
        if isinstance(sink, WebSink):
            # A token that was given stays out of what may be a log.
            given = bool(os.environ.get(_TOKEN_VARIABLE))
            say(
                f"the page: {sink.url.partition('?')[0]} (its token: {_TOKEN_VARIABLE})"
                if given
                else f"the page: {sink.url}"
            )
    progress = ProgressLine(source.frame_count, quiet=quiet)
    results = pipeline.run(source)
    try:
        for frame, result in results:
            with interrupts.held():
                annotated = AnnotatedFrame(frame, result, blur=blur)
                for sink in sinks:
                    sink.write(annotated)
                progress.step(len(result.faces))
            if interrupts.requested or any(sink.stop_requested for sink in sinks):
                break
    finally:
        interrupts.hold()  # until the sinks have completed what they wrote
        source.close()  # wakes whoever waits for it
        results.close()
        progress.clear()
        if progress.frames and not quiet:
            rate = f" ({progress.frames / progress.seconds:.0f} frames a second)" if progress.frames > 1 else ""
            say(f"frames {progress.frames}, faces {progress.faces}, {progress.seconds:.1f} s{rate}")
