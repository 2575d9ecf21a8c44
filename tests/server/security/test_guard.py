"""The guard beside a file that changes, and a clock that does not run straight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import PermissionDenied, Unauthenticated
from server.security.caller import ANYONE, Caller
from server.security.credentials import LOOK_SECONDS, AccessError, AccessFile
from server.security.guard import Guard, Mode
from server.security.roles import OPEN, Access, Role

READ = Access(Role.READER)
ADMIN = Access(Role.ADMIN)


class Peer:
    """A caller's side of a call."""

    def __init__(self, token: str | None = None, **certificate: str) -> None:
        self._token = token
        self._certificate = certificate

    def invocation_metadata(self) -> Any:
        return (("user-agent", "test"),) + ((("authorization", f"Bearer {self._token}"),) if self._token else ())

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {key: [value.encode()] for key, value in self._certificate.items()}


class Clocks:
    """What a guard takes for the time."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = 2_000_000_000.0

    def later(self, seconds: float = LOOK_SECONDS) -> None:
        self.monotonic += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr("server.security.credentials.time.time", lambda: clocks.wall)
    return clocks


@pytest.fixture
def file(tmp_path: Path) -> AccessFile:
    return AccessFile(tmp_path / "data")


@pytest.fixture
def guarding(file: AccessFile, clocks: Clocks) -> Callable[..., Guard]:
    def make(mode: Mode = "auto", certificates: bool = False) -> Guard:
        return Guard(file, mode, certificates=certificates, clock=lambda: clocks.monotonic, wall=lambda: clocks.wall)

    return make


def test_a_server_without_credentials_knows_anyone_and_the_first_token_ends_that(
    file: AccessFile, guarding: Callable[..., Guard], clocks: Clocks
) -> None:
    guard = guarding()
    assert guard.identify(READ, Peer()) is ANYONE
    _, token = file.create(Role.READER)
    clocks.later()
    with pytest.raises(Unauthenticated, match="authorization: Bearer"):
        guard.identify(READ, Peer())
    assert guard.identify(READ, Peer(token)).role is Role.READER
    assert guard.identify(OPEN, Peer()) is ANYONE
    assert guard.refusal(OPEN, ()) is None


def test_a_token_is_taken_and_refused_within_moments_of_its_making_and_end(
    file: AccessFile, guarding: Callable[..., Guard], clocks: Clocks
) -> None:
    guard = guarding("token")
    grant, token = file.create(Role.READER)
    clocks.later()
    caller = guard.identify(READ, Peer(token))
    guard.recheck(caller)
    file.revoke(grant.id)
    clocks.later(LOOK_SECONDS / 2)
    assert guard.identify(READ, Peer(token)) == caller  # not looked yet: the bound is what is promised
    clocks.later()
    with pytest.raises(Unauthenticated, match="was revoked"):
        guard.identify(READ, Peer(token))
    with pytest.raises(Unauthenticated, match="not valid any more"):
        guard.recheck(caller)


def test_streams_of_nobody_end_when_the_first_token_is_made(
    file: AccessFile, guarding: Callable[..., Guard], clocks: Clocks
) -> None:
    guard = guarding()
    guard.recheck(ANYONE)
    file.create(Role.READER)
    clocks.later()
    with pytest.raises(Unauthenticated):
        guard.recheck(ANYONE)


def test_what_has_expired_stays_expired_when_the_clock_is_set_back(
    file: AccessFile, guarding: Callable[..., Guard], clocks: Clocks
) -> None:
    guard = guarding("token")
    _, token = file.create(Role.READER, lifetime=60)
    clocks.later()
    caller = guard.identify(READ, Peer(token))
    clocks.wall += 61
    with pytest.raises(Unauthenticated, match="has expired"):
        guard.identify(READ, Peer(token))
    clocks.wall -= 3600
    with pytest.raises(Unauthenticated, match="has expired"):
        guard.identify(READ, Peer(token))
    with pytest.raises(Unauthenticated, match="not valid any more"):
        guard.recheck(caller)


@pytest.mark.parametrize("damage", ["junk", "gone"])
@pytest.mark.parametrize("mode", ["auto", "token"])
def test_a_file_that_is_lost_closes_the_server_and_does_not_open_it(
    file: AccessFile, guarding: Callable[..., Guard], clocks: Clocks, damage: str, mode: Mode
) -> None:
    _, token = file.create(Role.ADMIN)
    kept = file.path.read_bytes()
    guard = guarding(mode)
    assert guard.identify(READ, Peer(token)).role is Role.ADMIN
    file.path.unlink()
    if damage == "junk":
        file.path.write_text("junk")
    clocks.later()
    for peer in (Peer(token), Peer()):
        with pytest.raises(Unauthenticated):
            guard.identify(READ, peer)
    file.path.write_bytes(kept)
    clocks.later()
    assert guard.identify(READ, Peer(token)).role is Role.ADMIN


def test_a_server_does_not_start_on_a_file_that_it_cannot_read(
    file: AccessFile, guarding: Callable[..., Guard]
) -> None:
    file.path.parent.mkdir()
    file.path.write_text("junk")
    with pytest.raises(AccessError, match="not a file of tokens"):
        guarding()
    assert guarding("off").identify(READ, Peer()) is ANYONE


def test_off_asks_nobody_whatever_the_file_says(
    file: AccessFile, guarding: Callable[..., Guard], clocks: Clocks
) -> None:
    file.create(Role.READER)
    guard = guarding("off")
    clocks.later()
    assert guard.identify(ADMIN, Peer()) is ANYONE
    assert not guard.asks


def test_a_server_that_asks_nobody_still_tells_whose_certificate_it_was(guarding: Callable[..., Guard]) -> None:
    guard = guarding("off", certificates=True)
    caller = guard.identify(READ, Peer(x509_common_name="desk"))
    assert (caller.name, caller.role, caller.galleries) == ("certificate:CN=desk", Role.ADMIN, None)


def test_a_token_does_not_need_a_request_to_be_refused(file: AccessFile, guarding: Callable[..., Guard]) -> None:
    _, token = file.create(Role.READER)
    guard = guarding()
    refusal = guard.refusal(READ, Peer().invocation_metadata())
    assert isinstance(refusal, Unauthenticated)
    assert guard.refusal(READ, Peer(token).invocation_metadata()) is None
    # with certificates it is TLS that says who calls, and only once the call is there
    assert guarding("auto", certificates=True).refusal(READ, Peer().invocation_metadata()) is None


def test_an_empty_name_stands_for_the_one_before_only_later_in_a_stream(guarding: Callable[..., Guard]) -> None:
    class Request:
        gallery = ""

    caller = Caller("token:x", Role.READER, frozenset({"lobby"}))
    guard = guarding()
    guard.check(READ, caller, Request(), later=True)
    with pytest.raises(PermissionDenied):
        guard.check(READ, caller, Request())


@given(st.one_of(st.text(max_size=100), st.from_regex(r"glm_[0-9A-Za-z]{57}", fullmatch=True)))
def test_no_header_whatever_comes_in_or_breaks_the_guard(header: str) -> None:
    class Sender(Peer):
        def invocation_metadata(self) -> Any:
            return (("authorization", header),)

    guard = Guard(AccessFile(Path("/nowhere")), "token", certificates=False)
    with pytest.raises(Unauthenticated):
        guard.identify(READ, Sender())
    with pytest.raises(Unauthenticated):
        guard.identify(READ, Peer(header or None))
