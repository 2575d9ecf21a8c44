"""Between the wire and the domain: every field of a request is checked here, and every message of an answer made.

A refusal is an `InvalidArgument` that names the field, what came and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from glimpse.bundle import Bundle
from glimpse.distance import check_min_joint, resolve_weights
from glimpse.parts import MAX_PARTS, Float32, Part, PartFeatures, PartSchema
from protos.glimpse.v1 import features_pb2, search_pb2
from server.errors import FailedPrecondition, InvalidArgument
from server.galleries.filters import Filter, check_excludes
from server.galleries.settings import GallerySettings

MAX_PURPOSE = 1024
MAX_DEPTH = 16
MAX_TOP_K = 1000
DEFAULT_TOP_K = 10
MAX_ROWS = 1000
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # years 1 to 9999
_FILTER_TIMES: tuple[Literal["captured_after", "captured_before"], ...] = ("captured_after", "captured_before")
_DTYPES: dict[int, np.dtype[Any]] = {
    features_pb2.PartFeatures.FLOAT32: np.dtype("<f4"),
    features_pb2.PartFeatures.FLOAT16: np.dtype("<f2"),
}


def purpose_of(text: str, settings: GallerySettings) -> str:
    """Why somebody searches, at most 1,024 characters; a gallery may insist on it."""
    if len(text) > MAX_PURPOSE:
        raise InvalidArgument(
            f"purpose has {len(text):,} characters, at most {MAX_PURPOSE:,} are allowed", field="purpose"
        )
    if settings.require_purpose and not text.strip():
        raise InvalidArgument(
            f"gallery {settings.name!r} requires a purpose: say in `purpose` why you search", field="purpose"
        )
    return text


def microseconds(timestamp: Timestamp, field: str) -> int:
    """A timestamp in microseconds since 1970, UTC."""
    if not (_FIRST_SECOND <= timestamp.seconds <= _LAST_SECOND and 0 <= timestamp.nanos < 1_000_000_000):
        raise InvalidArgument(
            f"{field} must lie in the years 1 to 9999 with 0 to 999999999 nanos, "
            f"got {timestamp.seconds} s and {timestamp.nanos} ns",
            field=field,
        )
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1000


def timestamp_of(us: int) -> Timestamp:
    """The inverse of `microseconds`."""
    seconds, rest = divmod(us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def positive_microseconds(duration: Duration, field: str) -> int:
    """A duration of at least one microsecond and at most 100 years."""
    us = duration.seconds * 1_000_000 + duration.nanos // 1000
    if not (0 <= duration.nanos < 1_000_000_000 and 0 < us <= 100 * 366 * 86_400 * 1_000_000):
        raise InvalidArgument(
            f"{field} must be more than 0 and at most 100 years, got {duration.seconds} s and {duration.nanos} ns",
            field=field,
        )
    return us


def duration_of(seconds: float) -> Duration:
    """Seconds as a Duration."""
    whole, rest = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(seconds=whole, nanos=rest)


def attributes_of(struct: Struct, field: str = "attributes") -> dict[str, Any]:
    """A Struct as JSON values, at most 16 levels deep. Its size is checked by what stores it."""
    return {key: _json_value(value, field, 1) for key, value in struct.fields.items()}


def _json_value(value: Value, field: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"{field} may nest {MAX_DEPTH} levels deep at most", field=field)
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        if not math.isfinite(value.number_value):
            raise InvalidArgument(f"{field} must hold finite numbers, got {value.number_value}", field=field)
        return value.number_value
    if kind == "struct_value":
        return {key: _json_value(each, field, depth + 1) for key, each in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_json_value(each, field, depth + 1) for each in value.list_value.values]
    return {"string_value": value.string_value, "bool_value": value.bool_value}.get(kind or "")


def struct_of(values: Mapping[str, Any]) -> Struct:
    """JSON values as a Struct."""
    return Struct(fields={key: _value_of(value) for key, value in values.items()})


def _value_of(value: Any) -> Value:
    if value is None:
        return Value(null_value=0)  # type: ignore[arg-type]
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, (int, float)):
        return Value(number_value=value)
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, Mapping):
        return Value(struct_value=struct_of(value))
    return Value(list_value=ListValue(values=[_value_of(each) for each in value]))


def filter_of(message: search_pb2.Filter, field: str = "filter") -> Filter:
    """A filter; contradictions and empty or nested excludes are refused."""
    check_excludes(len(message.exclude))
    if any(entry.exclude for entry in message.exclude):  # before each of them is made
        raise InvalidArgument("entries of filter.exclude may not exclude further", field=f"{field}.exclude")
    times = [
        microseconds(getattr(message, name), f"{field}.{name}") if message.HasField(name) else None
        for name in _FILTER_TIMES
    ]
    return Filter(
        camera_ids=tuple(message.camera_ids),
        captured_after=times[0],
        captured_before=times[1],
        person_ids=tuple(message.person_ids),
        item_ids=tuple(message.item_ids),
        attributes=attributes_of(message.attributes, f"{field}.attributes") if message.HasField("attributes") else {},
        exclude=tuple(filter_of(entry, f"{field}.exclude[{index}]") for index, entry in enumerate(message.exclude)),
    )


def top_k_of(value: int) -> int:
    """1 to 1,000; 0 means 10."""
    if value == 0:
        return DEFAULT_TOP_K
    if not 1 <= value <= MAX_TOP_K:
        raise InvalidArgument(f"top_k must be 1 to {MAX_TOP_K} (0 means {DEFAULT_TOP_K}), got {value}", field="top_k")
    return value


def part_weights_of(weights: Mapping[str, float], schema: PartSchema) -> dict[str, float]:
    """The caller's weights, checked against the gallery's parts."""
    result = dict(weights)
    try:
        resolve_weights(schema, result)
    except ValueError as error:
        raise InvalidArgument(str(error), field="part_weights") from error
    return result


def min_joint_of(value: float) -> float:
    """A threshold within [0, 1]."""
    try:
        return check_min_joint(value)
    except ValueError as error:
        raise InvalidArgument(str(error), field="min_joint_visibility") from error


def schema_of(message: features_pb2.PartSchema, field: str = "schema") -> PartSchema:
    """The parts of a message."""
    if len(message.parts) > MAX_PARTS:
        raise InvalidArgument(f"{field} has {len(message.parts):,} parts, at most {MAX_PARTS} are allowed", field=field)
    try:
        parts = tuple(
            Part(part.name, part.dim, part.weight if part.HasField("weight") else 1.0, part.always_visible)
            for part in message.parts
        )
        return PartSchema(parts, message.prior)
    except ValueError as error:
        raise InvalidArgument(f"{field}: {error}", field=field) from error


def schema_message(schema: PartSchema) -> features_pb2.PartSchema:
    """The parts as a message."""
    parts = [
        features_pb2.Part(name=part.name, dim=part.dim, weight=part.weight, always_visible=part.always_visible)
        for part in schema.parts
    ]
    return features_pb2.PartSchema(parts=parts, prior=schema.prior)


def features_of(
    messages: Sequence[features_pb2.PartFeatures], settings: GallerySettings, field: str = "features"
) -> PartFeatures:
    """All rows of several messages as features of one gallery, checked together.

    Raises:
        InvalidArgument: another schema, a wrong length, a value that is not part features.
        FailedPrecondition: features of another model.
    """
    schema = settings.schema
    vectors: list[Float32] = []
    visibility: list[Float32] = []
    for message in messages:
        check_model(message, settings, field)
        rows = _rows_of(message, schema, field)
        dtype = _DTYPES[message.dtype]
        vectors.append(np.frombuffer(message.vectors, dtype).astype(np.float32).reshape(rows, schema.width))
        visibility.append(np.fromiter(message.visibility, np.float32, rows * len(schema)).reshape(rows, len(schema)))
    try:
        return PartFeatures(np.concatenate(vectors), np.concatenate(visibility), schema)
    except ValueError as error:
        raise InvalidArgument(f"{field}: {error}", field=field) from error


def check_model(message: features_pb2.PartFeatures, settings: GallerySettings, field: str) -> None:
    """Refuses features of another schema or model than the gallery's, naming both."""
    schema, model = settings.schema, settings.model
    if message.HasField("schema"):
        names = tuple(part.name for part in message.schema.parts)
        dims = tuple(part.dim for part in message.schema.parts)
        if names != schema.names or dims != schema.dims:
            some = zip(names[:MAX_PARTS], dims[:MAX_PARTS], strict=True)
            got = ", ".join(f"{name[:32]}:{dim}" for name, dim in some) or "no parts"
            raise InvalidArgument(
                f"{field} has the parts {got[:300]}; gallery {settings.name!r} holds {schema.describe()}", field=field
            )
    if message.model_sha256 and model is not None and message.model_sha256.lower() != model.sha256:
        raise FailedPrecondition(
            f"{field} was made by the model with sha {message.model_sha256[:8]}; gallery {settings.name!r} holds "
            f"features of {model}",
            field=field,
        )


