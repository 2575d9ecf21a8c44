"""The gate's people: generated, the same everywhere, half of them hidden; and what the trained model said of them.

The images are drawn, not shipped. What is shipped, in the bundle's ``gate.npz``, is the reference: the features that
the *checkpoint* gave, in float16 as a gallery stores them, and a checksum of every image. So the gate needs no torch,
and what a machine draws otherwise is not held against the export: processors round a pixel in some hundred images
otherwise, which are left out, and where many images differ the gate says that it cannot judge.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import glimpse.people
from glimpse.bundle import Bundle, BundleError
from glimpse.parts import PartFeatures, PartSchema
from glimpse.people import PeopleGenerator
from glimpse.preprocessing import Preprocessing

FILE = "gate.npz"
"""The reference's name in a bundle."""
QUERIES, QUICK_QUERIES = 2_000, 200
QUERY_SHOTS, GALLERY_SHOTS, CAMERAS = 4, 2, 6
SHOTS = QUERY_SHOTS + GALLERY_SHOTS
OCCLUSION = (0.3, 0.7)
MOST_LEFT_OUT = 0.02
"""Of the images, what may be drawn otherwise."""
SEED = 20_001  # people of no training, validation, test or golden sample

Progress = Callable[[int, int], None]
"""Called with what is done and all there is to do."""


class GateError(RuntimeError):
    """The gate cannot be run: no reference, or not of these images."""


