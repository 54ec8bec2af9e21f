"""``python -m ageexport.inspect FILE``: prints what a model file says of itself, and whether the runtime accepts it."""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ageexport.card import crop_in_words, terms_in_words
from ageinfer.console import as_message, guarded, put
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties, read_model
from ageinfer.errors import ExitStatus, ModelError, status_table
from agetrain.evaluation.metrics import in_words


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m ageexport.inspect",
        description="Print what a model file says of itself, and whether the runtime would accept it.",
        epilog=status_table(ExitStatus.OK, ExitStatus.INTERNAL, ExitStatus.USAGE, ExitStatus.MODEL, ExitStatus.MISSING),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the model file (*.onnx)")
    parser.add_argument("--json", action="store_true", help="print its metadata as JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def print_model(options: argparse.Namespace) -> None:
    """Prints what a model file says of itself.

    Raises:
        ModelError: the runtime would not use the file.
    """
    try:
        data = read_model(options.file)
        estimator = AgeEstimator(options.file, provider="cpu")
    except ModelError as error:
        raise ModelError(f"refused: {error}") from error
    if options.json:
        put(json.dumps(json.loads(metadata_properties(data)[METADATA_KEY]), indent=2))
        return
    for key, value in described(estimator.metadata, data):
        put(as_message(f"{key:<12} {value}"))
    put(as_message(f"{options.file}: the runtime accepts it"))


def described(metadata: ModelMetadata, data: bytes) -> list[tuple[str, Any]]:
    """Returns what is printed, as pairs of a word and a text."""
    t, e, crop = metadata.training, metadata.export, metadata.crop
    label = {"real": "real age", "apparent": "apparent age, as people judge it"}[metadata.label]
    errors = "the errors on the pictures of its proof" if t.get("described") else "held-out errors"
    std = {"distribution": "from the distribution over years", "constant": f"constant, from {errors}"}
    lines = [
        ("name", metadata.name),
        ("answers", f"{label}, {metadata.age_range[0]:g} to {metadata.age_range[1]:g} years"),
        ("deviation", std[metadata.age_std_kind]),
        ("network", f"{t.get('backbone')}, {t.get('head')} head, {metadata.precision}"),
        ("crop", f"{crop_in_words(crop)}, {crop.size} x {crop.size} px"),
    ]
    if "quantised_share" in e:
        lines.append(
            (
                "quantised",
                f"{100 * e['quantised_share']:.1f} % of the multiply-adds, weights in {e['weight_bits']} bits, ranges "
                f"by {e['ranges']} over {e['calibration_faces']} faces",
            )
        )
    if t.get("mirrored"):
        lines.append(("answer", "mean over the face and its mirror image"))
    for d in t.get("data", []):
        lines.append(("learned", ", ".join(filter(None, [d["dataset"], terms_in_words(d), d.get("page")]))))
    for m in metadata.metrics:
        lines.append(("measured", f"{m['dataset']} {m['part']}: {in_words(m)}"))
    made = ", ".join(f"{k} {v}" for k, v in e.items() if k in ("opset", "torch", "onnx", "onnxruntime"))
    return [
        *lines,
        ("made with", f"{made}, commit {t.get('git_commit')}"),
        ("checkpoint", f"SHA-256 {t.get('checkpoint_sha256')}"),
        ("graph", f"SHA-256 {metadata.graph_sha256}"),
        ("file", f"SHA-256 {hashlib.sha256(data).hexdigest()}, {len(data) / 1e6:.1f} MB"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded("ageexport.inspect", lambda: print_model(options), debug=options.debug, extra="export")


if __name__ == "__main__":
    sys.exit(main())
