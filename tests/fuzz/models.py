"""Damaged age models: as they come, and signed anew, so that what lies behind the hashes is reached."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import onnx
from tiny_models import tiny_model

from ageinfer.engine import protobuf
from ageinfer.engine.modelfile import METADATA_KEY, graph_sha256, metadata_properties, sealed_json
from fuzz.mutate import mutated

_GRAPH, _METADATA = 7, 14
# Values that are right somewhere, or nowhere.
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 8, 96, 1024, 10**6, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", "real",
    "a\nb\x1b[2J",
    "\ud800", "x" * 300, [], [0, 100], {}, {"a": []}, [[[]]],
)  # fmt: skip
_OPERATORS = (
    "Identity", "Relu", "Transpose", "Reshape", "Expand", "Tile", "Squeeze", "Unsqueeze", "Gather", "Slice", "Resize",
    "MatMul", "Gemm", "Conv", "MaxPool", "Softmax", "TopK", "NonZero", "ConstantOfShape", "Cast", "Div", "Mod", "Pow",
    "If", "Loop", "Scan", "Range", "OneHot", "Pad", "Split", "ReduceMean", "Einsum", "StringNormalizer", "Nothing",
)  # fmt: skip
_LONG = (-1, 0, 1, 2, 8, 255, 2**31 - 1, 2**31, 2**45, -(2**63), 2**63 - 1)


def damaged(rng: Random, shipped: bytes | None) -> bytes:
    """A damaged age model: the tiny one, or the one given."""
    model = shipped or tiny_model()
    way: Callable[[bytes, Random], bytes] = rng.choice((_as_it_comes, _other_bytes, _other_graph, _other_metadata))
    return (_as_it_comes if shipped else way)(model, rng)


def _as_it_comes(model: bytes, rng: Random) -> bytes:
    return mutated(model, (), rng)


def _other_bytes(model: bytes, rng: Random) -> bytes:
    [graph] = protobuf.descend(model, _GRAPH)
    return signed(model, mutated(model[graph.start : graph.end], (), rng))


def _other_graph(model: bytes, rng: Random) -> bytes:
    """Nodes, weights and shapes that make a graph, but not this one."""
    graph = onnx.load_from_string(model).graph
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = rng.choice(graph.node)
        tensor = rng.choice(graph.initializer)
        entry = rng.choice((*graph.input, *graph.output))
        change = rng.randrange(7)
        if change == 0:
            node.op_type = rng.choice(_OPERATORS)
        elif change == 1 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(
                ("face", "age", "red", "zero", "axes", "nobody", "")
            )
        elif change == 2:
            value = rng.choice(_LONG)
            node.attribute.append(onnx.helper.make_attribute(rng.choice(("axis", "to", "keepdims", "axes")), value))
        elif change == 3:
            del tensor.dims[:]
            tensor.dims.extend(rng.choice(_LONG) for _ in range(rng.randrange(4)))
        elif change == 4:
            tensor.data_type = rng.randrange(24)
        elif change == 5:
            for i in range(len(tensor.int64_data)):
                tensor.int64_data[i] = rng.choice(_LONG)
            for i in range(len(tensor.float_data)):
                tensor.float_data[i] = rng.choice((float("nan"), float("inf"), 1e38, -1.0, 0.0))
        else:
            del entry.type.tensor_type.shape.dim[rng.randrange(3) :]
            entry.type.tensor_type.elem_type = rng.choice((1, 2, 7, 8, 10, 11, 16))
    return signed(model, graph.SerializeToString())


def _other_metadata(model: bytes, rng: Random) -> bytes:
    values = _values_of(model)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.choice((values, values.get("crop")))
        if not isinstance(place, dict) or not place:
            place = values
        key = rng.choice([*place, "more"])
        if rng.random() < 0.1:
            place.pop(key, None)
        else:
            place[key] = rng.choice(_VALUES)
    text = sealed_json(values)
    if rng.random() < 0.2:
        text = mutated(text.encode(), (), rng).decode("utf-8", "replace")
    return _with(model, None, text)


def signed(model: bytes, graph: bytes) -> bytes:
    """The model with another graph, and the hashes that belong to it."""
    values = _values_of(model) | {"graph_sha256": graph_sha256(_with(model, graph, ""))}
    return _with(model, graph, sealed_json(values))


def _values_of(model: bytes) -> dict[str, Any]:
    values = json.loads(metadata_properties(model)[METADATA_KEY])
    del values["metadata_sha256"]
    return values


def _with(model: bytes, graph: bytes | None, text: str) -> bytes:
    """The same ONNX file with another graph, if one is given, and other metadata."""
    parts = []
    for field in protobuf.fields(model):
        if field.number == _GRAPH and graph is not None:
            parts.append(_field(_GRAPH, graph))
        elif field.number not in (_METADATA, _GRAPH) or (field.number == _GRAPH and graph is None):
            content = model[field.start : field.end]
            is_long = field.wire_type == 2
            parts.append(_field(field.number, content) if is_long else _varint(field.number << 3) + content)
    entry = _field(1, METADATA_KEY.encode()) + _field(2, text.encode("utf-8", "replace"))
    return b"".join(parts) + _field(_METADATA, entry)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
