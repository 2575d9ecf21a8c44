"""How many fields a request holds, counted in its bytes before protobuf makes objects of them.

A nested message of two bytes takes up to ninety in memory, so that the 32 MiB of an `Upsert` could ask for 2 GB before
anybody has looked at them. Images and vectors are one field each; a field takes about half a microsecond.
"""

from __future__ import annotations

from functools import cache

from google.protobuf.descriptor import Descriptor

MAX_FIELDS = 400_000
"""A thousand items with ninety attributes each stay below it."""

_LONGEST_VARINT = 10
_VARINT, _FIXED64, _BYTES, _START, _END, _FIXED32 = range(6)


def has_too_many_fields(data: bytes, kind: Descriptor) -> bool:
    """Whether ``data``, a message of this ``kind``, has more than `MAX_FIELDS` fields, those of inner messages
    included. Malformed bytes are counted up to where protobuf will stop at them.
    """
    end, messages = len(data), _messages(kind)
    outer: list[tuple[int, dict[int, Descriptor]]] = []  # the messages around this one: their ends and fields
    place = 0
    try:
        for _ in range(MAX_FIELDS):
            while place >= end:
                if not outer:
                    return False
                end, messages = outer.pop()
            tag, place = _varint(data, place)
            wire = tag & 7
            if wire == _BYTES:
                size, place = _varint(data, place)
                inner = messages.get(tag >> 3)
                if inner is None:
                    place += size
                else:
                    outer.append((end, messages))
                    end, messages = min(end, place + size), _messages(inner)
            elif wire == _VARINT:
                _, place = _varint(data, place)
            elif wire in (_FIXED32, _FIXED64):
                place += 4 if wire == _FIXED32 else 8
            elif wire not in (_START, _END):  # what a group encloses is counted like the fields around it
                return False
    except _Malformed:
        return False
    return True


class _Malformed(Exception):
    pass


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at ``place`` and the place after it; `_Malformed` when it is cut off or longer than ten bytes."""
    if place < len(data) and data[place] < 0x80:
        return data[place], place + 1
    value = 0
    for shift, byte in enumerate(data[place : place + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    raise _Malformed


@cache
def _messages(kind: Descriptor) -> dict[int, Descriptor]:
    """The fields of a message that are messages themselves, by number."""
    return {field.number: field.message_type for field in kind.fields if field.message_type is not None}
