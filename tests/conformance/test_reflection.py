"""An independent client: nothing of this repository but the address. Everything it knows it asks by reflection."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc


class Stranger:
    """A gRPC client that learns services and messages from server reflection alone."""

    def __init__(self, channel: grpc.Channel, token: str = "") -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        self._pool = descriptor_pool.DescriptorPool()
        self._known: set[str] = set()

    def services(self) -> set[str]:
        answer = self._ask(reflection_pb2.ServerReflectionRequest(list_services=""))
        return {service.name for service in answer.list_services_response.service}

    def learn(self, symbol: str) -> None:
        """Loads the file of a symbol and all that it imports."""
        self._load(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))

    def make(self, kind: str, **fields: Any) -> Message:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(kind))(**fields)

    def call(self, method: str, request: Any) -> Any:
        """Calls ``package.Service/Method``; streams take and give lists."""
        service, name = method.split("/")
        descriptor = self._pool.FindServiceByName(service).methods_by_name[name]
        answer = message_factory.GetMessageClass(descriptor.output_type)
        shape = {
            (False, False): self._channel.unary_unary,
            (False, True): self._channel.unary_stream,
            (True, True): self._channel.stream_stream,
        }[descriptor.client_streaming, descriptor.server_streaming]
        stub = shape(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        result = stub(iter(request) if descriptor.client_streaming else request, timeout=30, metadata=self._metadata)
        return list(result) if descriptor.server_streaming else result

    def _ask(self, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
        (answer,) = self._reflection.ServerReflectionInfo(iter([request]), timeout=30, metadata=self._metadata)
        return answer

    def _load(self, request: reflection_pb2.ServerReflectionRequest) -> None:
        for data in self._ask(request).file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            if file.name in self._known:
                continue
            self._known.add(file.name)
            for dependency in file.dependency:
                self._load(reflection_pb2.ServerReflectionRequest(file_by_filename=dependency))
            self._pool.Add(file)


@pytest.fixture
def stranger(address: str) -> Iterator[Stranger]:
    with grpc.insecure_channel(address) as channel:
        yield Stranger(channel)


def test_stranger_creates_fills_searches_and_empties_a_gallery(stranger: Stranger) -> None:
    package = "glimpse.v1"
    services = {f"{package}.{name}" for name in ("SearchService", "GalleryService", "AdminService")}
    assert services | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} == stranger.services()
    for service in services:
        stranger.learn(service)

    def make(kind: str, **fields: Any) -> Any:
        return stranger.make(f"{package}.{kind}", **fields)

    schema = make("PartSchema", parts=[make("Part", name="global", dim=2), make("Part", name="head", dim=2)])
    created = stranger.call(
        f"{package}.GalleryService/CreateGallery", make("CreateGalleryRequest", gallery="strange", schema=schema)
    )
    assert (created.gallery, created.items) == ("strange", 0)

    def features(*numbers: float) -> Any:
        return make("PartFeatures", vectors=struct.pack("<4f", *numbers), visibility=[1, 1])

    items = [
        make("Item", item_id="north", features=features(0, 1, 0, 1), person_id="n", camera_id="1"),
        make("Item", item_id="east", features=features(1, 0, 1, 0), person_id="e", camera_id="2"),
    ]
    (stored,) = stranger.call(
        f"{package}.GalleryService/Upsert", [make("UpsertRequest", gallery="strange", items=items)]
    )
    assert [result.status.code for result in stored.results] == [0, 0]
    assert stored.sequence == 1

    query = make(
        "SearchRequest", gallery="strange", features=features(0, 1, 1, 0), part_weights={"global": 3, "head": 1}
    )
    found = stranger.call(f"{package}.SearchService/Search", query)
    assert [match.item_id for match in found.matches] == ["north", "east"]
    assert [round(match.distance, 4) for match in found.matches] == [0.25, 0.75]

    gone = stranger.call(
        f"{package}.GalleryService/DeleteItems", make("DeleteItemsRequest", gallery="strange", item_ids=["north"])
    )
    assert gone.deleted == 1
    found = stranger.call(f"{package}.SearchService/Search", query)
    assert [match.item_id for match in found.matches] == ["east"]
    assert found.gallery_sequence == 2

    removed = stranger.call(f"{package}.GalleryService/DeleteGallery", make("DeleteGalleryRequest", gallery="strange"))
    assert removed.deleted == 1


def test_stranger_hears_of_its_mistake_in_a_rich_error(stranger: Stranger) -> None:
    stranger.learn("glimpse.v1.SearchService")
    request = stranger.make("glimpse.v1.SearchRequest", gallery="nowhere", item_id="x")
    with pytest.raises(grpc.RpcError, match="no gallery 'nowhere'") as error:
        stranger.call("glimpse.v1.SearchService/Search", request)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    assert "grpc-status-details-bin" in dict(error.value.trailing_metadata())  # type: ignore[attr-defined]


def test_stranger_with_a_token_learns_and_calls_and_one_without_is_told_what_to_send(closed: tuple[str, str]) -> None:
    address, token = closed
    with grpc.insecure_channel(address) as channel:
        known = Stranger(channel, token)
        known.learn("glimpse.v1.AdminService")
        model = known.call("glimpse.v1.AdminService/GetModel", known.make("glimpse.v1.GetModelRequest"))
        assert model.name
        unknown = Stranger(channel)
        for ask in (unknown.services, lambda: unknown.learn("glimpse.v1.AdminService")):
            with pytest.raises(grpc.RpcError, match="authorization: Bearer") as error:
                ask()
            assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
