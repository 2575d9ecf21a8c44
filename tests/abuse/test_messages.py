"""Bytes that are no request: garbage, messages too large or nested too much, metadata, and what is not even gRPC."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

import pytest

from protos.glimpse.v1 import admin_pb2, gallery_pb2, search_pb2
from tests.abuse.serving import GOOD_FEATURES, GOOD_IMAGE, SEARCH, UPSERT, Case, Serving, names

SERVICES = [
    *search_pb2.DESCRIPTOR.services_by_name.values(),
    *gallery_pb2.DESCRIPTOR.services_by_name.values(),
    *admin_pb2.DESCRIPTOR.services_by_name.values(),
]
METHODS = {
    f"/{service.full_name}/{method.name}": method.input_type for service in SERVICES for method in service.methods
}
UNARY = [path for path in METHODS if not path.endswith(("/Upsert", "/SearchStream"))]
OURS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS", "RESOURCE_EXHAUSTED"}
"""What a request may end with, however it was made; INTERNAL or UNKNOWN would be a bug."""
FIELDS = ["the message has more than 400,000 fields; send less at once"]


def field(number: int, data: bytes) -> bytes:
    """One length-delimited field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    low = value & 0x7F
    return bytes([low | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([low])


def wrapped(data: bytes, *numbers: int) -> bytes:
    """The data within fields within fields; the last number is the outermost."""
    for number in numbers:
        data = field(number, data)
    return data


GARBAGE = {
    "a bad tag": b"\xff\xff\xff\xff",
    "a field cut off": b"\x0a\x05ab",
    "a length cut off": b"\x0a",
    "a length beyond the end": b"\x0a\xff\xff\xff\xff\x0f",
    "a length below 0": b"\x0a" + b"\xff" * 9 + b"\x01",
    "field number 0": b"\x02\x00",
    "wire type 7": b"\x0f",
    "a group without end": b"\x0b\x08\x01",
    "an end without group": b"\x0c",
    "a varint of a million bytes": b"\x08" + b"\xff" * 1_000_000,
    "groups 100,000 deep": b"\x0b" * 100_000,
    "text that is no UTF-8": b"\x0a\x02\xff\xfe",
    "a surrogate": b"\x0a\x03\xed\xa0\x80",
    "JSON": json.dumps({"gallery": "crowd", "item_id": "3-0"}).encode(),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "null bytes": bytes(100),
}
TEXTS = ("text that is no UTF-8", "a surrogate")


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_by_every_method(server: Serving, path: str, name: str) -> None:
    answer = server.raw(path, GARBAGE[name])
    kind = METHODS[path]
    sentence = f"the request is not a well-formed {kind.full_name} message"
    if path.endswith("/SearchStream"):
        (response,) = answer.response
        assert search_pb2.SearchResponse.FromString(response).error.message == sentence
    elif path.endswith("/Extract") and name in TEXTS:  # a field of bytes may hold any
        (error,) = search_pb2.ExtractResponse.FromString(answer.response).errors
        assert error.status.message.startswith("images[0]: ")
    elif kind.fields:
        server.check_refused(answer, "INVALID_ARGUMENT", [sentence])
    else:  # every field is an unknown one
        assert answer.code in ("OK", "INVALID_ARGUMENT")


@pytest.mark.parametrize("path", METHODS)
def test_requests_changed_at_random_end_in_an_answer_or_a_refusal(server: Serving, path: str) -> None:
    chance = random.Random(path)
    item = gallery_pb2.Item(item_id="random", features=GOOD_FEATURES, attributes={"a": [1, {"b": None}]})
    whole = [
        gallery_pb2.UpsertRequest(gallery="strict", items=[item] * 3).SerializeToString(),
        search_pb2.SearchRequest(
            gallery="crowd", query_image=GOOD_IMAGE, part_weights={"upper": 1}, filter=search_pb2.Filter(item_ids=["x"])
        ).SerializeToString(),
        gallery_pb2.ListItemsRequest(gallery="crowd", page_size=5, page_token="My0w").SerializeToString(),
    ]
    for _ in range(60):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if path.endswith(("/CreateGallery", "/DeleteGallery", "/DeleteItems")):
            data = bytearray(field(1, b"nowhere/" + bytes(chance.choices(b"ab/.", k=3)))) + data[9:]
        answer = server.raw(path, bytes(data[: chance.randint(1, len(data))]))
        assert answer.code in OURS, answer
        if answer.code != "OK":
            server.check_sentence(answer.message)


LARGE: list[tuple[str, str, bytes, str, list[str]]] = [
    (
        "5 MiB",
        SEARCH,
        field(1, b"crowd") + field(2, bytes(5 << 20)),
        "RESOURCE_EXHAUSTED",
        ["the message has 5,242,892 bytes; at most 4,194,304 bytes are accepted here"],
    ),
    ("31 MiB", SEARCH, field(2, bytes(31 << 20)), "RESOURCE_EXHAUSTED", ["at most 4,194,304 bytes are accepted"]),
    ("33 MiB", SEARCH, field(2, bytes(33 << 20)), "RESOURCE_EXHAUSTED", ["Received message larger than max"]),
    ("33 MiB of an upsert", UPSERT, field(2, bytes(33 << 20)), "RESOURCE_EXHAUSTED", ["message larger than max"]),
    ("2 million excludes", SEARCH, field(1, b"crowd") + field(7, b"\x3a\0" * 2_000_000), "RESOURCE_EXHAUSTED", FIELDS),
    (
        "an attribute of 2 million nothings",
        SEARCH,
        field(1, b"crowd") + wrapped(field(1, b"a") + wrapped(b"\x0a\0" * 2_000_000, 6, 2), 1, 6, 7),
        "RESOURCE_EXHAUSTED",
        FIELDS,
    ),
    ("2 million weights", SEARCH, field(1, b"crowd") + b"\x42\0" * 2_000_000, "RESOURCE_EXHAUSTED", FIELDS),
    (
        "16 million items",
        UPSERT,
        field(1, b"crowd") + b"\x12\0" * (16 << 20),
        "RESOURCE_EXHAUSTED",
        ["at most 33,554,432 bytes are accepted here"],
    ),
    ("15 million items", UPSERT, field(1, b"crowd") + b"\x12\0" * 15_000_000, "RESOURCE_EXHAUSTED", FIELDS),
    (
        "an item of 15 million parts",
        UPSERT,
        field(1, b"crowd") + wrapped(b"\x0a\0" * 15_000_000, 1, 3, 2),
        "RESOURCE_EXHAUSTED",
        FIELDS,
    ),
    (
        "an item with an attribute of 15 million nothings",
        UPSERT,
        field(1, b"crowd") + wrapped(field(1, b"a") + wrapped(b"\x0a\0" * 15_000_000, 6, 2), 1, 7, 2),
        "RESOURCE_EXHAUSTED",
        FIELDS,
    ),
    (
        "2 million parts",
        "/glimpse.v1.GalleryService/CreateGallery",
        field(1, b"x") + field(2, b"\x0a\0" * 2_000_000),
        "RESOURCE_EXHAUSTED",
        FIELDS,
    ),
    (
        "2 million images",
        "/glimpse.v1.SearchService/Extract",
        b"\x0a\0" * 2_000_000,
        "RESOURCE_EXHAUSTED",
        FIELDS,
    ),
    (
        "excludes 500 deep",
        SEARCH,
        field(1, b"crowd") + wrapped(b"", *[7] * 501),
        "INVALID_ARGUMENT",
        ["not a well-formed glimpse.v1.SearchRequest message"],
    ),
    (
        "attributes 1,000 deep",
        SEARCH,
        field(1, b"crowd") + wrapped(field(1, b"a") + wrapped(b"", *[2, 1, 5] * 1000, 2), 1, 6, 7),
        "INVALID_ARGUMENT",
        ["not a well-formed glimpse.v1.SearchRequest message"],
    ),
]


@pytest.mark.parametrize(("name", "path", "data", "code", "words"), LARGE, ids=[case[0] for case in LARGE])
def test_message_that_would_take_much_memory_is_refused_before_it_does(
    server: Serving, name: str, path: str, data: bytes, code: str, words: list[str]
) -> None:
    server.forget_peak()
    before = server.peak()
    server.check_refused(server.raw(path, data), code, words)
    # Its bytes arrive, and are joined to one; nothing else is made of them.
    assert server.peak() - before < 3 * len(data) + (48 << 20)


@pytest.mark.parametrize("path", UNARY)
def test_message_over_4_mib_is_refused_by_every_method_but_upsert(server: Serving, path: str) -> None:
    answer = server.raw(path, field(100, bytes(4 << 20)))
    words = ["at most 4,194,304 bytes are accepted here"]
    server.check_refused(answer, "RESOURCE_EXHAUSTED", words)


def test_largest_messages_over_and_over_leave_nothing_behind(server: Serving) -> None:
    for data, path in ((bytes(30 << 20), SEARCH), (bytes((4 << 20) - 100), SEARCH), (bytes(30 << 20), UPSERT)):
        for _ in range(8):
            assert server.raw(path, field(1, b"crowd") + field(2, data)).code in (
                "RESOURCE_EXHAUSTED",
                "INVALID_ARGUMENT",
            )
        server.check_memory()


REQUEST = search_pb2.SearchRequest(gallery="crowd", item_id="3-0")
METADATA: list[Case] = [
    (
        "100 keys",
        [(f"key-{n}", "value") for n in range(100)],
        "RESOURCE_EXHAUSTED",
        ["metadata keys; at most 64 are accepted"],
    ),
    ("one key 100 times", [("key", "value")] * 100, "RESOURCE_EXHAUSTED", ["metadata keys; at most 64 are accepted"]),
    ("10,000 keys", [(f"key-{n}", "value") for n in range(10_000)], "RESOURCE_EXHAUSTED", []),
    ("a value of 1 MB", [("key", "v" * 1_000_000)], "RESOURCE_EXHAUSTED", ["metadata size exceeds hard limit"]),
    ("a key of 1 MB", [("k" * 1_000_000, "value")], "RESOURCE_EXHAUSTED", ["metadata size exceeds hard limit"]),
    ("bytes of 100 KB", [("key-bin", bytes(100_000))], "RESOURCE_EXHAUSTED", ["metadata size exceeds hard limit"]),
]


@pytest.mark.parametrize(("name", "metadata", "code", "words"), METADATA, ids=names(METADATA))
def test_metadata_without_measure_is_refused(
    server: Serving, name: str, metadata: list[tuple[str, Any]], code: str, words: list[str]
) -> None:
    answer = server.ask("Search", REQUEST, metadata=metadata)
    assert answer.code == code, answer
    assert all(word in answer.message for word in words), answer.message
    # A stream may end before its first request was read.
    answer = server.ask("Upsert", iter([gallery_pb2.UpsertRequest(gallery="crowd")]), metadata=metadata)
    assert answer.code == code, answer


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "Bearer \x7e" * 100)],
        [("grpc-status-details-bin", b"\xff\x00")],
        [("x-bin", bytes(range(256)))],
        [("content-length", "-1")],
        [("te", "gzip")],
        [("x", "")] * 50,
    ],
)
def test_odd_metadata_changes_nothing(server: Serving, metadata: list[tuple[str, Any]]) -> None:
    assert server.ask("Search", REQUEST, metadata=metadata).code == "OK"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/Search",
        "/glimpse.v1.SearchService",
        "/glimpse.v1.SearchService/",
        "/glimpse.v1.SearchService/search",
        "/glimpse.v1.SearchService/Search/",
        "/glimpse.v1.SearchService/../GalleryService/DeleteGallery",
        "/glimpse.v2.SearchService/Search",
        "/glimpse.v1.EraseService/Erase",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/" + "a" * 5000,
        "/%2e%2e/%00",
    ],
)
def test_unknown_method_is_unimplemented(server: Serving, path: str) -> None:
    server.check_refused(server.raw(path, b""), "UNIMPLEMENTED", ["there is no method '/"])


