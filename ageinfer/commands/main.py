"""The ``ageinfer`` command."""

import argparse
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import ageinfer
from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.progress import Progress
from ageinfer.console import guarded, put, say
from ageinfer.errors import ExitStatus, UsageError, status_table

if TYPE_CHECKING:
    from ageinfer.pipeline import Looking, Pipeline
    from ageinfer.sinks import Sink
    from ageinfer.sources import Source

_LAST_CAMERA = 99  # OpenCV takes hundreds in the number for the name of a driver
_TOKEN_VARIABLE = "AGEINFER_TOKEN"  # noqa: S105 - the name, not the token


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Says what is wrong without the passwords of addresses among the arguments."""
        from ageinfer.sources.address import without_secrets

        super().error(without_secrets(message))


def build_parser() -> argparse.ArgumentParser:
    """The options of ``ageinfer SOURCE``."""
    parser = _Parser(
        prog="ageinfer",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Find faces in pictures, video or a camera, and estimate their ages.",
        epilog="other commands:\n"
        "  ageinfer doctor        what this machine has, what works and how fast\n"
        "  ageinfer bench SOURCE  where the time goes, stage by stage\n\n"
        + status_table(*(s for s in ExitStatus if s not in (ExitStatus.DIVERGED, ExitStatus.UNPROVED))),
    )
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE",
        help="a picture, a folder or 'pattern' of pictures, a video, an address (rtsp, http, ...), /dev/videoN, a "
        "GStreamer pipeline, or - for picture paths on standard input",
    )  # fmt: skip
    parser.add_argument("--camera", type=int, metavar="N", help="a camera by number, 0 for the first")
    parser.add_argument(
        "--reconnect-for", type=float, default=60.0, metavar="S",
        help="seconds that a lost camera or stream is tried again (default: 60; 0: not; inf: for ever)",
    )  # fmt: skip
    out = parser.add_argument_group("output")
    out.add_argument("--output", metavar="F", help="annotated picture or video; for a folder, a folder")
    out.add_argument("--jsonl", metavar="F", help="one JSON record a frame; - for standard output")
    out.add_argument("--csv", metavar="F", help="one row a face; - for standard output")
    out.add_argument("--faces", metavar="DIR", help="the best picture of each face")
    out.add_argument("--window", action="store_true", help="show a window")
    out.add_argument("--serve", action="store_true", help="show a web page (needs the extra serve)")
    out.add_argument("--serve-at", metavar="HOST:PORT", help="the same at this address instead of 127.0.0.1:8080")
    out.add_argument("--blur", action="store_true", help="make faces unrecognisable in pictures, video and on the page")
    out.add_argument("--json-schema", action="store_true", help="print the JSON schema of the records and end")
    add_pipeline_options(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, only warnings and errors")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"ageinfer {ageinfer.__version__}")
    return parser


def add_pipeline_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``ageinfer SOURCE`` and ``ageinfer bench SOURCE``: what finds and judges faces, and how."""
    find = parser.add_argument_group("faces and ages")
    find.add_argument(
        "--model", metavar="F", help="an age model: a file written by ageexport, or the name of a shipped one"
    )
    find.add_argument(
        "--precision", default="auto", metavar="P",
        help="of the age model: auto (default: what is the fastest here of those that are shipped), fp32, int8 or fp16",
    )  # fmt: skip
    find.add_argument(
        "--detector", default="yunet", metavar="NAME", help="yunet (default), dlib, dlib-cnn, or a YuNet file (.onnx)"
    )
    find.add_argument("--detector-file", metavar="F", help="the network of dlib-cnn")
    find.add_argument(
        "--detect-size", default="auto", metavar="PX",
        help="reduce frames to this side to find faces; auto (default): as the faces allow; full: never",
    )  # fmt: skip
    find.add_argument(
        "--detect-every", default="auto", metavar="N",
        help="in video, look at every Nth whole frame and follow faces in between; auto (default): as the scene allows",
    )  # fmt: skip
    find.add_argument(
        "--age-interval", type=float, default=0.2, metavar="S",
        help="in video, seconds between two estimates for a face whose age has settled (default 0.2); 0: every frame",
    )  # fmt: skip
    find.add_argument("--min-face", type=float, default=0.0, metavar="PX", help="leave smaller faces out")
    find.add_argument(
        "--provider", default="auto", metavar="NAME", help="auto (default), cpu, cuda, tensorrt, openvino or coreml"
    )
    find.add_argument(
        "--threads", type=int, metavar="N", help="threads a network may use (default: half of the cores, at most 4)"
    )


