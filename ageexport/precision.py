"""Smaller forms of the deployed graph: int8 for the CPU, fp16 for the GPU.

int8 is static quantisation in QDQ form by ONNX Runtime's own tools: weights per channel, activations unsigned, ranges
from real faces. Weights use 7 of their 8 bits: on x86 CPUs without VNNI the products of two neighbours are added in 16
bits, which full 8-bit weights overflow, so that such a file is more than a year off there and well elsewhere
(``benchmarks/export.py`` shows it).
"""

import copy
import hashlib
import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ageexport.correction import fit_last_layer, restore_means
from ageexport.errors import ExportError, ParityError
from ageexport.graph import ages_of, constant_shapes, has_weights, last_layer, multiply_adds, strip
from ageinfer.types import Image

INT8_SHARE = 0.9  # of the multiply-adds, for a file to be called int8
INT8_SIZE = 0.35  # of the fp32 file's, for the same
MIXED_SHARE = 0.5  # below that, quantising is not worth a file
WEIGHT_BITS = 7
PERCENTILE = 99.99
METHODS = (f"percentile {PERCENTILE}", "minmax")
COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24)  # of leading layers in float that are tried
_AS_NEAR = 0.05
_BATCH = 16
_ALWAYS_FLOAT = {("Resize", 1), ("Resize", 2)}  # inputs that no operator takes in half precision
_QUANTISED = ("Conv", "Gemm", "MatMul", "Add", "MaxPool", "Relu", "Clip")
_FEWEST_WEIGHTS = 1000  # of a MatMul, to be a layer: not the pooling of a VGG16, and no product of two activations

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """A graph of lower precision.

    Attributes:
        model: without metadata.
        precision: ``int8``, ``mixed`` or ``fp16``.
        made: how, as JSON values for the model file.
    """

    model: onnx.ModelProto
    precision: str
    made: dict[str, Any]


def backbone_nodes(model: onnx.ModelProto) -> list[str]:
    """Lists the nodes between the normalised faces and the last layer, which may be quantised.

    The normalisation and the decoding, where a few bits are years, stay in float, and so does the last layer.
    """
    constants = constant_shapes(model)
    first = next(node for node in model.graph.node if has_weights(node, constants))
    wanted = _before(model, last_layer(model).input[0]) - _before(model, first.input[0])
    return [node.name for node in model.graph.node if node.name in wanted]


def _before(model: onnx.ModelProto, tensor: str) -> set[str]:
    """The names of all nodes that a tensor is computed by."""
    maker = {output: node for node in model.graph.node for output in node.output}
    found: set[str] = set()
    waiting = [tensor]
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return found


def int8_attempts(model: onnx.ModelProto, faces: Image) -> Iterator[Reduced]:
    """Yields quantised forms, each more careful than the one before; the caller stops at one that is good enough.

    The activations of the first layers, few channels that everything else is built from, are what quantisation harms
    most (``benchmarks/export.py`` measures it layer by layer). So the leading layers stay in float, as many as bring
    the answers nearer to fp32 and as `INT8_SHARE` and `INT8_SIZE` leave room for. Where none needs to, a second form
    still keeps the first: of three channels, it may be slower in 8 bits than in float. The last form, ``mixed``, goes
    on to `MIXED_SHARE`. Ranges come from the better of two methods. All this is decided on the faces given here.

    Args:
        model: in fp32, without metadata.
        faces: uint8 ``[n, side, side, 3]``, RGB, not among those on which the result is proved.

    Raises:
        ExportError: ONNX Runtime's tools cannot quantise it.
    """
    quantiser = Quantiser(model, faces)
    made: list[dict[str, Any]] = []
    for share, size, fewest in ((INT8_SHARE, INT8_SIZE, 0), (INT8_SHARE, INT8_SIZE, 1), (MIXED_SHARE, 1.0, 0)):
        if fewest and made[0]["kept_in_float"]:
            continue
        form = quantiser.nearest(share, size, fewest)
        if form is not None and form.made not in made:
            made.append(form.made)
            yield form


def int8_again(model: onnx.ModelProto, faces: Image, ranges: str, in_float: tuple[str, ...]) -> Reduced:
    """Makes the quantised form that a model file's metadata describe.

    Args:
        model: as for `int8_attempts`.
        faces: as for `int8_attempts`.
        ranges: how the file says that they were found.
        in_float: what it says was kept in float.

    Raises:
        ParityError: it makes no such form.
    """
    if ranges not in METHODS:
        raise ParityError(f"the file says ranges by {ranges!r}, and ageexport finds them by {' or '.join(METHODS)}")
    quantiser = Quantiser(model, faces)
    layers = sum(name in quantiser.costs for name in quantiser.nodes)
    if in_float not in [quantiser.leading(count) for count in range(layers)]:
        raise ParityError("the layers that the file says were kept in float are not the leading ones")
    return quantiser.corrected(ranges, in_float)


