import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ageinfer.engine.protobuf import Field, descend, fields, read_varint

VARINT, I64, LEN, I32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def encode(number: int, wire_type: int, payload: bytes) -> bytes:
    return varint(number << 3 | wire_type) + (varint(len(payload)) if wire_type == LEN else b"") + payload


one_field = st.one_of(
    st.tuples(st.just(VARINT), st.integers(0, 2**64 - 1).map(varint)),
    st.tuples(st.just(I64), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(LEN), st.binary(max_size=300)),
    st.tuples(st.just(I32), st.binary(min_size=4, max_size=4)),
)
messages = st.lists(st.tuples(st.integers(1, 2**29 - 1), one_field).map(lambda f: (f[0], *f[1])), max_size=8)


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"\x00", 0), (b"\x01", 1), (b"\x7f", 127), (b"\x96\x01", 150), (b"\xff" * 9 + b"\x01", 2**64 - 1)],
)
def test_a_varint_has_the_value_that_the_encoding_guide_gives(data, value):
    assert read_varint(b"?" + data + b"?", 1) == (value, 1 + len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\xff" * 11, b"\x80" * 1000, b"\x80" * 20 + b"\x01"])
def test_a_varint_that_ends_early_or_never_is_refused(data):
    with pytest.raises(ValueError, match="broken integer"):
        read_varint(data, 0)


def test_the_fields_of_known_bytes():
    # The two examples of the encoding guide, then a double, then a float.
    data = bytes.fromhex("089601120774657374696e671901020304050607082501020304")
    assert list(fields(data)) == [
        Field(1, VARINT, 1, 3),
        Field(2, LEN, 5, 12),
        Field(3, I64, 13, 21),
        Field(4, I32, 22, 26),
    ]
    assert data[5:12] == b"testing"


def test_descend_follows_numbers_through_nested_messages_in_file_order():
    leaves = encode(5, LEN, b"one") + encode(6, LEN, b"no") + encode(5, LEN, b"two")
    data = encode(1, VARINT, b"\x08") + encode(7, LEN, leaves) + encode(7, LEN, encode(5, LEN, b"three"))
    assert [data[f.start : f.end] for f in descend(data, 7, 5)] == [b"one", b"two", b"three"]
    assert list(descend(data, 7, 9)) == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b",  # the groups of old versions, which ONNX does not use
        b"\x0f",
        b"\x00\x01",  # field number 0
        b"\x12\x05abc",  # a length beyond the end
        b"\x12" + b"\xff" * 9 + b"\x01",  # a length that would overflow
        b"\x09\x00\x00",
        b"\x0d\x00",
        b"\x08",
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(ValueError, match=r"byte \d+"):
        list(fields(data))


def test_a_field_may_not_reach_out_of_its_message_into_the_next():
    inner = b"\x12\x05ab"  # announces 5 bytes, its message holds 2
    data = encode(1, LEN, inner) + encode(2, LEN, b"secret")
    with pytest.raises(ValueError, match="past its message"):
        list(descend(data, 1, 2))


@given(messages)
def test_what_was_encoded_is_read_back(message):
    data = b"".join(encode(*field) for field in message)
    assert [(f.number, f.wire_type, data[f.start : f.end]) for f in fields(data)] == message


@given(messages, st.data())
def test_a_cut_message_is_a_shorter_message_or_refused(message, data):
    whole = b"".join(encode(*field) for field in message)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        read = [(f.number, f.wire_type, cut[f.start : f.end]) for f in fields(cut)]
    except ValueError:
        return
    assert read == message[: len(read)]


@given(st.binary(max_size=400), st.lists(st.integers(1, 3), min_size=1, max_size=5))
@example(b"\x0a\x00" * 100, [1, 1, 1])
@example(b"\x08\x80", [1, 1])
def test_garbage_gives_fields_inside_the_data_or_a_value_error(data, path):
    try:
        found = list(descend(data, *path))
    except ValueError:
        return
    assert all(0 <= f.start <= f.end <= len(data) and f.number == path[-1] for f in found)
    assert len(found) <= len(data)
