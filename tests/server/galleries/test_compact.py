"""Two-bit codes: small, and close enough to choose by."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.parts import Part, PartSchema
from server.galleries.compact import PIECE, compress, pieces, room, spread
from tests.server.galleries.generated import random_features, random_schema
from tests.server.galleries.plain_codes import two_bit_codes, unpacked


@pytest.mark.parametrize("seed", range(10))
def test_rows_are_spread_without_changing_an_inner_product(seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = random_schema(rng)
    features = random_features(rng, schema, 20)
    turned = spread(features.vectors, schema)
    assert turned.shape == (20, pieces(schema)[-1], 4 * PIECE)
    flat = turned.reshape(20, -1)
    np.testing.assert_allclose(flat @ flat.T, features.vectors @ features.vectors.T, atol=1e-5)


def test_a_code_is_as_long_as_its_part_along_it_and_little_off_across() -> None:
    schema = PartSchema((Part("global", 256), Part("upper", 300), Part("legs", 7)))
    features = random_features(np.random.default_rng(0), schema, 150)
    arrays = compress(features.vectors.astype(np.float16), features.visibility, schema)
    assert arrays["codes"].shape == (4, 150, PIECE)  # one piece, two, and one
    levels = unpacked(arrays["codes"])
    turned = spread(features.stored().vectors, schema)
    bounds = pieces(schema)
    for p in range(len(schema)):
        part = turned[:, bounds[p] : bounds[p + 1]].reshape(150, -1)
        coded = levels[:, bounds[p] : bounds[p + 1]].reshape(150, -1) * arrays["factors"][p][:, None]
        squares, shown = np.einsum("nd,nd->n", part, part), features.visibility[:, p]
        np.testing.assert_allclose(np.einsum("nd,nd->n", part, coded), shown * squares, rtol=1e-3, atol=1e-6)
        clear = (shown > 0.1) & (squares > 0)
        off = np.linalg.norm(coded - shown[:, None] * part, axis=1)[clear] / shown[clear]
        assert np.median(off) < 0.5


def test_a_row_takes_a_quarter_of_its_int8_codes() -> None:
    schema = PartSchema(tuple(Part(name, 256) for name in "abcdefgh"))
    features = random_features(np.random.default_rng(1), schema, 3)
    arrays = compress(features.vectors.astype(np.float16), features.visibility, schema)
    assert sum(array.nbytes for array in arrays.values()) == 3 * (512 + 32)
    assert all(array.flags.c_contiguous for array in arrays.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_kernel_makes_the_codes_of_the_plain_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = random_schema(rng)
    features = random_features(rng, schema, 60)
    arrays = room(70, schema)  # the rows lie somewhere in a longer block
    arrays["codes"][:] = 0xAA
    compress(features.vectors.astype(np.float16), features.visibility, schema, arrays, 7)
    plain = two_bit_codes(features.vectors.astype(np.float16), features.visibility, schema)
    # A value on the border between two codes may round to either.
    assert (unpacked(arrays["codes"][:, 7:67]) != plain["levels"]).mean() < 1e-3
    np.testing.assert_allclose(arrays["factors"][:, 7:67], plain["factors"], rtol=2e-2)
    assert (arrays["codes"][:, :7] == 0xAA).all()
    assert (arrays["codes"][:, 67:] == 0xAA).all()


def test_a_part_of_zeros_has_no_weight() -> None:
    schema = PartSchema((Part("global", 300), Part("legs", 4)))
    arrays = room(2, schema)
    compress(np.zeros((2, 304), np.float16), np.ones((2, 2), np.float32), schema, arrays)
    assert (arrays["factors"] == 0).all()
