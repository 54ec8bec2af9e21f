"""A reader for the protobuf wire format, just enough to look inside an ONNX file.

The runtime must check a model file before it trusts it and has no need of the ``onnx`` package otherwise.
Format: https://protobuf.dev/programming-guides/encoding/ ; field numbers: ``onnx.proto`` of the ONNX project.
"""

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

Buffer = bytes | bytearray | mmap

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message: its number, and where its value lies in the buffer."""

    number: int
    wire_type: int
    start: int
    end: int


def read_varint(data: Buffer, position: int) -> tuple[int, int]:
    """Decodes the base-128 integer at ``position``; returns it with the position behind it.

    Raises:
        ValueError: the data ends inside the integer, or it is longer than 10 bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"broken integer at byte {position}")


def fields(data: Buffer, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yields the fields of the message that lies in ``data[start:end]``, in file order.

    Raises:
        ValueError: the bytes are not a protobuf message.
    """
    end = len(data) if end is None else end
    position = start
    while position < end:
        key, value_start = read_varint(data, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            _, position = read_varint(data, value_start)
        elif wire_type == _LEN:
            length, value_start = read_varint(data, value_start)
            position = value_start + length
        elif wire_type in (_I64, _I32):
            position = value_start + (8 if wire_type == _I64 else 4)
        else:
            raise ValueError(f"unknown wire type {wire_type} at byte {position}")
        if number == 0 or position > end:
            raise ValueError(f"field {number} at byte {value_start} runs past its message")
        yield Field(number, wire_type, value_start, position)


def descend(data: Buffer, *path: int) -> Iterator[Field]:
    """Yields the fields reached by following field numbers, such as ``7, 5``: graph, then each initializer.

    Raises:
        ValueError: the bytes on the way are not protobuf messages.
    """

    def follow(field: Field, rest: tuple[int, ...]) -> Iterator[Field]:
        if not rest:
            yield field
            return
        for child in fields(data, field.start, field.end):
            if child.number == rest[0]:
                yield from follow(child, rest[1:])

    yield from follow(Field(0, _LEN, 0, len(data)), path)
