"""A long stretch of ordinary work: searches at a share of the best rate while people are added and erased.

What must hold: no call fails, and memory, file descriptors and the slowest hundredth of the searches stay as they were.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
import numpy as np

from benchmarks.load import closed_loop
from glimpse.cli.subserver import subserver
from protos.glimpse.v1 import gallery_pb2, gallery_pb2_grpc, search_pb2, search_pb2_grpc
from tests.bundles import encoded, person, tiny_bundle

PEOPLE = 200
GALLERY = "soak"
GROWTH = 64 << 20
JUDGED_SECONDS = 10.0
LEAST_RATE = 4.0
"""Searches a second, however little a machine that is busy with other things gets done."""
WARM_SHARE = 0.2
"""Of the time, what passes before anything is compared: caches fill, and the first segments are made."""


WINDOW_SECONDS = 60.0
STOOD_STILL = 1.0
"""Seconds that the load itself is late by when the machine, not the server, has stood still."""
MOST_LEFT_OUT = 0.02
"""Of the searches, what may be left out because the machine stood still."""


@dataclass(frozen=True)
class Sample:
    """One window of the course."""

    seconds: float
    """Since the searches began."""
    searches: int
    changes: int
    errors: int
    p50_ms: float
    p99_ms: float
    resident_mib: float
    files: int
    late_ms: float
    """By how much the load itself was late with a search, at most."""
    left_out: int
    """Searches that were not asked because the machine stood still; else all of them would come at once after it."""

    def __str__(self) -> str:
        return (
            f"{self.seconds / 60:6.1f} min: {self.searches} searches, {self.changes} adds and erases, {self.errors} "
            f"errors, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, {self.resident_mib:.1f} MiB, "
            f"{self.files} open files, load late by {self.late_ms:.0f} ms, {self.left_out} searches left out"
        )


class Arrivals:
    """Poisson times at a rate; those at which the machine stood still are left out and counted."""

    def __init__(self, rate: float, begin: float) -> None:
        self.rate, self.due = rate, begin
        self.left_out = 0
        self._chance = np.random.default_rng(0)

    def arrive(self, now: float) -> float:
        """The time that one was due at, which now is over, and makes another one due."""
        if now - self.due > STOOD_STILL:
            self.left_out += int((now - self.due) * self.rate)
            self.due = now
        due = self.due
        self.due += float(self._chance.exponential(1 / self.rate))
        return due


@dataclass
class Course:
    """What was seen, window by window."""

    searches: int = 0
    changes: int = 0
    left_out: int = 0
    """Searches, because the machine stood still."""
    errors: Counter[str] = field(default_factory=Counter)
    p99: list[float] = field(default_factory=list)
    """Seconds, a window each."""
    resident: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    window: float = WINDOW_SECONDS
    """Seconds."""
    rate: float = 0.0
    """Searches a second that were asked for."""
    tell: Callable[[Sample], None] = lambda sample: None
    """Called with each window."""

    def warm(self, values: list[int] | list[float]) -> tuple[float, float]:
        """Medians of the first and of the last third, once it was warm."""
        rest = np.array(values[int(WARM_SHARE * len(values)) :], np.float64)
        third = max(1, len(rest) // 3)
        return float(np.median(rest[:third])), float(np.median(rest[-third:]))

    @property
    def growth(self) -> int:
        """Bytes of memory."""
        before, after = self.warm(self.resident)
        return int(after - before)

    @property
    def more_files(self) -> int:
        before, after = self.warm(self.files)
        return int(after - before)

    @property
    def slower(self) -> float:
        """By what the 99th percentile has grown."""
        before, after = self.warm(self.p99)
        return after / before

    @property
    def sound(self) -> bool:
        """No errors, memory and files flat, few searches left out, and the slowest ones no slower than twice.

        The last is not judged by windows that are too short for a hundredth to mean anything.
        """
        flat = self.growth < GROWTH and self.more_files <= 4
        slow = self.window >= JUDGED_SECONDS and self.slower >= 2
        asked = self.searches > 0 and self.changes > 0 and self.left_out <= MOST_LEFT_OUT * self.searches
        return not self.errors and asked and flat and not slow

    def describe(self) -> str:
        p99 = self.warm(self.p99)[1] * 1e3
        errors = f"{sum(self.errors.values())} {dict(self.errors)}" if self.errors else "0"
        return (
            f"{self.searches} searches at {self.rate:.0f}/s, {self.left_out} left out while the machine stood still, "
            f"{self.changes} adds and erases; errors {errors}; "
            f"memory {self.growth / (1 << 20):+.1f} MiB, files {self.more_files:+d}, "
            f"p99 {p99:.0f} ms, x{self.slower:.2f}"
        )


def queries() -> list[search_pb2.SearchRequest]:
    return [
        search_pb2.SearchRequest(gallery=GALLERY, query_image=encoded(person(number, shot=9)), top_k=10)
        for number in range(32)
    ]


def fill(channel: grpc.Channel) -> None:
    galleries = gallery_pb2_grpc.GalleryServiceStub(channel)
    galleries.CreateGallery(gallery_pb2.CreateGalleryRequest(gallery=GALLERY))
    items = [item(number, shot) for number in range(PEOPLE) for shot in range(2)]
    for _ in galleries.Upsert(iter([gallery_pb2.UpsertRequest(gallery=GALLERY, items=items)])):
        pass
    search_pb2_grpc.SearchServiceStub(channel).Search(queries()[0])  # the first one compiles


def item(number: int, shot: int) -> gallery_pb2.Item:
    return gallery_pb2.Item(
        item_id=f"{number}-{shot}",
        person_id=str(number),
        camera_id=f"c{shot}",
        image=encoded(person(number, shot=shot)),
    )


def change(channel: grpc.Channel, stop: threading.Event, course: Course) -> None:
    """Adds a few people and erases them again, until told to stop."""
    galleries = gallery_pb2_grpc.GalleryServiceStub(channel)
    for round_ in itertools.count():
        if stop.wait(0.2):
            return
        number = PEOPLE + round_ % 50
        try:
            request = gallery_pb2.UpsertRequest(gallery=GALLERY, items=[item(number, shot) for shot in range(3)])
            for response in galleries.Upsert(iter([request]), timeout=60):
                for result in response.results:
                    if result.status.code:
                        course.errors[f"item {result.status.code}"] += 1
            galleries.Erase(gallery_pb2.EraseRequest(gallery=GALLERY, person_ids=[str(number)]), timeout=60)
            course.changes += 2
        except grpc.RpcError as error:
            course.errors[f"change {error.code().name}"] += 1  # type: ignore[attr-defined]


async def search(address: str, rate: float, seconds: float, course: Course, pid: int, window: float) -> None:
    """Searches at Poisson times for so long; samples the process once a window."""
    asked = itertools.cycle(queries())
    async with grpc.aio.insecure_channel(address) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        begin = time.perf_counter()
        arrivals = Arrivals(rate, begin)
        latencies: list[float] = []
        running: set[asyncio.Task[None]] = set()
        so_far = course.searches, course.changes, sum(course.errors.values())
        late, left_out = 0.0, 0

        async def one(request: search_pb2.SearchRequest, due: float) -> None:
            try:
                response = await stub.Search(request, timeout=60)
                if not response.matches:
                    course.errors["no match"] += 1
            except grpc.aio.AioRpcError as error:
                course.errors[error.code().name] += 1
            latencies.append(time.perf_counter() - due)
            course.searches += 1

        end_of_window = begin + window
        while arrivals.due < begin + seconds:
            await asyncio.sleep(max(0.0, arrivals.due - time.perf_counter()))
            late = max(late, time.perf_counter() - arrivals.due)
            task = asyncio.create_task(one(next(asked), arrivals.arrive(time.perf_counter())))
            running.add(task)
            task.add_done_callback(running.discard)
            if time.perf_counter() >= end_of_window and latencies:
                course.p99.append(float(np.percentile(latencies, 99)))
                course.resident.append(resident(pid))
                course.files.append(open_files(pid))
                now = course.searches, course.changes, sum(course.errors.values())
                course.tell(
                    Sample(
                        round(time.perf_counter() - begin, 1),
                        *(after - before for before, after in zip(so_far, now, strict=True)),
                        round(float(np.median(latencies)) * 1e3, 2),
                        round(course.p99[-1] * 1e3, 2),
                        round(course.resident[-1] / (1 << 20), 2),
                        course.files[-1],
                        round(late * 1e3, 1),
                        arrivals.left_out - left_out,
                    )
                )
                so_far, late, left_out = now, 0.0, arrivals.left_out
                latencies.clear()
                end_of_window += window
        await asyncio.gather(*running)
        course.left_out = arrivals.left_out


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) << 10


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextmanager
def stocked(folder: Path, work: int) -> Iterator[tuple[str, int, grpc.Channel]]:
    """A server with people in it: address, process and a channel to it."""
    model = tiny_bundle(folder / "model", work=work).source
    with (
        subserver(folder / "data", model, folder / "log") as address,
        grpc.insecure_channel(address) as channel,
    ):
        fill(channel)
        yield address, int((folder / "data" / "lock").read_text()), channel


def noting(file: Path) -> Callable[[Sample], None]:
    """Prints each sample and adds it to a file of JSON lines, which is begun anew."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")

    def tell(sample: Sample) -> None:
        print(sample, flush=True)
        with file.open("a") as lines:
            lines.write(json.dumps(asdict(sample)) + "\n")

    return tell


def steady(
    folder: Path,
    seconds: float,
    load: float,
    *,
    work: int = 4,
    probe: float = 4.0,
    tell: Callable[[Sample], None] = lambda sample: None,
) -> Course:
    """Runs it all: finds the best rate among adds and erases, then searches at ``load`` times that for ``seconds``."""
    course = Course(tell=tell)
    with stocked(folder, work) as (address, pid, channel):
        stop = threading.Event()
        changing = threading.Thread(target=change, args=(channel, stop, course))
        changing.start()
        try:
            best = asyncio.run(closed_loop(address, queries(), callers=16, seconds=probe)).rate
            course.rate = max(LEAST_RATE, load * best)
            course.window = window = max(0.2, min(WINDOW_SECONDS, seconds / 20))
            asyncio.run(search(address, course.rate, seconds, course, pid, window))
        finally:
            stop.set()
            changing.join()
    return course
