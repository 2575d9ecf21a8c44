"""Bearer tokens: how they look, and how one is recognised without being kept.

A token is ``glm_`` and 57 letters and digits: 8 that name it, 43 of the secret, 6 of a checksum. The prefix and the
checksum let a secret scanner find leaked tokens with next to no false alarms: ``glm_[0-9A-Za-z]{57}``, then `is_sound`.

The secret is 256 random bits, so that its SHA-256 can be kept as it is. Slow hashes (bcrypt, Argon2) make guessing the
passwords of people expensive; nobody guesses 256 random bits, and every call would pay for the slowness.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib

PREFIX = "glm_"
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 8, 43, 6
LENGTH = len(PREFIX) + ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NOBODYS = hashlib.sha256(b"no token").hexdigest()


def make_token() -> tuple[str, str]:
    """A new token: its id, which may be shown and logged, and the token itself, which is shown once."""
    name = _base62(secrets.randbelow(62**ID_LENGTH), ID_LENGTH)
    body = PREFIX + name + _base62(secrets.randbits(256), SECRET_LENGTH)
    return name, body + _checksum(body)


def is_sound(token: str) -> bool:
    """Whether it has the form and checksum of a token; says nothing about whether any server knows it."""
    return (
        len(token) == LENGTH
        and token.startswith(PREFIX)
        and token.isascii()
        and token.removeprefix(PREFIX).isalnum()
        and token[-CHECKSUM_LENGTH:] == _checksum(token[:-CHECKSUM_LENGTH])
    )


def id_of(token: str) -> str:
    """The public name inside a sound token."""
    return token[len(PREFIX) : len(PREFIX) + ID_LENGTH]


def digest_of(token: str) -> str:
    """What is kept of a token: its SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def matches(token: str, digest: str | None) -> bool:
    """Whether ``digest`` is that of the token, compared in constant time; no digest takes as long as a wrong one."""
    same = hmac.compare_digest(digest_of(token), _NOBODYS if digest is None else digest)
    return same and digest is not None


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    while number:
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)).rjust(length, "0")
