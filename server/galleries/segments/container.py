"""The file of a sealed segment: facts as JSON, then named arrays, all of it under checksums.

Layout, little-endian: the magic, the length of the header, the header's SHA-256, the header (JSON, UTF-8), then each
array at a multiple of 4,096 bytes. The header tells each array's dtype, shape, offset, and a CRC-32 of each MiB of it:
so the SHA-256 vouches for the checksums and those for the arrays. CRC-32 reads memory more than twice as fast as
SHA-256 and finds every flipped bit just as surely; nobody who could forge a file here would need to.

A file appears under its name only when it is whole: it is written under another name, flushed to the disk, renamed,
and the folder flushed.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import struct
import weakref
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server import faults

MAGIC = b"GLMPSEG\n"
FORMAT = 2
"""To be raised when a reader of this format would misunderstand the arrays."""
UNFINISHED = ".tmp"
"""The suffix of a file that is being written."""
ALIGNMENT = 4096
CHUNK_BYTES = 1 << 20
CHECKSUM_OF_NOTHING = "00000000"
MAX_HEADER_BYTES = 16 << 20

_START = struct.Struct("<8sI32s")


class SegmentError(Exception):
    """A segment file is not what was written; its rows are to be taken from the store."""


class Streamed:
    """An array that is made while it is written: pieces of whole rows, one after the other, each used at once."""

    def __init__(self, dtype: type[np.generic], shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self.pieces = pieces

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any] | Streamed]) -> None:
    """Writes a file of ``arrays`` and ``facts`` (JSON values); it is on disk when this returns. OSError if it cannot.

    A file that is written over stays whole until the new one takes its name.
    """
    table: dict[str, dict[str, Any]] = {}
    size = 0
    for name, array in arrays.items():
        unknown = CHECKSUM_OF_NOTHING * -(-array.nbytes // CHUNK_BYTES)  # as long as the true ones will be
        table[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": size, "crc32": unknown}
        size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    first = _first_array(len(_header(facts, table, size)))
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with unfinished.open("wb", buffering=0) as file:
            handle = file.fileno()
            os.fchmod(handle, 0o600)
            os.ftruncate(handle, first + size)
            for name, array in arrays.items():
                pieces = array.pieces if isinstance(array, Streamed) else [array]
                table[name]["crc32"] = _write_array(handle, first + table[name]["offset"], pieces)
            header = _header(facts, table, size)
            os.lseek(handle, 0, os.SEEK_SET)
            _write_all(handle, _START.pack(MAGIC, len(header), hashlib.sha256(header).digest()) + header)
            os.fsync(handle)
        faults.point("seal.written")
        unfinished.rename(path)
        faults.point("seal.renamed")
        flush_folder(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def flush_folder(folder: Path) -> None:
    """Makes the folder's names durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Container:
    """An open segment file. Its arrays stay valid when it is removed or replaced by another of the same name.

    Raises:
        SegmentError: no such file, or not whole and unchanged, or of a newer format; the message says which. Arrays are
            checked when they are first asked for, or all of them by `verify`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self.handle)
            header = self._header()
        except OSError as error:
            raise SegmentError(f"it cannot be opened ({error.strerror})") from error
        try:
            self.facts: dict[str, Any] = header["facts"]
            self._table: dict[str, dict[str, Any]] = header["arrays"]
            size = self._first + int(header["bytes"])
        except (KeyError, TypeError, ValueError) as error:
            raise SegmentError("its header lacks entries") from error
        self.size = os.fstat(self.handle).st_size
        if self.size != size:
            raise SegmentError(f"it has {self.size:,} bytes instead of {size:,}")
        self._mapped = mmap.mmap(self.handle, 0, access=mmap.ACCESS_READ)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays, in the order of the file."""
        return tuple(self._table)

    def place(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
        """dtype, shape and offset in the file of an array."""
        try:
            entry = self._table[name]
            return np.dtype(entry["dtype"]), tuple(entry["shape"]), self._first + int(entry["offset"])
        except (KeyError, TypeError, ValueError) as error:
            raise SegmentError(f"it has no sound array {name!r}") from error

    def loaded(self, name: str) -> NDArray[Any]:
        """A copy of the array in memory, checked."""
        dtype, shape, offset = self.place(name)
        array = np.empty(shape, dtype)
        target = array.reshape(-1).view(np.uint8).data
        for number, start in enumerate(range(0, array.nbytes, CHUNK_BYTES)):
            chunk = target[start : start + CHUNK_BYTES]
            self._read(chunk, offset + start, name)
            self._check(name, number, zlib.crc32(chunk))
        return array

    def mapped(self, name: str) -> NDArray[Any]:
        """The array on disk, read page by page where it is looked at; not checked, see `verify`."""
        dtype, shape, offset = self.place(name)
        count = int(np.prod(shape))
        if count == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(self._mapped, dtype, count, offset).reshape(shape)

    def verify(self, name: str) -> None:
        """Reads the whole array and holds it against its checksums."""
        dtype, shape, offset = self.place(name)
        size = dtype.itemsize * int(np.prod(shape))
        buffer = memoryview(bytearray(min(CHUNK_BYTES, size)))
        for number, start in enumerate(range(0, size, CHUNK_BYTES)):
            chunk = buffer[: min(CHUNK_BYTES, size - start)]
            self._read(chunk, offset + start, name)
            self._check(name, number, zlib.crc32(chunk))

    def _header(self) -> dict[str, Any]:
        start = os.pread(self.handle, _START.size, 0)
        if len(start) < _START.size or not start.startswith(MAGIC):
            raise SegmentError("it is no segment file")
        _, length, digest = _START.unpack(start)
        text = os.pread(self.handle, min(length, MAX_HEADER_BYTES), _START.size)
        if hashlib.sha256(text).digest() != digest:
            raise SegmentError("its header differs from its checksum")
        try:
            header: dict[str, Any] = dict(json.loads(text))
        except (TypeError, ValueError) as error:
            raise SegmentError("its header is no JSON object") from error
        if header.get("format") != FORMAT:
            raise SegmentError(f"it has format {header.get('format')}, this Glimpse reads {FORMAT}")
        self._first = _first_array(length)
        return header

    def _read(self, target: memoryview, offset: int, name: str) -> None:
        try:
            found = os.preadv(self.handle, [target], offset)
        except OSError as error:
            raise SegmentError(f"its array {name!r} cannot be read ({error.strerror})") from error
        if found != len(target):
            raise SegmentError(f"its array {name!r} ends early")

    def _check(self, name: str, number: int, found: int) -> None:
        if self._table[name]["crc32"][8 * number : 8 * number + 8] != f"{found:08x}":
            raise SegmentError(f"its array {name!r} differs from its checksum")


def _first_array(header_length: int) -> int:
    return -(-(_START.size + header_length) // ALIGNMENT) * ALIGNMENT


def _header(facts: Mapping[str, Any], table: Mapping[str, Any], size: int) -> bytes:
    return json.dumps({"format": FORMAT, "facts": facts, "arrays": table, "bytes": size}).encode()


def _write_array(handle: int, offset: int, pieces: Iterable[NDArray[Any]]) -> str:
    """Writes the pieces from ``offset`` on; returns the checksums of their chunks."""
    os.lseek(handle, offset, os.SEEK_SET)
    checksums: list[str] = []
    checksum, filled = 0, 0
    for piece in pieces:
        data = np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data
        _write_all(handle, data)
        while data:
            part = data[: CHUNK_BYTES - filled]
            checksum, filled = zlib.crc32(part, checksum), filled + len(part)
            data = data[len(part) :]
            if filled == CHUNK_BYTES:
                checksums.append(f"{checksum:08x}")
                checksum, filled = 0, 0
    if filled:
        checksums.append(f"{checksum:08x}")
    return "".join(checksums)


def _write_all(handle: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view[: 64 << 20]) :]