def faces_sha256(faces: Image) -> str:
    """Returns the SHA-256 over the pixels of faces."""
    return hashlib.sha256(faces.tobytes()).hexdigest()


class Quantiser:
    """ONNX Runtime's calibration and quantisation of one model, each calibration done once."""

    def __init__(self, model: onnx.ModelProto, faces: Image) -> None:
        self.model = onnx.shape_inference.infer_shapes(model)
        self.faces = faces
        self.reference = ages_of(model, faces)
        self.costs = multiply_adds(model)
        self.size = model.ByteSize()
        self.nodes = backbone_nodes(model)
        shapes = constant_shapes(model)
        # Everything outside of the backbone, and products that are no layers.
        self.in_float = {
            node.name
            for node in model.graph.node
            if node.name not in self.nodes
            or (node.op_type == "MatMul" and np.prod(shapes.get(node.input[1], [0])) < _FEWEST_WEIGHTS)
        }
        self.ranges: dict[str, Any] = {}
        self.tried: dict[tuple[str, int], tuple[float, dict[str, Any]]] = {}

    def leading(self, count: int) -> tuple[str, ...]:
        """Returns all nodes before the layer that has ``count`` layers with weights before it."""
        layers = [i for i, name in enumerate(self.nodes) if name in self.costs]
        return tuple(self.nodes[: layers[count]]) if count else ()

    def nearest(self, share: float, size: float, fewest: int = 0) -> Reduced | None:
        """Finds the form that answers nearest to fp32, of those within a budget.

        Of forms that are as near within a few percent, the one with the fewest layers in float. That everything is
        quantised is always within the budget. They are compared as they are before the correction, which takes much
        longer than quantising, and the one that is found is corrected.

        Args:
            share: of the multiply-adds that must be quantised.
            size: of the fp32 graph's that it may have.
            fewest: leading layers that stay in float in any case.

        Returns:
            The form; None where so many layers in float are not within the budget.
        """
        within: dict[tuple[str, int], float] = {}
        for method in METHODS:
            for count in (c for c in COUNTS if c < len(self.costs)):
                distance, made = self.measured(method, count)
                if count and (made["quantised_share"] < share or made["size_share"] > size):
                    break
                if count >= fewest:
                    within[method, count] = distance
        if not within:
            return None
        best = min(within.values())
        near = [each for each in within if within[each] <= best * (1 + _AS_NEAR)]
        method, count = min(near, key=lambda each: each[1])
        chosen = self.corrected(method, self.leading(count))
        log.info(
            "%s: ranges by %s, %d leading layers in float, mean difference on calibration faces %.2f years",
            chosen.precision, method, count, self.distance(chosen),
        )  # fmt: skip
        return chosen

    def measured(self, method: str, count: int) -> tuple[float, dict[str, Any]]:
        """Returns the distance of a form and how it is made; a form is measured only once."""
        if (method, count) not in self.tried:
            candidate = self.quantise(method, self.leading(count))
            self.tried[method, count] = self.distance(candidate), candidate.made
        return self.tried[method, count]

    def distance(self, candidate: Reduced) -> float:
        """Returns the mean absolute difference to fp32 on calibration faces, in years."""
        return float(np.abs(ages_of(candidate.model, self.faces) - self.reference).mean())

    def corrected(self, method: str, in_float: tuple[str, ...], weight_bits: int = WEIGHT_BITS) -> Reduced:
        """Quantises, and gives back what that took; see `ageexport.correction`."""
        made = self.quantise(method, in_float, weight_bits)
        restore_means(made.model, self.model, self.faces)
        fit_last_layer(made.model, self.model, self.faces)
        return made

    def quantise(self, method: str, in_float: tuple[str, ...], weight_bits: int = WEIGHT_BITS) -> Reduced:
        """Quantises the backbone except some nodes."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        if method not in self.ranges:
            self.ranges[method] = self.calibrated(method)
        quantiser = QDQQuantizer(
            copy.deepcopy(self.model),
            per_channel=True,
            reduce_range=weight_bits == 7,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self.ranges[method],
            nodes_to_quantize=[],
            nodes_to_exclude=[*self.in_float, *in_float],
            op_types_to_quantize=list(_QUANTISED),
            extra_options={},
        )
        try:
            quantiser.quantize_model()
        except (ValueError, KeyError, RuntimeError, AttributeError) as error:
            raise ExportError(f"ONNX Runtime cannot quantise this network: {error}") from error
        quantiser.model.topological_sort()
        model: onnx.ModelProto = quantiser.model.model
        strip(model)
        del model.metadata_props[:]
        share = quantised_share(model, self.costs)
        size_share = model.ByteSize() / self.size
        named = "int8" if share >= INT8_SHARE and size_share <= INT8_SIZE else "mixed"
        made = {
            "quantised_share": round(share, 4),
            "size_share": round(size_share, 4),
            "weight_bits": weight_bits,
            "activation_bits": 8,
            "ranges": method,
            "calibration_faces": len(self.faces),
            "calibration_sha256": faces_sha256(self.faces),
            "kept_in_float": list(in_float),
        }
        return Reduced(model, named, made)

    def calibrated(self, method: str) -> Any:
        """Finds the range of every activation over the faces."""
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        percentile = method != "minmax"
        # The tools report their progress on standard output.
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            path = Path(folder) / "model.onnx"
            onnx.save_model(self.model, path)
            calibrator = create_calibrator(
                path,
                list(_QUANTISED),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CalibrationMethod.Percentile if percentile else CalibrationMethod.MinMax,
                extra_options={"percentile": PERCENTILE} if percentile else {},
            )
            # Histograms are built from all outputs of a call, so they are given a few faces at a time.
            for start in range(0, len(self.faces), _BATCH):
                calibrator.collect_data(_Faces(self.faces[start : start + _BATCH]))
            return calibrator.compute_data()


class _Faces:
    """A batch, as ONNX Runtime's calibrators want to be given it."""

    def __init__(self, faces: Image) -> None:
        self._batches = iter([{"face": faces}])

    def get_next(self) -> dict[str, Image] | None:
        return next(self._batches, None)


