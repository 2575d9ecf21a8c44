"""A catalogue of encoded images that must be refused, and of odd ones that must not.

Made in code, so that what is wrong with each can be read. The server's tests send the same catalogue over gRPC.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache

import cv2
import numpy as np

from tests.abuse.encoders import (
    PNG_MAGIC,
    bmp,
    chunk,
    encode,
    exif,
    flat_jpeg,
    flat_png,
    header_chunk,
    insert_segment,
    jpeg_markers,
    photo,
    png,
    png_chunks,
    png_rows,
    riff,
    riff_chunk,
    segment,
    webp_canvas,
)

Refused = dict[str, tuple[str, bytes]]
"""Name to (reason, bytes)."""

PHOTO = photo()
JPEG = encode(".jpg", PHOTO)
PROGRESSIVE = encode(".jpg", PHOTO, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
PNG = png(header_chunk(32, 64), png_rows(PHOTO), chunk(b"gAMA", b"\0\0\xb1\x8f") + chunk(b"tEXt", b"Comment\0hello"))
WEBP = encode(".webp", PHOTO, cv2.IMWRITE_WEBP_QUALITY, 80)
LOSSLESS_WEBP = encode(".webp", PHOTO, cv2.IMWRITE_WEBP_QUALITY, 101)
BMP = bmp(32, 64)
APP1 = 0xE1
JPEG_EXIF = b"Exif\0\0"


def malformed_images() -> dict[str, bytes]:
    """Encoded images that no one can use: each must get an `ImageError`."""
    return {name: data for name, (_, data) in _catalogue().items()}


def refusal_reasons() -> dict[str, str]:
    """The reason that each of `malformed_images` must be given."""
    return {name: reason for name, (reason, _) in _catalogue().items()}


@cache
def _catalogue() -> Refused:
    return {
        **_not_images(),
        **_cut(),
        **_broken_jpegs(),
        **_broken_pngs(),
        **_broken_webps(),
        **_broken_bmps(),
        **_sizes(),
    }


def _not_images() -> Refused:
    noise = np.random.default_rng(1).bytes(2_000)
    foreign = {
        "GIF": encode(".gif", PHOTO),
        "TIFF": encode(".tiff", PHOTO),
        "portable pixmap": b"P6 32 64 255\n" + PHOTO.tobytes(),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='32' height='64'><rect width='9' height='9'/></svg>",
        "XML": b"<?xml version='1.0'?><svg/>",
        "HTML error page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF",
        "ZIP": b"PK\x03\x04" + noise,
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + noise,
        "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + noise,
        "MP4": b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + noise,
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + noise,
        "OpenEXR": b"v/1\x01\2\0\0\0" + noise,
        "icon": b"\0\0\x01\0\x01\0\x10\x10\0\0" + noise,
        "WAV": riff(riff_chunk(b"fmt ", bytes(16)), form=b"WAVE"),
    }
    nothing = {
        "one byte": b"\xff",
        "null bytes": bytes(1_000),
        "random bytes": noise,
        "text": b"this is a picture of a person in a red coat",
        "base64 of a JPEG": b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIB",
        "JPEG with a wrong first byte": b"\xfe" + JPEG[1:],
        "PNG sent as text": PNG.replace(b"\r\n", b"\n"),
        "PNG magic then random bytes": PNG_MAGIC + noise,
        "JPEG magic then random bytes": b"\xff\xd8\xff" + bytes(b % 0xC0 for b in noise),
        "WebP magic then random bytes": b"RIFF" + struct.pack("<I", 1_996) + b"WEBP" + noise[:1_992],
        "BMP magic then random bytes": b"BM" + noise,
    }
    return {
        "zero bytes": ("empty", b""),
        **{name: ("unsupported", data) for name, data in foreign.items()},
        **{name: ("undecodable", data) for name, data in nothing.items()},
    }


def _cut() -> Refused:
    """Each format cut at every place that means something to it."""
    found: dict[str, bytes] = {}
    for title, data in {"JPEG": JPEG, "progressive JPEG": PROGRESSIVE}.items():
        for number, (marker, place) in enumerate(jpeg_markers(data)):
            found[f"{title} cut before marker {number} ({marker:02X})"] = data[:place]
            found[f"{title} cut inside marker {number} ({marker:02X})"] = data[: place + 1]
    found["JPEG cut in the middle of its pixels"] = JPEG[: len(JPEG) * 3 // 4]
    found["JPEG cut after its EXIF thumbnail"] = insert_segment(
        JPEG, APP1, JPEG_EXIF + exif(1) + JPEG[:400] + b"\xff\xd9"
    )[:500]
    for number, (kind, start, end) in enumerate(png_chunks(PNG)):
        found[f"PNG cut before chunk {number} ({kind})"] = PNG[:start]
        found[f"PNG cut inside chunk {number} ({kind})"] = PNG[: (start + end) // 2]
    found["PNG without its last byte"] = PNG[:-1]
    for title, data in {"WebP": WEBP, "lossless WebP": LOSSLESS_WEBP, "BMP": BMP}.items():
        for place in (12, 16, 20, 27, len(data) // 2, len(data) - 1):
            found[f"{title} cut after {place} bytes"] = data[:place]
    return {name: ("undecodable", data) for name, data in found.items()}


def _broken_jpegs() -> Refused:
    frame = JPEG.index(b"\xff\xc0")
    frame_end = frame + 2 + int.from_bytes(JPEG[frame + 2 : frame + 4])
    start_of_scan = JPEG.index(b"\xff\xda")
    undecodable = {
        "JPEG of two start markers": b"\xff\xd8" + JPEG,
        "JPEG of start and end only": b"\xff\xd8\xff\xd9",
        "JPEG with two frame headers": JPEG[:frame_end] + JPEG[frame:],
        "JPEG whose pixels come before its frame": JPEG[:frame] + JPEG[start_of_scan:],
        "JPEG with a segment of length 0": JPEG[:2] + b"\xff\xe0\0\0" + JPEG[2:],
        "JPEG with a segment beyond its end": JPEG[:2] + b"\xff\xe0\xff\xff" + JPEG[2:],
        "JPEG with a frame header of 4 bytes": b"\xff\xd8" + segment(0xC0, b"\x08\0"),
        "JPEG without quantisation tables": b"\xff\xd8" + JPEG[frame:],
        "JPEG of two channels": flat_jpeg(2),
        "JPEG that scans a channel it lacks": flat_jpeg(1).replace(b"\x01\x01\x00\0\x3f", b"\x01\x07\x00\0\x3f"),
    }
    unsupported = {
        "CMYK JPEG": flat_jpeg(4),
        "lossless JPEG": flat_jpeg(frame=0xC3),
        "arithmetic-coded JPEG": flat_jpeg(frame=0xC9),
        "12-bit JPEG": flat_jpeg(frame=0xC1, precision=12),
        "JPEG of 5,000 empty comments": JPEG[:2] + segment(0xFE, b"") * 5_000 + JPEG[2:],
        "JPEG of 1,000 scans": PROGRESSIVE[:-2] + _last_scan(PROGRESSIVE) * 1_000 + b"\xff\xd9",
    }
    return {
        **{name: ("undecodable", data) for name, data in undecodable.items()},
        **{name: ("unsupported", data) for name, data in unsupported.items()},
    }


def _last_scan(jpeg: bytes) -> bytes:
    """The header of the last scan without its pixels: ten bytes that make a decoder visit every pixel again."""
    start = jpeg.rindex(b"\xff\xda")
    return jpeg[start : start + 2 + int.from_bytes(jpeg[start + 2 : start + 4])]


def _broken_pngs() -> Refused:
    header, rows = header_chunk(32, 64), png_rows(PHOTO)
    pixels = PNG.index(b"IDAT")
    undecodable = {
        "PNG with a wrong IHDR checksum": PNG[:29] + b"\0\0\0\0" + PNG[33:],
        "PNG with a flipped pixel byte": PNG[: pixels + 20] + bytes([PNG[pixels + 20] ^ 0xFF]) + PNG[pixels + 21 :],
        "PNG with two headers, the second huge": png(header, rows, header_chunk(30_000, 30_000)),
        "PNG that does not begin with IHDR": PNG_MAGIC + chunk(b"tEXt", b"a\0b") + PNG[8:],
        "PNG with a chunk of 4 GiB": PNG[: pixels - 4] + b"\xff\xff\xff\xff" + PNG[pixels:],
        "PNG without pixels": PNG_MAGIC + header + chunk(b"IEND", b""),
        "PNG with half of its rows": png(header, rows[: len(rows) // 2]),
        "PNG whose pixels are not zlib": PNG_MAGIC + header + chunk(b"IDAT", b"pixels" * 50) + chunk(b"IEND", b""),
        "PNG with an unknown filter": png(header, b"\x09" + rows[1:]),
        "PNG with an unknown critical chunk": png(header, rows, chunk(b"ABCD", b"?")),
        "PNG palette without its colours": flat_png(32, 64, depth=8, colour=3),
        "PNG of 3 bits a pixel": png(header_chunk(32, 64, depth=3), rows),
        "PNG of colour type 5": png(header_chunk(32, 64, colour=5), rows),
    }
    frames = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, 32, 64, 0, 0, 1, 10, 0, 0)
    )
    unsupported = {
        "animated PNG": png(header, rows, frames),
        "PNG of 70,000 empty chunks": png(header, rows, chunk(b"tEXt", b"") * 70_000),
    }
    return {
        **{name: ("undecodable", data) for name, data in undecodable.items()},
        **{name: ("unsupported", data) for name, data in unsupported.items()},
    }


def _broken_webps() -> Refused:
    frame = WEBP[12:]
    undecodable = {
        "WebP that claims more bytes than it has": riff(frame, size=len(WEBP) + 1_000),
        "WebP that claims fewer bytes than its frame": riff(frame, size=24),
        "WebP that claims no bytes": riff(frame, size=0),
        "WebP frame of 4 GiB": riff(b"VP8 \xff\xff\xff\xff" + frame[8:]),
        "WebP without an image": riff(riff_chunk(b"EXIF", exif(6))),
        "WebP with a canvas and nothing on it": riff(webp_canvas(32, 64)),
        "WebP with a canvas unlike its frame": riff(webp_canvas(4_000, 4_000), frame),
        "WebP with a wrong frame signature": riff(frame.replace(b"\x9d\x01\x2a", b"\x9d\x01\x2b")),
        "lossless WebP with a wrong signature": riff(riff_chunk(b"VP8L", b"\x2e" + LOSSLESS_WEBP[21:])),
    }
    moving = riff(
        webp_canvas(32, 64, flags=2),
        riff_chunk(b"ANIM", bytes(6)),
        riff_chunk(b"ANMF", bytes(6) + b"\x1f\0\0\x3f\0\0" + b"\x64\0\0\0" + frame),
    )
    unsupported = {
        "animated WebP": moving,
        "WebP of 2,000 empty chunks": riff(riff_chunk(b"JUNK", b"") * 2_000, frame),
    }
    return {
        **{name: ("undecodable", data) for name, data in undecodable.items()},
        **{name: ("unsupported", data) for name, data in unsupported.items()},
    }


def _broken_bmps() -> Refused:
    undecodable = {
        "BMP of negative width": bmp(-32, 64),
        "BMP of the most negative height": bmp(32, 64).replace(struct.pack("<i", 64), struct.pack("<i", -(2**31)), 1),
        "BMP of 2 bits a pixel": bmp(32, 64, 2),
        "BMP of 7 bits a pixel": bmp(32, 64, 7),
        "BMP with a header of 41 bytes": bmp(32, 64, header=41),
        "BMP with pixels inside its header": bmp(32, 64, offset=20),
        "BMP with pixels beyond its end": bmp(32, 64, offset=1_000_000),
        "BMP with fewer pixels than it says": bmp(32, 64, pixels=bytes(1_000)),
        "BMP with a palette of 2 billion colours": bmp(32, 64, 8, palette=bytes(1_024), colours=2**31 - 1),
    }
    swapped = struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)
    unsupported = {
        "BMP of run lengths": bmp(
            32, 64, 8, palette=bytes(1_024), compression=1, pixels=b"\x20\x01\0\0" * 64 + b"\0\1"
        ),
        "BMP with a JPEG inside": bmp(32, 64, 0, compression=4, pixels=JPEG),
        "BMP with swapped colour channels": bmp(32, 64, 32, compression=3, header=56, masks=swapped),
    }
    reasons = {name: ("undecodable", data) for name, data in undecodable.items()}
    reasons["BMP of the most negative height"] = ("too_many_pixels", undecodable["BMP of the most negative height"])
    return {**reasons, **{name: ("unsupported", data) for name, data in unsupported.items()}}


def _sizes() -> Refused:
    """Sizes that are refused from the header, whatever follows it."""
    lossless_huge = riff_chunk(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(50))
    return {
        "PNG of 20,000x20,000 in 49 KB": ("too_many_pixels", flat_png(20_000, 20_000)),
        "PNG of 4,001x4,000": ("too_many_pixels", flat_png(4_001, 4_000)),
        "PNG of 2^31-1 squared": ("too_many_pixels", png(header_chunk(2**31 - 1, 2**31 - 1), bytes(100))),
        "JPEG of 65,535x65,535": ("too_many_pixels", _jpeg_of(65_535, 65_535)),
        "WebP canvas of 2^24 squared": ("too_many_pixels", riff(webp_canvas(1 << 24, 1 << 24))),
        "lossless WebP of 16,384x16,384": ("too_many_pixels", riff(lossless_huge)),
        "BMP of 30,000x30,000": ("too_many_pixels", bmp(30_000, 30_000, pixels=b"")),
        "BMP of 2^31-1 squared": ("too_many_pixels", bmp(2**31 - 1, 2**31 - 1, pixels=b"")),
        "PNG of 1x1": ("too_small", flat_png(1, 1)),
        "JPEG of 1x1": ("too_small", flat_jpeg(width=1, height=1)),
        "WebP of 1x1": ("too_small", encode(".webp", photo(1, 1))),
        "BMP of 1x1": ("too_small", bmp(1, 1)),
        "PNG of 7x64": ("too_small", flat_png(7, 64)),
        "PNG of 1:50": ("bad_aspect", flat_png(20, 1_000)),
        "JPEG of 50:1": ("bad_aspect", flat_jpeg(width=1_000, height=20)),
        "BMP of 1:21": ("bad_aspect", bmp(8, 168)),
        "PNG of width 0": ("undecodable", flat_png(0, 64)),
        "JPEG of height 0": ("undecodable", _jpeg_of(32, 0)),
        "BMP of width 0": ("undecodable", bmp(0, 64)),
        "BMP of height 0": ("undecodable", bmp(32, 0)),
        "WebP of width 0": ("undecodable", riff(riff_chunk(b"VP8 ", WEBP[20:26] + b"\0\0" + WEBP[28:]))),
    }


def _jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose frame header says another size than its pixels have."""
    return flat_jpeg(width=32, height=64).replace(struct.pack(">HH", 64, 32), struct.pack(">HH", height, width), 1)


