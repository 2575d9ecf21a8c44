"""What the header of an encoded image says, read before any pixel is decoded.

Decoders allocate what a header asks for: a PNG of 48 KiB can ask for 1.2 GB. These parsers read the size, the EXIF
orientation and whether the file is whole from the bytes alone, in microseconds and without allocating. They are
as strict as the decoders where a difference could matter (a second header, a canvas unlike its frame).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

Reason = Literal[
    "empty", "too_large", "too_small", "too_many_pixels", "bad_aspect", "unsupported", "undecodable", "bad_box"
]
REASONS: tuple[str, ...] = get_args(Reason)
Format = Literal["jpeg", "png", "webp", "bmp"]

ACCEPTED = "JPEG, PNG, WebP and BMP are accepted"
# Nothing real comes near these. Without them 16 MiB of empty blocks would cost seconds of parsing, and a JPEG of
# 1 MB more than a minute of decoding: each scan of ten bytes visits every pixel again.
MAX_JPEG_SEGMENTS = 2_000
MAX_JPEG_SCANS = 100
MAX_PNG_CHUNKS = 65_536
MAX_WEBP_CHUNKS = 1_000
MAX_EXIF_ENTRIES = 512


class ImageError(ValueError):
    """An image that is refused; ``reason`` is one of `REASONS`, the message says what came and what is allowed."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an encoded image says about itself."""

    format: Format
    width: int
    """Pixels as stored, before the orientation is applied."""
    height: int
    orientation: int = 1
    """EXIF orientation, 1 (upright) to 8; 1 when there is none or it is corrupt."""
    defect: str = ""
    """Why the body cannot be whole, empty when nothing is known against it."""


def probe(data: bytes) -> ImageHeader:
    """Reads the header of a JPEG, PNG, WebP or BMP.

    Raises:
        ImageError: ``empty``, ``unsupported`` (another format, or a kind of these that is not decoded: animated,
            CMYK, more than 8 bits in a JPEG, compressed BMP) or ``undecodable`` (the header itself is broken).
    """
    if not data:
        raise ImageError("empty", f"the image is empty (0 bytes); {ACCEPTED}")
    for magic, read in _READERS:
        if data.startswith(magic):
            return read(data)
    for offset, magic, name in _FOREIGN:
        if data.startswith(magic, offset):
            raise ImageError("unsupported", f"this is {name}; {ACCEPTED}")
    raise ImageError("undecodable", f"not an image: it begins with the bytes {data[:8].hex(' ')}; {ACCEPTED}")


# The next marker of a JPEG: garbage, stuffed zeros, fill bytes and restart markers are passed over, as libjpeg does.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG and DAC
_DECODED_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive Huffman
_EXIF = b"Exif\0\0"
_CUT = "it ends before its end marker (truncated)"


def _jpeg(data: bytes) -> ImageHeader:
    frame = 0
    width = height = components = scans = 0
    orientation: int | None = None
    defect = _CUT
    position = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            break
        marker, position = data[found.end() - 1], found.end()
        if marker == _EOI:
            defect = "" if scans else "it holds no pixels"
            break
        if marker == _SOI:
            raise _broken("JPEG", "a second image starts inside its header")
        length = int.from_bytes(data[position : position + 2])
        if position + max(length, 2) > len(data):
            break
        if length < 2:
            raise _broken("JPEG", f"a segment claims a length of {length}")
        if marker in _FRAMES:
            if frame:
                raise _broken("JPEG", "it has two frame headers")
            if length < 8:
                raise _broken("JPEG", "its frame header is too short")
            frame = marker
            precision, height, width, components = struct.unpack_from(">BHHB", data, position + 2)
            _check_jpeg_kind(frame, precision, components)
        elif marker == _APP1 and orientation is None and data.startswith(_EXIF, position + 2):
            orientation = _exif_orientation(data[position + 2 + len(_EXIF) : position + length])
        elif marker == _SOS:
            if not frame:
                raise _broken("JPEG", "its pixels come before its frame header")
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise ImageError("unsupported", f"this JPEG has more than {MAX_JPEG_SCANS} scans")
            in_scan = data[position + 2] if length > 2 else 0
            if scans == 1 and frame != 0xC2 and in_scan == components:
                # One scan holds everything, as in nearly all JPEGs: decoders stop after it.
                pixels = position + length
                whole = data.endswith(b"\xff\xd9", pixels) or data.find(b"\xff\xd9", pixels) >= 0
                defect = "" if whole else _CUT
                break
        position += length
    else:
        raise ImageError("unsupported", f"this JPEG has more than {MAX_JPEG_SEGMENTS:,} segments")
    if not frame:
        raise _broken("JPEG", "it ends before its frame header")
    return _sized("jpeg", width, height, orientation or 1, defect)


