"""A real `glimpse serve` for the abuse tests: what it answers, and whether it is still itself afterwards."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from glimpse.bundle import ModelIdentity
from glimpse.cli.subserver import subserver
from glimpse.client.conversions import features_message, schema_message
from protos.glimpse.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    gallery_pb2,
    gallery_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from server.galleries.catalog import Catalog
from server.galleries.settings import GallerySettings
from tests.bundles import SCHEMA, encoded, person, tiny_bundle
from tests.glimpse.features import LOOSE, random_features

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = 12
GROWTH = 64 << 20
"""Bytes that the server may be larger after any test than before all of them."""
OTHER_MODEL = ModelIdentity("other", "9.9.9", "ab" * 32)
UPSERT = "/glimpse.v1.GalleryService/Upsert"
SEARCH = "/glimpse.v1.SearchService/Search"
GOOD_IMAGE = encoded(person(3, shot=7))
GOOD_FEATURES = features_message(random_features(1, SCHEMA, hidden=0))

Case = tuple[str, Any, str, Sequence[str]]
"""Name, request (or what makes it), gRPC code, words of the answer's sentence."""


class Answer(NamedTuple):
    """What became of one call."""

    code: str
    message: str
    response: Any = None
    fields: tuple[str, ...] = ()
    """The request's fields at fault, from `google.rpc.BadRequest`."""


