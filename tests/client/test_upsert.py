"""Upsert: batches by count and bytes, a bounded window, results in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from glimpse.client import Client, InvalidArgument, Item, NotFound, Unavailable, batches
from glimpse.client.client import UPSERT_WINDOW
from protos.glimpse.v1 import gallery_pb2
from tests.client.fake_server import FakeServer, status


def items(count: int, image: bytes = b"jpeg") -> Iterator[Item]:
    return (Item(item_id=f"i{n:04d}", image=image) for n in range(count))


def test_batches_end_at_the_item_limit_and_at_the_byte_limit() -> None:
    small = [gallery_pb2.Item(item_id=str(n), image=b"x") for n in range(7)]
    assert [len(request.items) for request in batches.upsert_requests("g", small, 3)] == [3, 3, 1]
    large = [gallery_pb2.Item(item_id=str(n), image=bytes(10 << 20)) for n in range(5)]
    requests = list(batches.upsert_requests("g", large, 100))
    assert [len(request.items) for request in requests] == [2, 2, 1]
    assert all(request.ByteSize() <= 32 << 20 for request in requests)


def test_an_item_that_fits_no_batch_is_named() -> None:
    huge = gallery_pb2.Item(item_id="huge", image=bytes(32 << 20))
    with pytest.raises(ValueError, match="item 'huge'"):
        list(batches.upsert_requests("g", [huge], 100))


@pytest.mark.parametrize("batch_items", [0, 1001])
def test_batch_sizes_beyond_the_servers_limit_are_refused(client: Client, batch_items: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 1,000"):
        list(client.upsert("lobby", items(1), batch_items=batch_items))


def test_results_come_in_order_and_a_refused_item_fails_alone(client: Client, server: FakeServer) -> None:
    mixed = [Item(item_id=f"i{n:02d}", image=b"bad" if n % 5 == 0 else b"jpeg") for n in range(23)]
    results = list(client.upsert("lobby", mixed, batch_items=4))
    assert [result.item_id for result in results] == [item.item_id for item in mixed]
    assert [result.ok for result in results] == [n % 5 != 0 for n in range(23)]
    assert results[0].message == "the image cannot be decoded"
    assert [result.sequence for result in results] == [n // 4 + 1 for n in range(23)]
    assert len(server.galleries["lobby"]) == 18


def test_no_more_than_the_window_is_under_way_while_the_server_is_slow(client: Client, server: FakeServer) -> None:
    drawn = 0

    def counted() -> Iterator[Item]:
        nonlocal drawn
        for item in items(200):
            drawn += 1
            yield item

    results = client.upsert("lobby", counted(), batch_items=5)
    next(results)
    # One item more than the batches: the one that showed that the last batch was full.
    assert drawn <= (UPSERT_WINDOW + 1) * 5 + 1
    assert len(list(results)) == 199
    assert server.largest_gap <= UPSERT_WINDOW


def test_an_empty_sequence_of_items_sends_nothing(client: Client, server: FakeServer) -> None:
    assert list(client.upsert("lobby", [])) == []
    assert server.requests == []


def test_a_failing_stream_raises_after_the_acknowledged_results(client: Client, server: FakeServer) -> None:
    results = client.upsert("lobby", items(100), batch_items=5)  # far more batches than the window
    assert next(results).ok
    server.failures.append(status(14, "draining"))
    with pytest.raises(Unavailable, match="draining"):
        list(results)


def test_an_unknown_gallery_is_an_error_of_the_call(client: Client) -> None:
    with pytest.raises(NotFound):
        list(client.upsert("nowhere", items(3)))


def test_leaving_the_iterator_early_ends_the_call(client: Client, server: FakeServer) -> None:
    results = client.upsert("lobby", items(100), batch_items=5)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert client.health() == "SERVING"


def test_an_error_class_names_its_status(client: Client, server: FakeServer) -> None:
    server.failures.append(status(3, "no items"))
    with pytest.raises(InvalidArgument) as caught:
        list(client.upsert("lobby", items(3)))
    assert (caught.value.code, caught.value.message) == ("INVALID_ARGUMENT", "no items")