def _check_jpeg_kind(frame: int, precision: int, components: int) -> None:
    if frame not in _DECODED_FRAMES:
        raise ImageError("unsupported", f"this JPEG is lossless, hierarchical or arithmetic-coded; {ACCEPTED}")
    if precision != 8:
        raise ImageError("unsupported", f"this JPEG has {precision} bits a channel; 8 are accepted")
    if components == 4:
        raise ImageError("unsupported", "this is a CMYK JPEG; grey and RGB (YCbCr) ones are accepted")
    if components not in (1, 3):
        raise _broken("JPEG", f"it has {components} channels")


def _png(data: bytes) -> ImageHeader:
    if len(data) < 33 or data[8:16] != b"\0\0\0\rIHDR":
        raise _broken("PNG", "it does not begin with a whole IHDR chunk")
    width, height = struct.unpack_from(">II", data, 16)
    orientation: int | None = None
    defect = _CUT
    position = 33
    for _ in range(MAX_PNG_CHUNKS):
        if position + 12 > len(data):
            break
        kind = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4])
        if end > len(data):
            break
        if kind == b"IEND":
            defect = ""
            break
        if kind in (b"acTL", b"fcTL", b"fdAT"):
            raise ImageError("unsupported", "this is an animated PNG; still images are accepted")
        if kind == b"IHDR":
            raise _broken("PNG", "it has two IHDR chunks")
        if kind == b"eXIf" and orientation is None:
            orientation = _exif_orientation(data[position + 8 : end - 4])
        position = end
    else:
        raise ImageError("unsupported", f"this PNG has more than {MAX_PNG_CHUNKS:,} chunks")
    return _sized("png", width, height, orientation or 1, defect)


def _webp(data: bytes) -> ImageHeader:
    if data[8:12] != b"WEBP":
        raise ImageError("unsupported", f"this is a RIFF file but not WebP (sound or video?); {ACCEPTED}")
    end = 8 + int.from_bytes(data[4:8], "little")
    canvas: tuple[int, int] | None = None
    frame: tuple[int, int] | None = None
    orientation = 1
    defect = _CUT if end > len(data) else ""
    position = 12
    for _ in range(MAX_WEBP_CHUNKS):
        if position + 8 > min(end, len(data)):
            break
        kind = data[position : position + 4]
        start = position + 8
        size = int.from_bytes(data[position + 4 : start], "little")
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and data[start : start + 1] > b"" and data[start] & 2):
            raise ImageError("unsupported", "this is an animated WebP; still images are accepted")
        if kind == b"VP8X" and start + 10 <= len(data):
            canvas = (
                1 + int.from_bytes(data[start + 4 : start + 7], "little"),
                1 + int.from_bytes(data[start + 7 : start + 10], "little"),
            )
        elif kind in (b"VP8 ", b"VP8L"):
            frame = _vp8_size(data, start) if kind == b"VP8 " else _vp8l_size(data, start)
            if canvas is not None and frame != canvas:
                raise _broken("WebP", f"its canvas is {canvas[0]}x{canvas[1]}, its frame {frame[0]}x{frame[1]}")
        if start + size > min(end, len(data)):
            defect = _CUT
            break
        if kind == b"EXIF":
            block = data[start : start + size]
            orientation = _exif_orientation(block.removeprefix(_EXIF))
        position = start + size + size % 2
    else:
        raise ImageError("unsupported", f"this WebP has more than {MAX_WEBP_CHUNKS:,} chunks")
    stored = frame or canvas
    if stored is None:
        raise _broken("WebP", "it holds no image")
    return _sized("webp", *stored, orientation, defect or ("" if frame else "it holds no pixels"))


