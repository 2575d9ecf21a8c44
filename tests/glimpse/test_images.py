"""Decoding: every format and pixel kind gives the same upright RGB."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from glimpse.images import ImageError, ImageLimits, crop, decode_image, probe
from tests.abuse.encoders import (
    bmp,
    chunk,
    encode,
    exif,
    flat_png,
    header_chunk,
    insert_segment,
    photo,
    png,
    png_rows,
    riff,
    riff_chunk,
    webp_canvas,
)

APP1 = 0xE1
PHOTO = photo(64, 32)
LOSSLESS = {
    "png": encode(".png", PHOTO),
    "bmp": encode(".bmp", PHOTO),
    "webp": encode(".webp", PHOTO, cv2.IMWRITE_WEBP_QUALITY, 101),
}
# What a viewer does for each EXIF orientation, in NumPy on rows and columns.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_back_the_pixels(kind):
    np.testing.assert_array_equal(decode_image(LOSSLESS[kind]), PHOTO)


def test_jpeg_gives_back_the_pixels_nearly_and_in_rgb_order():
    image = decode_image(encode(".jpg", PHOTO, cv2.IMWRITE_JPEG_QUALITY, 98))
    assert np.abs(image.astype(int) - PHOTO).mean() < 8
    red = decode_image(encode(".jpg", np.full((16, 16, 3), (250, 10, 10), np.uint8)))
    assert red[..., 0].min() > 200
    assert red[..., 2].max() < 60


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_is_applied_alike_in_every_format(orientation, order):
    block = exif(orientation, order, tags=4)
    jpeg = encode(".jpg", PHOTO)
    stored = {
        "jpeg": (insert_segment(jpeg, APP1, b"Exif\0\0" + block), decode_image(jpeg)),
        "png": (png(header_chunk(32, 64), png_rows(PHOTO), chunk(b"eXIf", block)), PHOTO),
        "webp": (riff(webp_canvas(32, 64, flags=8), LOSSLESS["webp"][12:], riff_chunk(b"EXIF", block)), PHOTO),
        "webp, JPEG style": (
            riff(webp_canvas(32, 64, flags=8), LOSSLESS["webp"][12:], riff_chunk(b"EXIF", b"Exif\0\0" + block)),
            PHOTO,
        ),
    }
    for name, (data, plain) in stored.items():
        image = decode_image(data)
        assert image.flags.c_contiguous, name
        np.testing.assert_array_equal(image, UPRIGHT[orientation](plain), err_msg=name)
        assert probe(data).orientation == orientation, name


def test_grey_becomes_three_equal_channels():
    grey = PHOTO[..., 0]
    np.testing.assert_array_equal(decode_image(encode(".png", grey)), np.dstack([grey] * 3))


def test_sixteen_bits_lose_their_lower_eight():
    deep = np.random.default_rng(0).integers(0, 1 << 16, (32, 16, 3), dtype=np.uint16)
    np.testing.assert_array_equal(decode_image(encode(".png", deep)), deep >> 8)
    grey = deep[..., 0]
    np.testing.assert_array_equal(decode_image(encode(".png", grey)), np.dstack([grey >> 8] * 3))


def test_alpha_is_dropped_and_the_colours_below_it_stay():
    alpha = np.zeros((64, 32), np.uint8)
    alpha[:, 10:] = 77
    np.testing.assert_array_equal(decode_image(encode(".png", np.dstack([PHOTO, alpha]))), PHOTO)
    grey = PHOTO[..., 0]
    grey_alpha = png(header_chunk(32, 64, colour=4), png_rows(np.dstack([grey, alpha])))
    np.testing.assert_array_equal(decode_image(grey_alpha), np.dstack([grey] * 3))


def test_palette_is_looked_up():
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    indices = PHOTO[..., 0]
    data = png(header_chunk(32, 64, colour=3), png_rows(indices), chunk(b"PLTE", palette.tobytes()))
    np.testing.assert_array_equal(decode_image(data), palette[indices])


def test_bmp_rows_run_from_the_bottom_unless_the_height_is_negative():
    rows = np.ascontiguousarray(PHOTO[..., ::-1]).tobytes()  # 96 bytes a row: no padding
    np.testing.assert_array_equal(decode_image(bmp(32, -64, pixels=rows)), PHOTO)
    np.testing.assert_array_equal(decode_image(bmp(32, 64, pixels=rows)), PHOTO[::-1])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(".jpg", photo(40, 24)), ("jpeg", 24, 40)),
        (encode(".jpg", photo(40, 24), cv2.IMWRITE_JPEG_PROGRESSIVE, 1), ("jpeg", 24, 40)),
        (encode(".png", photo(40, 24)), ("png", 24, 40)),
        (encode(".webp", photo(40, 24), cv2.IMWRITE_WEBP_QUALITY, 50), ("webp", 24, 40)),
        (encode(".webp", photo(40, 24), cv2.IMWRITE_WEBP_QUALITY, 101), ("webp", 24, 40)),
        (encode(".bmp", photo(40, 24)), ("bmp", 24, 40)),
        (flat_png(30_000, 50_000), ("png", 30_000, 50_000)),
    ],
)
def test_probe_reads_format_and_size_without_decoding(data, expected):
    header = probe(data)
    assert (header.format, header.width, header.height) == expected
    assert header.defect == ""


def test_probe_tells_that_a_file_is_cut_without_refusing_it():
    header = probe(LOSSLESS["png"][:-5])
    assert (header.width, header.height) == (32, 64)
    assert "truncated" in header.defect


@pytest.mark.parametrize(
    ("limits", "reason", "message"),
    [
        (ImageLimits(max_bytes=100), "too_large", r"has [\d,]+ bytes; at most 100 bytes are accepted"),
        (ImageLimits(max_pixels=2_000), "too_many_pixels", r"is 32x64 \(0.0 megapixels\); at most 0.002 megapixels"),
        (ImageLimits(max_aspect=1), "bad_aspect", "is 32x64; the longer side may be at most 1 times the shorter"),
        (ImageLimits(min_side=33), "too_small", "is 32x64 pixels; each side needs at least 33"),
    ],
)
def test_limits_name_what_came_and_what_is_allowed(limits, reason, message):
    with pytest.raises(ImageError, match=message) as refusal:
        decode_image(LOSSLESS["png"], limits)
    assert refusal.value.reason == reason


def test_image_at_every_limit_is_accepted():
    data = LOSSLESS["png"]
    limits = ImageLimits(max_bytes=len(data), max_pixels=32 * 64, max_aspect=2, min_side=32)
    assert decode_image(data, limits).shape == (64, 32, 3)


def test_huge_image_names_its_size_in_megapixels():
    message = r"the image is 20000x20000 \(400.0 megapixels\); at most 16 megapixels are accepted"
    with pytest.raises(ImageError, match=message):
        decode_image(flat_png(20_000, 20_000))


def test_size_is_refused_before_the_missing_pixels_are():
    with pytest.raises(ImageError) as refusal:
        decode_image(struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + bmp(30_000, 30_000, pixels=b"")[14:])
    assert refusal.value.reason == "too_many_pixels"


def test_limits_below_one_are_errors():
    with pytest.raises(ValueError, match="max_pixels must be at least 1, got 0"):
        ImageLimits(max_pixels=0)


def test_crop_copies_the_box():
    box = crop(PHOTO, 4, 10, 20, 30)
    np.testing.assert_array_equal(box, PHOTO[10:40, 4:24])
    assert not np.shares_memory(box, PHOTO)
    np.testing.assert_array_equal(crop(PHOTO, 0, 0, 32, 64), PHOTO)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((-1, 0, 10, 10), r"the box 10x10 at \(-1, 0\) does not lie within the image of 32x64"),
        ((0, -1, 10, 10), "does not lie within"),
        ((23, 0, 10, 10), "does not lie within"),
        ((0, 55, 10, 10), "does not lie within"),
        ((0, 0, 0, 10), "does not lie within"),
        ((0, 0, 10, -3), "does not lie within"),
        ((0, 0, 2**40, 10), "does not lie within"),
        ((0, 0, 7, 20), "each side needs at least 8"),
    ],
)
def test_box_outside_the_image_or_too_small_is_refused(box, message):
    with pytest.raises(ImageError, match=message) as refusal:
        crop(PHOTO, *box)
    assert refusal.value.reason == "bad_box"


def test_slender_box_is_refused():
    with pytest.raises(ImageError, match="at most 20 times the shorter") as refusal:
        crop(photo(400, 32), 0, 0, 8, 400)
    assert refusal.value.reason == "bad_box"
