"""Wrong features as a query and as an item: refused with what came and what the gallery holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from glimpse.parts import Float32
from protos.glimpse.v1 import features_pb2, gallery_pb2, search_pb2
from tests.abuse.serving import GOOD_FEATURES, OTHER_MODEL, Case, Serving, code_of, names
from tests.bundles import SCHEMA

FLOAT16 = features_pb2.PartFeatures.FLOAT16
UPPER = SCHEMA.slices[SCHEMA.names.index("upper")]
INVALID = "INVALID_ARGUMENT"
PARTS = [(part.name, part.dim) for part in SCHEMA.parts]


def changed(**fields: Any) -> features_pb2.PartFeatures:
    """Good features with some fields replaced."""
    message = features_pb2.PartFeatures()
    message.CopyFrom(GOOD_FEATURES)
    for name, value in fields.items():
        message.ClearField(name)
        if isinstance(value, list):
            getattr(message, name).extend(value)
        elif name == "schema":
            message.schema.CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


def numbers(change: Callable[[Float32], Any], dtype: str = "<f4") -> features_pb2.PartFeatures:
    """Good features whose vectors were changed in place."""
    vectors = np.frombuffer(GOOD_FEATURES.vectors, "<f4").copy()
    change(vectors)
    with np.errstate(over="ignore"):
        data = vectors.astype(dtype).tobytes()
    return changed(vectors=data, dtype=FLOAT16 if dtype == "<f2" else 0)


def put(value: float, place: int = 5) -> Callable[[Float32], None]:
    def change(vectors: Float32) -> None:
        vectors[place] = value

    return change


def scaled(factor: float) -> Callable[[Float32], None]:
    def change(vectors: Float32) -> None:
        vectors[UPPER] *= factor

    return change


def seen(place: int, value: float) -> features_pb2.PartFeatures:
    visibility = [1.0] * len(SCHEMA)
    visibility[place] = value
    return changed(visibility=visibility)


def schema(*parts: tuple[str, int]) -> features_pb2.PartFeatures:
    message = features_pb2.PartSchema(parts=[features_pb2.Part(name=name, dim=dim) for name, dim in parts])
    return changed(schema=message)


WIDTH = SCHEMA.width
HOLDS = ["gallery 'crowd' holds global:16, head:8, upper:12"]
FINITE = ["features: vectors must be finite", "row 0 holds NaN or infinity"]
NORM = ["features: part 'upper' of row 0 has norm", "expected 1 within 0.001"]
SEEN = ["features: visibility must be within [0, 1]: row 0 is"]
ROW = f"rows of {WIDTH} float32 numbers ({4 * WIDTH} bytes a row)"
OTHER_SHA = ["'crowd' holds features of tiny 1.0.0 (sha ", "made by the model with sha abababab"]

REFUSED: list[Case] = [
    ("NaN", numbers(put(np.nan)), INVALID, FINITE),
    ("infinity", numbers(put(np.inf)), INVALID, FINITE),
    ("negative infinity", numbers(put(-np.inf)), INVALID, FINITE),
    ("NaN of a hidden part", numbers(put(np.nan, UPPER.start)), INVALID, FINITE),
    ("NaN as float16", numbers(put(np.nan), "<f2"), INVALID, FINITE),
    ("a number beyond float16", numbers(put(70_000), "<f2"), INVALID, FINITE),
    ("the largest float32", numbers(put(3.4e38, UPPER.start)), INVALID, ["part 'upper' of row 0 has norm inf"]),
    ("numbers that are all the largest", numbers(lambda v: v.fill(3.4e38)), INVALID, ["has norm inf"]),
    ("a vector too long", numbers(scaled(1.002)), INVALID, [*NORM, "1.002"]),
    ("a vector too short", numbers(scaled(0.5)), INVALID, [*NORM, "0.5"]),
    ("a vector of denormal numbers", numbers(scaled(1e-40)), INVALID, NORM[:1]),
    ("zeros for a visible part", numbers(scaled(0)), INVALID, [*NORM, "all zeros with visibility 0"]),
    ("zeros only", numbers(lambda v: v.fill(0)), INVALID, ["part 'global' of row 0 has norm 0"]),
    ("no vectors", changed(vectors=b""), INVALID, ["features.vectors has 0 bytes; expected 1 to 1000", ROW]),
    ("one byte missing", changed(vectors=GOOD_FEATURES.vectors[:-1]), INVALID, [f"{4 * WIDTH - 1} bytes", ROW]),
    ("one byte more", changed(vectors=GOOD_FEATURES.vectors + b"\0"), INVALID, [f"{4 * WIDTH + 1} bytes", ROW]),
    ("one part missing", changed(vectors=GOOD_FEATURES.vectors[32:]), INVALID, [f"{4 * WIDTH - 32} bytes", ROW]),
    ("one byte", changed(vectors=b"\1"), INVALID, ["has 1 bytes", ROW]),
    (
        "1,001 rows",
        changed(vectors=GOOD_FEATURES.vectors * 1001, visibility=[1.0] * 6006),
        INVALID,
        [f"{1001 * 4 * WIDTH:,} bytes", "1 to 1000 rows"],
    ),
    ("float32 said to be float16", changed(dtype=FLOAT16), INVALID, ["visibility has 6 numbers, not 12"]),
    ("an unknown dtype", changed(dtype=7), INVALID, ["features.dtype must be FLOAT32 or FLOAT16, got 7"]),
    ("a negative dtype", changed(dtype=-1), INVALID, ["features.dtype must be", "got -1"]),
    ("visibility below 0", seen(2, -0.1), INVALID, [*SEEN, "-0.1"]),
    ("visibility above 1", seen(2, 1.1), INVALID, [*SEEN, "1.1"]),
    ("visibility NaN", seen(2, np.nan), INVALID, [*SEEN, "nan"]),
    ("visibility infinite", seen(2, np.inf), INVALID, [*SEEN, "inf"]),
    (
        "a part always visible that is not",
        seen(0, 0.5),
        INVALID,
        ["['global'] are always visible", "visibility 0.5"],
    ),
    ("no visibility", changed(visibility=[]), INVALID, ["features.visibility has 0 numbers, not 6"]),
    ("one visibility too few", changed(visibility=[1.0] * 5), INVALID, ["has 5 numbers, not 6"]),
    ("one visibility too many", changed(visibility=[1.0] * 7), INVALID, ["has 7 numbers, not 6"]),
    ("100,000 visibilities", changed(visibility=[1.0] * 100_000), INVALID, ["has 100000 numbers, not 6"]),
    ("nothing at all", features_pb2.PartFeatures(), INVALID, ["features.vectors has 0 bytes"]),
    ("parts of other names", schema(("body", 16), *PARTS[1:]), INVALID, ["features has the parts body:16", *HOLDS]),
    ("parts of other dims", schema(("global", 17), *PARTS[1:]), INVALID, ["features has the parts global:17", *HOLDS]),
    ("parts in another order", schema(*PARTS[::-1]), INVALID, ["features has the parts feet:8, legs:12", *HOLDS]),
    ("a part too few", schema(*PARTS[:-1]), INVALID, ["legs:12; gallery", *HOLDS]),
    ("a part too many", schema(*PARTS, ("hat", 1)), INVALID, ["hat:1; gallery", *HOLDS]),
    ("a part twice", schema(*PARTS, PARTS[0]), INVALID, ["feet:8, global:16; gallery", *HOLDS]),
    ("no parts", changed(schema=features_pb2.PartSchema()), INVALID, ["features has the parts no parts", *HOLDS]),
    ("parts without names", schema(*[("", 0)] * 6), INVALID, [":0, :0", *HOLDS]),
    ("50,000 parts", schema(*[("global", 16)] * 50_000), INVALID, ["global:16, global:16", *HOLDS]),
    ("a part of a long name", schema(("g" * 100_000, 16), *PARTS[1:]), INVALID, ["parts gggg", *HOLDS]),
    ("a part of a nasty name", schema(("a\0b\n\x1b[2J", 16), *PARTS[1:]), INVALID, ["parts a?b??[2J:16", *HOLDS]),
    ("another model", changed(model_sha256=OTHER_MODEL.sha256), "FAILED_PRECONDITION", OTHER_SHA),
    ("a model that is no hash", changed(model_sha256="x" * 100_000), "FAILED_PRECONDITION", ["with sha xxxxxxxx;"]),
    ("a nasty model", changed(model_sha256="\0\n\x1b[31m"), "FAILED_PRECONDITION", ["with sha ???[31m;"]),
]


@pytest.mark.parametrize(("name", "features", "code", "words"), REFUSED, ids=names(REFUSED))
def test_wrong_features_are_refused_as_a_query_and_as_an_item(
    server: Serving, name: str, features: features_pb2.PartFeatures, code: str, words: list[str]
) -> None:
    answer = server.ask("Search", search_pb2.SearchRequest(gallery="crowd", features=features))
    server.check_refused(answer, code, words)
    assert answer.fields[0].startswith("features")
    good = gallery_pb2.Item(item_id=f"good beside {name}", features=GOOD_FEATURES)
    bad = gallery_pb2.Item(item_id=f"bad: {name}", features=features)
    before, after, wrong = server.upsert([good, gallery_pb2.Item(item_id="good", features=GOOD_FEATURES), bad])
    assert (code_of(before.status), code_of(after.status), code_of(wrong.status)) == ("OK", "OK", code)
    assert all(word in wrong.status.message for word in words)
    server.check_sentence(wrong.status.message)
    left = server.ask("DeleteItems", gallery_pb2.DeleteItemsRequest(gallery="crowd", item_ids=[good.item_id, "good"]))
    assert left.response.deleted == 2


def test_item_of_several_rows_is_refused(server: Serving) -> None:
    rows = changed(vectors=GOOD_FEATURES.vectors * 3, visibility=[1.0] * 18)
    (result,) = server.upsert([gallery_pb2.Item(item_id="x", features=rows)])
    assert code_of(result.status) == INVALID
    assert result.status.message == "features must hold one row, got 3"


def test_rows_short_by_one_in_total_do_not_shift_into_each_other(server: Serving) -> None:
    two = changed(vectors=GOOD_FEATURES.vectors * 2, visibility=[1.0] * 12)
    none = changed(vectors=b"", visibility=[])
    items = [gallery_pb2.Item(item_id=str(n), features=features) for n, features in enumerate([two, none])]
    assert [code_of(result.status) for result in server.upsert(items)] == [INVALID] * 2


def test_features_of_the_served_model_are_refused_by_a_gallery_of_another(server: Serving) -> None:
    stored = server.ask("GetItem", gallery_pb2.GetItemRequest(gallery="crowd", item_id="3-0")).response.features
    answer = server.ask("Search", search_pb2.SearchRequest(gallery="foreign", features=stored))
    words = [f"sha {stored.model_sha256[:8]}", "'foreign' holds features of other 9.9.9 (sha abababab)"]
    server.check_refused(answer, "FAILED_PRECONDITION", words)


def test_query_that_contradicts_itself_still_has_an_answer(server: Serving) -> None:
    vectors = np.frombuffer(GOOD_FEATURES.vectors, "<f4")
    both = changed(vectors=np.stack([vectors, -vectors]).tobytes(), visibility=[1.0] * 12)
    answer = server.ask("Search", search_pb2.SearchRequest(gallery="crowd", features=both, top_k=5, explain=True))
    assert answer.code == "OK"
    assert all(0 <= match.distance <= 2 for match in answer.response.matches)


def test_query_of_which_nothing_is_seen_compares_with_nothing(server: Serving) -> None:
    hidden = features_pb2.PartFeatures(vectors=bytes(4 * 13), visibility=[0.0, 0.0])
    request = search_pb2.SearchRequest(gallery="loose", features=hidden)
    assert len(server.ask("Search", request).response.matches) == 0
    request.include_incomparable = True
    matches = server.ask("Search", request).response.matches
    assert len(matches) == 10
    assert not any(match.HasField("distance") for match in matches)
