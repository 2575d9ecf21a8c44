"""Overload: what a server still gets done when many times more is asked of it than it can do.

`glimpse bench overload` finds the rate that a server reaches at its best (closed loop, 16 callers), and then sends up
to ten times as much at Poisson times, whatever the answers. Goodput counts the answers that arrive within half a
second of the intended send time. Twice: by callers who say so (the deadline of their call), and by patient ones, whose
deadline is far away although a late answer is of no use to them. The server has all cores but the last, the load that.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from benchmarks.load import closed_loop
from benchmarks.pinning import pinned_server, split_cores
from benchmarks.report import Report, Row
from benchmarks.serving import CALLERS, Requests, fill, query_images, requests
from glimpse.bundle import open_bundle
from protos.glimpse.v1 import search_pb2_grpc
from server.settings import default_model

TIMES = (1, 2, 5, 10)
USEFUL_SECONDS = 0.5
PATIENCE = {"deadline": USEFUL_SECONDS, "patient": 5.0}
GOAL = 0.8
_EXPECTED = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}


@dataclass(frozen=True)
class Flood:
    """What became of one stretch of too many requests."""

    sent: int
    good: int
    """Answered in useful time."""
    late: int
    refusals: np.ndarray
    """Seconds ``(N,)`` until a call was refused for want of room."""
    seconds: float

    @property
    def goodput(self) -> float:
        """Useful answers a second."""
        return self.good / self.seconds


async def flood(address: str, asked: Requests, rate: float, seconds: float, patience: float, seed: int) -> Flood:
    """Sends ``rate`` requests a second for some time. An answer that is no answer and no refusal raises."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, size=int(rate * seconds * 2) + 16)
    times = np.cumsum(gaps)
    times = times[times < seconds]
    good = late = 0
    refusals: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        search = search_pb2_grpc.SearchServiceStub(channel).Search
        await search(asked[0])
        begin = time.perf_counter()

        async def one(index: int, due: float) -> None:
            nonlocal good, late
            try:
                await search(asked[index % len(asked)], timeout=patience)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _EXPECTED:
                    raise
                if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                    refusals.append(time.perf_counter() - due)
                return
            if time.perf_counter() - due <= USEFUL_SECONDS:
                good += 1
            else:
                late += 1

        tasks = []
        for index, offset in enumerate(times):
            due = begin + float(offset)
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(index, due)))
        took = time.perf_counter() - begin  # what is answered after the last was sent is not of this stretch's rate
        await asyncio.gather(*tasks)
    return Flood(len(times), good, late, np.array(refusals), max(took, seconds))


def run(quick: bool, model: Path | None = None) -> Report:
    """Measures and returns goodput as a share of the best rate."""
    report = Report("overload")
    server_cores, client_cores = split_cores()
    bundle = open_bundle(model or default_model())
    asked = requests(query_images(64))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glimpse-bench-")))
        address = stack.enter_context(pinned_server(folder, bundle.source, server_cores, client_cores))
        channel = stack.enter_context(grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]))
        fill(channel, bundle.schema.always_visible)
        seconds = 3.0 if quick else 8.0
        best = statistics.median(
            asyncio.run(closed_loop(address, asked, callers=CALLERS, seconds=seconds / 2)).rate for _ in range(3)
        )
        report.add(Row("best_rate", best, "searches/s", peer=f"{CALLERS} callers, {bundle.identity.name}"))
        for name, patience in PATIENCE.items():
            for times in TIMES:
                seen = asyncio.run(flood(address, asked, times * best, seconds, patience, seed=times))
                note = f"{seen.sent / seen.seconds:.0f}/s sent, {seen.late} late, {len(seen.refusals)} refused"
                goal = f">= {GOAL}" if times == max(TIMES) else None
                report.add(Row(f"{name}_{times}x_goodput", seen.goodput / best, "ratio", goal=goal, peer=note))
                if len(seen.refusals):
                    p50 = float(np.median(seen.refusals)) * 1e3
                    report.add(Row(f"{name}_{times}x_refusal_p50", p50, "ms"))
    return report
