"""TIFF beside the formats that a server takes."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from glimpse.images import ImageError
from trainer.data.pictures import check_picture, decode_picture

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 24, 3), np.uint8)


def encoded(suffix: str, image: np.ndarray = IMAGE) -> bytes:
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


@pytest.mark.parametrize("suffix", [".tif", ".png", ".bmp"])
def test_lossless_formats_decode_to_the_pixels_that_were_written(suffix: str) -> None:
    data = encoded(suffix)
    assert check_picture(data) == (24, 40)
    np.testing.assert_array_equal(decode_picture(data), IMAGE)


def big_endian_header(width: int, height: int) -> bytes:
    entries = struct.pack(">HHIHH", 256, 3, 1, width, 0) + struct.pack(">HHII", 257, 4, 1, height)
    return b"MM\0*" + struct.pack(">IH", 8, 2) + entries + b"\0" * 4


def test_the_size_is_read_before_anything_is_decoded() -> None:
    assert check_picture(big_endian_header(64, 128)) == (64, 128)
    with pytest.raises(ImageError, match="megapixels are accepted"):
        decode_picture(big_endian_header(60_000, 60_000))
    with pytest.raises(ImageError, match="pixels that cannot be read"):
        decode_picture(big_endian_header(64, 128))


@pytest.mark.parametrize("keep", [4, 7, 100, 1_000])
def test_a_tiff_that_is_cut_off_is_refused(keep: int) -> None:
    data = encoded(".tif")
    assert keep < len(data)
    with pytest.raises(ImageError, match="TIFF"):
        check_picture(data[:keep])


def test_a_jpeg_that_is_cut_off_is_refused_by_its_header() -> None:
    data = encoded(".jpg")
    with pytest.raises(ImageError, match="not whole"):
        check_picture(data[: len(data) // 2])
