"""Encoded images put together byte by byte, so that each of their bytes can be made wrong."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def photo(height: int = 64, width: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random colours, uint8 RGB ``(height, width, 3)``."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2).astype(np.float32)
    return np.clip((blurred - 128) * 4 + 128, 0, 255).astype(np.uint8)


def encode(kind: str, image: NDArray[np.generic], *parameters: int) -> bytes:
    """By OpenCV; ``kind`` is ``.jpg``, ``.png``, ...; RGB, RGBA or grey."""
    if image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[2])]]
    done, data = cv2.imencode(kind, np.ascontiguousarray(image), list(parameters))
    assert done
    return data.tobytes()


def exif(orientation: int, order: str = "<", kind: int = 3, values: int = 1, tags: int = 1) -> bytes:
    """A TIFF block of ``tags`` entries, the last of them the orientation."""
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, tags)
    others = b"".join(struct.pack(order + "HHII", 0x0100 + i, 4, 1, i) for i in range(tags - 1))
    return start + others + struct.pack(order + "HHIHH", 0x0112, kind, values, orientation, 0) + b"\0\0\0\0"


def segment(marker: int, payload: bytes) -> bytes:
    """A JPEG segment with its length."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def insert_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """The JPEG with one more segment, right after its start marker."""
    return jpeg[:2] + segment(marker, payload) + jpeg[2:]


def jpeg_markers(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """``(marker, position)`` of every marker from the first segment to the last, restarts included."""
    position = 2
    while position + 1 < len(jpeg):
        marker = jpeg[position + 1]
        if jpeg[position] != 0xFF or marker in (0x00, 0xFF):
            position += 1
            continue
        yield marker, position
        position += 2
        if marker not in (*range(0xD0, 0xDA), 0x01):
            position += int.from_bytes(jpeg[position : position + 2])


def flat_jpeg(
    components: int = 3, width: int = 32, height: int = 64, frame: int = 0xC0, precision: int = 8, scans: int = 1
) -> bytes:
    """A baseline JPEG of one colour, written by hand: every coefficient is zero, so its pixels are zero bits.

    A frame of another kind, precision or number of components makes JPEGs that no encoder at hand writes.
    """
    one_code = bytes([1] + [0] * 15) + b"\0"  # a Huffman table with a single one-bit code for the value 0
    declared = b"".join(bytes([i + 1, 0x11, 0]) for i in range(components))
    scanned = b"".join(bytes([i + 1, 0x00]) for i in range(components))
    blocks = -(-width // 8) * -(-height // 8) * components
    pixels = bytes((2 * blocks + 7) // 8)
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, b"\0" + bytes([1] * 64)),
            segment(frame, struct.pack(">BHHB", precision, height, width, components) + declared),
            segment(0xC4, b"\x00" + one_code),
            segment(0xC4, b"\x10" + one_code),
            (segment(0xDA, bytes([components]) + scanned + b"\0\x3f\0") + pixels) * scans,
            b"\xff\xd9",
        ]
    )


def chunk(kind: bytes, payload: bytes) -> bytes:
    """A PNG chunk with its length and CRC."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def header_chunk(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def png(header: bytes, rows: bytes, before_pixels: bytes = b"") -> bytes:
    """A PNG of raw rows (each with its filter byte), in two IDAT chunks."""
    packed = zlib.compress(rows)
    half = len(packed) // 2
    pixels = chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:])
    return PNG_MAGIC + header + before_pixels + pixels + chunk(b"IEND", b"")


def flat_png(width: int, height: int, depth: int = 1, colour: int = 0, before_pixels: bytes = b"") -> bytes:
    """A black PNG of any size, compressed without ever holding its pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    stride = 1 + -(-width * depth * channels // 8)
    left = stride * height
    packer = zlib.compressobj(9)
    zeros = bytes(1 << 16)
    packed = []
    while left > 0:
        packed.append(packer.compress(zeros[:left]))
        left -= len(zeros)
    pixels = chunk(b"IDAT", b"".join(packed) + packer.flush())
    return PNG_MAGIC + header_chunk(width, height, depth, colour) + before_pixels + pixels + chunk(b"IEND", b"")


def png_rows(image: NDArray[np.generic]) -> bytes:
    """Big-endian rows with filter 0 of ``(H, W)`` or ``(H, W, C)``."""
    if image.dtype.itemsize == 2:
        image = image.astype(">u2")
    return b"".join(b"\0" + row.tobytes() for row in image)


def png_chunks(data: bytes) -> Iterator[tuple[str, int, int]]:
    """``(kind, start, end)`` of every chunk."""
    position = len(PNG_MAGIC)
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4])
        yield data[position + 4 : position + 8].decode(), position, end
        position = end


def riff_chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def riff(*chunks: bytes, size: int | None = None, form: bytes = b"WEBP") -> bytes:
    """A RIFF file; ``size`` lies about its length."""
    body = form + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def webp_canvas(width: int, height: int, flags: int = 0) -> bytes:
    """A VP8X chunk; flag 2 is animation, 8 EXIF, 16 alpha."""
    return riff_chunk(
        b"VP8X", struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )


def bmp(
    width: int,
    height: int,
    bits: int = 24,
    *,
    pixels: bytes | None = None,
    palette: bytes = b"",
    compression: int = 0,
    header: int = 40,
    masks: bytes = b"",
    offset: int | None = None,
    colours: int = 0,
) -> bytes:
    """A BMP whose every field can lie; the pixels are a ramp when none are given."""
    if pixels is None:
        stride = (abs(width) * bits + 31) // 32 * 4
        pixels = bytes(i * 7 % 256 for i in range(stride * abs(height)))
    if header == 12:
        fields = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        fields = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(pixels), 0, 0, colours, 0)
        fields += masks
        fields += b"\0" * (header - len(fields))
    start = 14 + len(fields) + len(palette)
    place = start if offset is None else offset
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, place) + fields + palette + pixels
