"""The proof of ageexport: it must notice whatever makes a model file answer something else than its checkpoint."""

import dataclasses

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from portraits import change_initializer, tampered

from ageexport import evidence
from ageexport.errors import AgeExportError, ParityError
from ageexport.parity import prove
from ageinfer.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from agetrain import checkpoint
from agetrain.errors import AgeTrainError


@pytest.fixture(scope="module")
def good(exported_distribution):
    """The bytes of a model that was proved, and the values of its checkpoint."""
    return exported_distribution.model.read_bytes(), checkpoint.load(exported_distribution.checkpoint)


@pytest.fixture(scope="module")
def faces(portraits):
    return evidence.from_folder(portraits)


def scale_output(name, factor):
    """Another value under the same name: the node that gave it gives it to a multiplication first."""

    def apply(graph):
        [node] = [n for n in graph.node if name in n.output]
        node.output[list(node.output).index(name)] = "original"
        for other in graph.node:
            for i, given in enumerate(other.input):
                if given == name:
                    other.input[i] = "original"
        graph.initializer.append(numpy_helper.from_array(np.float32(factor), "factor"))
        graph.node.append(onnx.helper.make_node("Mul", ["original", "factor"], [name]))

    return apply


def one_weight(array):
    array.flat[5] += 0.5
    return array


FIRST = "network.backbone.features.0.0.weight"
GRAPHS = {
    "one weight": change_initializer(FIRST, one_weight),
    "red and blue swapped": change_initializer(FIRST, lambda w: w[:, ::-1]),
    "another mean": change_initializer("network.mean", lambda m: m + 2),
    "mean in BGR": change_initializer("network.mean", lambda m: m[:, ::-1]),
    "a scale of 0 to 1": change_initializer("network.std", lambda s: s / 255),
    "age bins from 1": change_initializer("network.ages", lambda a: a + 1),
    "not a number": change_initializer("network.head.1.bias", lambda b: b * np.nan),
    "age a little off": scale_output("age", 1.0002),
    "deviation halved": scale_output("age_std", 0.5),
    "probabilities halved": scale_output("age_probs", 0.5),
}


def test_the_untouched_model_is_proved(good, faces):
    parity = prove(*good, faces)
    assert (parity.pictures, parity.faces) == (30, 30)
    assert parity.largest_years < 1e-3
    # The helper that tampers changes nothing by itself.
    assert prove(tampered(good[0]), good[1], faces).largest_years == parity.largest_years


@pytest.mark.parametrize("change", GRAPHS)
def test_a_changed_graph_is_caught(good, faces, change):
    with pytest.raises(ParityError, match=r"parity: .* nothing was written"):
        prove(tampered(good[0], GRAPHS[change]), good[1], faces)


def test_a_changed_weight_without_a_new_hash_is_caught_too(good, faces):
    data = bytearray(good[0])
    data[data.index(FIRST.encode()) + 200] ^= 0x40
    with pytest.raises(ParityError):
        prove(bytes(data), good[1], faces)


@pytest.mark.parametrize("changes", [{"margin": 0.3}, {"fill": (0, 0, 0)}, {"size": 72}])
def test_another_crop_than_in_training_is_caught(good, faces, changes):
    crop = ModelMetadata.from_json(metadata_properties(good[0])[METADATA_KEY]).crop
    model = tampered(good[0], crop=dataclasses.replace(crop, **changes))
    if "fill" in changes:
        # Only where a crop reaches beyond its picture does the fill matter.
        faces = evidence.Evidence(tuple(cut_close(p) for p in faces.pictures), "cut close")
    with pytest.raises(ParityError):
        prove(model, good[1], faces)


def cut_close(picture):
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".png", image[: int(image.shape[0] * 0.8), int(image.shape[1] * 0.2) :])[1].tobytes()


def test_an_offset_of_the_labels_must_not_be_forgotten(good, faces):
    """By docs/checkpoint.md, `label_offset` is to be added to what the network answers."""
    with pytest.raises((AgeExportError, AgeTrainError)):
        prove(good[0], {**good[1], "label_offset": 10.0}, faces)


@pytest.mark.parametrize("model", [b"", b"no model at all", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_model_is_no_proof(good, faces, model):
    with pytest.raises(ParityError):
        prove(model, good[1], faces)