def command() -> NoReturn:
    """What is installed as ``ageinfer``: `main`, and the end of the process."""
    try:
        status = main()
    except KeyboardInterrupt:  # just when it was over
        status = ExitStatus.INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done; it would only look as if it was not
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if threading.active_count() > 1:
        # One hangs in FFmpeg or in a driver, and would bring the interpreter down if it came back while that ends.
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = arguments[0] if arguments and arguments[0] in ("doctor", "bench") else None
    # OpenCV and the FFmpeg inside it would print their own lines beside ours.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if sys.stderr is None:  # closed by whoever started us; what is printed to None would go to standard output
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115, for as long as the process lives
    parser = build_parser() if name is None else build_command_parser(name)
    options = parser.parse_args(arguments if name is None else arguments[1:])
    with Interrupts() as interrupts:
        return guarded(
            "ageinfer",
            lambda: run(options, interrupts) if name is None else run_command(name, options),
            debug=options.debug,
            prefix="ageinfer: ",
            interrupted="what was written is complete up to there",
        )


def build_command_parser(name: str) -> argparse.ArgumentParser:
    """The options of ``ageinfer doctor`` or ``ageinfer bench``."""
    if name == "doctor":
        from ageinfer.commands import doctor

        parser = _Parser(prog="ageinfer doctor", description="Say what this machine has and can do.")
        doctor.add_arguments(parser)
    else:
        parser = _Parser(prog="ageinfer bench", description="Measure every stage on a source.")
        parser.add_argument("source", metavar="SOURCE", help="a picture, a folder of pictures or a video")
        parser.add_argument("--frames", type=int, default=300, metavar="N", help="how many, repeated if need be (300)")
        parser.add_argument("--json", action="store_true", help="print JSON")
        add_pipeline_options(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run_command(name: str, options: argparse.Namespace) -> ExitStatus:
    """Runs ``ageinfer doctor`` or ``ageinfer bench``.

    Raises:
        AgeError: something cannot be opened or read.
    """
    if name == "doctor":
        from ageinfer.commands import doctor

        return doctor.run(options)
    from ageinfer.commands import bench

    return bench.run(options, open_pipeline(options))


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
    from ageinfer.sources import open_camera, open_source

    pipeline = open_pipeline(options)
    patience_s = None if options.reconnect_for == float("inf") else options.reconnect_for
    with ExitStack() as stack:
        if options.camera is None:
            source = stack.enter_context(open_source(options.source, reconnect_for_s=patience_s))
        else:
            source = stack.enter_context(open_camera(options.camera, reconnect_for_s=patience_s))
        sinks = [stack.enter_context(sink) for sink in open_sinks(options, source, pipeline, interrupts)]
        process(source, pipeline, sinks, interrupts, quiet=options.quiet, blur=options.blur)
    if interrupts.requested:
        raise KeyboardInterrupt
    if source.truncated:
        return ExitStatus.TRUNCATED
    return ExitStatus.SOME_FAILED if source.failed else ExitStatus.OK


def check_options(options: argparse.Namespace) -> None:
    """Refuses options that contradict each other before anything is opened.

    Raises:
        UsageError: they do.
    """
    from ageinfer.sinks import file_identity

    if (options.source is None) == (options.camera is None):
        raise UsageError("name one SOURCE, or --camera N (see ageinfer --help)")
    if options.jsonl == "-" and options.csv == "-":
        raise UsageError("--jsonl - and --csv - both want standard output; write one of them to a file")
    if options.camera is not None and options.camera < 0:
        raise UsageError(f"--camera {options.camera}: cameras are numbered from 0")
    if options.camera is not None and options.camera > _LAST_CAMERA:
        raise UsageError(f"--camera {options.camera}: use 0 to {_LAST_CAMERA}, or the path of the device")
    if not options.reconnect_for >= 0:
        raise UsageError(f"--reconnect-for {options.reconnect_for}: use seconds, 0 or more, or inf")
    if options.blur and options.faces:
        raise UsageError("--faces keeps pictures of faces, --blur hides them; leave one of them out")
    if options.blur and options.min_face:
        raise UsageError("--min-face leaves small faces out, and --blur could not hide them; leave one of them out")
    for name in ("output", "faces"):
        if getattr(options, name) == "-":
            raise UsageError(f"--{name} -: only records go to standard output; name a place (./- for one named so)")
    if options.detector_file and options.detector != "dlib-cnn":
        raise UsageError(f"--detector-file is for --detector dlib-cnn; --detector is {options.detector}")
    taken = {file_identity(options.source): "the source"} if options.source else {}
    for name in ("output", "jsonl", "csv", "faces"):
        path = getattr(options, name)
        if path and path != "-":
            place = file_identity(path)
            if place in taken:
                raise UsageError(f"--{name} {path} would overwrite {taken[place]}; choose another name")
            if not _is_device(path):
                taken[place] = f"--{name}"


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)  # noqa: PTH116, Path raises for names that are too long
    except (OSError, ValueError):  # whoever opens it will say what is wrong
        return False


