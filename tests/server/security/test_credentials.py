"""The file of tokens and certificates: what is kept, how it changes, and what is refused."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from server.security.credentials import AccessError, AccessFile
from server.security.roles import Role


@pytest.fixture
def file(tmp_path: Path) -> AccessFile:
    return AccessFile(tmp_path / "data")


def test_a_token_is_kept_as_its_hash_only(file: AccessFile) -> None:
    grant, token = file.create(Role.INDEXER, galleries=("lobby", "door"), lifetime=60, note="camera 7")
    kept = file.path.read_text()
    assert token not in kept
    assert token[12:55] not in kept  # nor its secret alone
    (read,) = file.read()
    assert read == grant
    assert (read.role, read.galleries, read.note, read.name) == (
        "indexer",
        ("lobby", "door"),
        "camera 7",
        f"token:{grant.id}",
    )
    assert read.expires_at == pytest.approx(read.created_at + 60)


def test_the_file_is_its_owners_alone_and_leaves_no_temporary_file(file: AccessFile) -> None:
    old = os.umask(0)
    try:
        file.create(Role.READER)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["access.json", "access.lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_server(file: AccessFile) -> None:
    file.path.parent.mkdir()
    os.chown(file.path.parent, 1234, 2345)
    file.create(Role.READER)
    for name in ("access.json", "access.lock"):
        found = (file.path.parent / name).stat()
        assert (found.st_uid, found.st_gid) == (1234, 2345)


def test_a_revoked_token_stays_in_the_list(file: AccessFile) -> None:
    grant, _ = file.create(Role.READER)
    revoked = file.revoke(grant.id)
    assert revoked.state(0) == "revoked"
    assert file.revoke(grant.id) == revoked  # a second time changes nothing
    assert [entry.state(grant.created_at) for entry in file.read()] == ["revoked"]


def test_commands_at_the_same_time_lose_nothing(file: AccessFile) -> None:
    threads = [threading.Thread(target=file.create, args=(Role.READER,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({grant.id for grant in file.read()}) == 8


def test_a_kill_before_the_rename_changes_nothing(file: AccessFile, monkeypatch: pytest.MonkeyPatch) -> None:
    grant, _ = file.create(Role.READER)

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            file.revoke(grant.id)
    assert file.read() == (grant,)
    file.revoke(grant.id)  # the left-over is in nobody's way
    assert file.read()[0].revoked_at is not None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"galleries": ("../etc",)}, "gallery '../etc'"),
        ({"galleries": ()}, "allows nothing"),
        ({"certificate": "desk"}, "expected CN=NAME or SAN=NAME"),
        ({"certificate": "CN=a\nb"}, "expected CN=NAME or SAN=NAME"),
        ({"note": "x" * 201}, "200 characters"),
    ],
)
def test_what_cannot_be_granted_is_refused_in_words(file: AccessFile, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AccessError, match=sentence):
        file.create(Role.READER, **arguments)
    assert file.read() == ()


def test_a_certificate_is_granted_once(file: AccessFile) -> None:
    grant, token = file.create(Role.READER, certificate="CN=desk")
    assert (token, grant.digest, grant.name) == ("", None, "certificate:CN=desk")
    with pytest.raises(AccessError, match=f"granted already by {grant.id}"):
        file.create(Role.ADMIN, certificate="CN=desk")
    file.revoke(grant.id)
    file.create(Role.ADMIN, certificate="CN=desk")


def test_an_unknown_id_is_told(file: AccessFile) -> None:
    with pytest.raises(AccessError, match="no token 'nobody00'"):
        file.revoke("nobody00")


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        ("", "not a file of tokens"),
        ("[]", "not a file of tokens"),
        (json.dumps({"format": 2, "grants": []}), "format"),
        (json.dumps({"format": 1, "grants": [], "more": 1}), "more"),
        (
            json.dumps(
                {"format": 1, "grants": [{"id": "abcdefgh", "role": "root", "digest": "0" * 64, "created_at": 0}]}
            ),
            r"grants\.0\.role",
        ),
        (
            json.dumps({"format": 1, "grants": [{"id": "abcdefgh", "role": "admin", "created_at": 0}]}),
            "a digest or a certificate",
        ),
    ],
)
def test_a_file_that_is_not_one_is_refused_by_name(file: AccessFile, contents: str, sentence: str) -> None:
    file.path.parent.mkdir()
    file.path.write_text(contents)
    with pytest.raises(AccessError, match=sentence) as error:
        file.read()
    assert "access.json" in str(error.value)
    with pytest.raises(AccessError):
        file.create(Role.READER)
    assert file.path.read_text() == contents
