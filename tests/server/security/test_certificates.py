"""TLS files that change are used without a restart, and client certificates are callers like tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from server.security.certificates import CertificateFiles
from server.security.credentials import AccessFile
from server.security.roles import Role
from tests.server.certificates import Certificate, make_certificate
from tests.server.running import Running
from tests.server.security.calls import bearer, call, request_for

SEARCH = "/glimpse.v1.SearchService/Search"
UPSERT = "/glimpse.v1.GalleryService/Upsert"
MODEL = "/glimpse.v1.AdminService/GetModel"


class Pems:
    """The three files of a server with mutual TLS, written over as an operator would."""

    def __init__(self, folder: Path) -> None:
        self.authority = make_certificate("first authority")
        self.certificate, self.key, self.client_ca = (folder / f"{name}.pem" for name in ("cert", "key", "ca"))
        self.serve(make_certificate("localhost", self.authority))
        self.trust(self.authority)

    def serve(self, pair: Certificate) -> None:
        self.certificate.write_bytes(pair.certificate)
        self.key.write_bytes(pair.private_key)

    def trust(self, *authorities: Certificate) -> None:
        self.client_ca.write_bytes(b"".join(authority.certificate for authority in authorities))

    @property
    def settings(self) -> dict[str, Path]:
        return {"tls_cert": self.certificate, "tls_key": self.key, "client_ca": self.client_ca}


@pytest.fixture
def pems(tmp_path: Path) -> Pems:
    return Pems(tmp_path)


def ask(running: Running, roots: Certificate, client: Certificate, method: str = MODEL, gallery: str = "") -> str:
    """The outcome of one call on a new connection."""
    credentials = grpc.ssl_channel_credentials(roots.certificate, client.private_key, client.certificate)
    # A session of an earlier connection must not be taken up again: the handshake is what is tested.
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.secure_channel(f"localhost:{running.application.port}", credentials, options) as channel:
        return call(channel, method, request_for(method, gallery))[0]


def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path, model: Path, pems: Pems) -> None:
    client = make_certificate("desk", pems.authority)
    second = make_certificate("second authority")
    with Running(tmp_path / "data", model, **pems.settings) as running:
        assert ask(running, pems.authority, client) == "OK"
        assert ask(running, second, client) == "UNAVAILABLE"
        pems.serve(make_certificate("localhost", second))
        assert ask(running, second, client) == "OK"
        assert ask(running, pems.authority, client) == "UNAVAILABLE"


def test_clients_of_a_new_authority_are_let_in_and_those_of_the_old_one_are_not(
    tmp_path: Path, model: Path, pems: Pems
) -> None:
    second = make_certificate("second authority")
    old, new = make_certificate("desk", pems.authority), make_certificate("desk", second)
    with Running(tmp_path / "data", model, **pems.settings) as running:
        assert [ask(running, pems.authority, client) for client in (old, new)] == ["OK", "UNAVAILABLE"]
        pems.trust(pems.authority, second)
        assert [ask(running, pems.authority, client) for client in (old, new)] == ["OK", "OK"]
        pems.trust(second)
        assert [ask(running, pems.authority, client) for client in (old, new)] == ["UNAVAILABLE", "OK"]


@pytest.mark.parametrize("broken", ["half", "junk", "gone", "bad authority"])
def test_files_that_do_not_fit_are_left_alone_until_they_do(
    tmp_path: Path, model: Path, pems: Pems, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_certificate("desk", pems.authority)
    renewed = make_certificate("localhost", pems.authority)
    with Running(tmp_path / "data", model, **pems.settings) as running:
        if broken == "half":
            pems.certificate.write_bytes(renewed.certificate)  # its key is not there yet
        elif broken == "junk":
            pems.key.write_bytes(b"junk")
        elif broken == "gone":
            pems.certificate.unlink()
        else:
            pems.client_ca.write_bytes(b"junk")
        assert ask(running, pems.authority, client) == "OK"
        assert "cannot be used; the ones before are used on" in caplog.text
        pems.serve(renewed)
        pems.trust(pems.authority)
        assert ask(running, pems.authority, client) == "OK"


def test_nothing_is_read_again_while_nothing_changes(pems: Pems) -> None:
    files = CertificateFiles(pems.certificate, pems.key, pems.client_ca)
    files.credentials()
    assert files.changed() is None
    pems.serve(make_certificate("localhost", pems.authority))
    assert files.changed() is not None
    assert files.changed() is None


@pytest.fixture(params=["mtls", "auto"])
def site(request: pytest.FixtureRequest, tmp_path: Path, model: Path, pems: Pems) -> Iterator[Running]:
    """A server with certificates `desk` (reader of crowd), `gone`, which is revoked, and `late`, which has expired."""
    file = AccessFile(tmp_path / "data")
    file.create(Role.READER, certificate="CN=desk", galleries=("crowd",))
    file.revoke(file.create(Role.ADMIN, certificate="CN=gone")[0].id)
    file.create(Role.ADMIN, certificate="CN=late", lifetime=1e-9)
    with Running(tmp_path / "data", model, auth=request.param, **pems.settings) as running:
        yield running


def test_a_certificate_has_the_role_and_galleries_granted_to_its_name(
    site: Running, pems: Pems, tmp_path: Path
) -> None:
    def outcome(name: str, method: str, gallery: str) -> str:
        return ask(site, pems.authority, make_certificate(name, pems.authority), method, gallery)

    assert outcome("desk", SEARCH, "crowd") == "NOT_FOUND"  # let in; there is no such gallery yet
    assert outcome("desk", SEARCH, "other") == "PERMISSION_DENIED"
    assert outcome("desk", UPSERT, "crowd") == "PERMISSION_DENIED"
    assert outcome("nobody", SEARCH, "crowd") == "UNAUTHENTICATED"
    assert outcome("gone", SEARCH, "crowd") == "UNAUTHENTICATED"
    assert outcome("late", SEARCH, "crowd") == "UNAUTHENTICATED"


def test_a_token_is_as_good_as_a_certificate_unless_the_server_wants_certificates(
    site: Running, pems: Pems, tmp_path: Path
) -> None:
    _, token = AccessFile(tmp_path / "data").create(Role.READER)
    site.application._methods._guard._looked = float("-inf")  # type: ignore[union-attr]  # half a second has passed
    client = make_certificate("nobody", pems.authority)
    credentials = grpc.ssl_channel_credentials(pems.authority.certificate, client.private_key, client.certificate)
    with grpc.secure_channel(f"localhost:{site.application.port}", credentials) as channel:
        code, message = call(channel, MODEL, request_for(MODEL, ""), bearer(token))
    if site.settings.auth == "auto":
        assert code == "OK"
    else:
        assert (code, "by their TLS certificates" in message) == ("UNAUTHENTICATED", True)


def test_an_alternative_name_is_a_name_too(tmp_path: Path, model: Path, pems: Pems) -> None:
    AccessFile(tmp_path / "data").create(Role.READER, certificate="SAN=localhost")  # as the tests' certificates have
    with Running(tmp_path / "data", model, auth="mtls", **pems.settings) as running:
        assert ask(running, pems.authority, make_certificate("whoever", pems.authority)) == "OK"
