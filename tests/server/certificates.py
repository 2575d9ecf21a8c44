"""Certificates for TLS tests, made in a few milliseconds from nothing but Python: P-256 keys, X.509 in DER.

Not for use outside tests: the arithmetic is not constant-time.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import secrets
from dataclasses import dataclass

_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_Point = tuple[int, int] | None


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, PEM."""

    name: str
    key: int
    certificate: bytes
    private_key: bytes


def make_certificate(name: str, issuer: Certificate | None = None, *, expired: bool = False) -> Certificate:
    """A certificate authority when there is no ``issuer``, else a certificate for localhost signed by it."""
    key = secrets.randbelow(_N - 1) + 1
    algorithm = _sequence(_oid("1.2.840.10045.4.3.2"))  # ecdsa-with-SHA256
    extensions = [
        _extension("2.5.29.19", _sequence(_tlv(0x01, b"\xff") if issuer is None else b""), critical=True),
        _extension(
            "2.5.29.17", _sequence(_tlv(0x82, b"localhost"), _tlv(0x87, ipaddress.ip_address("127.0.0.1").packed))
        ),
    ]
    validity = (b"200101000000Z", b"210101000000Z") if expired else (b"200101000000Z", b"491231235959Z")
    body = _sequence(
        _tlv(0xA0, _integer(2)),
        _integer(secrets.randbits(63)),
        algorithm,
        _distinguished(issuer.name if issuer else name),
        _sequence(*(_tlv(0x17, moment) for moment in validity)),
        _distinguished(name),
        _sequence(_sequence(_oid("1.2.840.10045.2.1"), _oid("1.2.840.10045.3.1.7")), _bits(_public(key))),
        _tlv(0xA3, _sequence(*extensions)),
    )
    signature = _sign(issuer.key if issuer else key, body)
    private = _sequence(_integer(1), _tlv(0x04, key.to_bytes(32, "big")), _tlv(0xA0, _oid("1.2.840.10045.3.1.7")))
    return Certificate(
        name,
        key,
        _pem("CERTIFICATE", _sequence(body, algorithm, _bits(signature))),
        _pem("EC PRIVATE KEY", private),
    )


def _add(a: _Point, b: _Point) -> _Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % _P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, _P)  # the curve's a is -3
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _P)
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def _times(scalar: int) -> tuple[int, int]:
    total: _Point = None
    power: _Point = _G
    while scalar:
        if scalar & 1:
            total = _add(total, power)
        power = _add(power, power)
        scalar >>= 1
    assert total is not None
    return total


def _public(key: int) -> bytes:
    x, y = _times(key)
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def _sign(key: int, data: bytes) -> bytes:
    digest = int.from_bytes(hashlib.sha256(data).digest(), "big")
    nonce = secrets.randbelow(_N - 1) + 1
    r = _times(nonce)[0] % _N
    return _sequence(_integer(r), _integer(pow(nonce, -1, _N) * (digest + r * key) % _N))


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    length = (
        bytes([size]) if size < 128 else (b"\x81" + bytes([size]) if size < 256 else b"\x82" + size.to_bytes(2, "big"))
    )
    return bytes([tag]) + length + value


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bits(value: bytes) -> bytes:
    return _tlv(0x03, b"\x00" + value)


def _oid(dotted: str) -> bytes:
    numbers = [int(number) for number in dotted.split(".")]
    encoded = bytes([40 * numbers[0] + numbers[1]])
    for number in numbers[2:]:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(number & 0x7F | 0x80)
        encoded += bytes(reversed(digits))
    return _tlv(0x06, encoded)


def _distinguished(name: str) -> bytes:
    return _sequence(_tlv(0x31, _sequence(_oid("2.5.4.3"), _tlv(0x0C, name.encode()))))


def _extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    return _sequence(_oid(dotted), _tlv(0x01, b"\xff") if critical else b"", _tlv(0x04, value))


def _pem(kind: str, der: bytes) -> bytes:
    text = base64.encodebytes(der).replace(b"\n", b"")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN " + kind.encode() + b"-----", *lines, b"-----END " + kind.encode() + b"-----", b""])
