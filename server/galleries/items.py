"""Items: one gallery entry as it comes in (`NewItem`), as it is kept (`StoredItem`), and many at once (`Batch`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartSchema
from server.errors import InvalidArgument

Float16 = NDArray[np.float16]
Int64 = NDArray[np.int64]

MAX_TEXT = 256
MAX_ATTRIBUTES_BYTES = 16 * 1024
MAX_NORM = 1.01
"""Largest norm of a stored part. A checked unit vector rounded to float16 stays far below; the error bound of the
exact engine (`engines.scoring`) rests on it."""
_EARLIEST = -62_135_596_800_000_000
_LATEST = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True, eq=False)
class NewItem:
    """An item to be stored.

    Args:
        item_id: unique in its gallery, 1 to 256 characters without control characters.
        vectors: float16 ``(sum_p D_p,)``: the part vectors, each of norm 1 or all zeros.
        visibility: float32 ``(P,)`` in [0, 1].
        person_id: the person, if known; at most 256 characters.
        camera_id: the camera, if known; at most 256 characters.
        captured_at: microseconds since 1970 UTC, if known; years 1 to 9999.
        attributes: a JSON object of at most 16 KiB.
        image: the encoded image; stored only by galleries that keep images.

    Raises:
        InvalidArgument: any of the above does not hold.
    """

    item_id: str
    vectors: Float16
    visibility: Float32
    person_id: str = ""
    camera_id: str = ""
    captured_at: int | None = None
    attributes: Mapping[str, Any] | None = None
    image: bytes | None = field(default=None, repr=False)
    attributes_json: str = field(init=False, repr=False)
    """`attributes` as compact JSON; empty when there are none."""

    def __post_init__(self) -> None:
        check_text("item_id", self.item_id)
        if not self.item_id:
            raise InvalidArgument("item_id is empty: expected 1 to 256 characters", field="item_id")
        check_text("person_id", self.person_id)
        check_text("camera_id", self.camera_id)
        check_time("captured_at", self.captured_at)
        object.__setattr__(self, "attributes_json", attributes_to_json(self.attributes))


@dataclass(frozen=True, slots=True, eq=False)
class ItemMetadata:
    """What is known of an item besides its features."""

    item_id: str
    person_id: str
    camera_id: str
    captured_at: int | None
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class StoredItem:
    """An item as the gallery holds it; fields as in `NewItem`."""

    item_id: str
    person_id: str
    camera_id: str
    captured_at: int | None
    attributes: dict[str, Any]
    visibility: Float32
    sequence: int
    """The write that stored it."""
    vectors: Float16 | None = None
    """Absent in lists."""
    image: bytes | None = field(default=None, repr=False)
    """Present when it was asked for and the gallery kept it."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Items column by column: the currency between the store, the columns and a gallery."""

    item_ids: Sequence[str]
    person_ids: Sequence[str]
    camera_ids: Sequence[str]
    captured_at: Sequence[int | None]
    attributes: Sequence[str]
    """JSON objects; empty text where there are none."""
    vectors: Float16
    """``(N, sum_p D_p)``."""
    visibility: Float32
    """``(N, P)``."""
    sequences: Int64
    """``(N,)``: the write that stored each item."""
    stored_at: Int64
    """``(N,)``: microseconds since 1970 UTC at which the features were stored."""
    checksums: NDArray[np.uint32] | None = None
    """``(N,)``: CRC-32 of each item as the store has it; None before it is there."""

    def __len__(self) -> int:
        return len(self.item_ids)