def open_pipeline(options: argparse.Namespace) -> "Pipeline":
    """Opens detector and model.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer.pipeline import Pipeline

    looking = looking_of(options)
    return Pipeline.default(
        options.model, options.detector, detector_file=options.detector_file, looking=looking,
        precision=options.precision, provider=options.provider, threads=options.threads,
    )  # fmt: skip


def looking_of(options: argparse.Namespace) -> "Looking":
    """How faces are looked for.

    Raises:
        UsageError: a size or a number is neither of the words that are allowed nor in range.
    """
    from ageinfer.pipeline import Looking

    side: int | Literal["auto"] | None = None
    if options.detect_size == "auto":
        side = "auto"
    elif options.detect_size != "full":
        side = _whole_number("--detect-size", options.detect_size, "auto, full or pixels")
    # Whom a look misses would be shown; `ageinfer bench` has no --blur.
    blur = getattr(options, "blur", False)
    every = 1 if blur else None
    if options.detect_every != "auto":
        every = _whole_number("--detect-every", options.detect_every, "auto or a number of frames")
    if not 0 <= options.min_face < float("inf"):
        raise UsageError(f"--min-face {options.min_face}: use pixels, 0 or more")
    closely: dict[str, Any] = {"largest_side": sys.maxsize, "full_size_every_s": 1.0} if blur else {}
    return Looking(
        max_side=side, every=every, least_face_px=options.min_face, age_interval_s=options.age_interval, **closely
    )


def _whole_number(option: str, text: str, allowed: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{option} {text}: use {allowed}") from None


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
            yield sinks.VideoSink(path, source.fps, real_time=live)
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
    from ageinfer.engine.fastest import told
    from ageinfer.sinks.draw import AnnotatedFrame
    from ageinfer.web import WebSink

    if not quiet:
        estimator = pipeline.estimator
        precision = told(estimator.metadata.precision, estimator.times_as_fast)
        by = f"{pipeline.detector.identifier}, {estimator.threads} thread(s) a network"
        model = f"{estimator.metadata.name} on {estimator.provider} ({precision})"
        say(f"ageinfer {ageinfer.__version__}: {model}, faces by {by}")
    for sink in sinks:
        if isinstance(sink, WebSink):
            # A token that was given stays out of what may be a log.
            given = bool(os.environ.get(_TOKEN_VARIABLE))
            say(
                f"the page: {sink.url.partition('?')[0]} (its token: {_TOKEN_VARIABLE})"
                if given
                else f"the page: {sink.url}"
            )
    progress = Progress(source.frame_count, quiet=quiet)
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
