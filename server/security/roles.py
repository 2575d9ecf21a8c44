"""What each method asks of its caller. A method that is not in `ACCESS` is refused, whoever calls.

A new method is one entry of `ACCESS`; a test compares the table with the services' descriptors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Each role may do what the ones below it may."""

    READER = 1
    """Search, extract, get and list."""
    INDEXER = 2
    """Add, change and remove items too."""
    ADMIN = 3
    """Everything: make and delete galleries, read the audit trail."""

    @classmethod
    def named(cls, name: str) -> Role:
        """The role of that name; ValueError lists them."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"unknown role {name!r}; choose one of {', '.join(map(str, cls))}") from None

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Access:
    """What one method asks of its caller, and what the audit trail notes of it.

    Args:
        role: the least role; None opens the method to everyone, with no credentials at all.
        galleries: the fields of the request that name galleries; the caller must be allowed each of them. A method
            that makes one name stand for another gallery has to give both, or a caller would reach any gallery.
            Whatever has no such field is for every gallery, and has to keep to `server.security.caller.visible`.
        whole_server: only callers that are not limited to galleries.
        audit: calls are noted in the audit trail. Off for what tells nothing of people.
        people: the repeated field of the response that holds items, ``"."`` if the response itself is one.
    """

    role: Role | None
    galleries: tuple[str, ...] = ("gallery",)
    whole_server: bool = False
    audit: bool = True
    people: str = ""

    def __post_init__(self) -> None:
        if self.whole_server and self.galleries:
            raise ValueError("a method of the whole server names no galleries")


_NONE: tuple[str, ...] = ()
OPEN = Access(None, _NONE, audit=False)
_SEARCH, _GALLERY, _ADMIN = (f"/glimpse.v1.{name}Service/" for name in ("Search", "Gallery", "Admin"))

ACCESS: Mapping[str, Access] = {
    _SEARCH + "Search": Access(Role.READER, people="matches"),
    _SEARCH + "SearchStream": Access(Role.READER, people="matches"),
    _SEARCH + "SearchAll": Access(Role.READER, people="matches"),
    _SEARCH + "Extract": Access(Role.READER, _NONE),
    _GALLERY + "CreateGallery": Access(Role.ADMIN),
    _GALLERY + "GetGallery": Access(Role.READER, audit=False),
    # Tells only of the galleries that the caller may use: see `server.security.caller.visible`.
    _GALLERY + "ListGalleries": Access(Role.READER, _NONE, audit=False),
    _GALLERY + "DeleteGallery": Access(Role.ADMIN),
    _GALLERY + "Upsert": Access(Role.INDEXER),
    _GALLERY + "GetItem": Access(Role.READER, people="."),
    _GALLERY + "ListItems": Access(Role.READER, people="items"),
    _GALLERY + "UpdateItem": Access(Role.INDEXER),
    _GALLERY + "DeleteItems": Access(Role.INDEXER),
    _GALLERY + "Erase": Access(Role.ADMIN),
    _GALLERY + "CreateSnapshot": Access(Role.ADMIN),
    # A snapshot may be of any gallery, and become any.
    _GALLERY + "ListSnapshots": Access(Role.ADMIN, _NONE, whole_server=True, audit=False),
    _GALLERY + "DeleteSnapshot": Access(Role.ADMIN, _NONE, whole_server=True),
    _GALLERY + "RestoreSnapshot": Access(Role.ADMIN, _NONE, whole_server=True),
    _GALLERY + "SetAlias": Access(Role.ADMIN, ("alias", "gallery")),
    # Tells only of the aliases and galleries that the caller may use.
    _GALLERY + "ListAliases": Access(Role.READER, _NONE, audit=False),
    _GALLERY + "DeleteAlias": Access(Role.ADMIN, ("alias",)),
    _GALLERY + "MigrateGallery": Access(Role.ADMIN, _NONE, whole_server=True),
    _GALLERY + "ListMigrations": Access(Role.ADMIN, _NONE, whole_server=True, audit=False),
    _ADMIN + "GetModel": Access(Role.READER, _NONE, audit=False),
    _ADMIN + "GetStats": Access(Role.READER, _NONE, audit=False),
    _ADMIN + "QueryAudit": Access(Role.ADMIN, _NONE, whole_server=True),
    _ADMIN + "VerifyAudit": Access(Role.ADMIN, _NONE, whole_server=True),
    # Probes have no credentials, and whether a server serves is no secret.
    "/grpc.health.v1.Health/Check": OPEN,
    "/grpc.health.v1.Health/List": OPEN,
    "/grpc.health.v1.Health/Watch": OPEN,
    # What it tells is public, but it is one more thing to attack: for callers who are known only.
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Access(Role.READER, _NONE, audit=False),
}
