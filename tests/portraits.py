"""Many real faces from one portrait, and small networks whose answers differ from face to face."""

import csv
import dataclasses
from pathlib import Path

import cv2
import numpy as np


def variation(image, i):
    """The i-th of endlessly many different pictures of the same face: mirrored, cut, scaled, lighter or darker."""
    random = np.random.default_rng(i)
    left, top = random.integers(0, 90, 2) // (1, 3)
    right, bottom = random.integers(360, 512), random.integers(300, 512)
    picture = image[top:bottom, left:right]
    if i % 2:
        picture = picture[:, ::-1]
    scale = random.uniform(0.5, 0.9)
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(picture, alpha=random.uniform(0.6, 1.2), beta=random.uniform(-20, 20))


def write_portraits(folder, image, numbers):
    """Writes variations as JPEG files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in numbers:
        path = folder / f"{i:06d}.jpg"
        assert cv2.imwrite(str(path), variation(image, i))
        paths.append(path)
    return paths


def write_proof(folder, images, valid=100, calibration=24):
    """Variations of several portraits with made-up ages, listed for ``python -m ageexport --data``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "age", "part"))
        for i in range(valid + calibration):
            assert cv2.imwrite(str(folder / f"{i:06d}.jpg"), variation(images[i % len(images)], i))
            writer.writerow((f"{i:06d}.jpg", 20 + 7 * i % 50, "valid" if i < valid else "calibration"))
    return folder


def write_list(file, rows, columns=("file_name", "apparent_age_avg", "apparent_age_std", "real_age")):
    """Writes a list of labels as APPA-REAL has them."""
    with Path(file).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def write_appa_real(folder, image, train=24, valid=8):
    """A small copy of the layout of ``appa-real-release``; ages run from 10 upwards in steps of 2 years."""
    for part, numbers in (("train", range(train)), ("valid", range(train, train + valid))):
        rows = []
        for path in write_portraits(folder / part, image, numbers):
            i = int(path.stem)
            rows.append((path.name, 10 + 2 * i + 0.5, 1 + i / 10, 10 + 2 * i))
            path.rename(path.with_name(f"{path.name}_face.jpg"))
        write_list(folder / f"gt_avg_{part}.csv", rows)
    return folder


def lively_network(head, crops, seed=0, backbone="mobilenet_v2", dropout=0.2, **more):
    """A network with random weights that tells faces apart, which a freshly initialised one does not.

    Its normalisation layers see the crops once, and its head is scaled until ages spread over many years: a proof on
    a network that answers the same for every face would prove nothing.
    """
    import torch

    from agetrain.network.agenet import AgeNet

    torch.manual_seed(seed)
    network = AgeNet(backbone, head, dropout, **more)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    faces = torch.from_numpy(np.array(crops)).permute(0, 3, 1, 2).float()
    linear = network.head[1]
    with torch.no_grad():
        network.train()
        network(faces)
        network.eval()
        features = network.features(faces)
        if head == "linear":
            linear.weight.mul_(3 / (features @ linear.weight.T).std())
            linear.bias.copy_(40 - (features @ linear.weight.T).mean())
            network.residual_std.fill_(4.5)
        else:
            centred = features - features.mean(dim=0)
            linear.weight.mul_(0.5 / (centred @ linear.weight.T).std())
            linear.bias.copy_(-(features.mean(dim=0) @ linear.weight.T))
    return network


