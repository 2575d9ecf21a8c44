"""SIGTERM while clients search and store as fast as they can: what was accepted is answered, what was answered is kept.

A call was accepted if the server has a line of it in its log. So each such line must say OK, and as many clients must
have got an answer; what comes later is refused before it is a call. Streams end after what they were answered.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from glimpse.cli.subserver import subserver
from protos.glimpse.v1 import gallery_pb2, gallery_pb2_grpc, search_pb2, search_pb2_grpc
from tests.bundles import encoded, person, tiny_bundle

SEARCHERS, WRITERS = 6, 2
GALLERY = "stopping"
SEARCH, UPSERT = "SearchService/Search", "GalleryService/Upsert"
ENDED = "UNAVAILABLE"
"""How a stream of a server that stops ends, after its answers."""


@dataclass
class Stops:
    """What was seen over all stops."""

    stops: int = 0
    answered: int = 0
    """Searches whose answer came."""
    acknowledged: int = 0
    """Batches that were stored."""
    failed: Counter[str] = field(default_factory=Counter)
    """Calls that the server accepted and did not answer."""
    unheard: int = 0
    """Searches that the server answered and no client got."""
    lost: int = 0
    """Acknowledged items that are gone after the next start."""

    @property
    def sound(self) -> bool:
        return self.answered > 0 and self.acknowledged > 0 and not (self.failed or self.unheard or self.lost)

    def describe(self) -> str:
        return (
            f"{self.stops} stops under load: {self.answered} searches answered, {self.acknowledged} batches stored; "
            f"accepted requests failed {sum(self.failed.values())} {dict(self.failed) or ''}, answers that nobody got "
            f"{self.unheard}, acknowledged items lost {self.lost}"
        ).replace(" ,", ",")


class Load:
    """Clients that go on until the server is gone."""

    def __init__(self, channel: grpc.Channel, first: int) -> None:
        self._search = search_pb2_grpc.SearchServiceStub(channel)
        self._galleries = gallery_pb2_grpc.GalleryServiceStub(channel)
        self._lock = threading.Condition()
        self._first = first
        self.answered = 0
        self.stored: list[str] = []
        self.batches = 0
        self._threads = [threading.Thread(target=self._searches) for _ in range(SEARCHERS)]
        self._threads += [threading.Thread(target=self._writes, args=(writer,)) for writer in range(WRITERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self, answers: int) -> None:
        """Until so many searches were answered, and something stored."""
        with self._lock:
            assert self._lock.wait_for(lambda: self.answered >= answers and self.batches > 0, timeout=60)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _searches(self) -> None:
        request = search_pb2.SearchRequest(gallery=GALLERY, query_image=encoded(person(1, shot=3)), top_k=3)
        try:
            while self._search.Search(request, timeout=60).matches:
                with self._lock:
                    self.answered += 1
                    self._lock.notify_all()
        except grpc.RpcError:
            return

    def _writes(self, writer: int) -> None:
        def batches() -> object:
            for number in range(self._first, self._first + 100_000):
                item = gallery_pb2.Item(item_id=f"{writer}-{number}", image=encoded(person(number % 40)))
                yield gallery_pb2.UpsertRequest(gallery=GALLERY, items=[item])

        try:
            for response in self._galleries.Upsert(batches(), timeout=60):
                with self._lock:
                    self.batches += 1
                    self._lock.notify_all()
                    self.stored += [result.item_id for result in response.results if not result.status.code]
        except grpc.RpcError:
            return


def stop_under_load(folder: Path, stops: int, seed: int = 0) -> Stops:
    """Starts a server over one data folder, loads it, and stops it at a random moment, so many times."""
    chance = random.Random(seed)
    model = tiny_bundle(folder / "model", work=4).source
    done = Stops()
    expected: set[str] = set()
    for number in range(stops + 1):
        log = folder / f"log-{number}"
        arguments = ("--log-level", "info", "--log-format", "json")
        with subserver(folder / "data", model, log, arguments) as address, grpc.insecure_channel(address) as channel:
            galleries = gallery_pb2_grpc.GalleryServiceStub(channel)
            if number == 0:
                galleries.CreateGallery(gallery_pb2.CreateGalleryRequest(gallery=GALLERY))
                first = gallery_pb2.Item(item_id="first", image=encoded(person(1)))
                list(galleries.Upsert(iter([gallery_pb2.UpsertRequest(gallery=GALLERY, items=[first])])))
                expected.add("first")
            done.lost += len(expected - _held(galleries))
            if number == stops:
                break
            load = Load(channel, number * 100_000)
            load.start()
            load.wait(chance.randint(20, 100))
            process = int((folder / "data" / "lock").read_text())
            os.kill(process, signal.SIGTERM)
            load.join()
            _await_end(process)  # a second signal would end it at once
        done.stops += 1
        done.answered += load.answered
        done.acknowledged += load.batches
        expected |= set(load.stored)
        codes = Counter(_calls(log))
        done.unheard += codes[SEARCH, "OK"] - load.answered
        for (method, code), count in codes.items():
            if code != "OK" and (method, code) != (UPSERT, ENDED):
                done.failed[f"{method} {code}"] += count
    return done


def _await_end(process: int, seconds: float = 60.0) -> None:
    """Until a child has ended; it stays a zombie until its code is asked for."""
    end = time.monotonic() + seconds
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end, "the server does not stop"
        time.sleep(0.02)


def _held(galleries: gallery_pb2_grpc.GalleryServiceStub) -> set[str]:
    """The ids of all items."""
    found: set[str] = set()
    token = ""
    while True:
        request = gallery_pb2.ListItemsRequest(gallery=GALLERY, page_size=1000, page_token=token)
        page = galleries.ListItems(request)
        found |= {item.item_id for item in page.items}
        token = page.next_page_token
        if not token:
            return found


def _calls(log: Path) -> list[tuple[str, str]]:
    """Method and outcome of each call in a server's log; equal refusals are one line that counts them."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    calls = [line for line in lines if line["message"] == "call"]
    return [(line["method"], line["code"]) for line in calls for _ in range(line.get("calls", 1))]
