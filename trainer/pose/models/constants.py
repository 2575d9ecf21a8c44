"""Makes the weights of an old ONNX file constants.

Converters of before ONNX IR 4 list weights among a graph's inputs as well, as defaults that a caller may replace. ONNX
Runtime then may not fold or pack them: BodyPix takes twice the time. This leaves them out of the inputs, on the level
of the protobuf encoding, so that no ONNX package is needed.
"""

from __future__ import annotations

from collections.abc import Iterator

# Field numbers of onnx.proto: those of ModelProto, GraphProto, TensorProto and ValueInfoProto.
_IR_VERSION, _GRAPH = 1, 7
_INITIALIZER, _INPUT = 5, 11
_TENSOR_NAME, _VALUE_NAME = 8, 1
_FIRST_IR_WITH_CONSTANTS = 4
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


def with_constant_weights(model: bytes) -> bytes:
    """The same model, whose graph has only those inputs that have no default.

    Raises:
        ValueError: the bytes are no protobuf message.
    """
    parts = []
    for number, whole, payload in _fields(model):
        if number == _IR_VERSION:
            whole = _varint(_IR_VERSION << 3) + _varint(max(_FIRST_IR_WITH_CONSTANTS, _read_varint(payload, 0)[0]))
        elif number == _GRAPH:
            graph = _without_defaults(payload)
            whole = _varint(_GRAPH << 3 | _LENGTH) + _varint(len(graph)) + graph
        parts.append(whole)
    return b"".join(parts)


def _without_defaults(graph: bytes) -> bytes:
    weights = {_name(payload, _TENSOR_NAME) for number, _, payload in _fields(graph) if number == _INITIALIZER}
    return b"".join(
        whole
        for number, whole, payload in _fields(graph)
        if number != _INPUT or _name(payload, _VALUE_NAME) not in weights
    )


def _name(message: bytes, field: int) -> bytes:
    return next((payload for number, _, payload in _fields(message) if number == field), b"")


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, whole encoding and payload of every field; of numbers the payload is the encoded number."""
    place = 0
    while place < len(message):
        start = place
        key, place = _read_varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            begin = place
            _, place = _read_varint(message, place)
        elif kind == _LENGTH:
            length, begin = _read_varint(message, place)
            place = begin + length
        elif kind in _WIDTHS:
            begin, place = place, place + _WIDTHS[kind]
        else:
            raise ValueError(f"no protobuf message: wire type {kind} at byte {start}")
        if place > len(message):
            raise ValueError(f"no protobuf message: a field of {place - begin} bytes ends after the message")
        yield key >> 3, message[start:place], message[begin:place]


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("no protobuf message: it ends within a number")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
