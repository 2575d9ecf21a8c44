"""A bundle's files in a folder or a ``.zip``: read within limits, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from glimpse.manifest import MANIFEST

Reader = Callable[[str, int], bytes]
"""The bytes of a file by its name, refused beyond so many."""


class BundleError(ValueError):
    """A bundle that cannot be trusted or read; the message says which file and why."""


def reader_of(source: Path) -> Reader:
    """How to read the files of ``source``; BundleError when it is neither a folder nor a zip."""
    if source.is_dir():
        return _FolderReader(source)
    if source.is_file() and zipfile.is_zipfile(source):
        return _ZipReader(source)
    if source.exists():
        raise BundleError(f"{source}: not a bundle: expected a folder or a .zip with a {MANIFEST}")
    raise BundleError(f"{source}: no such bundle")


def write_files(target: Path, members: Mapping[str, bytes]) -> None:
    """Writes all files or none: a folder, or a zip when ``target`` ends in ``.zip``.

    A bundle at ``target`` is replaced; anything else there is refused with BundleError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not _looks_like_a_bundle(target):
        raise BundleError(f"{target}: exists and is not a bundle; refusing to replace it")
    if target.suffix == ".zip":
        _write_zip(target, members)
    else:
        _write_folder(target, members)


def _looks_like_a_bundle(path: Path) -> bool:
    if path.is_dir():
        return (path / MANIFEST).is_file() or not any(path.iterdir())
    return zipfile.is_zipfile(path)


class _FolderReader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, limit: int) -> bytes:
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{self.folder.name}: {name} is missing or not a plain file")
        if path.stat().st_size > limit:
            raise BundleError(f"{self.folder.name}: {name} is larger than {limit:,} bytes")
        return path.read_bytes()


class _ZipReader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str, limit: int) -> bytes:
        try:
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo(name)
                if info.file_size > limit:
                    raise BundleError(f"{self.path.name}: {name} is larger than {limit:,} bytes")
                return archive.read(info)
        except KeyError as error:
            raise BundleError(f"{self.path.name}: {name} is missing") from error
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise BundleError(f"{self.path.name}: {name} cannot be read: {error}") from error


def _write_zip(target: Path, members: Mapping[str, bytes]) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _write_folder(target: Path, members: Mapping[str, bytes]) -> None:
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        for member, data in members.items():
            (staging / member).write_bytes(data)
        staging.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
            os.replace(target, old / "bundle")
            os.replace(staging, target)
            shutil.rmtree(old)
        else:
            os.replace(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