@dataclass(frozen=True)
class Fixture:
    """So many occluded queries, and a gallery of the same people seen whole by other cameras.

    The images of one person follow each other, queries first, so that a smaller fixture is the beginning of a larger
    one.
    """

    queries: int = QUERIES
    seed: int = SEED
    left_out: tuple[int, ...] = ()
    """Rows of `images` that nobody is asked about."""

    def __post_init__(self) -> None:
        if self.queries < QUERY_SHOTS or self.queries % QUERY_SHOTS:
            raise ValueError(f"queries must be a multiple of {QUERY_SHOTS} and above 0, got {self.queries}")

    @property
    def people(self) -> int:
        return self.queries // QUERY_SHOTS

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 ``(R,)``: the rows of `images` that count, all but those left out."""
        return np.setdiff1d(np.arange(self.people * SHOTS), self.left_out)

    @property
    def identity(self) -> NDArray[np.int64]:
        """int64 ``(R,)``: who is seen in each of `rows`."""
        return self.rows // SHOTS

    @property
    def is_query(self) -> NDArray[np.bool_]:
        """bool ``(R,)``."""
        return self.rows % SHOTS < QUERY_SHOTS

    def images(
        self, preprocessing: Preprocessing, *, cache: Path | None = None, progress: Progress | None = None
    ) -> NDArray[np.uint8]:
        """uint8 ``(N, H, W, 3)`` RGB, N = 1.5 x queries, kept in ``cache`` because drawing costs 5 ms each.

        Args:
            cache: default: ``$XDG_CACHE_HOME/glimpse/gate``.
            progress: called now and then, in images.
        """
        folder = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glimpse" / "gate"
        key, shape = self._key(preprocessing), (preprocessing.height, preprocessing.width, 3)
        kept = {int(path.stem.rpartition("-")[2]): path for path in folder.glob(f"{key}-*.npy")}
        enough = [people for people in kept if people >= self.people]
        if enough:
            path = kept[min(enough)]
        else:
            path = folder / f"{key}-{self.people}.npy"
            folder.mkdir(parents=True, exist_ok=True)
            self._draw(path, preprocessing, progress)
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        if stored.dtype != np.uint8 or stored.shape[1:] != shape or len(stored) < self.people * SHOTS:
            raise GateError(f"{path} does not hold the gate's images: got {stored.dtype} {stored.shape}; remove it")
        images: NDArray[np.uint8] = stored[: self.people * SHOTS]
        return images

    def _draw(self, path: Path, preprocessing: Preprocessing, progress: Progress | None) -> None:
        """Writes all images to ``path``, or nothing."""
        shape = (self.people * SHOTS, preprocessing.height, preprocessing.width, 3)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            drawn = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            generator = PeopleGenerator(self.seed, wardrobe="test")
            for row in range(shape[0]):
                drawn[row] = preprocessing(_view(generator, row))
                if progress and row % 32 == 31:
                    progress(row + 1, shape[0])
            drawn.flush()
            del drawn
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def _key(self, preprocessing: Preprocessing) -> str:
        about = [self.seed, SHOTS, QUERY_SHOTS, CAMERAS, OCCLUSION, preprocessing.model_dump()]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for source in sorted(Path(glimpse.people.__file__).parent.glob("*.py")):
            digest.update(source.read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Reference:
    """What the trained model gave for a fixture's images."""

    features: PartFeatures
    checksums: NDArray[np.uint32]
    seed: int

    @classmethod
    def of(cls, fixture: Fixture, images: NDArray[np.uint8], features: PartFeatures) -> Reference:
        """The features of ``images``, as a gallery stores them."""
        return cls(features.stored(), checksums(images), fixture.seed)

    def to_bytes(self) -> bytes:
        """``gate.npz``."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            vectors=self.features.vectors.astype(np.float16),
            visibility=self.features.visibility,
            checksums=self.checksums,
            seed=np.int64(self.seed),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, schema: PartSchema) -> Reference:
        """The inverse of `to_bytes`; GateError when it is something else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                vectors, visibility = arrays["vectors"].astype(np.float32), arrays["visibility"]
                features = PartFeatures(vectors, visibility, schema)
                found = cls(features, np.asarray(arrays["checksums"], np.uint32), int(arrays["seed"]))
        except (KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise GateError(f"{FILE} cannot be read: {error}") from error
        if found.checksums.shape != (len(features),) or len(features) % SHOTS:
            raise GateError(f"{FILE} has {len(features)} rows but {found.checksums.shape} checksums")
        return found

    @classmethod
    def in_bundle(cls, bundle: Bundle) -> Reference:
        """The reference that a bundle carries; BundleError when it carries none."""
        if FILE not in bundle.contents:
            raise BundleError(f"{bundle.identity} has no {FILE}, which the gate compares with: export it again")
        return cls.from_bytes(bundle.contents[FILE], bundle.schema)

    @property
    def queries(self) -> int:
        return len(self.features) // SHOTS * QUERY_SHOTS

    def first(self, queries: int) -> Reference:
        """The reference of a smaller fixture; GateError when this one is not larger."""
        if queries > self.queries:
            raise GateError(f"{FILE} has {self.queries:,} queries, {queries:,} were asked for")
        rows = Fixture(queries).people * SHOTS
        return Reference(self.features[:rows], self.checksums[:rows], self.seed)

    def fixture(self, images: NDArray[np.uint8]) -> Fixture:
        """The fixture of those images that are the ones which the reference was made of; GateError if many are not.

        Args:
            images: all of the fixture's, as this machine draws them.
        """
        differ = np.flatnonzero(checksums(images) != self.checksums)
        if len(differ) > MOST_LEFT_OUT * len(images):
            raise GateError(
                f"{len(differ):,} of {len(images):,} generated people are drawn differently here than where the bundle "
                f"was made (another OpenCV or NumPy?), at most {MOST_LEFT_OUT:.0%} may be: the gate cannot judge this "
                "machine"
            )
        return Fixture(self.queries, self.seed, tuple(differ.tolist()))


def checksums(images: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """uint32 ``(N,)``: a CRC of each image's pixels."""
    return np.array([zlib.crc32(np.ascontiguousarray(image).data) for image in images], np.uint32)


def _view(generator: PeopleGenerator, row: int) -> NDArray[np.uint8]:
    identity, shot = divmod(row, SHOTS)
    # Six cameras, one each: what ranks is the person, never the place.
    camera, occlusion = (identity + shot) % CAMERAS, OCCLUSION if shot < QUERY_SHOTS else None
    return generator.view(identity, camera, shot, occlusion=occlusion).image
