"""Wrong questions to `Search`: no query, odd options, unknown galleries and items. `SearchAll` refuses them alike."""

from __future__ import annotations

import math
from typing import Any

import pytest

from protos.glimpse.v1 import search_pb2
from tests.abuse.serving import GOOD_IMAGE, PEOPLE, Case, Serving, names

INVALID = "INVALID_ARGUMENT"
NAN = math.nan
FACE = "\N{GRINNING FACE}"


def query(**fields: Any) -> search_pb2.SearchRequest:
    """A search that is right but for the given fields; ``mode`` may be any number."""
    chosen = {"gallery": "crowd", "item_id": "3-0", **fields}
    return search_pb2.SearchRequest(**{name: value for name, value in chosen.items() if value is not None})


TOP_K = "top_k must be 1 to 1000 (0 means 10), got "
JOINT = "min_joint_visibility must be within [0, 1], got "
WEIGHTLESS = ["at least one part must weigh more than 0"]
HAS = "this model has ['global', 'head', 'upper', 'arms', 'legs', 'feet']"

REFUSED: list[Case] = [
    ("nothing at all", search_pb2.SearchRequest(), "NOT_FOUND", ["no gallery ''; this server has 'crowd', 'foreign'"]),
    ("no query", query(item_id=None), INVALID, ["set one of query_image, tracklet, features or item_id"]),
    ("an image of no bytes", query(item_id=None, query_image=b""), INVALID, ["query_image: ", "empty"]),
    ("an item without id", query(item_id=""), "NOT_FOUND", ["gallery 'crowd' has no item ''"]),
    ("an unknown item", query(item_id="99-0"), "NOT_FOUND", ["gallery 'crowd' has no item '99-0'"]),
    ("an item of control characters", query(item_id="\0\n\x1b[2J"), "NOT_FOUND", [r"'\x00\n\x1b[2J'"]),
    ("an item that is a path", query(item_id="../../etc/passwd"), "NOT_FOUND", ["no item '../../etc/passwd'"]),
    ("an item that is SQL", query(item_id="' OR 1=1 --"), "NOT_FOUND", ['no item "\' OR 1=1 --"']),
    ("an item of 100,000 characters", query(item_id="x" * 100_000), "NOT_FOUND", ["no item 'xxx"]),
    ("an item of 100,000 percents", query(item_id="%" * 100_000), "NOT_FOUND", ["no item '%%%"]),
    (
        "an item of 100,000 faces",
        query(item_id="\N{GRINNING FACE}" * 100_000),
        "NOT_FOUND",
        ["no item '\N{GRINNING FACE}"],
    ),
    ("no gallery", query(gallery=""), "NOT_FOUND", ["no gallery ''; this server has"]),
    ("an unknown gallery", query(gallery="nowhere"), "NOT_FOUND", ["no gallery 'nowhere'; this server has 'crowd'"]),
    ("a gallery with a slash", query(gallery="crowd/3-0"), "NOT_FOUND", ["no gallery 'crowd/3-0'"]),
    ("a gallery that climbs", query(gallery="../../../etc"), "NOT_FOUND", ["no gallery '../../../etc'"]),
    ("a gallery of control characters", query(gallery="a\0b\r\n\x7f"), "NOT_FOUND", [r"no gallery 'a\x00b\r\n\x7f'"]),
    ("a gallery in Arabic", query(gallery="بوابة"), "NOT_FOUND", ["no gallery 'بوابة'"]),
    ("a gallery that turns text around", query(gallery="a\u202eb"), "NOT_FOUND", [r"no gallery 'a\u202eb'"]),
    ("a gallery of 1,000 characters", query(gallery="g" * 1000), "NOT_FOUND", ["no gallery 'ggg"]),
    ("a gallery of 4 million characters", query(gallery="g" * 4_000_000), "NOT_FOUND", ["no gallery 'ggg"]),
    ("another case of a gallery", query(gallery="Crowd"), "NOT_FOUND", ["no gallery 'Crowd'"]),
    ("min_joint_visibility below 0", query(min_joint_visibility=-0.1), INVALID, [JOINT, "-0.1"]),
    ("min_joint_visibility above 1", query(min_joint_visibility=1.1), INVALID, [JOINT, "1.1"]),
    ("min_joint_visibility NaN", query(min_joint_visibility=NAN), INVALID, [JOINT, "nan"]),
    ("min_joint_visibility infinite", query(min_joint_visibility=math.inf), INVALID, [JOINT, "inf"]),
    ("a weight for an unknown part", query(part_weights={"hat": 1}), INVALID, ["unknown parts ['hat']", HAS]),
    ("a weight for a part in capitals", query(part_weights={"Upper": 1}), INVALID, ["unknown parts ['Upper']", HAS]),
    ("a weight for no part", query(part_weights={"": 1}), INVALID, ["unknown parts ['']", HAS]),
    ("a negative weight", query(part_weights={"upper": -1}), INVALID, ["finite and at least 0, got {'upper': -1.0}"]),
    ("a weight NaN", query(part_weights={"upper": NAN, "legs": 1}), INVALID, ["finite and at least 0", "nan"]),
    ("an infinite weight", query(part_weights={"upper": math.inf}), INVALID, ["finite and at least 0", "inf"]),
    (
        "weights of 0",
        query(part_weights={"upper": 0, "legs": 0}),
        INVALID,
        WEIGHTLESS,
    ),
    ("a weight of -0", query(part_weights={"upper": -0.0}), INVALID, WEIGHTLESS),
    ("50,000 weights", query(part_weights={f"p{n}": 1 for n in range(50_000)}), INVALID, ["unknown parts ['p0', "]),
    ("a part of 3,000 percents", query(part_weights={"%" * 3000: 1}), INVALID, ["unknown parts ['%%%"]),
    ("a part of 3,000 quotes", query(part_weights={"\"'" * 1500: 1}), INVALID, ["unknown parts ["]),
    ("an unknown mode", query(mode=7), INVALID, ["mode must be AUTO, EXACT or FAST, got 7"]),
    ("a negative mode", query(mode=-1), INVALID, ["mode must be AUTO, EXACT or FAST, got -1"]),
    ("no purpose where one is due", query(gallery="strict"), INVALID, ["'strict' requires a purpose"]),
    ("a purpose of spaces", query(gallery="strict", purpose=" \t\n"), INVALID, ["'strict' requires a purpose"]),
    ("a purpose too long", query(purpose="x" * 1025), INVALID, ["purpose has 1,025 characters, at most 1,024"]),
    (
        "a purpose of 4 million characters",
        query(purpose="x" * 4_000_000),
        INVALID,
        ["4,000,000 characters"],
    ),
]

