"""A small mutator: the same number always makes the same damage.

A coverage-guided fuzzer would see the Python code alone here, because the decoders come without its instruments; and a
number is all that is needed to repeat a case of this one.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_FORMATS = (">H", "<H", ">I", "<I", ">Q", "<Q")
_LARGEST = 1 << 20  # bytes of a result


def flip_bits(data: bytearray, rng: Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def set_bytes(data: bytearray, rng: Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data[rng.randrange(len(data))] = rng.choice((*_BYTES, rng.randrange(256)))


def set_number(data: bytearray, rng: Random) -> None:
    code = rng.choice(_FORMATS)
    size = struct.calcsize(code)
    if len(data) > size:
        at = rng.randrange(len(data) - size)
        data[at : at + size] = struct.pack(code, (rng.choice((*_NUMBERS, len(data)))) & (1 << 8 * size) - 1)


def change_length(data: bytearray, rng: Random) -> None:
    """Changes a number that may be the length of what follows it, as chunks, boxes and segments have one."""
    for _ in range(200):
        code = rng.choice(_FORMATS[:4])
        size = struct.calcsize(code)
        if len(data) <= size:
            return
        at = rng.randrange(len(data) - size)
        [value] = struct.unpack_from(code, data, at)
        if 4 <= value <= len(data) - at + 8:
            new = rng.choice((value - 1, value + 1, 0, 1, 2 * value, value // 2, len(data), rng.choice(_NUMBERS)))
            struct.pack_into(code, data, at, new & (1 << 8 * size) - 1)
            return


def _chunk(data: bytearray, rng: Random) -> tuple[int, int]:
    begin = rng.randrange(len(data))
    return begin, min(len(data), begin + rng.choice((1, 2, 4, 16, 64, 512, len(data) // 4 + 1)))


def remove_chunk(data: bytearray, rng: Random) -> None:
    begin, end = _chunk(data, rng)
    del data[begin:end]


def repeat_chunk(data: bytearray, rng: Random) -> None:
    begin, end = _chunk(data, rng)
    data[begin:begin] = data[begin:end] * rng.choice((1, 1, 2, 8))


def swap_chunks(data: bytearray, rng: Random) -> None:
    begin, end = _chunk(data, rng)
    at = rng.randrange(len(data))
    piece = data[begin:end]
    del data[begin:end]
    data[at:at] = piece


def zero_chunk(data: bytearray, rng: Random) -> None:
    begin, end = _chunk(data, rng)
    data[begin:end] = bytes([rng.choice(_BYTES)]) * (end - begin)


def noise_chunk(data: bytearray, rng: Random) -> None:
    begin, end = _chunk(data, rng)
    data[begin:end] = rng.randbytes(end - begin)


def truncate(data: bytearray, rng: Random) -> None:
    del data[rng.randrange(len(data)) :]


CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    flip_bits, set_bytes, set_number, change_length, change_length, remove_chunk, repeat_chunk, swap_chunks, zero_chunk,
    noise_chunk, truncate,
)  # fmt: skip


def mutated(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Returns damaged data: one to four changes, and now and then the end of other data."""
    changed = bytearray(data)
    if others and rng.random() < 0.08:
        other = rng.choice(others)
        changed = changed[: rng.randrange(len(changed) + 1)] + other[rng.randrange(len(other)) :]
    for _ in range(rng.choice((1, 1, 2, 4))):
        if changed:
            rng.choice(CHANGES)(changed, rng)
    if changed.startswith(b"\x89PNG") and rng.random() < 0.5:
        mend_checksums(changed)
    return bytes(changed[:_LARGEST])


def mend_checksums(png: bytearray) -> None:
    """Makes the checksums of a PNG right, behind which its decoder would not go on."""
    at = 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        if end + 4 > len(png):
            return
        png[end : end + 4] = struct.pack(">I", zlib.crc32(png[at + 4 : end]))
        at = end + 4