def _vp8_size(data: bytes, start: int) -> tuple[int, int]:
    header = data[start : start + 10]
    if len(header) < 10 or header[0] & 1 or header[3:6] != b"\x9d\x01\x2a":
        raise _broken("WebP", "its VP8 frame header is wrong")
    width, height = struct.unpack_from("<HH", header, 6)
    return width & 0x3FFF, height & 0x3FFF  # the upper two bits are a scaling hint


def _vp8l_size(data: bytes, start: int) -> tuple[int, int]:
    header = data[start : start + 5]
    if len(header) < 5 or header[0] != 0x2F:
        raise _broken("WebP", "its VP8L frame header is wrong")
    bits = int.from_bytes(header[1:], "little")
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
# OpenCV assumes these channel masks and ignores the ones a file states.
_BMP_MASKS = {
    16: {(0xF800, 0x07E0, 0x001F), (0x7C00, 0x03E0, 0x001F)},
    32: {(0xFF0000, 0x00FF00, 0x0000FF)},
}


def _bmp(data: bytes) -> ImageHeader:
    offset, header = struct.unpack_from("<II", data, 10) if len(data) >= 18 else (0, 0)
    if header not in _BMP_HEADERS or len(data) < 14 + header:
        raise _broken("BMP", "its header is cut or of an unknown kind")
    masks = compression = 0
    if header == 12:
        width, height, bits = struct.unpack_from("<HH2xH", data, 18)
    else:
        width, height, bits, compression = struct.unpack_from("<ii2xHI", data, 18)
        height = abs(height)  # a negative height says that the rows run from top to bottom
    if compression == 3 and header != 64 and bits in _BMP_MASKS and len(data) >= 66:
        masks = 12 if header == 40 else 0
        if struct.unpack_from("<III", data, 54) not in _BMP_MASKS[bits]:
            raise ImageError("unsupported", "this BMP has an unusual channel order; blue-green-red is accepted")
    elif compression != 0:
        raise ImageError("unsupported", f"this BMP is compressed (kind {compression}); uncompressed ones are accepted")
    if bits not in (1, 4, 8, 16, 24, 32):
        raise _broken("BMP", f"it has {bits} bits a pixel")
    if offset < 14 + header + masks:
        raise _broken("BMP", f"its pixels start at byte {offset}, inside its header")
    stride = (width * bits + 31) // 32 * 4
    defect = "" if offset + stride * height <= len(data) else "its pixels end beyond its bytes (truncated)"
    return _sized("bmp", width, height, 1, defect)


def _exif_orientation(block: bytes) -> int:
    """The orientation tag of a TIFF block; 1 when there is none or anything about it is wrong."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for entry in range(start + 2, start + 2 + 12 * min(count, MAX_EXIF_ENTRIES), 12):
        if entry + 12 > len(block):
            return 1
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", block, entry)
        if tag == 0x0112:
            return value if kind == 3 and values == 1 and 1 <= value <= 8 else 1
    return 1


def _sized(format: Format, width: int, height: int, orientation: int, defect: str) -> ImageHeader:
    if width < 1 or height < 1:
        raise ImageError("undecodable", f"the {format.upper()} says it is {width}x{height} pixels")
    return ImageHeader(format, width, height, orientation, defect)


def _broken(name: str, why: str) -> ImageError:
    return ImageError("undecodable", f"this {name} cannot be read: {why}")


_READERS: tuple[tuple[bytes, Callable[[bytes], ImageHeader]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"BM", _bmp),
)
_FOREIGN = (
    (0, b"GIF8", "a GIF"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (4, b"ftypavi", "an AVIF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftypmif1", "a HEIF"),
    (4, b"ftyp", "a video"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\x01\0", "an icon"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"v/1\x01", "an OpenEXR"),
    (0, b"P5", "a PNM"),
    (0, b"P6", "a PNM"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"<svg", "an SVG"),
    (0, b"<?xml", "an XML or SVG document"),
    (0, b"<", "an HTML or XML document"),
)
