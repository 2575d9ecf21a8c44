"""An occluded copy of a folder of images, with visibility labels: what `glimpse occlude` writes. Knows no torch.

Each image is decided by the seed and its own path in the folder, so a part of a set is occluded as the whole would be
(but for simulators that cut from other images: which others there are matters to them).
"""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse import __version__
from glimpse.images import DEFAULT_LIMITS, ImageError, decode_image
from trainer.data.annotated import Annotated
from trainer.occlusion import OccluderLibrary, Simulator, SimulatorError, build_simulator, find_simulator, generator_for
from trainer.occlusion.labels import CoverLabels
from trainer.occlusion.occluders import SUFFIXES

UInt8 = NDArray[np.uint8]
Form = Literal["keep", "png", "jpeg"]
QUALITY = 95
LABELS, LINES, MANIFEST = "labels.csv", "labels.jsonl", "occlusion.json"
_BLANK = np.zeros((1, 1, 3), np.uint8)


class FolderError(ValueError):
    """Folders that cannot be read or written as asked; the message says which and why."""


@dataclass(frozen=True)
class Refusal:
    """An image that is not in the copy, and why."""

    file: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """What became of the images."""

    images: int
    """Written, occluded or not."""
    occluded: int
    """Of them, those that a simulator changed."""
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class FolderOcclusion:
    """How a folder is to be occluded."""

    simulator: str = "strip"
    options: Mapping[str, Any] | None = None
    seed: int = 0
    share: float = 1.0
    """Of the images, drawn one by one; the others are copied."""
    form: Form = "keep"
    """``keep``: JPEG stays JPEG, anything else becomes PNG, and images that stay as they are keep their bytes."""
    library: Path | None = None
    """A folder of occluders for `library`; None: generated ones."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise FolderError(f"share must be within [0, 1], got {self.share}")
        if self.seed < 0:
            raise FolderError(f"seed must be at least 0, got {self.seed}")

    def build(self) -> Simulator:
        """The simulator; SimulatorError for a wrong name, option or library."""
        library = OccluderLibrary.open(self.library) if self.library else None
        return build_simulator(self.simulator, self.options or {}, library)


def find_images(folder: Path) -> list[str]:
    """Paths below ``folder`` of everything that is an image by its name, sorted; hidden files and links are left out.

    Raises:
        FolderError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise FolderError(f"no folder {folder}")
    found: list[str] = []
    for place, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        shown = [name for name in files if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")]
        found.extend(Path(place, name).relative_to(folder).as_posix() for name in shown)
    if not found:
        raise FolderError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return sorted(found)


class Donors:
    """Images that occluders are cut from, drawn by name.

    Args:
        folder: searched through for images.
        person_of: the person on an image, by its path; empty where the name does not tell.
        own: whether it is the folder that is occluded, so that an image must not be its own donor.
    """

    def __init__(self, folder: Path, person_of: Callable[[str], str], own: bool) -> None:
        self.folder, self.person_of, self.own = folder, person_of, own
        self.names = find_images(folder)
        self.people = np.array([person_of(name) for name in self.names])

    def draw(self, name: str, random: np.random.Generator) -> tuple[str, UInt8]:
        """Another image, of another person if names tell and there is one; unreadable ones are passed over."""
        person = self.person_of(name)
        same = (self.people == person) & (person != "")
        for places in (np.flatnonzero(~same), np.flatnonzero(same)):
            for place in random.permutation(places):
                other = self.names[place]
                if self.own and other == name:
                    continue
                try:
                    return other, _read(self.folder / other)
                except ImageError:
                    continue
        raise SimulatorError(f"there is no other readable image in {self.folder} to cut an occluder from")


def occlude_folder(
    folder: Path,
    out: Path,
    how: FolderOcclusion,
    *,
    others: Path | None = None,
    masks: Path | None = None,
    person_of: Callable[[str], str] = lambda name: "",
    advance: Callable[[], None] | None = None,
) -> Outcome:
    """Writes an occluded copy of every image below ``folder``, the same tree, with labels and a manifest.

    ``out`` gets the images, ``labels.csv`` and ``labels.jsonl`` (a line an image) and, last of all,
    ``occlusion.json``, which says what was done; ``masks`` gets the covered pixels, 255 in a PNG of the same name.
    An image that cannot be read is named in the outcome and the manifest, and the rest goes on.

    Args:
        folder: searched through for images.
        out: a new or empty folder, outside of ``folder``.
        how: simulator, options, seed.
        others: where occluders are cut from; left out: ``folder``.
        masks: a new or empty folder, outside of the others.
        person_of: who is on an image, by its path in the folder, empty if unknown; nobody is hidden behind themselves.
        advance: called after every image.

    Raises:
        FolderError: folders that are missing, in use or inside each other, or images whose copies share a name.
        SimulatorError: an unknown simulator or option.
    """
    names = find_images(folder)
    targets = _targets(names, how.form)
    for new in (out, masks):
        if new is not None:
            _check_new(new, [place for place in (folder, others, out if new is masks else None) if place is not None])
    simulator = how.build()
    donors = None
    if find_simulator(how.simulator).needs_other:
        source = others or folder
        donors = Donors(source, person_of, own=source.resolve() == folder.resolve())
    occluded, refused = 0, []
    with ExitStack() as stack:
        out.mkdir(parents=True, exist_ok=True)
        lines = stack.enter_context((out / LINES).open("w", encoding="utf-8"))
        table: csv.DictWriter[str] | None = None
        for name in names:
            try:
                done = _occlude(folder / name, name, how, simulator, donors)
            except (ImageError, SimulatorError) as error:
                refused.append(Refusal(name, str(error)))
            else:
                occluded += done.changed
                target = targets[name]
                _write(out / target, done.sample.image, None if done.changed else folder / name)
                if masks is not None:
                    mask = np.where(done.sample.mask, np.uint8(255), np.uint8(0))
                    _write(masks / PurePosixPath(target).with_suffix(".png"), mask)
                labels = CoverLabels.of(done.sample.mask)
                facts = {"file": target, "source": name, "other": done.other}
                lines.write(json.dumps(facts | labels.document()) + "\n")
                row = facts | labels.row()
                if table is None:
                    stream = stack.enter_context((out / LABELS).open("w", encoding="utf-8", newline=""))
                    table = csv.DictWriter(stream, list(row), lineterminator="\n")
                    table.writeheader()
                table.writerow(row)
            if advance:
                advance()
    outcome = Outcome(len(names) - len(refused), occluded, tuple(refused))
    (out / MANIFEST).write_text(json.dumps(_manifest(how, simulator, outcome), indent=2) + "\n", encoding="utf-8")
    return outcome


@dataclass(frozen=True)
class _Done:
    sample: Annotated
    changed: bool
    other: str = ""
    """The donor, if the simulator had one."""


def _occlude(path: Path, name: str, how: FolderOcclusion, simulator: Simulator, donors: Donors | None) -> _Done:
    sample = Annotated(_read(path))
    if generator_for(how.seed, name, "share").random() >= how.share:
        return _Done(sample, False)
    other, pixels = donors.draw(name, generator_for(how.seed, name, "other")) if donors else ("", _BLANK)
    hidden = simulator(sample, pixels, generator_for(how.seed, name))
    changed = hidden is not sample
    return _Done(hidden, changed, other if changed else "")


def _read(path: Path) -> UInt8:
    """ImageError also for a file over the limit, which is not read at all."""
    size = path.stat().st_size
    if size > DEFAULT_LIMITS.max_bytes:
        raise ImageError("too_large", f"the file has {size:,} bytes; at most {DEFAULT_LIMITS.max_bytes:,} are accepted")
    return decode_image(path.read_bytes())


def _write(path: Path, image: UInt8, untouched: Path | None = None) -> None:
    """Encodes an image by its suffix, or copies ``untouched`` where it has the same format already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if untouched is not None and _kind(untouched.name) == _kind(path.name):
        path.write_bytes(untouched.read_bytes())
        return
    pixels = image[..., ::-1] if image.ndim == 3 else image
    settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if _kind(path.name) == ".jpeg" else []
    encoded = cv2.imencode(path.suffix, pixels, settings)[1]
    path.write_bytes(encoded.tobytes())


def _kind(name: str) -> str:
    return {".jpg": ".jpeg"}.get(PurePosixPath(name).suffix.lower(), PurePosixPath(name).suffix.lower())


def _targets(names: list[str], form: Form) -> dict[str, str]:
    """Path of each copy; a suffix changes only where the format does."""
    targets: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        kind = _kind(name)
        wanted = f".{form}" if form != "keep" else kind if kind == ".jpeg" else ".png"
        suffix = {".jpeg": ".jpg"}.get(wanted, wanted)
        target = name if kind == wanted else str(PurePosixPath(name).with_suffix(suffix))
        if target in taken:
            raise FolderError(f"the copies of {taken[target]} and {name} would both be {target}; rename one of them")
        targets[name], taken[target] = target, name
    return targets


def _check_new(new: Path, others: list[Path]) -> None:
    if new.exists() and (not new.is_dir() or any(new.iterdir())):
        raise FolderError(f"{new} is there already; nothing is overwritten, so give a new or an empty folder")
    for other in others:
        one, two = new.resolve(), other.resolve()
        if one == two or one in two.parents or two in one.parents:
            raise FolderError(f"{new} and {other} lie in each other; give a folder beside it")


def _manifest(how: FolderOcclusion, simulator: Simulator, outcome: Outcome) -> dict[str, Any]:
    """What was done, enough to do it again; the same run writes the same bytes."""
    options = getattr(simulator, "options").model_dump()  # noqa: B009 -- the protocol asks for a call only
    versions = {
        "glimpse": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    return {
        "format": 1,
        "simulator": how.simulator,
        "options": options,
        "seed": how.seed,
        "share": how.share,
        "images": outcome.images,
        "occluded": outcome.occluded,
        "refused": [asdict(refusal) for refusal in outcome.refused],
        "versions": versions,
    }