@pytest.mark.parametrize(
    "path", ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"]
)
def test_garbage_is_refused_by_health_and_reflection_too(server: Serving, path: str) -> None:
    server.check_refused(server.raw(path, b"\xff\xff"), "INVALID_ARGUMENT", ["the request is not a well-formed grpc."])
    assert server.raw(path, field(1, b"\xff")).code == "INVALID_ARGUMENT"


def test_health_of_an_unknown_service_is_not_found(server: Serving) -> None:
    assert server.raw("/grpc.health.v1.Health/Check", field(1, b"nowhere")).code == "NOT_FOUND"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HELLO = PREFACE + b"\0\0\0\4\0\0\0\0\0"
HEADERS, CONTINUATION = b"\0\0\1\1\0\0\0\0\1\x80", b"\0\0\1\x09\0\0\0\0\1\x80"
NOT_GRPC = {
    "an HTTP/1 request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an HTTP/1 request with a body": b"POST /glimpse.v1.SearchService/Search HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "a TLS greeting": bytes.fromhex("16030100c5010000c10303") + bytes(192),
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.6\r\n",
    "null bytes": bytes(10_000),
    "random bytes": random.Random(1).randbytes(100_000),
    "a preface cut short": PREFACE[:10],
    "a preface and nothing": PREFACE,
    "a preface and random bytes": PREFACE + random.Random(2).randbytes(100_000),
    "a frame of 16 MB": PREFACE + b"\xff\xff\xff\0\0\0\0\0\1" + bytes(1000),
    "a thousand settings frames": PREFACE + b"\0\0\0\4\0\0\0\0\0" * 1000,
    "a thousand pings": HELLO + (b"\0\0\x08\6\0\0\0\0\0" + bytes(8)) * 1000,
    "a header that never ends": PREFACE
    + b"\0\0\0\4\0\0\0\0\0"
    + b"\0\0\1\1\0\0\0\0\1\x80"
    + b"\0\0\1\x09\0\0\0\0\1\x80" * 1000,
    "data on no stream": HELLO + b"\0\0\4\0\1\0\0\0\7data",
    "resets of streams that are not": HELLO + b"\0\0\4\3\0\0\0\0\1\0\0\0\x08" * 1000,
    "a window of too much": HELLO + b"\0\0\4\x08\0\0\0\0\0\x7f\xff\xff\xff" * 10,
}


@pytest.mark.parametrize("name", NOT_GRPC)
def test_what_is_not_grpc_gets_no_answer_worth_having(server: Serving, name: str) -> None:
    host, port = server.address.rsplit(":", 1)
    received = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            connection.sendall(NOT_GRPC[name])
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                received += piece
        except OSError:  # closed while we were still talking
            pass
    for leak in (b"Traceback", b"Exception", b"/work", b"HTTP/1"):
        assert leak not in received


def test_silent_connections_keep_nobody_else_waiting(server: Serving) -> None:
    host, port = server.address.rsplit(":", 1)
    connections = [socket.create_connection((host, int(port)), timeout=10) for _ in range(200)]
    for connection in connections[::2]:
        connection.sendall(PREFACE[:7])
    server.check_unharmed()
    for connection in connections:
        connection.close()
