"""The format of a segment file: what was written comes back, and nothing else is believed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from server.galleries.segments import container
from server.galleries.segments.container import Container, SegmentError, write

FACTS = {"gallery": 7, "parts": [["global", 4, 0.1, True]]}


def some_arrays() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {
        "half": rng.standard_normal((37, 5)).astype(np.float16),
        "empty": np.empty((0, 3), np.float32),
        "large": rng.integers(0, 2**63, 200_001),
        "transposed": rng.standard_normal((11, 3)).T,
    }


def read_all(path: Path) -> dict[str, NDArray[Any]]:
    opened = Container(path)
    assert opened.facts == FACTS
    for name in opened.names:
        opened.verify(name)
        np.testing.assert_array_equal(opened.mapped(name), opened.loaded(name))
    return {name: opened.loaded(name) for name in opened.names}


def test_arrays_and_facts_come_back(tmp_path: Path) -> None:
    arrays = some_arrays()
    write(tmp_path / "a.seg", FACTS, arrays)
    found = read_all(tmp_path / "a.seg")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.seg"]
    assert (tmp_path / "a.seg").stat().st_mode & 0o777 == 0o600


def test_an_open_file_is_not_disturbed_by_its_removal(tmp_path: Path) -> None:
    arrays = some_arrays()
    write(tmp_path / "a.seg", FACTS, arrays)
    opened = Container(tmp_path / "a.seg")
    mapped = opened.mapped("large")
    write(tmp_path / "a.seg", FACTS, {"large": np.zeros(3)})
    (tmp_path / "a.seg").unlink()
    np.testing.assert_array_equal(opened.loaded("large"), arrays["large"])
    del opened
    np.testing.assert_array_equal(mapped, arrays["large"])


def test_every_flipped_bit_is_found_or_lies_in_the_padding(tmp_path: Path) -> None:
    arrays = some_arrays()
    arrays["large"] = arrays["large"][:500]
    path = tmp_path / "a.seg"
    write(path, FACTS, arrays)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    found = 0
    places = [*range(200), *rng.integers(0, len(content), 400).tolist()]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            again = read_all(path)
        except SegmentError:
            found += 1
        else:
            assert all(np.array_equal(again[name], arrays[name]) for name in arrays)
    assert found > 200


@pytest.mark.parametrize("kept", [0, 7, 30, 100, 4096, -1, -4096])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.seg"
    write(path, FACTS, some_arrays())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SegmentError):
        Container(path)


def test_a_file_with_something_behind_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.seg"
    write(path, FACTS, some_arrays())
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(SegmentError, match="bytes instead of"):
        Container(path)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 5000, b"GLMPSEG\n" + b"\xff" * 5000])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.seg").write_bytes(content)
    with pytest.raises(SegmentError):
        Container(tmp_path / "a.seg")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match="cannot be opened"):
        Container(tmp_path / "a.seg")


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "FORMAT", 9)
    write(tmp_path / "a.seg", FACTS, some_arrays())
    monkeypatch.undo()
    with pytest.raises(SegmentError, match=f"format 9, this Glimpse reads {container.FORMAT}"):
        Container(tmp_path / "a.seg")


@pytest.mark.parametrize("header", [b"[]", b"{}", b"null", b'{"format": 1}', b"not JSON", b"\xff"])
def test_a_header_that_says_nothing_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "a.seg"
    start = container._START.pack(container.MAGIC, len(header), hashlib.sha256(header).digest())
    path.write_bytes(start + header + bytes(8192))
    with pytest.raises(SegmentError):
        Container(path)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a.seg", FACTS, some_arrays())
    assert list(tmp_path.iterdir()) == []
