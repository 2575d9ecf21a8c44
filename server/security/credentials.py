"""`AccessFile`: the tokens and certificates that a server knows, in one file of its data folder.

A file and not a table of the store, because the store belongs to the running server alone: a token is made, listed and
revoked beside it, and a running server sees a change within `LOOK_SECONDS`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from server.security.roles import Role
from server.security.tokens import digest_of, make_token

FILE = "access.json"
FORMAT = 1
LOOK_SECONDS = 0.5
"""Between two looks at the file by a running server."""
MAX_NOTE = 200

_GALLERY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CERTIFICATE = re.compile(r"(CN|SAN)=[\x20-\x7e]{1,256}")


class AccessError(ValueError):
    """The file cannot be used, or not for this; the message says why."""


class Grant(BaseModel):
    """What a token or a certificate allows. ``digest`` is the token's SHA-256; ``certificate`` is ``CN=`` or ``SAN=``
    and a name that the client's certificate holds. Times are seconds since 1970."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[0-9A-Za-z]{8}$")
    digest: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    certificate: str | None = None
    role: Literal["reader", "indexer", "admin"]
    galleries: tuple[str, ...] | None = None
    note: str = Field("", max_length=MAX_NOTE)
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    @model_validator(mode="after")
    def _one_credential(self) -> Grant:
        if (self.digest is None) == (self.certificate is None):
            raise ValueError(f"grant {self.id}: expected a digest or a certificate")
        if self.certificate is not None and not _CERTIFICATE.fullmatch(self.certificate):
            raise ValueError(f"certificate {self.certificate!r}: expected CN=NAME or SAN=NAME, printable ASCII")
        for gallery in self.galleries or ():
            if not _GALLERY.fullmatch(gallery):
                raise ValueError(f"gallery {gallery!r}: expected letters, digits, '.', '_' and '-', at most 64")
        if self.galleries == ():
            raise ValueError(f"grant {self.id}: an empty list of galleries allows nothing; leave it out for all")
        return self

    @property
    def name(self) -> str:
        """How the audit trail calls its holder."""
        return f"token:{self.id}" if self.certificate is None else f"certificate:{self.certificate}"

    def state(self, now: float) -> Literal["valid", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "valid"


class _Contents(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Annotated[int, Field(ge=1, le=FORMAT)]
    grants: tuple[Grant, ...]


_READER = TypeAdapter(_Contents)


class AccessFile:
    """The grants of one data folder.

    Every change is one atomic replacement of the file, under a lock that keeps two commands apart. The file and its
    lock belong to their owner alone (mode 0600).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def stamp(self) -> tuple[int, int, int] | None:
        """Changes whenever the file does; None when there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self) -> tuple[Grant, ...]:
        """All grants, the revoked and expired ones too; none when there is no file. AccessError if it is unusable."""
        try:
            return _READER.validate_json(self.path.read_bytes()).grants
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise AccessError(f"{self.path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise AccessError(
                f"{self.path} is not a file of tokens: {place or 'contents'}: {problem['msg']}"
            ) from error

    def create(
        self,
        role: Role,
        *,
        galleries: tuple[str, ...] | None = None,
        certificate: str | None = None,
        lifetime: float | None = None,
        note: str = "",
    ) -> tuple[Grant, str]:
        """Adds a grant; returns it with its token, which is kept nowhere (empty for a certificate).

        Args:
            galleries: those it is limited to; None for all.
            certificate: ``CN=NAME`` or ``SAN=NAME`` of client certificates, instead of a new token.
            lifetime: seconds after which it expires; None for never.

        Raises:
            AccessError: a value that cannot be, or a valid grant for the certificate exists.
        """
        identifier, token = make_token()
        now = time.time()
        try:
            grant = Grant(
                id=identifier,
                digest=None if certificate else digest_of(token),
                certificate=certificate,
                role=str(role),  # type: ignore[arg-type]  # checked by pydantic
                galleries=galleries,
                note=note,
                created_at=now,
                expires_at=None if lifetime is None else now + lifetime,
            )
        except ValidationError as error:
            raise AccessError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
        with self._changing() as grants:
            for other in grants:
                if certificate is not None and other.certificate == certificate and other.state(now) == "valid":
                    raise AccessError(f"{certificate} is granted already by {other.id}; revoke that first")
            grants.append(grant)
        return grant, "" if certificate else token

    def revoke(self, identifier: str) -> Grant:
        """Ends a grant; a second time changes nothing. AccessError, if there is none of that id."""
        with self._changing() as grants:
            for place, grant in enumerate(grants):
                if grant.id == identifier:
                    if grant.revoked_at is None:
                        grants[place] = grant = grant.model_copy(update={"revoked_at": time.time()})
                    return grant
        raise AccessError(f"there is no token {identifier[:80]!r}; `glimpse token list` shows them")

    @contextmanager
    def _changing(self) -> Iterator[list[Grant]]:
        """The grants, to be changed in place; written when the block ends, unless it raises."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
            self._give(lock)
        except OSError as error:
            raise AccessError(f"data folder {self.path.parent} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            grants = list(self.read())
            before = tuple(grants)
            yield grants
            if tuple(grants) != before:
                self._replace({"format": FORMAT, "grants": [grant.model_dump(exclude_none=True) for grant in grants]})
        finally:
            os.close(lock)

    def _replace(self, contents: dict[str, Any]) -> None:
        temporary = self.path.with_suffix(".new")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w") as file:
                self._give(handle)
                json.dump(contents, file, indent=1)
                file.flush()
                os.fsync(handle)
            temporary.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise AccessError(f"{self.path} cannot be written: {error.strerror}") from error

    def _give(self, handle: int) -> None:
        """What root writes belongs to the owner of the folder, or the server could not read it."""
        owner = self.path.parent.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.fchown(handle, owner.st_uid, owner.st_gid)
