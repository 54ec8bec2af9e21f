"""The ``ageinfer`` command: chooses what is asked for, and ends the process with its exit status."""

import logging
import os
import sys
import threading
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

from ageinfer.commands.config import with_config
from ageinfer.commands.interrupts import Interrupts, ignore_signals
from ageinfer.commands.options import (
    Parser,
    add_message_options,
    add_over_option,
    add_pipeline_options,
    build_parser,
    open_pipeline,
)
from ageinfer.console import guarded, json_on_stderr
from ageinfer.errors import ExitStatus

__all__ = ["build_command_parser", "build_parser", "command", "main"]


def command(interrupts: Interrupts | None = None) -> NoReturn:
    """Runs `main` and ends the process.

    Args:
        interrupts: handle signals already; None: they are handled while `main` runs.
    """
    try:
        status = main(interrupts=interrupts)
    except KeyboardInterrupt:  # just when it was over
        status = ExitStatus.INTERRUPTED
    ignore_signals()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if threading.active_count() > 1:
        # One hangs in FFmpeg or in a driver, and would bring the interpreter down if it came back while that ends.
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None, *, interrupts: Interrupts | None = None) -> int:
    """Runs the command; returns its exit status.

    Args:
        arguments: of the command line; None: those of the process.
        interrupts: see `command`.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = arguments[0] if arguments and arguments[0] in ("doctor", "bench", "api", "archive", "prove") else None
    # OpenCV and the FFmpeg inside it would print their own lines beside ours.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if sys.stderr is None:  # closed by whoever started us; what is printed to None would go to standard output
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115, for as long as the process lives
    parser = build_parser() if name is None else build_command_parser(name)
    words = arguments if name is None else arguments[1:]
    options = parser.parse_args(words)
    with ExitStack() as to_the_end:

        def prepared() -> Namespace:
            if getattr(options, "log", "text") == "json":
                to_the_end.enter_context(json_on_stderr())
            whole = options if name in ("doctor", "archive", "prove") else with_config(parser, words, options)
            if getattr(whole, "log", "text") != getattr(options, "log", "text"):
                to_the_end.enter_context(json_on_stderr())
            if getattr(whole, "quiet", False):
                logging.getLogger().setLevel(logging.WARNING)
            return whole

        handled = interrupts or to_the_end.enter_context(Interrupts())
        to_the_end.callback(handled.hold)
        return guarded(
            "ageinfer",
            lambda: _run(name, prepared(), handled),
            debug=options.debug,
            level=logging.INFO if name == "api" and not options.quiet else logging.WARNING,  # of requests, too
            prefix="ageinfer: ",
            interrupted="nothing was written" if name == "prove" else "what was written is complete up to there",
        )


def build_command_parser(name: str) -> ArgumentParser:
    """Builds the parser of ``ageinfer doctor``, ``bench``, ``api``, ``archive`` or ``prove``."""
    if name == "doctor":
        from ageinfer.commands import doctor

        parser = Parser(prog="ageinfer doctor", description="Show what this machine has, what works and how fast.")
        doctor.add_arguments(parser)
    elif name == "api":
        from ageinfer.commands import api

        parser = Parser(
            prog="ageinfer api", formatter_class=RawDescriptionHelpFormatter, epilog=api.STATUSES,
            description="Answer pictures over HTTP: POST them to /v1/faces, and get their faces and ages as JSON.",
        )  # fmt: skip
        api.add_arguments(parser)
        add_over_option(parser)
        add_pipeline_options(parser, threads=1)
        parser.add_argument("--config", metavar="F", help="take options that are not given here from this TOML file")
        add_message_options(parser)
    elif name == "archive":
        from ageinfer.commands import archive

        parser = Parser(
            prog="ageinfer archive", formatter_class=RawDescriptionHelpFormatter, epilog=archive.STATUSES,
            description="Turn many pictures and films into one Parquet data set, on every core or on many machines.",
        )  # fmt: skip
        archive.add_arguments(parser)
        add_over_option(parser)
        add_pipeline_options(parser, threads=1)
        add_message_options(parser)
    elif name == "prove":
        from ageinfer.commands import prove

        parser = Parser(
            prog="ageinfer prove", formatter_class=RawDescriptionHelpFormatter, epilog=prove.STATUSES,
            description="Tell what a model does on this machine and on these pictures, as evidence that is bound to "
            "all three; or compare two such pieces.",
        )  # fmt: skip
        prove.add_arguments(parser)
        add_pipeline_options(parser, has_model=True)
        add_message_options(parser)
    else:
        parser = Parser(prog="ageinfer bench", description="Measure every stage on a source.")
        parser.add_argument("source", metavar="SOURCE", help="a picture, a folder of pictures or a video")
        parser.add_argument(
            "--frames",
            type=int,
            default=300,
            metavar="N",
            help="process this many frames; a short source is repeated (default 300)",
        )
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        add_pipeline_options(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _run(name: str | None, options: Namespace, interrupts: Interrupts) -> ExitStatus:
    if name == "doctor":
        from ageinfer.commands import doctor

        return doctor.run(options)
    if name == "bench":
        from ageinfer.commands import bench

        return bench.run(options, open_pipeline(options))
    if name == "api":
        from ageinfer.commands import api

        return api.run(options, interrupts)
    if name == "archive":
        from ageinfer.commands import archive

        return archive.run(options, interrupts)
    if name == "prove":
        from ageinfer.commands import prove

        return prove.run(options, interrupts)
    from ageinfer.commands.run import run

    return run(options, interrupts)
