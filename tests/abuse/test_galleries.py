"""Absurd galleries: names, schemas and times that are refused, and galleries that vanish while they are in use."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from protos.glimpse.v1 import features_pb2, gallery_pb2, search_pb2
from tests.abuse.serving import GOOD_FEATURES, GOOD_IMAGE, Case, Serving, code_of, names

INVALID = "INVALID_ARGUMENT"
Part = features_pb2.Part
NAME = ["gallery name '", "expected letters, digits, '.', '_' and '-', at most 64, starting with a letter or digit"]
PART_NAME = ["schema: part name '", "expected a lower-case word of at most 32 characters"]
TIME = "must be more than 0 and at most 100 years, got "


def gallery(name: str = "scratch", **fields: Any) -> gallery_pb2.CreateGalleryRequest:
    return gallery_pb2.CreateGalleryRequest(gallery=name, **fields)


def parts(*given: features_pb2.Part, prior: float = 0) -> gallery_pb2.CreateGalleryRequest:
    return gallery(schema=features_pb2.PartSchema(parts=given, prior=prior))


def many(number: int, dim: int = 1) -> list[features_pb2.Part]:
    return [Part(name=f"p{n}", dim=dim) for n in range(number)]


ONE = Part(name="global", dim=8)

REFUSED: list[Case] = [
    ("nothing at all", gallery_pb2.CreateGalleryRequest(), INVALID, NAME),
    ("a slash", gallery("a/b"), INVALID, ["gallery name 'a/b'", *NAME]),
    ("a backslash", gallery("a\\b"), INVALID, NAME),
    ("a climb", gallery("../../etc/passwd"), INVALID, ["'../../etc/passwd'", *NAME]),
    ("two dots", gallery(".."), INVALID, NAME),
    ("an option", gallery("--data"), INVALID, NAME),
    ("a space", gallery("front door"), INVALID, NAME),
    ("a space before", gallery(" door"), INVALID, NAME),
    ("a line break after", gallery("door\n"), INVALID, [r"'door\n'", *NAME]),
    ("NUL", gallery("door\0.db"), INVALID, [r"'door\x00.db'", *NAME]),
    ("an escape", gallery("\x1b[31m"), INVALID, [r"'\x1b[31m'", *NAME]),
    ("an umlaut", gallery("tür"), INVALID, ["gallery name 'tür'"]),
    ("digits of another script", gallery("١٢٣"), INVALID, ["gallery name '١٢٣'"]),
    ("faces", gallery("\N{GRINNING FACE}"), INVALID, ["gallery name"]),
    ("SQL", gallery("x'; DROP TABLE galleries; --"), INVALID, ["gallery name \"x'; DROP", *NAME[1:]]),
    ("65 characters", gallery("g" * 65), INVALID, NAME),
    ("1,000 characters", gallery("g" * 1000), INVALID, NAME),
    ("4 million characters", gallery("g" * 4_000_000), INVALID, NAME),
    ("a name that is taken", gallery("crowd"), "ALREADY_EXISTS", ["gallery 'crowd' exists already"]),
    ("no parts", parts(), INVALID, ["schema: a schema has 1 to 64 parts, got 0"]),
    ("65 parts", parts(*many(65)), INVALID, ["schema has 65 parts, at most 64 are allowed"]),
    ("50,000 parts", parts(*many(50_000)), INVALID, ["schema has 50,000 parts, at most 64"]),
    ("dim 0", parts(Part(name="global", dim=0)), INVALID, ["'global': dim must be between 1 and 16384, got 0"]),
    ("dim 16,385", parts(Part(name="global", dim=16_385)), INVALID, ["dim must be between 1 and 16384, got 16385"]),
    ("the largest dim", parts(Part(name="a", dim=2**32 - 1)), INVALID, ["between 1 and 16384, got 4294967295"]),
    ("one name twice", parts(ONE, ONE), INVALID, ["part names must differ, got ['global', 'global']"]),
    ("a part without name", parts(Part(dim=8)), INVALID, PART_NAME),
    ("a part in capitals", parts(Part(name="Upper", dim=8)), INVALID, ["'Upper'", *PART_NAME]),
    ("a part of two words", parts(Part(name="left arm", dim=8)), INVALID, PART_NAME),
    ("a part with NUL", parts(Part(name="a\0", dim=8)), INVALID, [r"'a\x00'", *PART_NAME]),
    ("a part of 33 characters", parts(Part(name="p" * 33, dim=8)), INVALID, PART_NAME),
    ("a part of 1 MB", parts(Part(name="p" * 1_000_000, dim=8)), INVALID, ["schema: part name 'ppp"]),
    ("a weight NaN", parts(Part(name="a", dim=8, weight=math.nan)), INVALID, ["weight must be finite", "nan"]),
    ("a weight infinite", parts(Part(name="a", dim=8, weight=math.inf)), INVALID, ["weight must be finite", "inf"]),
    ("a negative weight", parts(Part(name="a", dim=8, weight=-1)), INVALID, ["at least 0, got -1.0"]),
    ("weights of 0", parts(Part(name="a", dim=8, weight=0)), INVALID, ["at least one part must weigh more than 0"]),
    ("a prior NaN", parts(ONE, prior=math.nan), INVALID, ["prior must be finite and at least 0, got nan"]),
    ("an infinite prior", parts(ONE, prior=math.inf), INVALID, ["prior must be finite and at least 0, got inf"]),
    ("a negative prior", parts(ONE, prior=-0.5), INVALID, ["prior must be finite and at least 0, got -0.5"]),
    ("retention of 0", gallery(retention=Duration()), INVALID, ["retention " + TIME, "0 s and 0 ns"]),
    ("negative retention", gallery(retention=Duration(seconds=-5)), INVALID, ["retention " + TIME, "-5 s"]),
    ("retention of 1 ns", gallery(retention=Duration(nanos=1)), INVALID, ["retention " + TIME]),
    ("negative nanos", gallery(retention=Duration(seconds=5, nanos=-1)), INVALID, ["retention " + TIME, "-1 ns"]),
    ("retention of 200 years", gallery(retention=Duration(seconds=200 * 31_557_600)), INVALID, ["retention " + TIME]),
    ("retention for ever", gallery(retention=Duration(seconds=2**63 - 1)), INVALID, ["retention " + TIME]),
    ("latency_target of 0", gallery(latency_target=Duration()), INVALID, ["latency_target " + TIME]),
    (
        "negative latency_target",
        gallery(latency_target=Duration(seconds=-(2**63))),
        INVALID,
        ["latency_target " + TIME],
    ),
]


@pytest.mark.parametrize(("name", "request_", "code", "words"), REFUSED, ids=names(REFUSED))
def test_absurd_gallery_is_not_made(
    server: Serving, name: str, request_: gallery_pb2.CreateGalleryRequest, code: str, words: list[str]
) -> None:
    server.check_refused(server.ask("CreateGallery", request_), code, words)
    assert gallery_names(server) == ["crowd", "foreign", "loose", "strict"]


@pytest.mark.parametrize("method", ["GetGallery", "DeleteGallery"])
@pytest.mark.parametrize("name", ["", "nowhere", "../crowd", "crowd\0", "g" * 1_000_000, "\N{GRINNING FACE}" * 1000])
def test_unknown_gallery_is_not_found(server: Serving, method: str, name: str) -> None:
    message = getattr(gallery_pb2, f"{method}Request")(gallery=name)
    server.check_refused(server.ask(method, message), "NOT_FOUND", ["no gallery '"])


def gallery_names(server: Serving) -> list[str]:
    response = server.ask("ListGalleries", gallery_pb2.ListGalleriesRequest()).response
    return [report.gallery for report in response.galleries]


def test_of_many_who_make_the_same_gallery_one_succeeds(server: Serving) -> None:
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda _: server.ask("CreateGallery", gallery()).code, range(48)))
    assert sorted(answers) == ["ALREADY_EXISTS"] * 47 + ["OK"]
    remove(server)


def remove(server: Serving) -> None:
    assert server.ask("DeleteGallery", gallery_pb2.DeleteGalleryRequest(gallery="scratch")).code == "OK"


def test_widest_gallery_there_may_be_works_and_is_gone_when_deleted(server: Serving) -> None:
    widest = many(64, 16_384)
    assert server.ask("CreateGallery", parts(*widest)).code == "OK"
    vectors = np.zeros((64, 16_384), "<f2")
    vectors[:, 7] = 1
    features = features_pb2.PartFeatures(vectors=vectors.tobytes(), dtype=1, visibility=[1.0] * 64)
    for n in range(2):
        (result,) = server.upsert([gallery_pb2.Item(item_id=str(n), features=features)], "scratch")
        assert code_of(result.status) == "OK"
    request = search_pb2.SearchRequest(gallery="scratch", features=features, explain=True)
    matches = server.ask("Search", request).response.matches
    assert [match.item_id for match in matches] == ["0", "1"]
    assert matches[0].distance == pytest.approx(0, abs=1e-5)
    remove(server)


def test_gallery_deleted_while_it_is_searched_and_filled_answers_or_is_not_found(server: Serving) -> None:
    stop = Event()
    numbers = count()

    def search() -> set[str]:
        codes = set()
        while not stop.is_set():
            request = search_pb2.SearchRequest(gallery="scratch", query_image=GOOD_IMAGE, mode=next(numbers) % 3)
            codes.add(server.ask("Search", request).code)
        return codes

    def fill() -> set[str]:
        codes = set()
        while not stop.is_set():
            items = [gallery_pb2.Item(item_id=str(next(numbers)), features=GOOD_FEATURES) for _ in range(20)]
            request = gallery_pb2.UpsertRequest(gallery="scratch", items=items)
            codes.add(server.ask("Upsert", iter([request])).code)
        return codes

    with ThreadPoolExecutor(4) as callers:
        futures = [callers.submit(work) for work in (search, search, fill, fill)]
        for _ in range(15):
            assert server.ask("CreateGallery", gallery()).code == "OK"
            report = None
            while not report or not report.items:
                report = server.ask("GetGallery", gallery_pb2.GetGalleryRequest(gallery="scratch")).response
            remove(server)
        stop.set()
        for future in futures:
            assert future.result(60) == {"OK", "NOT_FOUND"}
    assert "scratch" not in gallery_names(server)


def test_gallery_deleted_in_the_middle_of_a_stream_is_not_found(server: Serving) -> None:
    assert server.ask("CreateGallery", gallery()).code == "OK"
    request = gallery_pb2.UpsertRequest(
        gallery="scratch", items=[gallery_pb2.Item(item_id="x", features=GOOD_FEATURES)]
    )

    def requests():
        yield request
        deleted.wait(30)
        yield request

    deleted = Event()
    call = server.galleries.Upsert(requests())
    assert next(call).sequence == 1
    remove(server)
    deleted.set()
    with pytest.raises(type(call)):
        next(call)
    assert call.code().name == "NOT_FOUND"
    server.check_sentence(call.details())


def test_gallery_made_again_remembers_nothing(server: Serving) -> None:
    for _ in range(3):
        assert server.ask("CreateGallery", gallery()).code == "OK"
        item = gallery_pb2.Item(item_id="x", features=GOOD_FEATURES, attributes={"a": 1})
        assert code_of(server.upsert([item], "scratch")[0].status) == "OK"
        remove(server)
    report = server.ask("CreateGallery", gallery()).response
    assert (report.items, report.sequence, report.bytes) == (0, 0, 0)
    remove(server)
