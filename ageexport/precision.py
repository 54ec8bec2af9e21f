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
from ageexport.graph import ages_of, last_layer, multiply_adds, strip
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
_QUANTISED = ("Conv", "Gemm", "Add", "MaxPool", "Relu", "Clip")

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
    graph = model.graph
    maker = {output: node for node in graph.node for output in node.output}
    first = next(node for node in graph.node if node.op_type == "Conv")
    nodes: list[str] = []
    waiting = [last_layer(model).input[0]]
    seen: set[str] = set()
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        nodes.append(node.name)
        if node.name != first.name:
            waiting += node.input
    return nodes


def int8_attempts(model: onnx.ModelProto, faces: Image) -> Iterator[Reduced]:
    """Yields quantised forms, each more careful than the one before; the caller stops at one that is good enough.

    The activations of the first layers, few channels that everything else is built from, are what quantisation harms
    most (``benchmarks/export.py`` measures it layer by layer). So the leading layers stay in float, as many as bring
    the answers nearer to fp32 and as `INT8_SHARE` and `INT8_SIZE` leave room for; the second form, ``mixed``, goes on
    to `MIXED_SHARE`. Ranges come from the better of two methods. All this is decided on the faces given here.

    Args:
        model: in fp32, without metadata.
        faces: uint8 ``[n, side, side, 3]``, RGB, not among those on which the result is proved.

    Raises:
        ExportError: ONNX Runtime's tools cannot quantise it.
    """
    quantiser = Quantiser(model, faces)
    int8 = quantiser.nearest(INT8_SHARE, INT8_SIZE)
    yield int8
    mixed = quantiser.nearest(MIXED_SHARE, 1.0)
    if mixed.made != int8.made:
        yield mixed


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
        backbone = set(backbone_nodes(model))
        self.nodes = [node.name for node in model.graph.node if node.name in backbone]
        self.ranges: dict[str, Any] = {}
        self.tried: dict[tuple[str, int], tuple[float, dict[str, Any]]] = {}

    def leading(self, count: int) -> tuple[str, ...]:
        """Returns all nodes before the layer that has ``count`` layers with weights before it."""
        layers = [i for i, name in enumerate(self.nodes) if name in self.costs]
        return tuple(self.nodes[: layers[count]]) if count else ()

    def nearest(self, share: float, size: float) -> Reduced:
        """Finds the form that answers nearest to fp32, of those within a budget.

        Of forms that are as near within a few percent, the one with the fewest layers in float. If nothing is within
        the budget, everything is quantised. They are compared as they are before the correction, which takes much
        longer than quantising, and the one that is found is corrected.

        Args:
            share: of the multiply-adds that must be quantised.
            size: of the fp32 graph's that it may have.
        """
        within: dict[tuple[str, int], float] = {}
        for method in METHODS:
            for count in (c for c in COUNTS if c < len(self.costs)):
                distance, made = self.measured(method, count)
                if count and (made["quantised_share"] < share or made["size_share"] > size):
                    break
                within[method, count] = distance
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
        everything = {n.name for n in self.model.graph.node}
        quantiser = QDQQuantizer(
            copy.deepcopy(self.model),
            per_channel=True,
            reduce_range=weight_bits == 7,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self.ranges[method],
            nodes_to_quantize=[],
            nodes_to_exclude=[*(everything - set(self.nodes)), *in_float],
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
    in_half: dict[str, str] = {}
    for node in half:
        for i, given in enumerate(node.input):
            if given and given not in made_in_half and (given in constants or given == half[0].input[0]):
                node.input[i] = in_half.setdefault(given, f"{given}.fp16")
    for given, name in in_half.items():
        if given in constants:
            values = onnx.numpy_helper.to_array(constants[given])
            graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float16), name))
        else:
            cast = onnx.helper.make_node("Cast", [given], [name], name, to=onnx.TensorProto.FLOAT16)
            graph.node.insert(list(graph.node).index(half[0]), cast)
    answer = last.output[0]
    last.output[0] = f"{answer}.fp16"
    cast = onnx.helper.make_node("Cast", [last.output[0]], [answer], f"{answer}.fp32", to=onnx.TensorProto.FLOAT)
    graph.node.insert(list(graph.node).index(last) + 1, cast)
    used = {given for node in graph.node for given in node.input}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
    return Reduced(converted, "fp16", {})
