"""`glimpse token` and `glimpse audit` as people type them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from glimpse.client import Client, GlimpseError
from server.security.credentials import AccessFile
from server.security.tokens import is_sound
from tests.bundles import encoded, person
from tests.server.running import Running

Glimpse = Callable[..., Result]


def test_a_token_is_printed_once_alone_on_stdout(glimpse: Glimpse, tmp_path: Path) -> None:
    made = glimpse("token", "create", "--role", "reader", "--gallery", "lobby", "--expires", "90d", "--data", tmp_path)
    assert made.exit_code == 0
    token = made.stdout.strip()
    assert is_sound(token)
    assert "asks every caller" in made.stderr  # it is the first one
    again = glimpse("token", "create", "--role", "admin", "--note", "[ops] night shift", "--data", tmp_path)
    assert "asks every caller" not in again.stderr
    listed = glimpse("token", "list", "--data", tmp_path)
    assert "lobby" in listed.stdout
    assert "[ops] night shift" in listed.stdout
    assert token not in listed.stdout + (tmp_path / "access.json").read_text()


def test_a_token_is_revoked_by_its_id(glimpse: Glimpse, tmp_path: Path) -> None:
    made = json.loads(glimpse("token", "create", "--role", "indexer", "--json", "--data", tmp_path).stdout)
    assert is_sound(made["token"])
    result = glimpse("token", "revoke", made["id"], "--data", tmp_path)
    assert result.stdout.strip() == f"token:{made['id']} is revoked"
    (entry,) = json.loads(glimpse("token", "list", "--json", "--data", tmp_path).stdout)
    assert (entry["state"], entry["role"], entry["galleries"]) == ("revoked", "indexer", None)
    assert "token" not in entry
    assert "digest" not in entry


def test_a_certificate_is_granted_without_a_secret(glimpse: Glimpse, tmp_path: Path) -> None:
    made = glimpse("token", "create", "--role", "reader", "--certificate", "CN=camera-7", "--data", tmp_path)
    assert "CN=camera-7 may call as reader" in made.stdout
    assert "glm_" not in made.output
    assert "CN=camera-7" in glimpse("token", "list", "--data", tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["create", "--role", "root"], 2, "choose one of reader, indexer, admin"),
        (["create", "--role", "reader", "--expires", "soon"], 2, "expected a number and a unit"),
        (["create", "--role", "reader", "--gallery", "a/b"], 1, "gallery 'a/b'"),
        (["revoke", "nobody00"], 1, "there is no token 'nobody00'"),
    ],
)
def test_mistakes_are_told_in_words(
    glimpse: Glimpse, tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    result = glimpse("token", *arguments, "--data", tmp_path)
    assert result.exit_code == code
    assert sentence in " ".join(result.stderr.replace("│", " ").split())
    assert "no credentials" in glimpse("token", "list", "--data", tmp_path).stdout


@pytest.fixture
def site(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server that asks for tokens; the environment holds an admin's."""
    from server.security.roles import Role

    _, token = AccessFile(tmp_path / "data").create(Role.ADMIN)
    with Running(tmp_path / "data", bundle) as running:
        monkeypatch.setenv("GLIMPSE_SERVER", running.address)
        monkeypatch.setenv("GLIMPSE_TOKEN", token)
        yield running


def test_a_session_with_tokens_from_the_first_gallery_to_the_audit(
    site: Running, glimpse: Glimpse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "query.png"
    image.write_bytes(encoded(person(1)))
    folder = tmp_path / "crops"
    folder.mkdir()
    (folder / "0001_c1s1_000001_00.png").write_bytes(encoded(person(1)))
    assert glimpse("gallery", "create", "lobby").exit_code == 0
    assert glimpse("index", "lobby", folder).exit_code == 0
    assert glimpse("search", "lobby", image, "--purpose", "a lost child").exit_code == 0
    listed = glimpse("audit", "list", "--gallery", "lobby", "--since", "1h")
    assert listed.exit_code == 0, listed.output
    for word in ("CreateGallery", "Upsert", "Search", "a lost child"):
        assert word in listed.stdout
    rows = [
        json.loads(line) for line in glimpse("audit", "list", "--method", "SearchStream", "--json").stdout.splitlines()
    ]
    assert [(row["purpose"], row["code"], row["caller"][:6]) for row in rows] == [("a lost child", "OK", "token:")]
    about = glimpse("audit", "list", "--gallery", "lobby", "--person", "0001", "--json").stdout.splitlines()
    assert {json.loads(line)["method"].partition("/")[2] for line in about} >= {"Upsert", "SearchStream"}
    assert "no rows match" in glimpse("audit", "list", "--until", "2020-01-01T00:00").stdout

    checked = glimpse("audit", "verify")
    assert checked.exit_code == 0
    assert "the audit trail is whole" in checked.stdout
    head = checked.stdout.split()[-1]
    beside = glimpse("audit", "verify", "--data", tmp_path / "data", "--head", head)
    assert "the audit trail is whole" in beside.stdout
    wrong = glimpse("audit", "verify", "--data", tmp_path / "data", "--head", f"1:{'0' * 64}")
    assert wrong.exit_code == 1
    assert "the trail was rewritten" in wrong.stderr
    assert glimpse("audit", "verify", "--data", tmp_path / "data", "--head", "x").exit_code == 2
    assert "no store of this format" in glimpse("audit", "verify", "--data", tmp_path).stderr

    monkeypatch.delenv("GLIMPSE_TOKEN")
    refused = glimpse("gallery", "list")
    assert refused.exit_code == 1
    assert "authorization: Bearer" in refused.stderr
    assert glimpse("health").exit_code == 0  # probes need no token


def test_what_callers_write_does_not_reach_the_terminal_as_a_command(site: Running, glimpse: Glimpse) -> None:
    glimpse("gallery", "create", "lobby")
    evil = "\x1b[2J[bold]gone\r\n\x07"
    with Client(site.address, token=os.environ["GLIMPSE_TOKEN"]) as client, pytest.raises(GlimpseError):
        client.search("lobby", item_id="nobody", purpose=evil)
    shown = glimpse("audit", "list", "--method", "Search").stdout
    assert "?[2J[bold]gone" in shown.replace("\n", "")
    assert not set(shown) & {"\x1b", "\r", "\x07"}
    (row,) = glimpse("audit", "list", "--method", "Search", "--json").stdout.splitlines()
    assert json.loads(row)["purpose"] == evil


def test_a_token_is_not_sent_in_plaintext_to_another_machine(glimpse: Glimpse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_TOKEN", "glm_x")
    result = glimpse("gallery", "list", "--server", "192.0.2.1:50051")
    assert result.exit_code == 2
    assert "refusing to send a token" in " ".join(result.stderr.replace("│", " ").split())
