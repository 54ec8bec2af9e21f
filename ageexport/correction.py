"""What quantisation takes from a network, given back: the mean of every channel, and then the last layer.

Rounding shifts the mean of each channel of each layer, and the layers after it add the shifts up. Each layer's bias can
take its own shift back at no cost (Nagel et al., "Data-Free Quantization through Weight Equalization and Bias
Correction", ICCV 2019, section 4.2, here with real faces). It halves the difference to fp32 of a MobileNet.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from ageexport.graph import last_layer, outputs
from ageinfer.types import Image

_WITH_BIAS = ("Conv", "Gemm")
_RIDGE = 1.0  # of the mean variance of the features; from 0.3 to 3 the answers are as near to fp32


def restore_means(model: onnx.ModelProto, fp32: onnx.ModelProto, faces: Image) -> None:
    """Gives the channels of every quantised layer the means back that they have in fp32, first layer first.

    Args:
        model: quantised, in QDQ form; its nodes have the names that they have in ``fp32``. Its biases are changed.
        fp32: the graph that it was made from.
        faces: uint8 ``[n, side, side, 3]``, RGB, over which the means are taken.
    """
    dequantised = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}
    layers = [n for n in model.graph.node if n.op_type in _WITH_BIAS and len(n.input) > 2 and n.input[2] in dequantised]
    if not layers:
        return
    before = {n.name: n for n in fp32.graph.node}
    wanted = _means(fp32, [before[layer.name] for layer in layers], faces)
    constants = {t.name: t for t in model.graph.initializer}
    for layer, mean in zip(layers, wanted, strict=True):
        [now] = _means(model, [layer], faces)
        name, scale = dequantised[layer.input[2]].input[:2]
        bias = numpy_helper.to_array(constants[name])
        moved = bias + np.round((mean - now) / numpy_helper.to_array(constants[scale]))
        constants[name].CopyFrom(numpy_helper.from_array(moved.astype(bias.dtype), name))


def fit_last_layer(model: onnx.ModelProto, fp32: onnx.ModelProto, faces: Image) -> None:
    """Fits the last layer, which stays in float, to the features that quantisation leaves of those of fp32.

    Their mean error comes off in any case, and of the rest what ridge regression foretells from the features
    themselves. For the arguments see `restore_means`.
    """
    features, given = _features(fp32, faces), _features(model, faces)
    centred, lost = given - given.mean(axis=0), features - given
    width = centred.shape[1]
    gram = centred.T @ centred
    ridge = _RIDGE * np.trace(gram) / width
    foretold = np.linalg.solve(gram + (ridge + 1e-9) * np.eye(width), centred.T @ (lost - lost.mean(axis=0)))
    constants = {t.name: t for t in model.graph.initializer}
    names = last_layer(fp32).input[1:3]
    weight, bias = (numpy_helper.to_array(constants[name]).astype(np.float64) for name in names)
    fitted = weight + weight @ foretold.T
    shifted = bias + weight @ features.mean(axis=0) - fitted @ given.mean(axis=0)
    for name, values in zip(names, (fitted, shifted), strict=True):
        constants[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def _means(model: onnx.ModelProto, layers: Sequence[onnx.NodeProto], faces: Image) -> list[np.ndarray]:
    """What each channel of some layers has in the mean over faces and places, float64 ``[channels]`` a layer."""
    wanted = {layer.output[0] for layer in layers}
    needed, kept = set(wanted), []
    for node in reversed(model.graph.node):  # in the order of computation, so what a node needs comes before it
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    for field in ("node", "output", "initializer", "value_info"):
        part.graph.ClearField(field)
    part.graph.node.extend(reversed(kept))
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in needed)
    names = []
    for layer in layers:
        names.append(layer.output[0])
        if layer.op_type == "Conv":
            names[-1] = f"{layer.output[0]}.mean"
            part.graph.node.append(onnx.helper.make_node("GlobalAveragePool", [layer.output[0]], [names[-1]]))
        part.graph.output.append(onnx.helper.make_tensor_value_info(names[-1], onnx.TensorProto.FLOAT, None))
    return [given.reshape(len(given), -1).mean(axis=0, dtype=np.float64) for given in outputs(part, faces, names)]


def _features(model: onnx.ModelProto, faces: Image) -> np.ndarray:
    """What the last layer is given, ``[n, width]``."""
    name = last_layer(model).input[0]
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    [features] = outputs(opened, faces, [name])
    return features
