"""Packed texts, and finding one of them."""

from __future__ import annotations

import numpy as np
import pytest

from server.galleries.segments import texts as texts_module
from server.galleries.segments.texts import Lookup, Texts, digests, pack

IDS = ["", "a", "ä", "x" * 256, "z/1:😀", "a b", "Z"]


def test_packed_texts_come_back() -> None:
    packed = Texts(*pack(IDS))
    assert list(packed) == IDS
    assert packed[2:5] == IDS[2:5]
    assert len(packed) == len(IDS)
    with pytest.raises(IndexError):
        packed[len(IDS)]
    assert list(Texts(*pack([]))) == []


def test_a_text_is_found_among_sorted_ones() -> None:
    ordered = sorted(IDS)
    packed = Texts(*pack(ordered))
    assert [packed.position(text) for text in ordered] == list(range(len(ordered)))
    assert packed.position("b") is None
    assert packed.position("\U0010ffff") is None
    assert Texts(*pack([])).position("a") is None


def test_rows_are_found_by_id() -> None:
    ids = [f"item {n}" for n in np.random.default_rng(0).permutation(1000)]
    lookup = Lookup(*Lookup.arrays(ids), Texts(*pack(ids)))
    wanted = [*ids[:300], "no such item", "", ids[999]]
    assert lookup.rows(wanted, digests(wanted)) == {**{n: n for n in range(300)}, 302: 999}
    empty = Lookup(*Lookup.arrays([]), Texts(*pack([])))
    assert empty.rows(wanted, digests(wanted)) == {}


def test_ids_of_one_digest_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_module, "digests", lambda ids: np.full(len(ids), 5, np.uint64))
    ids = ["a", "b", "c"]
    lookup = Lookup(*Lookup.arrays(ids), Texts(*pack(ids)))
    assert lookup.rows(["c", "d", "a"], texts_module.digests(["c", "d", "a"])) == {0: 2, 2: 0}


def test_digests_are_the_same_in_every_process() -> None:
    assert digests(["a"]).tolist() == [0x2F42665B399EF840]
    assert len(set(digests([f"{n}" for n in range(10_000)]).tolist())) == 10_000
