"""Malformed and odd images: each is refused with its reason, or decoded, and none costs memory."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glimpse.images import REASONS, ImageError, ImageLimits, decode_image, probe
from tests.abuse.inputs import (
    BMP,
    JPEG,
    LOSSLESS_WEBP,
    PNG,
    PROGRESSIVE,
    WEBP,
    malformed_images,
    odd_but_valid_images,
    refusal_reasons,
)

ROOT = Path(__file__).resolve().parents[2]
MALFORMED = malformed_images()
ODD = odd_but_valid_images()

MEASURE = """
from pathlib import Path
from glimpse.images import ImageError, decode_image
from tests.abuse.inputs import JPEG, malformed_images

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

images = malformed_images()
decode_image(JPEG)
before = peak()
for name, data in images.items():
    try:
        decode_image(data)
    except ImageError:
        pass
    if peak() - before > 64:
        raise SystemExit(f"{name} grew the process by {peak() - before} MiB")
print(peak() - before)
"""


def test_catalogue_is_large_and_covers_every_reason_of_the_decoder():
    assert len(MALFORMED) >= 45
    # The catalogue travels over gRPC too, so nothing in it is beyond the byte limit; that one has its own test.
    assert set(refusal_reasons().values()) == set(REASONS) - {"too_large", "bad_box"}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_image_is_refused_with_its_reason_and_a_sentence(name):
    with pytest.raises(ImageError) as refusal:
        decode_image(MALFORMED[name])
    message = str(refusal.value)
    assert refusal.value.reason == refusal_reasons()[name], message
    assert 20 <= len(message) <= 200
    assert message.isprintable()
    assert str(ROOT) not in message
    assert "cv2" not in message


@pytest.mark.parametrize("name", ODD)
def test_odd_but_whole_image_is_decoded(name):
    data, shape = ODD[name]
    image = decode_image(data)
    assert image.shape == shape
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


def test_image_of_too_many_bytes_is_refused_before_it_is_read():
    with pytest.raises(ImageError, match="at most 3 bytes are accepted") as refusal:
        decode_image(JPEG, ImageLimits(max_bytes=3))
    assert refusal.value.reason == "too_large"
    with pytest.raises(ImageError, match="the image has 16,777,217 bytes"):
        decode_image(JPEG + bytes(16 * 2**20 + 1 - len(JPEG)))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_malformed_images_together_grow_the_process_by_less_than_64_mib():
    # A process of its own: a peak cannot be lowered again, and other tests may have set a higher one.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", MEASURE], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2_000:]
    assert int(run.stdout) <= 64


@settings(max_examples=150, deadline=None)
@given(
    data=st.sampled_from([JPEG, PROGRESSIVE, PNG, WEBP, LOSSLESS_WEBP, BMP]),
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
    keep=st.integers(1, 4_000),
)
def test_bytes_changed_at_random_end_in_an_image_or_a_refusal(data, edits, keep):
    changed = bytearray(data)
    for place, value in edits:
        changed[place % len(changed)] = value
    wounded = bytes(changed[:keep])
    with suppress(ImageError):
        image = decode_image(wounded, ImageLimits(max_pixels=1_000_000))
        header = probe(wounded)
        assert sorted(image.shape[:2]) == sorted((header.height, header.width))


@settings(max_examples=150, deadline=None)
@given(
    magic=st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFF\xff\0\0\0WEBP", b"BM", b""]),
    rest=st.binary(max_size=200),
)
def test_header_parsers_only_ever_raise_image_errors(magic, rest):
    with suppress(ImageError):
        header = probe(magic + rest)
        assert header.width >= 1
        assert header.height >= 1
        assert 1 <= header.orientation <= 8
