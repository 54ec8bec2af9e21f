"""``ageinfer prove``: evidence of what a model does on this machine and on these pictures, and a comparison of two."""

import argparse
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ageinfer
from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.options import open_pipeline
from ageinfer.commands.progress_line import ProgressLine
from ageinfer.console import put
from ageinfer.errors import ExitStatus, UsageError, status_table

if TYPE_CHECKING:
    from ageinfer.proving.evidence import Machine, Used

_FILES = ("evidence.json", "evidence.html", "evidence.md", "practice-statement.md")
STATUSES = status_table(
    ExitStatus.OK, ExitStatus.INTERNAL, ExitStatus.USAGE, ExitStatus.SOURCE, ExitStatus.MODEL, ExitStatus.OUTPUT,
    ExitStatus.MISSING, ExitStatus.SOME_FAILED, ExitStatus.UNPROVED, ExitStatus.DAMAGED, ExitStatus.INTERRUPTED,
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is proved on which pictures, and what is compared."""
    parser.add_argument(
        "model", nargs="?", metavar="MODEL",
        help="the age model: a file written by ageexport, or a shipped name (default: age-small)",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="look at the pictures of this folder and of all below it; labels.csv in it (file, age, and perhaps "
        "subject and groups) tells their ages",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write evidence.json, evidence.html, evidence.md and the draft practice-statement.md into this folder",
    )
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"),
        help="compare two evidence.json instead; the status is 10 where the answers of one model are not the same",
    )  # fmt: skip


def run(options: argparse.Namespace, interrupts: Interrupts) -> ExitStatus:
    """Makes evidence and writes it, or compares two pieces.

    Raises:
        AgeError: something cannot be opened, read or written.
    """
    making = (options.model, options.data, options.out)
    if options.compare:
        if any(making):
            raise UsageError("--compare takes two evidence.json and nothing else; leave out MODEL, --data and --out")
        return _compare(*options.compare)
    if not (options.data and options.out):
        raise UsageError("name --data DIR and --out DIR, or --compare A B (see ageinfer prove --help)")
    from ageinfer.proving.answers import picture_names
    from ageinfer.proving.evidence import as_json, prove, write_evidence
    from ageinfer.proving.page import markdown, page
    from ageinfer.proving.statement import statement
    from ageinfer.sinks.base import make_folder, prepare_place

    names = picture_names(options.data)
    with interrupts.held():  # before hours of work
        make_folder(options.out)
        for name in _FILES:
            prepare_place(options.out / name)
    if interrupts.requested:
        raise KeyboardInterrupt
    used = _opened(options)
    progress = ProgressLine(len(names), quiet=options.quiet, what="pictures")
    try:
        evidence = prove(used, options.data, names, progress.step)
    finally:
        progress.clear()
    with interrupts.held():
        written = write_evidence(
            options.out,
            dict(
                zip(_FILES, (as_json(evidence), page(evidence), markdown(evidence), statement(evidence)), strict=True)
            ),
        )
    put(in_words(evidence))
    put(f"written: {', '.join(map(str, written))}")
    outcomes = evidence["outcomes"]
    if outcomes["damaged"]:
        return ExitStatus.DAMAGED
    return ExitStatus.SOME_FAILED if outcomes["unreadable"] else ExitStatus.OK


def _compare(first: Path, second: Path) -> ExitStatus:
    from ageinfer.proving.comparing import compare

    lines = compare(first, second)
    for line in lines:
        put(line.text if line.agrees else f"{line.text}: DIFFERS")
    agrees = all(line.agrees for line in lines)
    put("the answers agree" if agrees else "the answers do not agree, or nothing could be compared")
    return ExitStatus.OK if agrees else ExitStatus.UNPROVED


def _opened(options: argparse.Namespace) -> "Used":
    """Opens model and detector, and finds out where they run.

    Raises:
        AgeError: one of them cannot be opened.
    """
    from ageinfer.commands.bench import largest_memory_mb
    from ageinfer.detect import YUNET_FILE, WholePicture
    from ageinfer.engine.estimator import chosen_file
    from ageinfer.engine.modelfile import packaged_model
    from ageinfer.proving.evidence import Used

    file = options.model = chosen_file(options.model, options.precision, options.provider)
    start = time.perf_counter()
    pipeline = open_pipeline(options)
    open_ms = (time.perf_counter() - start) * 1e3
    detector = Path(options.detector) if options.detector.endswith(".onnx") else None
    if options.detector == "yunet":
        detector = packaged_model(YUNET_FILE)
    elif options.detector_file:
        detector = Path(options.detector_file)
    if isinstance(pipeline.detector, WholePicture):
        detector = None
    return Used(pipeline, Path(file), detector, open_ms, _machine(), largest_memory_mb)


def _machine() -> "Machine":
    import numpy
    import onnxruntime

    from ageinfer.commands.doctor.machine import examine_machine
    from ageinfer.images import cv2
    from ageinfer.proving.evidence import Machine

    facts: dict[str, Mapping[str, Any]] = {each.name: each.values for each in examine_machine(ageinfer.__version__)}
    memory = facts.get("memory", {}).get("bytes")
    versions = {
        "ageinfer": ageinfer.__version__, "python": platform.python_version(), "numpy": numpy.__version__,
        "opencv": cv2.__version__, "onnxruntime": onnxruntime.__version__,
    }  # fmt: skip
    return Machine(
        facts["system"]["system"], facts["system"]["architecture"], facts["processor"]["model"],
        tuple(facts.get("instructions", {}).get("found", ())), facts["cores"]["usable"], facts["cores"]["there"],
        None if memory is None else memory // 10**6, versions,
    )  # fmt: skip


def in_words(evidence: Mapping[str, Any]) -> str:
    """The main figures in a few lines."""
    model, machine, speed = evidence["model"], evidence["machine"], evidence["speed"]
    outcomes, no_face, accuracy = evidence["outcomes"], evidence["no_face"]["all"], evidence["accuracy"]
    low, high = no_face["interval_95_percent"]
    others = "".join(f", {outcomes[name]} {name}" for name in ("damaged", "unreadable") if outcomes[name])
    lines = [
        f"{model['name']}@{model['precision']} (SHA-256 {model['sha256'][:12]}) on {machine['processor']}, "
        f"{machine['architecture']}: {evidence['pictures']['count']} pictures{others}",
        f"no face: {no_face['percent']:.1f} % ({low:.1f} to {high:.1f}; {no_face['hits']} of {no_face['n']})",
    ]
    if accuracy and accuracy["n"]:
        lines.append(
            f"ages: mean absolute error {accuracy['mae_years']:.2f} years, bias {accuracy['bias_years']:+.2f} "
            f"({accuracy['n']} pictures)"
        )
    memory = "" if speed["memory_mb"] is None else f"; at most {speed['memory_mb']:.0f} MB of memory"
    lines.append(
        f"speed: {speed['median_ms']['total']:.1f} ms a picture (median), {speed['p95_ms']['total']:.1f} ms (95th "
        f"percentile), {speed['pictures_per_s']:.1f} pictures a second{memory}"
    )
    return "\n".join(lines)
