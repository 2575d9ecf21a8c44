"""Calls of any method, made from the services' descriptors alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2

from protos.glimpse.v1 import admin_pb2, gallery_pb2, search_pb2
from server.security.roles import ACCESS

METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for file in (search_pb2, gallery_pb2, admin_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""Every method of ours, by its path."""


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def request_for(method: str, gallery: str) -> Message:
    """A request that names the gallery wherever the method's access says that it names one."""
    request = message_factory.GetMessageClass(METHODS[method].input_type)()
    access = ACCESS.get(method)
    for field in access.galleries if access is not None else ():
        setattr(request, field, gallery)
    return request


def call(
    channel: grpc.Channel, method: str, request: Message, metadata: Iterable[tuple[str, str]] = ()
) -> tuple[str, str]:
    """Makes a call; returns its outcome: the code's name, and what the server said."""
    descriptor = METHODS[method]
    answer = message_factory.GetMessageClass(descriptor.output_type)
    kind = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }[descriptor.client_streaming, descriptor.server_streaming]
    stub: Any = kind(
        method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    sent = iter([request]) if descriptor.client_streaming else request
    try:
        result = stub(sent, metadata=tuple(metadata), timeout=30)
        responses = list(result) if descriptor.server_streaming else [result]
    except grpc.RpcError as error:
        return error.code().name, error.details()  # type: ignore[attr-defined]
    for response in responses:
        if isinstance(response, search_pb2.SearchResponse) and response.HasField("error"):
            return code_pb2.Code.Name(response.error.code), response.error.message
    return "OK", ""
