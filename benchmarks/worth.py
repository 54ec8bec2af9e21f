"""What 8 bits save: size and time of networks in fp32 and in int8, and whether the exporter writes such a file.

    python benchmarks/worth.py [NETWORK ...] [--size 112]

Prints Markdown. The networks have random weights, which time and size do not depend on; the shipped model is itself.
Both files are called in turns on one thread, so that a busy machine disturbs both alike.
"""

import argparse
import datetime
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from ageexport import graph, precision, providers
from ageexport.ladder import Bounds
from ageexport.worth import worth
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from ageinfer.sources import read_picture
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint

ROOT = Path(__file__).parent.parent
NETWORKS = (
    "torchvision:resnet18", "torchvision:mobilenet_v3_large", "torchvision:efficientnet_b0",
    "torchvision:convnext_tiny", "timm:mobilenetv4_conv_small", "timm:tf_efficientnet_lite0",
)  # fmt: skip
SHIPPED = ROOT / "models" / "age-small.onnx"
FACES = 48


def faces(side: int) -> np.ndarray:
    """Parts of three portraits, uint8 ``[n, side, side, 3]``, RGB."""
    random = np.random.default_rng(0)
    portraits = [read_picture(ROOT / "samples" / f"{name}.jpg") for name in ("astronaut", "obama", "biden")]
    parts = []
    for i in range(FACES):
        picture = portraits[i % len(portraits)]
        height, width = picture.shape[:2]
        of = int(min(height, width) * random.uniform(0.4, 0.9))
        top, left = random.integers(0, height - of + 1), random.integers(0, width - of + 1)
        part = picture[top : top + of, left : left + of, ::-1]
        parts.append(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA))
    return np.stack(parts)


def forms(backbone: str, side: int, given: np.ndarray) -> tuple[bytes, Iterator[bytes]]:
    """A network in fp32, and its forms in 8 bits in the order in which the exporter tries them."""
    torch.manual_seed(0)
    network = AgeNet(backbone, "distribution", size=side)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(given).permute(0, 3, 1, 2).float())
    checkpoint = Checkpoint.of_network(network.eval(), CropSpec(size=side), "real", 0.0, {})
    fp32 = graph.without_metadata(graph.convert(checkpoint))
    attempts = (form for form in precision.int8_attempts(fp32, given) if form.precision == "int8")
    return fp32.SerializeToString(), (form.model.SerializeToString() for form in attempts)


def row(title: str, side: int, fp32: bytes, forms: Iterable[bytes], given: np.ndarray) -> str:
    for int8 in forms:
        rung = worth(int8, fp32, given, Bounds())
        if rung.status == "passed":
            break
    size, ms, size_fp32, ms_fp32 = re.findall(r"([\d.]+) (?:MB|ms)", rung.note)
    return (
        f"| {title} | {side} | {size_fp32} | {ms_fp32} | {size} | {ms} | {rung.figure:.2f} | {rung.bound:g} | "
        f"{'yes' if rung.status == 'passed' else 'no'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--size", type=int, default=112)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    machine = providers.machine()
    print(
        f"{machine['processor']} ({machine['instructions']}), ONNX Runtime {machine['onnxruntime']}, "
        f"{datetime.date.today()}\n"
    )
    print("| network | px | fp32, MB | fp32, ms | int8, MB | int8, ms | share of the time | at most | worth a file |")
    print("|---|---|---|---|---|---|---|---|---|")
    for backbone in options.networks:
        given = faces(options.size)
        print(row(f"`{backbone}`", options.size, *forms(backbone, options.size, given), given), flush=True)
    int8 = SHIPPED.read_bytes()
    side = ModelMetadata.from_json(metadata_properties(int8)[METADATA_KEY]).crop.size
    fp32 = SHIPPED.with_suffix(".fp32.onnx").read_bytes()
    print(row("age-small, as shipped", side, fp32, [int8], faces(side)))


if __name__ == "__main__":
    main()