def quantised_share(model: onnx.ModelProto, costs: dict[str, int]) -> float:
    """Returns the share of the multiply-adds that take quantised faces and quantised weights.

    Args:
        model: quantised; its nodes have the names that they had before.
        costs: multiply-adds by node name, see `ageexport.graph.multiply_adds`.
    """
    dequantised = {out for n in model.graph.node if n.op_type == "DequantizeLinear" for out in n.output}
    inputs = {n.name: n.input for n in model.graph.node}
    quantised = sum(cost for name, cost in costs.items() if set(inputs[name][:2]) <= dequantised)
    return quantised / sum(costs.values())


def fp16(model: onnx.ModelProto) -> Reduced:
    """Makes the fp16 form: backbone and last layer in half precision, the rest and the outputs in fp32.

    A mean over 101 ages in half precision would be a tenth of a year off by rounding alone.

    Args:
        model: in fp32, without metadata.
    """
    converted = copy.deepcopy(model)
    graph = converted.graph
    last = last_layer(converted)
    names = {*backbone_nodes(model), last.name}
    half = [node for node in graph.node if node.name in names]
    made_in_half = {output for node in half for output in node.output}
    constants = {t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    floats = {v.name for v in inferred if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT} | set(constants)
    in_half: dict[str, str] = {}
    for node in half:
        for i, given in enumerate(node.input):
            if given not in floats or given in made_in_half or (node.op_type, i) in _ALWAYS_FLOAT:
                continue
            node.input[i] = f"{given}.fp16"
            if given in in_half:
                continue
            in_half[given] = node.input[i]
            if given in constants:
                values = onnx.numpy_helper.to_array(constants[given])
                graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float16), node.input[i]))
            else:
                cast = onnx.helper.make_node(
                    "Cast", [given], [node.input[i]], node.input[i], to=onnx.TensorProto.FLOAT16
                )
                graph.node.insert(list(graph.node).index(node), cast)
        _say_half(node)
    answer = last.output[0]
    last.output[0] = f"{answer}.fp16"
    cast = onnx.helper.make_node("Cast", [last.output[0]], [answer], f"{answer}.fp32", to=onnx.TensorProto.FLOAT)
    graph.node.insert(list(graph.node).index(last) + 1, cast)
    used = {given for node in graph.node for given in node.input}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
    return Reduced(converted, "fp16", {})


def _say_half(node: onnx.NodeProto) -> None:
    """Lets a node that says itself what it makes make half precision instead of fp32."""
    if node.op_type == "ConstantOfShape" and not node.attribute:  # zeros in fp32, where it says nothing
        zero = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
        node.attribute.append(onnx.helper.make_attribute("value", zero))
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == onnx.TensorProto.FLOAT:
            attribute.i = onnx.TensorProto.FLOAT16
        elif attribute.name == "value" and attribute.t.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(attribute.t)
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), attribute.t.name))
