"""The deployed graph: raw face pixels in, years out, everything between them inside one ONNX file."""

import io
import platform
from collections.abc import Container, Sequence
from contextlib import redirect_stdout
from importlib import metadata as packages
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ageexport.errors import ExportError, UsageError
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, graph_sha256
from ageinfer.engine.sessions import open_session
from ageinfer.types import Image
from agetrain.network import mobilenet_face
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import AGE_RANGE, Checkpoint
from agetrain.network.names import BackboneName

OPSET = 18
OPSETS = range(18, 22)
# Where the exporter records source files, stack traces and module names of the machine that it ran on.
_TRACE_FIELDS = ("doc_string", "metadata_props")
_BATCH = 16


class DeployedNet(nn.Module):
    """An `AgeNet` that takes faces as the runtime has them.

    Args:
        network: in evaluation mode.
        label_offset: years to add to its answer, for a network that was trained on labels counted from another age.
        side: of the faces in pixels.
    """

    def __init__(self, network: AgeNet, label_offset: float, side: int) -> None:
        super().__init__()
        self.network = network
        self.label_offset = label_offset
        self.network.backbone = with_plain_pooling(network, side)

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> "DeployedNet":
        """Makes the network of a checkpoint, in evaluation mode."""
        return cls(checkpoint.network(), checkpoint.label_offset, checkpoint.crop.size).eval()

    def forward(self, face: Tensor) -> tuple[Tensor, ...]:
        """Decodes a batch of faces.

        Args:
            face: uint8 ``[n, side, side, 3]``, RGB.

        Returns:
            age ``[n]``, its standard deviation ``[n]``, and with a distribution head the probabilities
            ``[n, 101]``; float32, years.
        """
        with _PlainPooling():
            raw = self.network(face.permute(0, 3, 1, 2).float())
        age, std = self.network.decode(raw)
        if self.label_offset:
            age = age + self.label_offset
        if self.network.head_name == "linear":
            return age, std
        return age, std, self.network.probabilities(raw)


class _Mean(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3))


class _Resample(nn.Module):
    """Adaptive average pooling as what it is, a product with a constant matrix from each side."""

    weights: Tensor

    def __init__(self, side: int, of: int) -> None:
        super().__init__()
        self.register_buffer("weights", _pooling(side, of))

    def forward(self, features: Tensor) -> Tensor:
        return self.weights @ features @ self.weights.T


def _pooling(side: int, of: int) -> Tensor:
    """The matrix ``[of, side]`` that pools adaptively."""
    rows = []
    for i in range(of):
        first, end = i * side // of, -(-(i + 1) * side // of)
        rows.append([1 / (end - first) if first <= j < end else 0.0 for j in range(side)])
    return torch.tensor(rows)


class _PlainPooling(TorchFunctionMode):
    """Pools adaptively by one or two plain operators that every runtime has, wherever a network calls for it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is nn.functional.adaptive_avg_pool2d:
            return _pooled(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _pooled(input: Tensor, output_size: Any) -> Tensor:
    """What `torch.nn.functional.adaptive_avg_pool2d` gives."""
    sides = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    if tuple(sides) == (1, 1):
        return input.mean(dim=(2, 3), keepdim=True)
    for axis, of in ((2, sides[0]), (3, sides[1])):
        if of is not None and of != input.shape[axis]:
            weights = _pooling(input.shape[axis], of)
            input = weights @ input if axis == 2 else input @ weights.T
    return input


class _Features(nn.Module):
    """MobileNetV2 without its classifier, whose forward pools by a function that exports as a dozen nodes."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.pool = _Mean()

    def forward(self, faces: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.features(faces))
        return pooled


def with_plain_pooling(network: AgeNet, side: int) -> nn.Module:
    """Replaces the poolings of agetrain's own backbones by one or two plain operators that every runtime has.

    Those of other networks are replaced where they are called, see `DeployedNet`.
    """
    backbone = network.backbone
    if network.backbone_name == mobilenet_face.NAME or BackboneName.parse(network.backbone_name).source != "own":
        return backbone  # the pooling of the first is a mean already
    if network.backbone_name == "mobilenet_v2":
        return _Features(backbone.get_submodule("features"))
    pooled: int = backbone.avgpool.output_size[0]  # type: ignore[index, union-attr, assignment]
    reduced = side
    for _ in range(5):  # both networks halve the side five times; VGG16 rounds down, ResNet34 up
        reduced = reduced // 2 if network.backbone_name == "vgg16" else -(-reduced // 2)
    if network.backbone_name == "resnet34":
        backbone.avgpool = _Mean()
    elif reduced == pooled:
        backbone.avgpool = nn.Identity()
    else:
        backbone.avgpool = _Resample(reduced, pooled)
    return backbone


def output_names(head: str) -> list[str]:
    """Returns the names of a model file's outputs, in the order in which `DeployedNet` gives them."""
    return ["age", "age_std"] + (["age_probs"] if head == "distribution" else [])