def _rows_of(message: features_pb2.PartFeatures, schema: PartSchema, field: str) -> int:
    dtype = _DTYPES.get(message.dtype)
    if dtype is None:
        raise InvalidArgument(f"{field}.dtype must be FLOAT32 or FLOAT16, got {message.dtype}", field=f"{field}.dtype")
    width = schema.width * dtype.itemsize
    rows, rest = divmod(len(message.vectors), width)
    if rest or not 1 <= rows <= MAX_ROWS:
        raise InvalidArgument(
            f"{field}.vectors has {len(message.vectors):,} bytes; expected 1 to {MAX_ROWS} rows of {schema.width} "
            f"{'float16' if dtype.itemsize == 2 else 'float32'} numbers ({width:,} bytes a row)",
            field=f"{field}.vectors",
        )
    if len(message.visibility) != rows * len(schema):
        raise InvalidArgument(
            f"{field}.visibility has {len(message.visibility)} numbers, not {rows * len(schema)}: one a row and part",
            field=f"{field}.visibility",
        )
    return rows


def features_message(
    features: PartFeatures, schema: features_pb2.PartSchema, model_sha256: str, *, half: bool = False
) -> features_pb2.PartFeatures:
    """Features as a message: float32, or float16 when ``half``."""
    vectors = features.vectors.astype("<f2" if half else "<f4", copy=False)
    return features_pb2.PartFeatures(
        schema=schema,
        vectors=vectors.tobytes(),
        dtype=features_pb2.PartFeatures.FLOAT16 if half else features_pb2.PartFeatures.FLOAT32,
        visibility=features.visibility.ravel().tolist(),
        model_sha256=model_sha256,
    )


