"""Malformed images by every way into the server: each is refused by itself, in a sentence, and costs no memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import pytest

from glimpse.images import ImageError, decode_image
from protos.glimpse.v1 import gallery_pb2, search_pb2
from tests.abuse.encoders import flat_png
from tests.abuse.inputs import malformed_images, odd_but_valid_images
from tests.abuse.serving import GOOD_IMAGE, GROWTH, Case, Serving, code_of, fields_of, names
from tests.bundles import SCHEMA, encoded, person

MALFORMED = malformed_images()
ODD = odd_but_valid_images()
FRAME = encoded(person(3, size=(256, 128)))
TOO_LARGE = GOOD_IMAGE + bytes((16 << 20) + 1)


def sentence_of(image: bytes) -> str:
    """What the decoder says of a malformed image."""
    with pytest.raises(ImageError) as refusal:
        decode_image(image)
    return str(refusal.value)


@pytest.mark.parametrize("name", MALFORMED)
def test_search_by_malformed_image_is_refused_without_taking_memory(server: Serving, name: str) -> None:
    server.forget_peak()
    before = server.peak()
    answer = server.ask("Search", search_pb2.SearchRequest(gallery="crowd", query_image=MALFORMED[name]))
    assert server.peak() - before < GROWTH
    server.check_refused(answer, "INVALID_ARGUMENT", ["query_image", sentence_of(MALFORMED[name])])
    assert answer.fields == ("query_image",)


def test_malformed_items_of_a_batch_fail_alone(server: Serving, scratch: str) -> None:
    items, expected = [], {}
    for number, image in enumerate(MALFORMED.values()):
        items.append(gallery_pb2.Item(item_id=f"bad-{number}", image=image))
        items.append(gallery_pb2.Item(item_id=f"good-{number}", image=encoded(person(number))))
        expected[f"bad-{number}"] = sentence_of(image)
    results = server.upsert(items, scratch)
    assert [result.item_id for result in results] == [item.item_id for item in items]
    for result in results:
        if result.item_id in expected:
            assert code_of(result.status) == "INVALID_ARGUMENT"
            assert expected[result.item_id] in result.status.message
            assert fields_of(result.status) == ("image",)
            server.check_sentence(result.status.message)
        else:
            assert code_of(result.status) == "OK"
    page = server.ask("ListItems", gallery_pb2.ListItemsRequest(gallery=scratch, page_size=1000)).response
    assert {item.item_id for item in page.items} == {item.item_id for item in items} - expected.keys()


def test_extract_names_malformed_images_by_index_and_describes_the_others(server: Serving) -> None:
    (good,) = rows_of(server, [GOOD_IMAGE])
    for chunk in chunks(MALFORMED.values(), 31):
        images = [image for bad in chunk for image in (GOOD_IMAGE, bad)]
        response = server.ask("Extract", search_pb2.ExtractRequest(images=images)).response
        assert [error.index for error in response.errors] == list(range(1, len(images), 2))
        for error, image in zip(response.errors, chunk, strict=True):
            assert code_of(error.status) == "INVALID_ARGUMENT"
            assert sentence_of(image) in error.status.message
            assert fields_of(error.status) == (f"images[{error.index}]",)
            server.check_sentence(error.status.message)
        vectors = np.frombuffer(response.features.vectors, "<f4").reshape(len(images), SCHEMA.width)
        np.testing.assert_allclose(vectors[::2], np.tile(good, (len(chunk), 1)), atol=1e-5)
        assert not vectors[1::2].any()
        visibility = np.reshape(response.features.visibility, (len(images), len(SCHEMA)))
        assert not visibility[1::2, ~SCHEMA.always_visible].any()


def test_odd_but_whole_images_are_described(server: Serving) -> None:
    for chunk in chunks((image for image, _ in ODD.values()), 64):
        vectors = rows_of(server, chunk)
        for columns in SCHEMA.slices:
            np.testing.assert_allclose(np.linalg.norm(vectors[:, columns], axis=1), 1, atol=1e-3)


def test_sixteen_images_of_16_megapixels_do_not_stay_in_memory(server: Serving) -> None:
    rows_of(server, [flat_png(4_000, 4_000)] * 16)
    server.check_memory()


def chunks(images: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    source = iter(images)
    while chunk := list(islice(source, size)):
        yield chunk


def rows_of(server: Serving, images: list[bytes]) -> np.ndarray:
    """float32 ``(N, sum D)`` of images that must all be accepted."""
    answer = server.ask("Extract", search_pb2.ExtractRequest(images=images))
    assert answer.code == "OK", answer
    assert not answer.response.errors
    return np.frombuffer(answer.response.features.vectors, "<f4").reshape(len(images), SCHEMA.width)


def tracklet(*images: bytes) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(gallery="crowd", tracklet=search_pb2.Tracklet(images=images))


def boxed(x: int, y: int, width: int, height: int) -> search_pb2.SearchRequest:
    box = search_pb2.Box(x=x, y=y, width=width, height=height)
    return search_pb2.SearchRequest(gallery="crowd", query_image=FRAME, box=box)


OUTSIDE = ["box", "does not lie within the image of 128x256"]
REFUSED: list[Case] = [
    ("tracklet of nothing", tracklet(), "INVALID_ARGUMENT", ["tracklet.images must hold 1 to 64 images, got 0"]),
    ("tracklet of 65", tracklet(*[GOOD_IMAGE] * 65), "INVALID_ARGUMENT", ["1 to 64 images, got 65"]),
    ("tracklet of 100,000", tracklet(*[b""] * 100_000), "INVALID_ARGUMENT", ["1 to 64 images, got 100000"]),
    (
        "tracklet with one bad image",
        tracklet(GOOD_IMAGE, GOOD_IMAGE[:60], GOOD_IMAGE),
        "INVALID_ARGUMENT",
        ["tracklet.images[1]", "not whole"],
    ),
    ("tracklet of bad images", tracklet(*[b"x"] * 64), "INVALID_ARGUMENT", ["tracklet.images[0]"]),
    ("box of the next column", boxed(1, 0, 128, 256), "INVALID_ARGUMENT", [*OUTSIDE, "128x256 at (1, 0)"]),
    ("box of the next row", boxed(0, 1, 128, 256), "INVALID_ARGUMENT", OUTSIDE),
    ("box at a negative place", boxed(-1, 0, 64, 64), "INVALID_ARGUMENT", OUTSIDE),
    ("box of negative size", boxed(50, 50, -40, -40), "INVALID_ARGUMENT", OUTSIDE),
    ("box of no size", boxed(0, 0, 0, 0), "INVALID_ARGUMENT", OUTSIDE),
    ("box of one pixel", boxed(0, 0, 1, 1), "INVALID_ARGUMENT", ["box", "at least 8"]),
    ("box like a hair", boxed(0, 0, 8, 200), "INVALID_ARGUMENT", ["box", "at most 20 times"]),
    ("box beyond all numbers", boxed(2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1), "INVALID_ARGUMENT", OUTSIDE),
    ("box of the smallest numbers", boxed(-(2**31), -(2**31), -(2**31), -(2**31)), "INVALID_ARGUMENT", OUTSIDE),
    (
        "box of an item",
        search_pb2.SearchRequest(gallery="crowd", item_id="3-0", box=search_pb2.Box(width=20, height=40)),
        "INVALID_ARGUMENT",
        ["box goes with query_image only", "item_id"],
    ),
    (
        "box of a tracklet",
        search_pb2.SearchRequest(gallery="crowd", tracklet=search_pb2.Tracklet(images=[FRAME]), box=search_pb2.Box()),
        "INVALID_ARGUMENT",
        ["box goes with query_image only", "tracklet"],
    ),
    (
        "image for a gallery of features",
        search_pb2.SearchRequest(gallery="loose", query_image=GOOD_IMAGE),
        "FAILED_PRECONDITION",
        ["'loose' holds features only", "upper:8, legs:5", "tiny 1.0.0", "Send features"],
    ),
    (
        "image for a gallery of another model",
        search_pb2.SearchRequest(gallery="foreign", query_image=GOOD_IMAGE),
        "FAILED_PRECONDITION",
        ["'foreign' holds features of model other 9.9.9 (sha abababab)", "this server runs tiny 1.0.0 (sha "],
    ),
]


@pytest.mark.parametrize(("name", "request_", "code", "words"), REFUSED, ids=names(REFUSED))
def test_wrong_box_tracklet_or_gallery_is_refused(
    server: Serving, name: str, request_: search_pb2.SearchRequest, code: str, words: list[str]
) -> None:
    server.check_refused(server.ask("Search", request_), code, words)
    server.check_refused(server.ask("SearchAll", request_), code, words)


@pytest.mark.parametrize("count", [0, 65, 100_000])
def test_extract_takes_1_to_64_images(server: Serving, count: int) -> None:
    answer = server.ask("Extract", search_pb2.ExtractRequest(images=[b""] * count))
    server.check_refused(answer, "INVALID_ARGUMENT", [f"images must hold 1 to 64 images, got {count}"])


def test_image_beyond_16_mib_is_refused_by_its_size(server: Serving) -> None:
    (result,) = server.upsert([gallery_pb2.Item(item_id="large", image=TOO_LARGE)])
    assert code_of(result.status) == "INVALID_ARGUMENT"
    assert f"{len(TOO_LARGE):,} bytes; at most 16,777,216 bytes are accepted" in result.status.message


@pytest.mark.parametrize("gallery", ["loose", "foreign"])
def test_item_of_an_image_is_refused_where_its_model_is_not_served(server: Serving, gallery: str) -> None:
    (result,) = server.upsert([gallery_pb2.Item(item_id="x", image=GOOD_IMAGE)], gallery)
    assert code_of(result.status) == "FAILED_PRECONDITION"
    assert f"'{gallery}'" in result.status.message
    assert "tiny 1.0.0" in result.status.message
    server.check_sentence(result.status.message)


def test_images_refused_over_and_over_leave_nothing_behind(server: Serving) -> None:
    request = search_pb2.SearchRequest(gallery="crowd", query_image=b"x" * ((4 << 20) - 100))
    for _ in range(50):
        assert server.ask("Search", request).code == "INVALID_ARGUMENT"
    server.check_memory()