def convert(checkpoint: Checkpoint, opset: int = OPSET) -> onnx.ModelProto:
    """Converts the network of a checkpoint; the result carries no metadata yet, see `sealed`.

    Args:
        checkpoint: whose network is converted.
        opset: version of the standard operators, one of `OPSETS`.

    Raises:
        UsageError: the opset is not supported.
        ExportError: torch cannot convert the network.
    """
    if opset not in OPSETS:
        raise UsageError(f"--opset {opset}: use {OPSETS.start} to {OPSETS.stop - 1}")
    network = DeployedNet.of_checkpoint(checkpoint)
    side = checkpoint.crop.size
    try:
        with redirect_stdout(io.StringIO()):  # the exporter reports its progress there
            program = torch.onnx.export(
                network,
                (torch.zeros(2, side, side, 3, dtype=torch.uint8),),
                input_names=["face"],
                output_names=output_names(checkpoint.head),
                dynamic_shapes={"face": {0: torch.export.Dim("n")}},
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"torch cannot convert {checkpoint.backbone}: {str(error).splitlines()[0]}") from error
    if program is None:
        raise ExportError("torch gave no ONNX program; use torch 2.11 or newer")
    model = program.model_proto
    strip(model)
    return model


def sealed(
    model: onnx.ModelProto, checkpoint: Checkpoint, name: str, checkpoint_sha256: str, precision: str = "fp32",
    made: dict[str, Any] | None = None,
) -> bytes:  # fmt: skip
    """Makes a model file of a graph, with the metadata that ``docs/reference/model-file.md`` asks for.

    Args:
        model: from `convert`, or a quantised form of it.
        checkpoint: that it is made of.
        name: of the model.
        checkpoint_sha256: of the checkpoint's file, for the record.
        precision: see `ageinfer.engine.modelfile.ModelMetadata`.
        made: how this precision was made.
    """
    training = {
        **checkpoint.training, "backbone": checkpoint.backbone, "head": checkpoint.head,
        "checkpoint_sha256": checkpoint_sha256, **({"mirrored": True} if checkpoint.mirrored else {}),
    }  # fmt: skip
    standard = next(o.version for o in model.opset_import if o.domain == "")
    metadata = ModelMetadata(
        name=name,
        crop=checkpoint.crop,
        label=checkpoint.label,
        age_range=AGE_RANGE,
        decode=checkpoint.decode,
        age_std_kind=checkpoint.age_std_kind,
        graph_sha256=graph_sha256(model.SerializeToString()),
        precision=precision,
        export={"opset": standard, **versions(), **(made or {})},
        training=training,
        metrics=list(checkpoint.metrics),
    )
    onnx.helper.set_model_props(
        model,
        {
            METADATA_KEY: metadata.to_json(),
            "model_author": "ageinfer project",
            "model_license": "weights learned from "
            + ", ".join(f"{data['dataset']} ({data['licence']})" for data in training["data"])
            + (f"; the weights that it started from: {training['start_terms']}" if training.get("start_terms") else ""),
        },
    )
    return model.SerializeToString()


def without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the graph alone, as `convert` gave it."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    return bare


def last_layer(model: onnx.ModelProto) -> onnx.NodeProto:
    """Returns the node that gives the raw answer: the last Gemm of the graph."""
    return [node for node in model.graph.node if node.op_type == "Gemm"][-1]


def outputs(model: onnx.ModelProto | bytes, faces: Image, names: Sequence[str]) -> list[np.ndarray]:
    """Runs a graph on faces, uint8 ``[n, side, side, 3]``, RGB, on one CPU thread, and returns some of its outputs."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = open_session(data, "the exported graph", "cpu", threads=1)
    batches = [session.run(list(names), {"face": faces[i : i + _BATCH]}) for i in range(0, len(faces), _BATCH)]
    return [np.concatenate(pieces) for pieces in zip(*batches, strict=True)]


def ages_of(model: onnx.ModelProto | bytes, faces: Image) -> np.ndarray:
    """The ages that a graph answers, float32 ``[n]``; for the arguments see `outputs`."""
    [ages] = outputs(model, faces, ["age"])
    return ages


def versions() -> dict[str, str]:
    """Returns the versions of the packages that turn a checkpoint into a model file."""
    found = {name: packages.version(name) for name in ("torch", "onnx", "onnxscript")}
    return {**found, "onnxruntime": onnxruntime_version(), "python": platform.python_version()}


def onnxruntime_version() -> str:
    """Returns the version of whichever package of ONNX Runtime is installed."""
    import onnxruntime

    return str(onnxruntime.__version__)


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Counts the multiply-adds for one face of every node with constant weights, by node name.

    Raises:
        ExportError: the shapes in the graph cannot be inferred.
    """
    one_face = onnx.ModelProto()
    one_face.CopyFrom(model)
    one_face.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for output in one_face.graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(one_face, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*inferred.value_info, *inferred.output)
    }
    weights = constant_shapes(model)
    images = max(1, (shapes.get(last_layer(model).output[0]) or [1])[0])  # two where the mirror image is looked at, too
    counts = {}
    for node in model.graph.node:
        if not has_weights(node, weights):
            continue
        weight, output = weights[node.input[1]], shapes.get(node.output[0])
        if not output:
            raise ExportError(f"the shape of {node.output[0]} cannot be inferred")
        # Output channels are among the weight's sides.
        channels = output[1] if node.op_type == "Conv" else output[-1]
        counts[node.name] = int(np.prod(weight)) * int(np.prod(output)) // channels // images
    return counts


def has_weights(node: onnx.NodeProto, constants: Container[str]) -> bool:
    """Says whether a node multiplies by constants: a layer of a network."""
    return node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants


def constant_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Returns the shapes of all constants, those behind a DequantizeLinear too."""
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    return shapes


def strip(model: onnx.ModelProto) -> None:
    """Removes what the exporter noted about this machine and its source code; no result depends on it."""
    graph = model.graph
    for message in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        for field in _TRACE_FIELDS:
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    del graph.value_info[:]  # shapes of inner tensors, which every runtime infers itself
    graph.name = "age"
    model.producer_name, model.producer_version = "ageexport", ""