def odd_but_valid_images() -> dict[str, tuple[bytes, tuple[int, int, int]]]:
    """Images that look wrong to a careless reader but are whole, with the shape they decode to."""
    grey = PHOTO[..., 0]
    alpha = np.full(grey.shape, 128, np.uint8)
    deep = PHOTO.astype(np.uint16) * 257
    ramp = bytes(i // 4 for i in range(1_024))
    upright = (64, 32, 3)
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))
    found: dict[str, bytes] = {
        "grey JPEG": encode(".jpg", grey),
        "progressive JPEG": PROGRESSIVE,
        "JPEG with restart markers": encode(".jpg", PHOTO, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        "JPEG without JFIF": flat_jpeg(3),
        "JPEG with fill bytes between segments": JPEG[:2] + b"\xff\xff\xff" + JPEG[2:],
        "JPEG with garbage between segments": JPEG[:20] + b"\0\0\xff\0garbage" + JPEG[20:],
        "JPEG with a thumbnail that ends": insert_segment(JPEG, APP1, JPEG_EXIF + exif(1) + JPEG[:400] + b"\xff\xd9"),
        "JPEG with bytes after its end": JPEG + b"\0" * 500 + JPEG,
        "grey PNG": encode(".png", grey),
        "grey and alpha PNG": png(header_chunk(32, 64, colour=4), png_rows(np.dstack([grey, alpha]))),
        "RGBA PNG": encode(".png", np.dstack([PHOTO, alpha])),
        "1-bit PNG": flat_png(32, 64),
        "palette PNG": png(header_chunk(32, 64, colour=3), png_rows(grey), chunk(b"PLTE", ramp[:768])),
        "palette PNG with a clear colour": png(
            header_chunk(32, 64, colour=3), png_rows(grey), chunk(b"PLTE", ramp[:768]) + chunk(b"tRNS", b"\0\x80")
        ),
        "16-bit PNG": encode(".png", deep),
        "16-bit grey PNG": encode(".png", deep[..., 0]),
        "interlaced PNG": png(header_chunk(32, 64, interlace=1), bytes(64 * 32 * 3 + 200)),
        "PNG with a text of 50 MB in 49 KB": png(header_chunk(32, 64), png_rows(PHOTO), bomb),
        "PNG with bytes after its end": PNG + b"garbage" * 100,
        "lossless WebP": LOSSLESS_WEBP,
        "WebP with alpha": encode(".webp", np.dstack([PHOTO, alpha]), cv2.IMWRITE_WEBP_QUALITY, 80),
        "WebP with bytes after its end": WEBP + b"garbage" * 100,
        "top-down BMP": bmp(32, -64),
        "16-bit BMP": bmp(32, 64, 16),
        "32-bit BMP": bmp(32, 64, 32),
        "32-bit BMP with masks": bmp(
            32, 64, 32, compression=3, header=56, masks=struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
        ),
        "1-bit BMP": bmp(32, 64, 1, palette=ramp[:8]),
        "4-bit BMP": bmp(32, 64, 4, palette=ramp[:64]),
        "8-bit BMP": bmp(32, 64, 8, palette=ramp),
        "BMP of OS/2": bmp(32, 64, header=12),
        "BMP with bytes after its end": BMP + b"garbage" * 100,
    }
    for name, block in _corrupt_exif().items():
        found[f"JPEG with EXIF {name}"] = insert_segment(JPEG, APP1, JPEG_EXIF + block)
        found[f"PNG with EXIF {name}"] = png(header_chunk(32, 64), png_rows(PHOTO), chunk(b"eXIf", block))
        found[f"WebP with EXIF {name}"] = riff(webp_canvas(32, 64, flags=8), WEBP[12:], riff_chunk(b"EXIF", block))
    expected = {name: (data, upright) for name, data in found.items()}
    expected["smallest accepted PNG"] = (flat_png(8, 8), (8, 8, 3))
    expected["most slender accepted PNG"] = (flat_png(8, 160), (160, 8, 3))
    for orientation in range(1, 9):
        data = insert_segment(JPEG, APP1, JPEG_EXIF + exif(orientation))
        expected[f"JPEG of orientation {orientation}"] = (data, (32, 64, 3) if orientation > 4 else upright)
    return expected


def _corrupt_exif() -> dict[str, bytes]:
    """TIFF blocks that no reader can follow; each means upright."""
    return {
        "of no bytes": b"",
        "of random bytes": np.random.default_rng(3).bytes(200),
        "cut in its header": exif(6)[:6],
        "cut in its entries": exif(6, tags=5)[:40],
        "that points beyond its end": b"II*\0\xff\xff\xff\xff" + exif(6)[8:],
        "of orientation 0": exif(0),
        "of orientation 9": exif(9),
        "of orientation 65535": exif(65_535),
        "of orientation as text": exif(6, kind=2),
        "of many orientations": exif(6, values=1_000_000),
        "of 65,535 entries": exif(6)[:8] + b"\xff\xff" + bytes(5_000),
    }