def visibility_messages(schema: PartSchema, row: Float32) -> list[features_pb2.PartVisibility]:
    """One entry a part."""
    return [
        features_pb2.PartVisibility(part=name, visibility=value)
        for name, value in zip(schema.names, row.tolist(), strict=True)
    ]


def served_model(bundle: Bundle, provider: str) -> features_pb2.Model:
    """The model that a session runs."""
    identity, recipe = bundle.identity, bundle.preprocessing
    return features_pb2.Model(
        name=identity.name,
        version=identity.version,
        sha256=identity.sha256,
        method=bundle.manifest.method,
        schema=schema_message(bundle.schema),
        height=recipe.height,
        width=recipe.width,
        provider=provider,
        license=bundle.manifest.license,
    )


def gallery_model(settings: GallerySettings) -> features_pb2.Model:
    """The model that a gallery is bound to; without a name for a gallery of features only."""
    if settings.model is None:
        return features_pb2.Model(schema=schema_message(settings.schema))
    info = settings.model_info
    return features_pb2.Model(
        name=settings.model.name,
        version=settings.model.version,
        sha256=settings.model.sha256,
        method=str(info.get("method", "")),
        schema=schema_message(settings.schema),
        height=int(info.get("height", 0)),
        width=int(info.get("width", 0)),
        license=str(info.get("license", "")),
    )
