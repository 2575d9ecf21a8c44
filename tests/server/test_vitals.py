"""What health is told, and a model that does not come back."""

from __future__ import annotations

import asyncio

import pytest
from grpc_health.v1 import health_pb2

from server.errors import Unavailable
from server.vitals import Vitals
from tests.server.test_batcher import Bench, value_of


async def status(vitals: Vitals, service: str = "") -> str:
    answer = await vitals.servicer.Check(health_pb2.HealthCheckRequest(service=service), None)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_health_is_good_only_while_nothing_speaks_against_it() -> None:
    vitals = Vitals(["some.Service"])
    await vitals.tell()
    assert await status(vitals) == "NOT_SERVING"
    await vitals.ails("starting", False)
    assert {await status(vitals), await status(vitals, "some.Service")} == {"SERVING"}
    await vitals.ails("store", True)
    await vitals.ails("hung", True)
    await vitals.ails("hung", False)
    assert await status(vitals) == "NOT_SERVING"
    assert vitals.reasons == {"store"}
    await vitals.ails("store", False)
    assert await status(vitals) == "SERVING"


async def test_draining_server_is_not_talked_back_into_serving() -> None:
    vitals = Vitals([])
    await vitals.ails("starting", False)
    await vitals.drain()
    await vitals.ails("store", True)
    await vitals.ails("store", False)
    assert await status(vitals) == "NOT_SERVING"


async def test_model_that_hangs_turns_health_off_and_is_told_to_those_who_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.vitals.WATCH_SECONDS", 0.001)
    vitals = Vitals([])
    await vitals.ails("starting", False)
    bench = Bench(max_batch=1, patience=0.05)
    watch = asyncio.create_task(vitals.watch(bench.batcher))
    async with asyncio.timeout(20):
        stuck, waiting = bench.put(1), bench.put(2)
        for future in (stuck, waiting):
            with pytest.raises(Unavailable, match=r"the model has not answered for 0\.05 s"):
                await future
        assert vitals.reasons == {"hung"}
        with pytest.raises(Unavailable, match="it is being waited for"):
            bench.put(3)
        assert bench.batcher.depth == 0
        bench.model.release()
        while vitals.reasons:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert value_of(await bench.put(4)) == 4
    assert bench.model.batches == [[1], [4]]
    watch.cancel()
    await bench.batcher.close()
