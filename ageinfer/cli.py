"""The ``ageinfer`` command."""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import ageinfer
from ageinfer._messages import messages_on_stderr
from ageinfer.errors import AgeInferError, ExitStatus, UsageError

if TYPE_CHECKING:
    from ageinfer.pipeline import Pipeline
    from ageinfer.sinks import Sink
    from ageinfer.sources import Source

_STATUS_TEXTS = {
    ExitStatus.OK: "done",
    ExitStatus.INTERNAL: "internal error",
    ExitStatus.USAGE: "wrong options",
    ExitStatus.SOURCE: "the source cannot be read",
    ExitStatus.MODEL: "a model is missing, broken, changed or not one of this project's",
    ExitStatus.OUTPUT: "a result cannot be written",
    ExitStatus.MISSING: "a package, a display or an execution provider is missing",
    ExitStatus.SOME_FAILED: "some pictures of the folder could not be read, the others are done",
    ExitStatus.TRUNCATED: "the video is cut off, what can be decoded of it is done",
    ExitStatus.INTERRUPTED: "interrupted; what was written is complete up to there",
}


def build_parser() -> argparse.ArgumentParser:
    """The options of ``ageinfer``."""
    parser = argparse.ArgumentParser(
        prog="ageinfer",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Find faces in pictures, video or a camera, and estimate their ages.",
        epilog="exit status:\n" + "\n".join(f"  {status:>3}  {text}" for status, text in _STATUS_TEXTS.items()),
    )
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="a picture, a folder of pictures, or a video")
    parser.add_argument("--camera", type=int, metavar="N", help="a camera by number, 0 for the first")
    parser.add_argument("--output", metavar="F", help="annotated picture or video; for a folder, a folder")
    parser.add_argument("--jsonl", metavar="F", help="one JSON record a frame; - for standard output")
    parser.add_argument("--csv", metavar="F", help="one row a face; - for standard output")
    parser.add_argument("--window", action="store_true", help="show a window")
    parser.add_argument("--model", metavar="F", help="an age model written by ageexport (default: the shipped one)")
    parser.add_argument("--detector", default="yunet", metavar="NAME", help="yunet (default) or dlib")
    parser.add_argument("--provider", default="auto", metavar="NAME", help="auto (default), cpu or cuda")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads a network may use (default: cores, at most 4)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, only warnings and errors")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"ageinfer {ageinfer.__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = build_parser().parse_args(arguments)
    # OpenCV and the FFmpeg inside it would print their own lines beside ours.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # A supervisor's stop is a person's Ctrl-C: outputs are completed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with messages_on_stderr(logging.WARNING, "ageinfer: "):
            return run(options)
    except AgeInferError as error:
        if options.debug:
            raise
        print(f"ageinfer: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # the reader of our standard output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OUTPUT
    except KeyboardInterrupt:
        print("ageinfer: interrupted; what was written is complete up to there", file=sys.stderr)
        return ExitStatus.INTERRUPTED


def run(options: argparse.Namespace) -> ExitStatus:
    """Opens source, models and sinks, and passes every frame through.

    Raises:
        AgeInferError: something cannot be opened, read or written.
    """
    check_options(options)
    from ageinfer.pipeline import Pipeline
    from ageinfer.sources import open_camera, open_source

    source = open_source(options.source) if options.camera is None else open_camera(options.camera)
    pipeline = Pipeline.default(options.model, options.detector, provider=options.provider, threads=options.threads)
    with ExitStack() as stack:
        sinks = [stack.enter_context(sink) for sink in open_sinks(options, source)]
        process(source, pipeline, sinks, quiet=options.quiet)
    if source.truncated:
        return ExitStatus.TRUNCATED
    return ExitStatus.SOME_FAILED if source.failed else ExitStatus.OK


def check_options(options: argparse.Namespace) -> None:
    """Refuses options that contradict each other before anything is opened.

    Raises:
        UsageError: they do.
    """
    if (options.source is None) == (options.camera is None):
        raise UsageError("name one SOURCE, or --camera N (see ageinfer --help)")
    if options.jsonl == "-" and options.csv == "-":
        raise UsageError("--jsonl - and --csv - both want standard output; write one of them to a file")
    if options.camera is not None and options.camera < 0:
        raise UsageError(f"--camera {options.camera}: cameras are numbered from 0")
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads {options.threads}: use 1 or more")
    taken = {Path(options.source).resolve(): "the source"} if options.source else {}
    for name in ("output", "jsonl", "csv"):
        path = getattr(options, name)
        if path and path != "-":
            place = Path(path).resolve()
            if place in taken:
                raise UsageError(f"--{name} {path} would overwrite {taken[place]}; choose another name")
            if not Path(path).is_char_device():
                taken[place] = f"--{name}"


def open_sinks(options: argparse.Namespace, source: "Source") -> "Iterator[Sink]":
    """Opens the outputs that were asked for, one by one; without any, a window, or records on standard output.

    Raises:
        AgeInferError: one of them cannot be opened.
    """
    from ageinfer import sinks

    if options.jsonl:
        yield sinks.JsonlSink(options.jsonl)
    if options.csv:
        yield sinks.CsvSink(options.csv)
    if options.output:
        path = Path(options.output)
        if source.kind == "picture":
            yield sinks.PictureSink(path)
        elif source.kind == "folder":
            yield sinks.FolderSink(path)
        else:
            yield sinks.VideoSink(path, source.fps)
    if options.window:
        yield sinks.WindowSink()
    if not (options.jsonl or options.csv or options.output or options.window):
        live = source.kind in ("camera", "video")
        yield sinks.WindowSink() if live and sinks.display_works() else sinks.JsonlSink("-")


def process(source: "Source", pipeline: "Pipeline", sinks: "Sequence[Sink]", *, quiet: bool) -> None:
    """Passes every frame through pipeline and sinks, until the source ends or a sink wants no more."""
    from ageinfer.draw import AnnotatedFrame

    frames = faces = 0
    began = shown = time.monotonic()
    progress = not quiet and sys.stderr.isatty()
    try:
        for frame in source:
            result = pipeline(frame)
            annotated = AnnotatedFrame(frame, result)
            for sink in sinks:
                sink.write(annotated)
            if frames == 0 and not quiet:
                model, provider = pipeline.estimator.metadata.name, pipeline.estimator.provider
                _say(f"ageinfer {ageinfer.__version__}: {model} on {provider}, faces by {pipeline.detector.identifier}")
            frames += 1
            faces += len(result.faces)
            if any(sink.stop_requested for sink in sinks):
                break
            now = time.monotonic()
            if progress and now - shown > 0.25:
                shown = now
                of = f"/{source.frame_count}" if source.frame_count else ""
                print(f"\r{frames}{of} frames, {frames / (now - began):.0f} a second ", end="", file=sys.stderr)
    finally:
        if progress:
            print("\r\033[K", end="", file=sys.stderr)
        if frames and not quiet:
            seconds = time.monotonic() - began
            rate = f" ({frames / seconds:.0f} frames a second)" if frames > 1 else ""
            _say(f"frames {frames}, faces {faces}, {seconds:.1f} s{rate}")


def _say(text: str) -> None:
    """To the person at the terminal; standard output belongs to the records."""
    print(text, file=sys.stderr)
