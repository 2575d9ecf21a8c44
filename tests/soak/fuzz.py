"""Inputs made wrong at random: images, messages, filters and manifests. Nothing may crash, leak or harm a neighbour."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from glimpse.bundle import BundleError, open_bundle
from protos.glimpse.v1 import admin_pb2, gallery_pb2, search_pb2
from tests.abuse.inputs import JPEG, PNG, PROGRESSIVE, WEBP, malformed_images
from tests.abuse.serving import GOOD_FEATURES, GOOD_IMAGE, GROWTH, Serving, serving
from tests.bundles import tiny_bundle
from tests.server.security.calls import METHODS

FAULTS = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS")
"""Codes that no input may bring about."""
SERVICES = {"Search": "SearchService", "Extract": "SearchService", "Upsert": "GalleryService"}


@dataclass
class Harm:
    """What the inputs did."""

    images: int = 0
    messages: int = 0
    manifests: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    neighbours_harmed: int = 0
    growth: int = 0
    """Bytes of memory at the end."""

    @property
    def sound(self) -> bool:
        return not self.crashes and not self.neighbours_harmed and self.growth < GROWTH

    def describe(self) -> str:
        return (
            f"{self.images} images, {self.messages} messages, {self.manifests} manifests: {len(self.crashes)} crashes, "
            f"{self.neighbours_harmed} neighbours harmed, memory {self.growth / (1 << 20):+.1f} MiB"
        )


def wounded(data: bytes, chance: random.Random) -> bytes:
    """The bytes with some flipped, cut out, doubled, or with their end missing."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(found)) if found else 0
        kind = chance.randrange(5)
        if kind == 0 and found:
            found[place] ^= 1 << chance.randrange(8)
        elif kind == 1 and found:
            found[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del found[place : place + chance.randint(1, 16)]
        elif kind == 3:
            found[place:place] = found[place : place + chance.randint(1, 64)]
        else:
            del found[max(1, place) :]
    return bytes(found)


def images(count: int, chance: random.Random) -> Iterator[bytes]:
    """The catalogue of malformed images, then wounded ones, ``count`` in all or the whole catalogue."""
    catalogue = list(malformed_images().values())
    yield from catalogue
    for _ in range(count - len(catalogue)):
        yield wounded(chance.choice((JPEG, PROGRESSIVE, PNG, WEBP)), chance)


def filled(message: Any, depth: int = 4) -> Any:
    """The message with a value in every field, down to some depth."""
    for each in message.DESCRIPTOR.fields:
        many = each.is_repeated
        if each.message_type is not None:
            if each.message_type.GetOptions().map_entry or depth == 0:
                continue
            inner = getattr(message, each.name)
            filled(inner.add() if many else inner, depth - 1)
            continue
        value = _VALUES.get(each.cpp_type, 1)
        if each.cpp_type == FieldDescriptor.CPPTYPE_STRING:  # bytes too
            text = "fuzz" if each.name == "gallery" else f"fuzz-{each.name}"
            value = text if each.type == FieldDescriptor.TYPE_STRING else GOOD_IMAGE
        if many:
            getattr(message, each.name).append(value)
        else:
            setattr(message, each.name, value)
    return message


_VALUES: dict[int, Any] = {
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_FLOAT: 0.5,
    FieldDescriptor.CPPTYPE_DOUBLE: 0.5,
}


def every_message() -> list[tuple[str, Any]]:
    """A message with all of its fields for each method, from the descriptors: a new method cannot be forgotten."""
    return [
        (method, filled(message_factory.GetMessageClass(descriptor.input_type)()))
        for method, descriptor in METHODS.items()
    ]


def messages(chance: random.Random) -> tuple[str, bytes]:
    """A method, and a wounded message for it."""
    if chance.random() < 0.5:
        method, message = chance.choice(every_message())
        return method, wounded(message.SerializeToString() or b"\x0a", chance)
    query = search_pb2.SearchRequest(
        gallery="crowd", features=GOOD_FEATURES, top_k=3, explain=True, part_weights={"head": 1.0}
    )
    query.filter.camera_ids.append("c0")
    query.filter.attributes.update({"coat": "red", "bags": 2}) if _has_attributes(query) else None
    good: list[tuple[str, Any]] = [
        ("/glimpse.v1.SearchService/Search", query),
        ("/glimpse.v1.SearchService/Search", search_pb2.SearchRequest(gallery="crowd", query_image=GOOD_IMAGE)),
        ("/glimpse.v1.SearchService/Extract", search_pb2.ExtractRequest(images=[GOOD_IMAGE])),
        ("/glimpse.v1.GalleryService/ListItems", gallery_pb2.ListItemsRequest(gallery="crowd", filter=query.filter)),
        ("/glimpse.v1.AdminService/GetStats", admin_pb2.GetStatsRequest()),
        (
            "/glimpse.v1.GalleryService/Upsert",
            gallery_pb2.UpsertRequest(gallery="fuzz", items=[gallery_pb2.Item(item_id="a", features=GOOD_FEATURES)]),
        ),
    ]
    method, message = chance.choice(good)
    return method, wounded(message.SerializeToString() or b"\x0a", chance)


def _has_attributes(query: search_pb2.SearchRequest) -> bool:
    field_ = query.filter.DESCRIPTOR.fields_by_name.get("attributes")
    return field_ is not None and field_.message_type is not None and field_.message_type.name == "Struct"


def attack(server: Serving, image_count: int, message_count: int, seed: int = 0) -> Harm:
    """Sends everything to the server."""
    chance = random.Random(seed)
    harm = Harm()
    server.ask("CreateGallery", gallery_pb2.CreateGalleryRequest(gallery="fuzz"))
    alone = server.ask("Extract", search_pb2.ExtractRequest(images=[GOOD_IMAGE])).response.features.vectors
    before = server.resident()
    for bad in images(image_count, chance):
        answer = server.ask("Extract", search_pb2.ExtractRequest(images=[bad, GOOD_IMAGE]))
        harm.images += 1
        note(harm, answer.code, f"image {bad[:40]!r}")
        width = len(alone)
        harm.neighbours_harmed += answer.code == "OK" and answer.response.features.vectors[width : 2 * width] != alone
    for _ in range(message_count):
        method, data = messages(chance)
        harm.messages += 1
        note(harm, server.raw(method, data).code, f"{method} {data[:80]!r}")
    server.ask("DeleteGallery", gallery_pb2.DeleteGalleryRequest(gallery="fuzz"))
    server.check_unharmed()
    harm.growth = server.resident() - before
    return harm


def note(harm: Harm, code: str, what: str) -> None:
    harm.codes[code] += 1
    if code in FAULTS:
        harm.crashes.append(f"{code}: {what}")


def wound_manifests(folder: Path, count: int, harm: Harm, seed: int = 0) -> None:
    """Opens bundles whose manifest was wounded: each is refused with a `BundleError`, or was not harmed."""
    chance = random.Random(seed)
    source = tiny_bundle(folder / "whole").source
    text = (source / "manifest.json").read_bytes()
    copy = folder / "wounded"
    shutil.copytree(source, copy)
    for number in range(count):
        (copy / "manifest.json").write_bytes(_other_values(text, chance) if number % 2 else wounded(text, chance))
        harm.manifests += 1
        try:
            open_bundle(copy)
        except BundleError:
            pass
        except Exception as error:  # anything else is what is looked for
            harm.crashes.append(f"manifest: {error!r}")


def _other_values(text: bytes, chance: random.Random) -> bytes:
    """The manifest with one value replaced by one of another kind."""
    manifest = json.loads(text)
    place, key = chance.choice(list(_places(manifest)))
    odd: Sequence[Any] = (None, -1, 1e308, "", "\0", [], {}, True, "../" * 20, 10**30)
    place[key] = chance.choice(odd)
    return json.dumps(manifest).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from _places(inner)


def fuzz(folder: Path, image_count: int, message_count: int, manifest_count: int) -> Harm:
    """All of it, over a server of its own."""
    with serving(folder) as server:
        harm = attack(server, image_count, message_count)
    wound_manifests(folder / "manifests", manifest_count, harm)
    return harm
