"""kill -9 of a real server in the middle of `Upsert`: what it acknowledged is there after a restart, no batch by half.

All trials share one data folder, so that each server opens what its killed predecessors left behind.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest

from glimpse.cli.boundary import Failure
from glimpse.cli.subserver import subserver
from glimpse.client.conversions import features_message
from protos.glimpse.v1 import features_pb2, gallery_pb2, gallery_pb2_grpc, search_pb2, search_pb2_grpc
from tests.bundles import SCHEMA, encoded, person, tiny_bundle
from tests.glimpse.features import random_features

TRIALS = 20
FACES = 12
"""Different images, so that batches are made quickly."""
IMAGES = [encoded(person(n)) for n in range(FACES)]


@dataclass
class Writer:
    """One gallery, the batches that were sent to it, and what it must hold once they are committed.

    A batch is the same each time it is asked for; some of its items replace those of earlier batches.
    """

    gallery: str
    size: int
    committed: int = 0
    acknowledged: int = 0
    sent: int = 0
    expected: dict[str, tuple[int, gallery_pb2.Item]] = field(default_factory=dict)
    """Item id to the write that stored it, and what was sent."""

    def items(self, batch: int) -> list[gallery_pb2.Item]:
        chance = random.Random(f"{self.gallery} {batch}")
        ids = chance.sample([f"again-{n}" for n in range(40)], self.size // 2)
        ids += [f"{batch:04}-{n}" for n in range(self.size - len(ids))]
        rows = random_features(self.size, SCHEMA, seed=batch)
        items = []
        for n, item_id in enumerate(ids):
            item = gallery_pb2.Item(item_id=item_id, person_id=str(batch), attributes={"batch": batch, "n": n})
            if self.gallery == "images":
                item.image = IMAGES[(batch + n) % FACES]
            else:
                item.features.CopyFrom(features_message(rows[n : n + 1]))
            items.append(item)
        return items

    def requests(self) -> Iterator[gallery_pb2.UpsertRequest]:
        """Batches without end, sent as fast as the server takes them."""
        while True:
            self.sent += 1
            yield gallery_pb2.UpsertRequest(gallery=self.gallery, items=self.items(self.sent))

    def write(self, channel: grpc.Channel, enough: threading.Semaphore) -> str:
        """Writes until the server is gone; returns how the call ended."""
        self.sent = self.acknowledged = self.committed
        call = gallery_pb2_grpc.GalleryServiceStub(channel).Upsert(self.requests())
        try:
            for response in call:
                self.acknowledged += 1
                assert response.sequence == self.acknowledged
                assert not any(result.status.code for result in response.results)
                enough.release()
        except grpc.RpcError:
            pass
        return str(call.code().name)

    def check(self, channel: grpc.Channel, chance: random.Random) -> None:
        """The gallery holds every acknowledged batch, and some that were on their way, each of them whole."""
        galleries = gallery_pb2_grpc.GalleryServiceStub(channel)
        report = galleries.GetGallery(gallery_pb2.GetGalleryRequest(gallery=self.gallery))
        assert self.acknowledged <= report.sequence <= self.sent
        for batch in range(self.committed + 1, report.sequence + 1):
            self.expected |= {item.item_id: (batch, item) for item in self.items(batch)}
        known = [item_id for item_id, (batch, _) in self.expected.items() if batch <= self.committed]
        fresh = [item_id for item_id, (batch, _) in self.expected.items() if batch > self.committed]
        self.committed = report.sequence
        assert report.items == len(self.expected)
        for item in self.listed(galleries):
            batch, sent = self.expected[item.item_id]
            assert (item.sequence, item.person_id, item.attributes) == (batch, str(batch), sent.attributes)
        for item_id in fresh + chance.sample(known, min(len(known), 30)):
            self.check_item(galleries, item_id)
        if self.expected:
            self.check_search(channel, chance.choice(sorted(self.expected)))

    def listed(self, galleries: gallery_pb2_grpc.GalleryServiceStub) -> list[gallery_pb2.StoredItem]:
        """All items, which must be the expected ones."""
        request = gallery_pb2.ListItemsRequest(gallery=self.gallery, page_size=1000)
        page = galleries.ListItems(request)
        items = list(page.items)
        while page.next_page_token:
            request.page_token = page.next_page_token
            page = galleries.ListItems(request)
            items += page.items
        assert [item.item_id for item in items] == sorted(self.expected)
        return items

    def check_item(self, galleries: gallery_pb2_grpc.GalleryServiceStub, item_id: str) -> None:
        """The item is bit by bit what was sent, in half precision."""
        _, sent = self.expected[item_id]
        stored = galleries.GetItem(gallery_pb2.GetItemRequest(gallery=self.gallery, item_id=item_id))
        assert stored.attributes == sent.attributes
        if self.gallery == "images":
            assert stored.image == sent.image
            return
        assert stored.features.dtype == features_pb2.PartFeatures.FLOAT16
        assert stored.features.vectors == np.frombuffer(sent.features.vectors, "<f4").astype("<f2").tobytes()
        assert stored.features.visibility == sent.features.visibility

    def check_search(self, channel: grpc.Channel, item_id: str) -> None:
        """The index has caught up with the store, and finds a person by what was sent."""
        _, sent = self.expected[item_id]
        request = search_pb2.SearchRequest(gallery=self.gallery, top_k=1000)
        if self.gallery == "images":
            request.query_image = sent.image
        else:
            request.features.CopyFrom(sent.features)
        response = search_pb2_grpc.SearchServiceStub(channel).Search(request)
        assert response.gallery_sequence == self.committed
        distances = {match.item_id: match.distance for match in response.matches}
        assert distances[item_id] == pytest.approx(min(distances.values()), abs=1e-3)


def write_until_killed(folder: Path, writers: list[Writer], chance: random.Random) -> None:
    """Checks what is there, writes on, and kills the server at some moment; Failure tells its exit code."""
    with (
        subserver(folder / "data", folder / "model", folder / "log") as address,
        grpc.insecure_channel(address) as channel,
        ThreadPoolExecutor(len(writers)) as threads,
    ):
        for writer in writers:
            writer.check(channel, chance)
        enough = threading.Semaphore(0)
        calls = [threads.submit(writer.write, channel, enough) for writer in writers]
        for _ in range(chance.randint(0, 25)):
            assert enough.acquire(timeout=30)
        process = int((folder / "data" / "lock").read_text())
        threading.Timer(chance.uniform(0, 0.03), os.kill, (process, signal.SIGKILL)).start()
        assert {call.result(30) for call in calls} == {"UNAVAILABLE"}


def test_acknowledged_items_survive_kill_9_and_no_batch_is_there_by_half(tmp_path: Path) -> None:
    chance = random.Random(0)
    tiny_bundle(tmp_path / "model")
    server = (tmp_path / "data", tmp_path / "model", tmp_path / "log")
    writers = [Writer("features", 20), Writer("images", 6)]
    with subserver(*server) as address, grpc.insecure_channel(address) as channel:
        for writer in writers:
            request = gallery_pb2.CreateGalleryRequest(gallery=writer.gallery, keep_images=writer.gallery == "images")
            gallery_pb2_grpc.GalleryServiceStub(channel).CreateGallery(request)
    for _ in range(TRIALS):
        with pytest.raises(Failure, match="exit code -9"):
            write_until_killed(tmp_path, writers, chance)
    with subserver(*server) as address, grpc.insecure_channel(address) as channel:
        for writer in writers:
            writer.check(channel, chance)
            assert writer.committed >= TRIALS
            for item_id in writer.expected:
                writer.check_item(gallery_pb2_grpc.GalleryServiceStub(channel), item_id)