def checkpoint_values(network, spec):
    """What stands in the file of a network, by ``docs/reference/checkpoint.md``."""
    from agetrain.network.checkpoint import environment
    from agetrain.recipe import Recipe

    distribution = network.head_name == "distribution"
    return {
        "format": "agetrain-checkpoint",
        "version": 1,
        "weights": network.state_dict(),
        "backbone": network.backbone_name,
        "head": network.head_name,
        "crop": spec.to_dict(),
        "mean": (network.mean / 255).flatten().tolist(),
        "std": (network.std / 255).flatten().tolist(),
        "label": "real",
        "age_range": [0.0, 100.0],
        "decode": "expectation" if distribution else "linear",
        "age_std_kind": "distribution" if distribution else "constant",
        "label_offset": 0.0,
        "calibration": network.calibration.to_dict(),
        "mirrored": network.mirrored,
        "training": {
            "data": [
                {
                    "dataset": "appa-real", "label": "real", "licence": "research use only",
                    "page": "http://example.org", "part": "train", "n": 22, "split_sha256": "0" * 64,
                }
            ],
            "start": "random", "teacher": ["large/best.pth"], "train_median": 34.0,
            "recipe": Recipe(size=spec.size).to_dict(), "epoch": 1,
            **environment(),
        },
        "metrics": [
            {
                "dataset": "appa-real", "label": "real", "part": "selection", "n": 2, "mae": 9.5, "rmse": 11.0,
                "cs5_percent": 30.0, "bias": -1.0, "detection_rate_percent": 100.0, "mae_found": 9.5,
                "mae_of_train_median": 12.0,
            }
        ],
    }  # fmt: skip


def checkpoint_of(network, spec):
    """The same as a checkpoint."""
    from agetrain.network.checkpoint import Checkpoint

    return Checkpoint.from_values(checkpoint_values(network, spec), "of a test", trust_code=network.trust_code)


class Exported:
    """A checkpoint, the model that ``python -m ageexport`` made of it, and what both should answer.

    Attributes:
        network: as it was before anything was saved.
        crops: of all portraits, uint8 RGB.
        checkpoint, model: their files.
    """

    def __init__(self, head, proof, folder, *, with_pack):
        from ageexport.evidence import from_own
        from ageinfer.crop.spec import CropSpec
        from agetrain.crops import cache
        from agetrain.network.checkpoint import Checkpoint

        spec = CropSpec(size=64)
        samples = from_own(proof).samples
        self.crops = np.array(cache.open_crops(samples, spec, folder / "cache", "crops").crops)[:30]
        self.checkpoint, self.model = folder / "best.pth", folder / f"{head}.onnx"
        if not self.model.exists():  # another process may have made it, in the same folder
            self._export(head, proof, spec, with_pack=with_pack)
        self.network = Checkpoint.load(self.checkpoint).network()

    def _export(self, head, proof, spec, *, with_pack):
        from ageexport.__main__ import main

        checkpoint_of(lively_network(head, self.crops), spec).save(self.checkpoint)
        data = ["--data", str(proof)]
        if with_pack:
            write_pack(self.checkpoint.parent, proof, spec)
            data = []
        assert main([str(self.checkpoint), "-o", str(self.model), *data]) == 0


def write_pack(folder, proof, spec, count=None):
    """Writes ``parity.npz`` of the first pictures of a folder with labels, as a training run would."""
    from ageexport.evidence import from_own
    from agetrain.crops import cache
    from agetrain.crops.parity_pack import ParityPictures, write_parity_pack

    known = from_own(proof)
    samples = known.samples[:count]
    crops = cache.open_crops(samples, spec, folder / "cache", "crops")
    write_parity_pack(
        folder / "parity.npz", ParityPictures(tuple(samples), tuple(known.calibration)), crops, "real", seed=0
    )


def tampered(data, change_graph=None, **changes):
    """A model with another graph or other metadata, whose hashes fit again; its other properties stay."""
    import onnx

    from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, graph_sha256, metadata_properties

    properties = metadata_properties(data)
    metadata = ModelMetadata.from_json(properties[METADATA_KEY])
    model = onnx.load_from_string(data)
    if change_graph:
        change_graph(model.graph)
    metadata = dataclasses.replace(metadata, graph_sha256=graph_sha256(model.SerializeToString()), **changes)
    onnx.helper.set_model_props(model, {**properties, METADATA_KEY: metadata.to_json()})
    return model.SerializeToString()


def change_initializer(name, change):
    """For `tampered`: another value of a constant or a weight."""
    from onnx import numpy_helper

    def apply(graph):
        [tensor] = [t for t in graph.initializer if t.name == name]
        array = numpy_helper.to_array(tensor)
        changed = np.ascontiguousarray(change(array.copy())).astype(array.dtype)
        assert changed.shape == array.shape
        tensor.CopyFrom(numpy_helper.from_array(changed, name))

    return apply
