"""The options of the ``ageinfer`` commands, and what they mean for the library."""

import argparse
import os
import stat
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NoReturn

import ageinfer
from ageinfer.commands.inputs import Input, check_live_outputs
from ageinfer.commands.people_options import add_people_options, check_people_options
from ageinfer.commands.workers_option import add_workers_option, workers_of
from ageinfer.errors import ExitStatus, UsageError, status_table

if TYPE_CHECKING:
    from ageinfer.mqtt.address import Address
    from ageinfer.pipeline import Looking, Pipeline

_RECORDS = ("jsonl", "csv", "people", "audience")
FILES = ("output", "faces", *_RECORDS)


class Parser(argparse.ArgumentParser):
    """A parser of a command line with addresses in it."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong without the passwords of addresses among the arguments."""
        from ageinfer.console import as_message
        from ageinfer.sources.address import without_secrets

        super().error(as_message(without_secrets(message)))


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of ``ageinfer SOURCE``."""
    parser = Parser(
        prog="ageinfer",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Find the faces in pictures, a video or a camera stream, and estimate their ages.",
        epilog="other commands:\n"
        "  ageinfer doctor        show what this machine has, what works and how fast\n"
        "  ageinfer bench SOURCE  measure each stage on a source\n"
        "  ageinfer api           answer pictures over HTTP\n"
        "  ageinfer archive       turn many pictures and films into one Parquet data set\n"
        "  ageinfer prove MODEL   tell what a model does on this machine and on your pictures\n\n"
        + status_table(*(s for s in ExitStatus if s not in (ExitStatus.DIVERGED, ExitStatus.UNPROVED))),
    )
    parser.add_argument(
        "source", nargs="*", metavar="SOURCE",
        help="a picture, a folder of pictures, a pattern ('*.jpg'), a video, the address of a stream (rtsp, http), "
        "/dev/videoN, a GStreamer pipeline, or - to read picture paths from standard input; several pictures, "
        "folders and videos may be given, or several cameras and streams",
    )  # fmt: skip
    parser.add_argument(
        "--camera", type=int, action="append", metavar="N", help="open this camera; 0 is the first; may be repeated"
    )
    parser.add_argument(
        "--config", metavar="F",
        help="take options that are not given here from this TOML file, and cameras with their names and zones",
    )  # fmt: skip
    parser.add_argument(
        "--reconnect-for", type=float, metavar="S",
        help="try to reopen a lost camera or stream for this many seconds (default: 60, with several sources for ever; "
        "0: do not try; inf: for ever)",
    )  # fmt: skip
    add_workers_option(parser)
    parser.set_defaults(inputs=())  # those of --config
    out = parser.add_argument_group("output")
    out.add_argument(
        "--output", metavar="F", help="write an annotated picture or video; a folder if the source is a folder"
    )
    out.add_argument(
        "--codec", metavar="NAME",
        help="encode a video with h264, hevc, vp9, av1, mpeg4 or mjpeg (default: the first that its container holds)",
    )  # fmt: skip
    out.add_argument("--no-audio", action="store_true", help="do not copy the sound of a video file to --output")
    out.add_argument("--jsonl", metavar="F", help="write one JSON record per frame; -: standard output")
    out.add_argument("--csv", metavar="F", help="write one CSV row per face; -: standard output")
    out.add_argument("--faces", metavar="DIR", help="save the best picture of each face")
    out.add_argument("--window", action="store_true", help="show the frames in a window")
    out.add_argument(
        "--serve", action="store_true", help="show the frames on a web page at 127.0.0.1:8080 (needs the extra serve)"
    )
    out.add_argument(
        "--serve-at", metavar="HOST:PORT", help="serve the page at this address; off loopback it needs a token"
    )
    out.add_argument(
        "--mqtt", metavar="ADDRESS",
        help="send who is in view, persons and audience of a video or camera to this MQTT broker, for Home Assistant "
        "and others, as mqtts://user:password@host:8883/topic or mqtt://host; the environment variable "
        "AGEINFER_MQTT_PASSWORD hides the password (needs the extra mqtt)",
    )  # fmt: skip
    out.add_argument(
        "--mqtt-ca", metavar="F", help="trust a certificate of the broker that this authority has signed (a PEM file)"
    )
    out.add_argument(
        "--fast", action="store_true",
        help="show a recording on the page or in the window as fast as it is done, not at its own speed",
    )  # fmt: skip
    out.add_argument(
        "--blur", action="store_true",
        help="make faces unrecognisable in pictures, in video and on the page: every frame is searched at all scales, "
        "which takes several times as long; voices stay, see --no-audio",
    )  # fmt: skip
    out.add_argument(
        "--json-schema", nargs="?", const="frames", choices=("frames", "people", "audience", "view", "evidence"),
        metavar="OF",
        help="print the JSON schema of the records of frames (default), people, audience or view, or of the evidence "
        "of ageinfer prove, and exit",
    )  # fmt: skip
    add_people_options(parser)
    add_over_option(parser)
    add_pipeline_options(parser)
    add_message_options(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"ageinfer {ageinfer.__version__}")
    return parser


def add_pipeline_options(
    parser: argparse.ArgumentParser, *, threads: int | None = None, has_model: bool = False
) -> None:
    """Adds the options that all commands with a pipeline share: models, detection, hardware.

    Args:
        parser: gets them.
        threads: the default of ``--threads``; None: half of the cores, at most 4.
        has_model: whether the age model is an argument already.
    """
    find = parser.add_argument_group("faces and ages")
    if not has_model:
        find.add_argument(
            "--model",
            metavar="F",
            help="use this age model: a file written by ageexport, or a shipped name (default: age-small)",
        )
    find.add_argument(
        "--precision", default="auto", metavar="P",
        help="use the age model in this precision: auto (default: int8 on a CPU, fp32 on a GPU), fp32, int8 or fp16",
    )  # fmt: skip
    find.add_argument(
        "--detector",
        default="yunet",
        metavar="NAME",
        help="find faces with yunet (default), dlib, dlib-cnn, or a YuNet file (.onnx)",
    )
    find.add_argument("--detector-file", metavar="F", help="load the network of dlib-cnn from this file")
    find.add_argument(
        "--detect-size", default="auto", metavar="PX",
        help="downscale frames to this longer side before detection; auto (default): choose the side by the faces that "
        "are known; full: never downscale",
    )  # fmt: skip
    find.add_argument(
        "--detect-every", default="auto", metavar="N",
        help="in video, search every Nth frame whole and follow faces in between; auto (default): search more often "
        "when the scene changes",
    )  # fmt: skip
    find.add_argument(
        "--age-interval", type=float, default=0.2, metavar="S",
        help="in video, estimate a face whose age has settled once in this many seconds (default 0.2); 0: every frame",
    )  # fmt: skip
    find.add_argument(
        "--min-face", type=float, default=0.0, metavar="PX", help="ignore faces whose longer side is smaller"
    )
    find.add_argument(
        "--provider",
        default="auto",
        metavar="NAME",
        help="run on auto (default), cpu, cuda, tensorrt, openvino or coreml",
    )
    find.add_argument(
        "--threads",
        type=int,
        metavar="N",
        default=threads,
        help=f"let each network use this many threads (default: {threads or 'half of the cores, at most 4'})",
    )


def add_over_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option of commands whose records tell whether somebody has reached an age."""
    parser.add_argument(
        "--over", type=int, metavar="YEARS",
        help="tell of each face whether the person is over this age, under it, or better referred to somebody who "
        "looks at a document; answers come only where the model file says how often they were wrong (shipped models: "
        "13, 16, 18, 21, 25). This verifies nobody's age",
    )  # fmt: skip


