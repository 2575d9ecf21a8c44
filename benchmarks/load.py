"""Load on a server: closed loop (N callers) and open loop (Poisson arrivals), in windows."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np

from protos.glimpse.v1 import search_pb2, search_pb2_grpc

WARM_UP_SECONDS = 0.5


@dataclass(frozen=True)
class Window:
    """What one stretch of load saw. Latencies in seconds; open loops count from the intended send time."""

    latencies: np.ndarray
    seconds: float
    sent: int
    good: int
    """Answers within the deadline."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    @property
    def p50(self) -> float:
        return float(np.median(self.latencies))


def stable(windows: Sequence[Window]) -> bool:
    """perf_analyzer's rule: the last three windows agree within 10 % in latency and throughput."""
    if len(windows) < 3:
        return False
    return all(
        max(values) <= 1.1 * min(values) for values in ([w.p50 for w in windows[-3:]], [w.rate for w in windows[-3:]])
    )


STAGES = ("decode", "preprocess", "queue", "inference", "search")


@dataclass(frozen=True)
class Caller:
    """What one caller saw, call by call."""

    latencies: np.ndarray
    """Seconds ``(N,)``."""
    stages: np.ndarray
    """Seconds ``(N, S)`` of `STAGES`, as the server told them."""
    inside: np.ndarray
    """Seconds ``(N,)`` from having the request to having the answer, by the server's clock."""

    @property
    def p50(self) -> float:
        return float(np.median(self.latencies))

    def milliseconds(self) -> dict[str, float]:
        """Medians by stage; ``handling`` is what the server did besides, ``wire`` what passed outside of it: gRPC on
        both sides, the kernel, and waking up."""
        handling = self.inside - self.stages.sum(axis=1)
        parts = dict(zip(STAGES, self.stages.T, strict=True))
        parts |= {"handling": handling, "wire": self.latencies - self.inside}
        return {name: float(np.median(values)) * 1e3 for name, values in parts.items()}


def one_caller(address: str, requests: Sequence[search_pb2.SearchRequest], seconds: float) -> Caller:
    """A caller that waits for each answer, through a blocking stub as `glimpse.client` has it. A failed call raises."""
    latencies, answers = [], []
    with grpc.insecure_channel(address) as channel:
        search = search_pb2_grpc.SearchServiceStub(channel).Search
        begin = time.perf_counter() + WARM_UP_SECONDS
        for request in itertools.cycle(requests):
            sent = time.perf_counter()
            if sent >= begin + seconds:
                break
            answer = search(request)
            if sent >= begin:
                latencies.append(time.perf_counter() - sent)
                answers.append(answer.timings)
    told = np.array([[getattr(each, stage).ToNanoseconds() for stage in (*STAGES, "total")] for each in answers]) / 1e9
    return Caller(np.array(latencies), told[:, :-1], told[:, -1])


async def closed_loop(
    address: str, requests: Sequence[search_pb2.SearchRequest], callers: int, seconds: float
) -> Window:
    """``callers`` that each send the next request when the last is answered. A failed call raises.

    What is answered within the window counts, whenever it was sent: several are under way at either end.
    """
    async with grpc.aio.insecure_channel(address) as channel:
        search = search_pb2_grpc.SearchServiceStub(channel).Search
        queue = itertools.cycle(requests)
        latencies: list[float] = []
        begin = time.perf_counter() + WARM_UP_SECONDS
        end = begin + seconds

        async def caller() -> None:
            while (sent := time.perf_counter()) < end:
                await search(next(queue))
                done = time.perf_counter()
                if begin <= done <= end:
                    latencies.append(done - sent)

        await asyncio.gather(*(caller() for _ in range(callers)))
    return Window(np.array(latencies), seconds, len(latencies), len(latencies))


async def open_loop(
    address: str,
    requests: Sequence[search_pb2.SearchRequest],
    rate: float,
    seconds: float,
    deadline: float,
    seed: int,
) -> Window:
    """Requests at Poisson times, whether or not earlier ones were answered: queueing shows."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, size=int(rate * seconds * 2) + 16)
    times = np.cumsum(gaps)
    times = times[times < seconds]
    async with grpc.aio.insecure_channel(address) as channel:
        search = search_pb2_grpc.SearchServiceStub(channel).Search
        await search(requests[0])
        latencies: list[float] = []
        begin = time.perf_counter()

        async def one(index: int, due: float) -> None:
            try:
                await search(requests[index % len(requests)], timeout=max(deadline * 4, 1.0))
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                return  # sent, and not good
            latencies.append(time.perf_counter() - due)

        tasks = []
        for index, offset in enumerate(times):
            due = begin + float(offset)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(index, due)))
        await asyncio.gather(*tasks)
        took = time.perf_counter() - begin
    values = np.array(latencies)
    return Window(values, took, len(times), int((values <= deadline).sum()))
