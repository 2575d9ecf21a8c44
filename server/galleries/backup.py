"""The file of a backup: one gallery as of one write, under one SHA-256.

Layout, little-endian: the magic, the length of the header, the header (JSON: `Facts`), then each item (the lengths of
its four fields, what is known of it as JSON, vectors, visibilities, image), then the SHA-256 of all that. A file
appears under its name only when it is whole and on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from server import faults
from server.galleries.segments.container import flush_folder
from server.galleries.store import Kept

MAGIC = b"GLMPBAK\n"
FORMAT = 1
UNFINISHED = ".tmp"
HASH_BYTES = 32
CHUNK_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 20
MAX_FIELD_BYTES = 1 << 26
_START = struct.Struct("<8sI")
_LENGTHS = struct.Struct("<IIIi")
_NO_IMAGE = -1


class BackupError(Exception):
    """A file is not a backup, not whole, or not as it was written; the sentence says which."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the header tells."""

    gallery: str
    """The name of the gallery that was backed up."""
    settings: str
    """As the store keeps them, see `GallerySettings.to_json`."""
    sequence: int
    """The write that it reflects."""
    items: int
    erasures: int
    """The last erasure that it knows of, see `ledger`."""
    store: str
    """The data folder it was made in, so that the numbers above are compared with its own only."""
    created_at_us: int
    version: str
    """Of Glimpse."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file: its size and SHA-256 (hex)."""

    bytes: int
    sha256: str


def write_backup(path: Path, facts: Facts, items: Iterable[Kept]) -> Written:
    """Writes a backup; it is on the disk when this returns. A file that is written over stays whole until then.

    Raises:
        OSError: it cannot be written; nothing is left of it then.
        BackupError: there are not as many items as the facts say.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    header = json.dumps(asdict(facts)).encode()
    count = 0
    try:
        with unfinished.open("wb", buffering=CHUNK_BYTES) as raw:
            os.fchmod(raw.fileno(), 0o600)
            file = _Hashing(raw)
            file.write(_START.pack(MAGIC, len(header)) + header)
            for item in items:
                _write_item(file, item)
                count += 1
            if count != facts.items:
                raise BackupError(f"{count:,} items came for a backup of {facts.items:,}")
            digest = file.digest()
            raw.write(digest)
            size = raw.tell()
            raw.flush()
            faults.point("backup.written")
            os.fsync(raw.fileno())
        unfinished.rename(path)
        faults.point("backup.renamed")
        flush_folder(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return Written(size, digest.hex())


def read_facts(path: Path) -> Facts:
    """The header, not checked against the hash. BackupError says why it cannot be read."""
    with _opened(path) as file:
        return _read_header(file)


def sha256_of(path: Path) -> str:
    """The hash (hex) that the file says it has."""
    with _opened(path) as file:
        file.seek(-HASH_BYTES, os.SEEK_END)
        return file.read(HASH_BYTES).hex()


def verify(path: Path) -> Facts:
    """Reads the whole file twice; BackupError unless it is what was written, item by item."""
    facts = verify_hash(path)
    if sum(1 for _ in read_items(path)) != facts.items:
        raise BackupError("it has other items than its header says")
    return facts


def verify_hash(path: Path) -> Facts:
    """Reads the whole file; BackupError unless its contents agree with its hash."""
    with _opened(path) as file:
        _read_header(file)  # a newer format says so, whatever follows
        file.seek(0)
        left = os.fstat(file.fileno()).st_size - HASH_BYTES
        digest = hashlib.sha256()
        while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        if digest.digest() != file.read(HASH_BYTES):
            raise BackupError("its contents differ from its SHA-256: it is damaged or cut off")
        file.seek(0)
        return _read_header(file)


def read_items(path: Path) -> Iterator[Kept]:
    """The items of a file that was verified; BackupError where it is cut off all the same."""
    with _opened(path) as file:
        _read_header(file)
        end = os.fstat(file.fileno()).st_size - HASH_BYTES
        while file.tell() < end:
            lengths = _LENGTHS.unpack(_exactly(file, _LENGTHS.size))
            if max(lengths) > MAX_FIELD_BYTES:
                raise BackupError("an item in it is too long to be one")
            known, vectors, visibility = (_exactly(file, length) for length in lengths[:3])
            image = None if lengths[3] == _NO_IMAGE else _exactly(file, lengths[3])
            try:
                item_id, person_id, camera_id, captured_at, attributes, sequence, stored_at = json.loads(known)
            except ValueError as error:
                raise BackupError("what it says of an item cannot be read") from error
            yield Kept(
                item_id,
                person_id,
                camera_id,
                captured_at,
                attributes,
                vectors,
                visibility,
                sequence,
                stored_at,
                image,
            )


class _Hashing:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)

    def digest(self) -> bytes:
        return self._hash.digest()


def _write_item(file: _Hashing, item: Kept) -> None:
    known = json.dumps(
        [
            item.item_id,
            item.person_id,
            item.camera_id,
            item.captured_at,
            item.attributes,
            item.sequence,
            item.stored_at,
        ],
        ensure_ascii=False,
    ).encode()
    image = item.image
    lengths = (len(known), len(item.vectors), len(item.visibility), _NO_IMAGE if image is None else len(image))
    file.write(_LENGTHS.pack(*lengths) + known + item.vectors + item.visibility + (image or b""))


def _read_header(file: IO[bytes]) -> Facts:
    start = file.read(_START.size)
    if len(start) < _START.size or not start.startswith(MAGIC):
        raise BackupError("it is no backup of a gallery")
    _, length = _START.unpack(start)
    if length > MAX_HEADER_BYTES:
        raise BackupError("its header is too long to be one")
    try:
        said: dict[str, Any] = json.loads(_exactly(file, length))
        found = said.get("format")
        if isinstance(found, int) and found > FORMAT:
            raise BackupError(f"it has format {found}, newer than this Glimpse reads ({FORMAT}); upgrade Glimpse")
        facts = Facts(**said)
        right = all(isinstance(getattr(facts, field.name), _TYPES[str(field.type)]) for field in fields(Facts))
    except (ValueError, TypeError, AttributeError) as error:
        raise BackupError("its header cannot be read") from error
    if not right or facts.format != FORMAT:
        raise BackupError("its header says what none can say")
    return facts


_TYPES = {"int": int, "str": str}


def _exactly(file: IO[bytes], size: int) -> bytes:
    if size < 0:
        raise BackupError("it is damaged")
    data = file.read(size)
    if len(data) != size:
        raise BackupError("it is cut off")
    return data


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb", buffering=CHUNK_BYTES)
    except OSError as error:
        raise BackupError(f"it cannot be opened ({error.strerror})") from error
    with file:
        if os.fstat(file.fileno()).st_size < _START.size + HASH_BYTES:
            raise BackupError("it is cut off")
        yield file