TOP_KS: list[Case] = [
    ("top_k -1", query(top_k=-1), INVALID, [TOP_K + "-1"]),
    ("top_k 1001", query(top_k=1001), INVALID, [TOP_K + "1001"]),
    ("top_k a thousand million", query(top_k=10**9), INVALID, [TOP_K + "1000000000"]),
    ("top_k the smallest number", query(top_k=-(2**31)), INVALID, [TOP_K + "-2147483648"]),
    ("top_k the largest number", query(top_k=2**31 - 1), INVALID, [TOP_K + "2147483647"]),
]


@pytest.mark.parametrize(("name", "request_", "code", "words"), REFUSED, ids=names(REFUSED))
def test_wrong_query_is_refused(
    server: Serving, name: str, request_: search_pb2.SearchRequest, code: str, words: list[str]
) -> None:
    server.check_refused(server.ask("Search", request_), code, words)
    server.check_refused(server.ask("SearchAll", request_), code, words)


@pytest.mark.parametrize(("name", "request_", "code", "words"), TOP_KS, ids=names(TOP_KS))
def test_wrong_top_k_is_refused_by_search_and_ignored_by_search_all(
    server: Serving, name: str, request_: search_pb2.SearchRequest, code: str, words: list[str]
) -> None:
    server.check_refused(server.ask("Search", request_), code, words)
    (page,) = server.ask("SearchAll", request_).response
    assert len(page.matches) == 2 * PEOPLE - 1


def test_top_k_0_is_10(server: Serving) -> None:
    assert len(server.ask("Search", query(top_k=0)).response.matches) == 10


def test_several_queries_at_once_are_the_last_one(server: Serving) -> None:
    """That is what a oneof means; the bytes of both are on the wire."""
    both = query(item_id=None, query_image=b"no image").SerializeToString() + query().SerializeToString()
    answer = server.raw("/glimpse.v1.SearchService/Search", both)
    assert answer.code == "OK"
    assert search_pb2.SearchResponse.FromString(answer.response).matches[0].person_id == "3"


@pytest.mark.parametrize("weight", [3e38, 1e-38, 1e-45])
def test_extreme_weights_rank_like_equal_ones(server: Serving, weight: float) -> None:
    """Without a prior only the ratio of weights counts; float32 overflows or vanishes with these."""
    plain = query(gallery="loose", item_id="3", part_weights={"upper": 1, "legs": 1}, top_k=20)
    extreme = query(gallery="loose", item_id="3", part_weights={"upper": weight, "legs": weight}, top_k=20)
    expected, found = (server.ask("Search", each).response.matches for each in (plain, extreme))
    assert [match.item_id for match in found] == [match.item_id for match in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.distance == pytest.approx(other.distance, abs=1e-5)
        assert one.joint_visibility == pytest.approx(other.joint_visibility, abs=1e-6)


@pytest.mark.parametrize("mode", ["AUTO", "EXACT", "FAST"])
def test_whatever_is_asked_of_an_empty_gallery_the_answer_is_empty(server: Serving, mode: str) -> None:
    image = query(item_id=None, gallery="strict", query_image=GOOD_IMAGE, purpose="a test", mode=mode)
    image.include_incomparable = True
    answer = server.ask("Search", image)
    assert answer.code == "OK"
    assert len(answer.response.matches) == 0
    (page,) = server.ask("SearchAll", image).response
    assert len(page.matches) == 0
