"""From bytes to requests: sizes are checked first, and what is no message becomes `Refused`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from server.errors import InvalidArgument, ResourceExhausted, ServerError
from server.fields import MAX_FIELDS, has_too_many_fields
from server.memory import LARGE, Trimmer

MESSAGE_LIMIT = 4 << 20
"""Bytes of one request, except for those of `LARGER`."""
LARGER = {"/glimpse.v1.GalleryService/Upsert": 32 << 20}


class Refused:
    """Stands for a request that was not parsed; raising inside gRPC would answer UNKNOWN with a Python type."""

    def __init__(self, error: ServerError) -> None:
        self.error = error


def rebuilt(
    method: str, handler: grpc.RpcMethodHandler[Any, Any], behaviour: Any, trimmer: Trimmer
) -> grpc.RpcMethodHandler[Any, Any]:
    """The handler with another behaviour, whose requests are parsed as this file says."""
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    deserializer = handler.request_deserializer
    result: grpc.RpcMethodHandler[Any, Any] = make(
        behaviour,
        request_deserializer=None
        if deserializer is None
        else _tolerant(deserializer, LARGER.get(method, MESSAGE_LIMIT), trimmer),
        response_serializer=handler.response_serializer,
    )
    return result


def _tolerant(deserializer: Callable[[bytes], Any], limit: int, trimmer: Trimmer) -> Callable[[bytes], Any]:
    """Parses requests of at most ``limit`` bytes; any other becomes `Refused`, before it takes more memory."""
    owner = getattr(deserializer, "__self__", None)
    kind = getattr(owner, "DESCRIPTOR", None)
    name = kind.full_name if kind is not None else "protobuf"

    def deserialize(data: bytes) -> Any:
        if len(data) > LARGE:
            trimmer.large_request()
        if len(data) > limit:
            return Refused(
                ResourceExhausted(f"the message has {len(data):,} bytes; at most {limit:,} bytes are accepted here")
            )
        # Below an eighth of the limit not even the worst message takes much memory.
        if kind is not None and len(data) > limit // 8 and has_too_many_fields(data, kind):
            return Refused(ResourceExhausted(f"the message has more than {MAX_FIELDS:,} fields; send less at once"))
        try:
            return deserializer(data)
        except DecodeError:
            return Refused(InvalidArgument(f"the request is not a well-formed {name} message"))

    return deserialize