def add_message_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how messages are written."""
    parser.add_argument(
        "--log", choices=("text", "json"), default="text",
        help="write messages as text (default), or as JSON with time and level, one object a line",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show only warnings and errors")


def check_options(options: argparse.Namespace, inputs: Sequence[Input]) -> None:
    """Refuses options that contradict each other before anything is opened.

    Args:
        options: of the command line and its configuration file.
        inputs: that will be read.

    Raises:
        UsageError: they do.
    """
    from ageinfer.sinks import file_identity
    from ageinfer.sources.address import is_address, redacted

    if len(inputs) > 1 and inputs[0].is_live:
        check_live_outputs(options)
    wanted = [f"--{name} -" for name in _RECORDS if getattr(options, name) == "-"]
    if len(wanted) > 1:
        raise UsageError(f"{' and '.join(wanted)} both want standard output; write one of them to a file")
    if options.reconnect_for is not None and not options.reconnect_for >= 0:
        raise UsageError(f"--reconnect-for {options.reconnect_for}: use seconds, 0 or more, or inf")
    if options.blur and options.faces:
        raise UsageError("--faces keeps pictures of faces, --blur hides them; leave one of them out")
    if options.blur and options.min_face:
        raise UsageError("--min-face leaves small faces out, and --blur could not hide them; leave one of them out")
    for name in FILES:
        if is_address(getattr(options, name) or ""):
            raise UsageError(f"--{name} {redacted(getattr(options, name))}: an address; only files can be written")
    for name in ("output", "faces"):
        if getattr(options, name) == "-":
            raise UsageError(f"--{name} -: only records go to standard output; name a place (./- for one named so)")
    check_people_options(options)
    workers_of(options)
    if options.mqtt:
        mqtt_address(options)
    elif options.mqtt_ca:
        raise UsageError("--mqtt-ca is for --mqtt; name the broker")
    if (options.codec or options.no_audio) and not options.output:
        raise UsageError("--codec and --no-audio are for --output; name the video")
    if options.detector_file and options.detector != "dlib-cnn":
        raise UsageError(f"--detector-file is for --detector dlib-cnn; --detector is {options.detector}")
    taken = {file_identity(one.source): "the source" for one in inputs if isinstance(one.source, str)}
    for name in FILES:
        path = getattr(options, name)
        if path and path != "-":
            place = file_identity(path)
            if place in taken:
                raise UsageError(f"--{name} {path} would overwrite {taken[place]}; choose another name")
            if not _is_device(path):
                taken[place] = f"--{name}"


def mqtt_address(options: argparse.Namespace) -> "Address":
    """Where the broker of ``--mqtt`` is, with the password of the environment where the address has none.

    Raises:
        UsageError: it is no address of a broker.
    """
    from ageinfer.mqtt.address import PASSWORD_VARIABLE, Address

    return Address.parse(options.mqtt, password=os.environ.get(PASSWORD_VARIABLE))


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
    return pipeline_opener(options)()


def pipeline_opener(options: argparse.Namespace) -> "partial[Pipeline]":
    """Returns what opens detector and model, also in another process.

    Raises:
        UsageError: see `looking_of`.
    """
    from ageinfer.pipeline import Pipeline

    looking = looking_of(options)
    # `ageinfer bench` has no --over.
    return partial(
        Pipeline.default, options.model, options.detector, detector_file=options.detector_file, looking=looking,
        over_years=getattr(options, "over", None), precision=options.precision, provider=options.provider,
        threads=options.threads,
    )  # fmt: skip


def looking_of(options: argparse.Namespace) -> "Looking":
    """How faces are looked for.

    Raises:
        UsageError: a size or a number is neither of the words that are allowed nor in range.
    """
    from ageinfer.pipeline import Looking

    # Whoever is not found is shown; `ageinfer bench` has no --blur.
    blur = getattr(options, "blur", False)
    side: int | Literal["auto", "all"] | None = None
    if blur:
        if options.detect_size not in ("auto", "full"):
            raise UsageError("--detect-size leaves out faces that --blur has to hide; leave one of them out")
        side = "all"
    elif options.detect_size == "auto":
        side = "auto"
    elif options.detect_size != "full":
        side = _whole_number("--detect-size", options.detect_size, "auto, full or pixels")
    every = 1 if blur else None
    if options.detect_every != "auto":
        every = _whole_number("--detect-every", options.detect_every, "auto or a number of frames")
    if not 0 <= options.min_face < float("inf"):
        raise UsageError(f"--min-face {options.min_face}: use pixels, 0 or more")
    return Looking(max_side=side, every=every, least_face_px=options.min_face, age_interval_s=options.age_interval)


def _whole_number(option: str, text: str, allowed: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{option} {text}: use {allowed}") from None