def make_batch(items: Sequence[NewItem], schema: PartSchema, sequence: int, now_us: int) -> Batch:
    """The columns of checked items.

    Raises:
        InvalidArgument: features that do not fit ``schema``, are not finite, or whose parts are longer than 1.01;
            the message names the first such item.
    """
    from server.galleries.engines.kernels.coding import measure_rows

    for item in items:
        if item.vectors.dtype != np.float16 or item.vectors.shape != (schema.width,):
            raise InvalidArgument(
                f"item {item.item_id!r}: vectors must be float16 ({schema.width},) for parts {schema.describe()}, "
                f"got {item.vectors.dtype} {item.vectors.shape}"
            )
        if item.visibility.dtype != np.float32 or item.visibility.shape != (len(schema),):
            raise InvalidArgument(
                f"item {item.item_id!r}: visibility must be float32 ({len(schema)},), one value a part "
                f"({', '.join(schema.names)}), got {item.visibility.dtype} {item.visibility.shape}"
            )
    vectors = np.stack([item.vectors for item in items])
    visibility = np.stack([item.visibility for item in items])
    wrong = ~((visibility >= 0) & (visibility <= 1)).all(axis=1)  # also catches NaN
    squares = np.empty((len(items), len(schema)), np.float32)
    measure_rows(vectors.view(np.int16), column_bounds(schema), squares)
    wrong |= ~(squares <= MAX_NORM**2).all(axis=1)  # also catches NaN and infinity
    if wrong.any():
        raise InvalidArgument(
            f"item {items[int(np.argmax(wrong))].item_id!r}: visibilities must be within [0, 1] and part vectors "
            "finite, of norm 1 or all zeros"
        )
    return Batch(
        item_ids=[item.item_id for item in items],
        person_ids=[item.person_id for item in items],
        camera_ids=[item.camera_id for item in items],
        captured_at=[item.captured_at for item in items],
        attributes=[item.attributes_json for item in items],
        vectors=vectors,
        visibility=visibility,
        sequences=np.full(len(items), sequence, np.int64),
        stored_at=np.full(len(items), now_us, np.int64),
    )


def column_bounds(schema: PartSchema) -> Int64:
    """``(P + 1,)``: part p has the columns from the p-th number to the next."""
    return np.cumsum([0, *schema.dims], dtype=np.int64)


def decode(vectors: Float16, scale: Float32 | None = None) -> Float32:
    """Finite float16 ``(N, D)`` as float32, times ``scale`` ``(N, D)`` in [0, 1] if given; exact but for that product.

    NumPy converts halves one by one. Moving their bits into place and multiplying by 2^112 (the difference of the
    exponent biases) gives the same floats, subnormal ones included, in a third of the time.
    """
    decoded = np.empty(vectors.shape, np.float32)
    step = max(1, 65_536 // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        rows = slice(start, start + step)
        bits = np.ascontiguousarray(vectors[rows]).view(np.int16).astype(np.int32)  # extends the sign
        bits <<= 13
        bits &= _SIGN_AND_VALUE
        factor = _BIAS if scale is None else scale[rows] * _BIAS
        np.multiply(bits.view(np.float32), factor, out=decoded[rows])
    return decoded


_BIAS = np.float32(2.0**112)
_SIGN_AND_VALUE = np.array(0x8FFFE000, np.uint32).view(np.int32)


def attributes_to_json(attributes: Mapping[str, Any] | None) -> str:
    """Compact JSON, or empty text when there are none.

    Raises:
        InvalidArgument: not a JSON object, or longer than 16 KiB.
    """
    if not attributes:
        return ""
    try:
        text = json.dumps(dict(attributes), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"attributes must be a JSON object: {error}", field="attributes") from error
    if size > MAX_ATTRIBUTES_BYTES:
        raise InvalidArgument(
            f"attributes take {size:,} bytes as JSON, at most {MAX_ATTRIBUTES_BYTES:,} are allowed", field="attributes"
        )
    return text


def attributes_from_json(text: str) -> dict[str, Any]:
    """The inverse of `attributes_to_json`."""
    return dict(json.loads(text)) if text else {}


def check_text(name: str, text: str) -> None:
    """InvalidArgument unless ``text`` has at most 256 characters, none of them a control character."""
    if len(text) > MAX_TEXT:
        raise InvalidArgument(f"{name} has {len(text):,} characters, at most {MAX_TEXT} are allowed", field=name)
    # str.isprintable is one C call; it also rejects rare harmless characters, hence the second look.
    if not text.isprintable() and any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in text):
        raise InvalidArgument(f"{name} {text!r} holds control characters", field=name)
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidArgument(f"{name} {text!r} is not valid Unicode text", field=name)


def check_time(name: str, microseconds: int | None) -> None:
    """InvalidArgument unless the time lies in the years 1 to 9999."""
    if microseconds is not None and not _EARLIEST <= microseconds <= _LATEST:
        raise InvalidArgument(f"{name} lies outside the years 1 to 9999", field=name)
