"""Tokens: their form, and that only their hash is needed to know them again."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

import pytest

from server.security import tokens
from server.security.tokens import digest_of, id_of, is_sound, make_token, matches


def test_a_token_is_found_by_the_pattern_for_secret_scanners_and_holds_its_id() -> None:
    for _ in range(200):
        name, token = make_token()
        assert re.fullmatch(r"glm_[0-9A-Za-z]{57}", token)
        assert is_sound(token)
        assert id_of(token) == name


def test_tokens_differ_and_hold_256_random_bits() -> None:
    made = {make_token()[1] for _ in range(500)}
    assert len(made) == 500
    assert 62**tokens.SECRET_LENGTH >= 2**256


@pytest.mark.parametrize("place", [0, 3, 4, 11, 12, 40, 54, 55, 60])
def test_one_wrong_letter_makes_it_unsound(place: int) -> None:
    _, token = make_token()
    wrong = "Q" if token[place] != "Q" else "R"
    assert not is_sound(token[:place] + wrong + token[place + 1 :])


@pytest.mark.parametrize("text", ["", "glm_", "x" * 61, "glm_" + "é" * 57, "glm_" + "-" * 57, "glm_" + "1" * 58])
def test_what_is_no_token_is_unsound(text: str) -> None:
    assert not is_sound(text)


def test_a_token_matches_its_own_digest_alone() -> None:
    _, token = make_token()
    assert digest_of(token) == hashlib.sha256(token.encode()).hexdigest()
    assert matches(token, digest_of(token))
    assert not matches(token, digest_of(make_token()[1]))
    assert not matches(token, None)


@pytest.mark.parametrize("known", [True, False])
def test_digests_are_compared_in_constant_time_whether_the_token_is_known_or_not(
    monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    compared: list[tuple[Any, Any]] = []

    def compare(left: str, right: str) -> bool:
        compared.append((left, right))
        return real(left, right)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    _, token = make_token()
    assert matches(token, digest_of(token) if known else None) is known
    ((left, right),) = compared
    assert (len(left), len(right)) == (64, 64)
