"""`Guard`: recognises the caller of each call and refuses what they may not do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from server.errors import PermissionDenied, ServerError, Unauthenticated
from server.security.caller import ANYONE, Caller
from server.security.credentials import LOOK_SECONDS, AccessError, AccessFile, Grant
from server.security.roles import Access, Role
from server.security.tokens import id_of, is_sound, matches

Mode = Literal["auto", "off", "token", "mtls"]

HEADER = "authorization"
_SCHEME = "bearer "
_HOW = "send the metadata 'authorization: Bearer glm_...' with a token made by `glimpse token create`"

_log = logging.getLogger("glimpse.security")


class Peer(Protocol):
    """What the guard uses of a `grpc.aio.ServicerContext`."""

    def invocation_metadata(self) -> Any: ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...


class Guard:
    """Who calls, and may they? Used on the event loop only.

    Args:
        file: the tokens and certificates.
        mode: ``off`` asks nobody. ``token`` and ``mtls`` ask everybody for a token or a known certificate. ``auto``
            takes either, once the file exists; until then it asks nobody.
        certificates: clients come with certificates that TLS has verified.
        clock, wall: seconds, monotonic and since 1970.

    Raises:
        AccessError: the file is there and cannot be used.
    """

    def __init__(
        self,
        file: AccessFile,
        mode: Mode,
        *,
        certificates: bool,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._mode = mode
        self._certificates = certificates
        self._clock = clock
        self._wall = wall
        self._looked = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._latest = 0.0
        self._by_id: dict[str, Grant] = {}
        self._by_certificate: dict[str, Grant] = {}
        self._callers: dict[str, Caller] = {}
        self._asks = mode in ("token", "mtls")
        self._broken = False
        if mode != "off":
            self._stamp = file.stamp()
            self._take(file.read())
            self._asks = self._asks or self._stamp is not None

    @property
    def asks(self) -> bool:
        """Whether callers need credentials."""
        self._look()
        return self._asks

    def refusal(self, access: Access | None, metadata: Any) -> ServerError | None:
        """Why a call with this metadata cannot be answered, known before its request is read; None if it may be."""
        if not self.asks or access is None or access.role is None:
            return None
        if self._certificates and _bearer(metadata) is None:
            return None  # who it is TLS says, and only later
        try:
            self._of_token(_bearer(metadata))
        except Unauthenticated as error:
            return error
        return None

    def identify(self, access: Access | None, peer: Peer) -> Caller:
        """The caller of a call. Unauthenticated: no credentials, or none that are valid."""
        if access is not None and access.role is None:
            return ANYONE
        if not self.asks:
            return self._named(peer) if self._certificates else ANYONE
        bearer = _bearer(peer.invocation_metadata())
        if bearer is not None or not self._certificates:
            return self._of_token(bearer)
        return self._of_certificate(peer)

    def allow(self, access: Access | None, caller: Caller) -> None:
        """PermissionDenied, if the caller's role is too low, if they are limited to galleries and the method is not, or
        if the method is in no table and so closed to everyone."""
        if access is None:
            raise PermissionDenied("this method has no role and is closed to everyone")
        if access.role is None:
            return
        if caller.role < access.role:
            raise PermissionDenied(f"this needs the role {access.role}; {caller.name} has the role {caller.role}")
        if access.whole_server and caller.galleries is not None:
            raise PermissionDenied(f"this is about the whole server; {caller.name} is limited to some galleries")

    def check(self, access: Access, caller: Caller, request: Any, *, later: bool = False) -> None:
        """PermissionDenied unless the caller may use the galleries that a request names; the same whether they exist.

        Args:
            later: the request is one of a stream, where an empty name stands for the one before.
        """
        if caller.galleries is None:
            return
        for field in access.galleries:
            name = getattr(request, field)
            if name not in caller.galleries and not (later and not name):
                raise PermissionDenied(f"{caller.name} may not use gallery {name[:80]!r}, or it does not exist")

    def recheck(self, caller: Caller) -> None:
        """Unauthenticated, if what let the caller in has been revoked or has expired since."""
        if not self.asks:
            return
        kind, _, name = caller.name.partition(":")
        try:
            self._valid((self._by_id if kind == "token" else self._by_certificate).get(name), "")
        except Unauthenticated:
            raise Unauthenticated("the credentials of this call are not valid any more") from None

    def _of_token(self, token: str | None) -> Caller:
        if self._mode == "mtls":
            raise Unauthenticated("this server knows its callers by their TLS certificates; call with yours, no token")
        if token is None:
            raise Unauthenticated(f"this server answers known callers only: {_HOW}")
        if not is_sound(token):
            raise Unauthenticated(f"the token is incomplete or mistyped: {_HOW}")
        grant = self._by_id.get(id_of(token))
        if not matches(token, None if grant is None else grant.digest):
            raise Unauthenticated("the token is not known here")
        return self._valid(grant, "the token")

    def _of_certificate(self, peer: Peer) -> Caller:
        if self._mode == "token":
            raise Unauthenticated(f"this server answers known callers only: {_HOW}")
        names = _names(peer)
        grant = next((self._by_certificate[name] for name in names if name in self._by_certificate), None)
        if grant is None:
            told = names[0][:80] if names else "without a name"
            raise Unauthenticated(f"the certificate {told!r} is not known here; `glimpse token create --certificate`")
        return self._valid(grant, "the certificate")

    def _valid(self, grant: Grant | None, what: str) -> Caller:
        # A clock that is set back must not bring back what had expired.
        self._latest = max(self._latest, self._wall())
        state = "revoked" if grant is None else grant.state(self._latest)
        if grant is None or state != "valid":
            raise Unauthenticated(f"{what} was revoked" if state == "revoked" else f"{what} has expired")
        return self._callers[grant.id]

    def _named(self, peer: Peer) -> Caller:
        """Anyone, but with the name of their certificate."""
        names = _names(peer)
        return Caller(f"certificate:{names[0]}", Role.ADMIN) if names else ANYONE

    def _look(self) -> None:
        """Reads the file again if it has changed."""
        now = self._clock()
        if self._mode == "off" or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            stamp = self._file.stamp()
            if stamp == self._stamp and not self._broken:
                return
            self._take(self._file.read())
            self._broken = False
        except (AccessError, OSError) as error:
            # Fails closed: whoever was revoked by a file that cannot be read must not come in.
            self._take(())
            self._broken = True
            _log.error("every caller is refused: %s", error)
            return
        self._stamp = stamp
        # Once callers are asked, a file that vanishes does not open the server again.
        self._asks = self._asks or stamp is not None
        _log.info("tokens and certificates read again: %d", len(self._by_id))

    def _take(self, grants: Sequence[Grant]) -> None:
        self._by_id = {grant.id: grant for grant in grants}
        self._callers = {grant.id: _holder(grant) for grant in grants}
        revoked_first = sorted(grants, key=lambda grant: grant.revoked_at is None)
        self._by_certificate = {grant.certificate: grant for grant in revoked_first if grant.certificate is not None}


def _holder(grant: Grant) -> Caller:
    galleries = None if grant.galleries is None else frozenset(grant.galleries)
    return Caller(grant.name, Role.named(grant.role), galleries)


def _bearer(metadata: Any) -> str | None:
    """The token of the call; None when there is none, empty when the header says something else."""
    for key, value in metadata or ():
        if key == HEADER:
            text = value if isinstance(value, str) else ""
            return text[len(_SCHEME) :].strip() if text[: len(_SCHEME)].lower() == _SCHEME else ""
    return None


def _names(peer: Peer) -> list[str]:
    """The names in the client's certificate as grants write them, the alternative names first."""
    context = peer.auth_context()
    kinds = (("SAN", "x509_subject_alternative_name"), ("CN", "x509_common_name"))
    return [
        f"{kind}={value.decode(errors='replace')}" for kind, key in kinds for value in context.get(key, ()) if value
    ]
