"""`Caller`: who makes the call being answered, and what they may use."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

from server.security.roles import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone who makes calls.

    Args:
        name: ``token:ID``, ``certificate:CN=...`` or ``anonymous``; never a secret.
        role: what they may do.
        galleries: the galleries they may use; None for all.
    """

    name: str
    role: Role
    galleries: frozenset[str] | None = None

    def may_use(self, gallery: str) -> bool:
        """Whether the gallery of that name is theirs to use, if there is one."""
        return self.galleries is None or gallery in self.galleries


ANYONE = Caller("anonymous", Role.ADMIN)
"""The caller of a server that asks nobody for credentials."""

_current: ContextVar[Caller] = ContextVar("caller")


def current() -> Caller:
    """The caller of the call being answered; outside of a call the server itself, who may use everything."""
    return _current.get(ANYONE)


def answer_to(caller: Caller) -> None:
    """Makes ``caller`` the current one, for this task and what it starts."""
    _current.set(caller)


def visible(galleries: Iterable[str]) -> list[str]:
    """Those of the galleries that the current caller may know of."""
    caller = current()
    return [name for name in galleries if caller.may_use(name)]
