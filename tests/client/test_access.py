"""The client with a token: on every kind of call, and never in plaintext to others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from glimpse.client import Client, Item, PermissionDenied, Unauthenticated
from server.security.credentials import AccessFile
from server.security.roles import Role
from tests.bundles import encoded, person, tiny_bundle
from tests.server.running import Running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("site")
    file = AccessFile(folder / "data")
    tokens = {str(role): file.create(role)[1] for role in Role}
    with Running(folder / "data", tiny_bundle(folder / "model").source) as running:
        yield running, tokens


def test_unary_calls_streams_and_pages_carry_the_token(site: tuple[Running, dict[str, str]]) -> None:
    running, tokens = site
    with Client(running.address, token=tokens["admin"]) as glimpse:
        glimpse.create_gallery("lobby")
        items = [Item(item_id=f"i{n}", image=encoded(person(n)), person_id=str(n)) for n in range(3)]
        assert all(result.ok for result in glimpse.upsert("lobby", items))
        assert len(glimpse.search("lobby", item_id="i0", purpose="test")) == 2
        assert len(list(glimpse.search_all("lobby", item_id="i0"))) == 2
        assert len(list(glimpse.search_many("lobby", [encoded(person(1))]))) == 1
        rows = list(glimpse.audit(gallery="lobby", since=datetime.now(UTC) - timedelta(hours=1)))
        assert {row.method.partition("/")[2] for row in rows} == {
            "CreateGallery",
            "Upsert",
            "Search",
            "SearchAll",
            "SearchStream",
        }
        assert [row.sequence for row in rows] == sorted((row.sequence for row in rows), reverse=True)
        again = glimpse.audit(limit=2, gallery="lobby", until=rows[0].time + timedelta(microseconds=1))
        assert [row.sequence for row in again] == [row.sequence for row in rows[:2]]
        assert len(list(glimpse.audit(gallery="lobby", person_id="2"))) >= 2
        verdict = glimpse.verify_audit()
        assert (verdict.problem, verdict.first) == ("", 1)
        assert glimpse.verify_audit(verdict.head).problem == ""


def test_refusals_have_their_own_exceptions(site: tuple[Running, dict[str, str]]) -> None:
    running, tokens = site
    with Client(running.address) as nobody:
        with pytest.raises(Unauthenticated, match="glimpse token create"):
            nobody.galleries()
        assert nobody.health() == "SERVING"
    with Client(running.address, token=tokens["reader"]) as reader:
        with pytest.raises(PermissionDenied, match="needs the role admin"):
            reader.create_gallery("mine")
        with pytest.raises(PermissionDenied):
            list(reader.audit())


@pytest.mark.parametrize("address", ["192.0.2.1:50051", "example.org:443", "[2001:db8::1]:1"])
def test_a_token_needs_tls_beyond_this_machine(address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="refusing to send a token"):
        Client(address, token="glm_x")
    Client(address, token="glm_x", insecure=True).close()
    Client(address, token="glm_x", tls=True).close()
    Client(address).close()


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.1:1", "[::1]:1"])
def test_this_machine_needs_none(address: str) -> None:
    Client(address, token="glm_x").close()