class Serving:
    """The server and a channel to it.

    Galleries: ``crowd`` holds `PEOPLE` people seen by cameras ``c0`` and ``c1`` as items ``person-camera``; ``loose``
    takes features of parts that may all be hidden; ``strict`` wants a purpose; ``foreign`` is of `OTHER_MODEL`.
    """

    def __init__(self, address: str, data: Path, log: Path) -> None:
        self.address = address
        self.data = data
        self.log = log
        self.pid = int((data / "lock").read_text())
        self.channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", 8 << 10),  # what most clients have
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self.searches = search_pb2_grpc.SearchServiceStub(self.channel)
        self.galleries = gallery_pb2_grpc.GalleryServiceStub(self.channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)
        self._read = 0
        self._resident = 0

    def prepare(self) -> None:
        """Fills the galleries and walks every path once, so that what is loaded lazily counts as there before."""
        for name, schema in (("crowd", None), ("loose", LOOSE), ("strict", None)):
            request = gallery_pb2.CreateGalleryRequest(gallery=name, require_purpose=name == "strict")
            if schema is not None:
                request.schema.CopyFrom(schema_message(schema))
            self.galleries.CreateGallery(request)
        items = [
            gallery_pb2.Item(
                item_id=f"{identity}-{camera}",
                image=encoded(person(identity, shot=camera)),
                person_id=str(identity),
                camera_id=f"c{camera}",
                attributes={"coat": "red", "bags": identity},
            )
            for identity in range(PEOPLE)
            for camera in range(2)
        ]
        assert {result.status.code for result in self.upsert(items)} == {0}
        rows = random_features(20, LOOSE)
        loose = [gallery_pb2.Item(item_id=str(n), features=features_message(rows[n : n + 1])) for n in range(len(rows))]
        assert {result.status.code for result in self.upsert(loose, "loose")} == {0}
        for mode in ("AUTO", "EXACT", "FAST"):
            fast = search_pb2.SearchRequest(gallery="crowd", query_image=GOOD_IMAGE, mode=mode, explain=True)
            assert self.ask("Search", fast).code == "OK"
        assert self.ask("Extract", search_pb2.ExtractRequest(images=[GOOD_IMAGE] * 64)).code == "OK"
        self._resident = self.resident()

    def ask(self, method: str, request: Any, *, timeout: float = 30, **options: Any) -> Answer:
        """The answer to one request, by the method's bare name; a stream of answers is gathered in a list."""
        services = (self.searches, self.galleries, self.admin)
        call = next(getattr(service, method) for service in services if hasattr(service, method))
        return answer_of(call, request, timeout=timeout, **options)

    def raw(self, path: str, *messages: bytes, timeout: float = 30, **options: Any) -> Answer:
        """The answer to bytes that need not be a message."""
        streaming = path.endswith(("/Upsert", "/SearchStream", "/ServerReflectionInfo"))
        one = self.channel.unary_stream if path.endswith("/SearchAll") else self.channel.unary_unary
        make = self.channel.stream_stream if streaming else one
        return answer_of(make(path), iter(messages) if streaming else messages[0], timeout=timeout, **options)

    def upsert(self, items: Iterable[gallery_pb2.Item], gallery: str = "crowd") -> list[gallery_pb2.ItemResult]:
        """Stores one batch that is right as a whole: a result per item."""
        answer = self.ask("Upsert", iter([gallery_pb2.UpsertRequest(gallery=gallery, items=items)]))
        assert answer.code == "OK", answer
        (response,) = answer.response
        return list(response.results)

    def resident(self) -> int:
        """Resident bytes of the process."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """The most resident bytes since `forget_peak`, or since the start where the system does not forget."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        with suppress(OSError):  # some containers forbid it; the peak is then that of all requests so far
            (Path("/proc") / str(self.pid) / "clear_refs").write_text("5")

    def check_unharmed(self) -> None:
        """The next good requests succeed, memory has not grown, and the log knows of no bug."""
        for _ in range(2):
            answer = self.ask("Search", search_pb2.SearchRequest(gallery="crowd", query_image=GOOD_IMAGE, top_k=2))
            assert answer.code == "OK", answer
            assert {match.person_id for match in answer.response.matches} == {"3"}
        self.check_memory()
        with self.log.open(errors="replace") as log:
            log.seek(self._read)
            lines = log.read()
            self._read = log.tell()
        assert not re.search(r"Traceback|Z (error|critical) |never retrieved", lines), lines[-3000:]

    def check_memory(self) -> None:
        """What the last request took has been given back; the answer may be here a little before that."""
        patience = time.monotonic() + 10
        while (growth := self.resident() - self._resident) > GROWTH and time.monotonic() < patience:
            time.sleep(0.02)
            self.admin.GetStats(admin_pb2.GetStatsRequest())
        assert growth <= GROWTH, f"the server has grown by {growth >> 20} MiB"

    def check_sentence(self, message: str) -> None:
        """A refusal is a sentence: short, printable, without a trace of the program or of this machine."""
        assert 15 <= len(message) <= 1500, message
        assert message.isprintable(), message
        for leak in ("Traceback", '.py"', "Error:", "Error(", "object at 0x", "numpy", "cv2", "sqlite", "upb"):
            assert leak not in message
        for place in (ROOT, self.data.parent, Path.home()):
            assert str(place) not in message

    def check_refused(self, answer: Answer, code: str, words: Sequence[str]) -> None:
        """The answer is this status with a sentence that holds all of the words."""
        assert answer.code == code, answer
        for word in words:
            assert word in answer.message, answer.message
        self.check_sentence(answer.message)

    def _status(self, name: str) -> int:
        status = (Path("/proc") / str(self.pid) / "status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) << 10


@contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    """A server over a fresh data folder; it must end with exit code 0."""
    model = tiny_bundle(folder / "model").source
    catalog = Catalog.open(folder / "data")
    catalog.create(GallerySettings("foreign", SCHEMA, OTHER_MODEL))
    catalog.close()
    with subserver(folder / "data", model, folder / "log") as address:
        server = Serving(address, folder / "data", folder / "log")
        server.prepare()
        yield server
        server.channel.close()


def answer_of(call: Callable[..., Any], request: Any, **options: Any) -> Answer:
    """Calls and tells how it ended."""
    try:
        response = call(request, **options)
        return Answer("OK", "", list(response) if isinstance(response, grpc.Call) else response)
    except grpc.RpcError as error:
        ended: Any = error
        status = rpc_status.from_call(ended)
        return Answer(ended.code().name, ended.details() or "", fields=fields_of(status) if status else ())


def fields_of(status: status_pb2.Status) -> tuple[str, ...]:
    """The request's fields at fault."""
    bad = error_details_pb2.BadRequest()
    return tuple(
        violation.field for packed in status.details if packed.Unpack(bad) for violation in bad.field_violations
    )


def code_of(status: status_pb2.Status) -> str:
    """``"OK"``, ``"INVALID_ARGUMENT"``, ..."""
    return next(code.name for code in grpc.StatusCode if code.value[0] == status.code)


def names(cases: Iterable[Case]) -> list[str]:
    """Test ids."""
    return [case[0] for case in cases]
