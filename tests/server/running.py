"""A real server over loopback for tests: in its own thread and event loop, so that tests are plain functions."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from glimpse.parts import PartFeatures
from glimpse.runtime import Session
from protos.glimpse.v1 import (
    admin_pb2_grpc,
    features_pb2,
    gallery_pb2,
    gallery_pb2_grpc,
    search_pb2_grpc,
)
from server.application import Application
from server.settings import ServerSettings
from tests.bundles import encoded, person

T = TypeVar("T")
Detail = TypeVar("Detail", error_details_pb2.BadRequest, error_details_pb2.RetryInfo)


class Running:
    """A started server; use it as a context manager. ``wait`` False returns while the model still loads."""

    def __init__(
        self,
        data: Path,
        model: Path,
        *,
        open_model: Callable[[ServerSettings], Session] | None = None,
        wait: bool = True,
        **settings: Any,
    ) -> None:
        chosen = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "threads": 1, **settings}
        self.settings = ServerSettings(data=data, model=model, **chosen)
        self._open_model = open_model
        self._wait = wait
        self._bound = threading.Event()
        self._done = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="server under test")

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._bound.wait(30)
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        self.channel = grpc.insecure_channel(self.address)
        self.search = search_pb2_grpc.SearchServiceStub(self.channel)
        self.galleries = gallery_pb2_grpc.GalleryServiceStub(self.channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()
        self.stop()

    @property
    def address(self) -> str:
        return self.application.address

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the server's loop and waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def stop(self) -> None:
        """Drains the server and ends its thread."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(60)
            assert not self._thread.is_alive()

    def status(self, service: str = "") -> str:
        """What the health service says."""
        answer = self.health.Check(health_pb2.HealthCheckRequest(service=service))
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample of the server's registry, None if there is none."""
        return self.application.telemetry.registry.get_sample_value(name, labels)

    def gallery(self, name: str, **fields: Any) -> gallery_pb2.Gallery:
        """Creates a gallery."""
        return self.galleries.CreateGallery(gallery_pb2.CreateGalleryRequest(gallery=name, **fields))

    def upsert(self, gallery: str, items: Sequence[gallery_pb2.Item]) -> gallery_pb2.UpsertResponse:
        """Stores one batch."""
        (response,) = self.galleries.Upsert(iter([gallery_pb2.UpsertRequest(gallery=gallery, items=items)]))
        return response

    def crowd(self, gallery: str, people: int, cameras: int = 2) -> None:
        """Fills a gallery with pictures of people ``0..people``, item ids ``person-camera``."""
        items = [
            gallery_pb2.Item(
                item_id=f"{identity}-{camera}",
                image=encoded(person(identity, shot=camera)),
                person_id=str(identity),
                camera_id=f"cam{camera}",
            )
            for identity in range(people)
            for camera in range(cameras)
        ]
        response = self.upsert(gallery, items)
        assert all(result.status.code == 0 for result in response.results)

    def application_of(self, settings: ServerSettings) -> Application:
        """The server to run."""
        return Application(settings, open_model=self._open_model)

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.application = self.application_of(self.settings)
        starting = asyncio.create_task(self.application.start())
        try:
            if self._wait:
                await starting
            else:
                await self.application.ports_open.wait()
        except BaseException as error:  # told to the test's thread
            self._failure = error
            return
        finally:
            self._bound.set()
        await self._stopping.wait()
        if not starting.done():
            starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await self.application.stop()


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits for a condition that another thread makes true; fails when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not happen"
        time.sleep(0.001)


def wire_features(features: PartFeatures, **fields: Any) -> features_pb2.PartFeatures:
    """Features as a message, float32, without the schema."""
    return features_pb2.PartFeatures(
        vectors=features.vectors.astype("<f4").tobytes(), visibility=features.visibility.ravel().tolist(), **fields
    )


def random_features(schema: Any, rows: int, seed: int = 0, *, hide: float = 0.3) -> PartFeatures:
    """Unit vectors in random directions; each part that may be hidden is so with probability ``hide``."""
    random = np.random.default_rng(seed)
    vectors: NDArray[np.float32] = random.normal(size=(rows, schema.width)).astype(np.float32)
    for columns in schema.slices:
        vectors[:, columns] /= np.linalg.norm(vectors[:, columns], axis=1, keepdims=True)
    visibility = (random.random((rows, len(schema))) >= hide).astype(np.float32)
    visibility[:, schema.always_visible] = 1
    return PartFeatures(vectors, visibility, schema)


def detail(error: grpc.RpcError, kind: type[Detail]) -> Detail:
    """The rich detail of an error; fails if there is none of this kind."""
    for key, value in error.trailing_metadata():  # type: ignore[attr-defined]
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                message = kind()
                if packed.Unpack(message):
                    return message
    raise AssertionError(f"no {kind.__name__} in {error}")
