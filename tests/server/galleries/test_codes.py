"""Int8 codes: what rounding lost is never more than they admit."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.parts import Part, PartSchema
from server.galleries.codes import RowCodes, encode, pattern_order
from tests.server.galleries.generated import random_features, random_schema
from tests.server.galleries.plain_codes import int8_codes


@pytest.mark.parametrize("seed", range(40))
def test_a_rounded_row_is_no_farther_from_the_true_one_than_its_residual(seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = random_schema(rng)
    features = random_features(rng, schema, 100)
    # Visibilities down to the smallest float32, also in whole rows.
    faint = 10.0 ** rng.uniform(-45, 0, (100, len(schema))) * 10.0 ** rng.choice([0, 0, -30], (100, 1))
    visibility = (features.visibility * faint).astype(np.float32)
    vectors = features.vectors.astype(np.float16)
    coded = encode(vectors, visibility, schema)
    true = vectors.astype(np.longdouble) * np.repeat(visibility, schema.dims, axis=1).astype(np.longdouble)
    rounded = coded.codes.astype(np.longdouble) * coded.scale[:, None].astype(np.longdouble)
    lost = np.sqrt(((true - rounded) ** 2).sum(axis=1))
    assert coded.codes.flags.c_contiguous
    assert (lost <= coded.residual).all()
    assert (np.sqrt((rounded**2).sum(axis=1)) <= coded.norm).all()
    # The bound is not a loose one either: half a step in each dimension at most, and a little for float32.
    seen = coded.scale > 0
    half_steps = 0.51 * coded.scale[seen] * np.sqrt(schema.width) + 1e-5 * np.abs(coded.norm[seen]) + 1e-5
    assert (coded.residual[seen] <= half_steps).all()
    assert (coded.codes[np.repeat(visibility == 0, schema.dims, axis=1)] == 0).all()


def test_the_largest_value_of_a_row_gets_the_largest_code() -> None:
    schema = PartSchema((Part("global", 8), Part("upper", 3)))
    features = random_features(np.random.default_rng(0), schema, 50)
    coded = encode(features.vectors.astype(np.float16), features.visibility, schema)
    assert set(np.abs(coded.codes).max(axis=1)) <= {0, 127}


@pytest.mark.parametrize("seed", range(20))
def test_the_kernel_makes_the_codes_of_the_plain_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = random_schema(rng)
    features = random_features(rng, schema, 60)
    visibility = np.where(rng.random((60, 1)) < 0.1, 0, features.visibility).astype(np.float32)
    vectors = features.vectors.astype(np.float16)
    coded = encode(vectors, visibility, schema)
    codes, scale = int8_codes(vectors, visibility, schema)
    assert (coded.codes == codes).all()
    assert (coded.scale == scale).all()


def test_codes_are_written_where_there_is_room_for_them() -> None:
    rng = np.random.default_rng(4)
    schema = random_schema(rng)
    features = random_features(rng, schema, 30)
    vectors = features.vectors.astype(np.float16)
    apart, place = encode(vectors, features.visibility, schema), RowCodes.empty(50, schema.width)
    place.codes[:], place.scale[:] = 99, 99
    encode(vectors, features.visibility, schema, place[10:40])
    assert (place.codes[10:40] == apart.codes).all()
    for column in ("scale", "residual", "norm"):
        assert (getattr(place, column)[10:40] == getattr(apart, column)).all()
    assert (place.codes[:10] == 99).all()
    assert (place.scale[40:] == 99).all()


def test_no_rows_have_no_codes() -> None:
    schema = PartSchema((Part("global", 8),))
    coded = encode(np.empty((0, 8), np.float16), np.empty((0, 1), np.float32), schema)
    assert (len(coded), coded.codes.shape) == (0, (0, 8))


def test_rows_of_one_pattern_are_sealed_side_by_side() -> None:
    visibility = np.random.default_rng(1).random((500, 4)).astype(np.float32)
    order = pattern_order(visibility)
    assert sorted(order.tolist()) == list(range(500))
    patterns = [tuple(row) for row in (visibility[order] >= 0.5).tolist()]
    assert patterns == sorted(patterns)
    assert pattern_order(visibility[:0]).tolist() == []
