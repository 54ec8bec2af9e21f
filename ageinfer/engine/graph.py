"""What the graph of an ONNX file may hold before ONNX Runtime opens it.

Opening a graph computes parts of it, so a loop without end would never come back from there. Weights that lie in other
files are read from the working folder, and no hash in the file covers them.
"""

from collections.abc import Iterator
from itertools import islice

from ageinfer.engine import protobuf
from ageinfer.engine.protobuf import Field

# Numbers of fields, from onnx.proto.
_GRAPH, _FUNCTION = 7, 25
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_SUBGRAPHS = (6, 11)
_TENSORS, _SPARSE_TENSORS = (5, 10), (22, 23)
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VALUES_AND_INDICES = (1, 2)
_STANDARD = ("", "ai.onnx")
# Fields of the model, its graph and its nodes. The shipped models have up to 3,000. ONNX Runtime takes hundreds of
# bytes for an empty one, which has two in the file.
_MOST_PARTS = 100_000


def check_graph(model: bytes, *, standard_only: bool = True) -> None:
    """Checks that a graph has all its weights in the file, no part that may run for ever, and not too many parts.

    Args:
        model: the bytes of an ONNX file.
        standard_only: whether operators outside of the standard ONNX domain are refused, too.

    Raises:
        ValueError: the graph may not be used, or the bytes are not an ONNX file.
    """
    if next(islice(_parts(model), _MOST_PARTS, None), None) is not None:
        raise ValueError(f"its graph has more than {_MOST_PARTS:,} parts, which no age model has")
    if next(protobuf.descend(model, _FUNCTION), None) is not None:
        raise ValueError("it defines operators of its own, which may not be used")
    for node in protobuf.descend(model, _GRAPH, _NODE):
        _check_node(model, node, standard_only=standard_only)
    for tensor in _constants(model):
        for field in protobuf.fields(model, tensor.start, tensor.end):
            if field.number == _EXTERNAL_DATA or (
                field.number == _DATA_LOCATION and protobuf.read_varint(model, field.start)[0] != 0
            ):
                raise ValueError("some of its weights lie outside of the file, where no hash covers them")


def _parts(model: bytes) -> Iterator[Field]:
    """Yields the fields of a model, of its graph and of its nodes."""
    yield from protobuf.fields(model)
    for graph in protobuf.descend(model, _GRAPH):
        for field in protobuf.fields(model, graph.start, graph.end):
            yield field
            if field.number == _NODE:
                yield from protobuf.fields(model, field.start, field.end)


def _check_node(model: bytes, node: Field, *, standard_only: bool) -> None:
    operator, domain = "", ""
    for field in protobuf.fields(model, node.start, node.end):
        if field.number == _OPERATOR:
            operator = _text(model, field)
        elif field.number == _DOMAIN:
            domain = _text(model, field)
    if standard_only and domain not in _STANDARD:
        raise ValueError(f"its operator {operator} is not one of the ONNX standard (domain {domain})")
    for attribute in _children(model, node, _ATTRIBUTE):
        if next(_children(model, attribute, *_SUBGRAPHS), None) is not None:
            raise ValueError(f"its operator {operator} holds a graph of its own, which may run for ever")


def _constants(model: bytes) -> Iterator[Field]:
    """Yields all tensors that are stored in a model without subgraphs."""
    for graph in protobuf.descend(model, _GRAPH):
        yield from _children(model, graph, _INITIALIZER)
        for sparse in _children(model, graph, _SPARSE_INITIALIZER):
            yield from _children(model, sparse, *_VALUES_AND_INDICES)
    for attribute in protobuf.descend(model, _GRAPH, _NODE, _ATTRIBUTE):
        yield from _children(model, attribute, *_TENSORS)
        for sparse in _children(model, attribute, *_SPARSE_TENSORS):
            yield from _children(model, sparse, *_VALUES_AND_INDICES)


def _children(model: bytes, parent: Field, *numbers: int) -> Iterator[Field]:
    return (field for field in protobuf.fields(model, parent.start, parent.end) if field.number in numbers)


def _text(model: bytes, field: Field) -> str:
    return model[field.start : field.end][:60].decode("utf-8", "replace")
