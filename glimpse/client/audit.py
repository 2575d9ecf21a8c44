"""Rows of the audit trail as the client gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict, Unpack

from glimpse.client.channel import Connection
from glimpse.client.conversions import timestamp
from protos.glimpse.v1 import admin_pb2, admin_pb2_grpc

PAGE = 500


class AuditQuestion(TypedDict, total=False):
    """Which rows are wanted; what is left out leaves out nothing. An item or person needs its gallery."""

    since: datetime
    until: datetime
    method: str
    caller: str
    gallery: str
    code: str
    item_id: str
    person_id: str


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row: who asked or changed what, for which purpose, and what came of it. People and items are not named."""

    sequence: int
    time: datetime
    method: str
    caller: str
    peer: str
    gallery: str
    purpose: str
    code: str
    calls: int
    """1, or how many equal refusals it stands for."""
    items: int
    """Items that were told or changed."""
    top_k: int
    hash: str
    """SHA-256 in hex; covers the row before too."""
    target: str
    """What the call named beside the gallery: ``snapshot NAME``, ``alias NAME``."""


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """Whether the trail is whole: `problem` is empty then. `head` is ``NUMBER:HASH`` of its last row."""

    rows: int
    first: int
    head: str
    problem: str


def rows_of(
    connection: Connection,
    stub: admin_pb2_grpc.AdminServiceStub,
    timeout: float | None,
    limit: int | None,
    **question: Unpack[AuditQuestion],
) -> Iterator[AuditRow]:
    """The rows that match, the newest first; pages are asked for as they are needed."""
    request = admin_pb2.QueryAuditRequest(page_size=PAGE if limit is None else max(1, min(limit, PAGE)))
    for name, value in question.items():
        if isinstance(value, datetime):
            getattr(request, name).CopyFrom(timestamp(value))
        else:
            setattr(request, name, value)
    left = limit
    while left is None or left > 0:
        response = connection.unary(stub.QueryAudit, request, timeout=timeout)
        for message in response.rows[:left]:
            yield _row(message)
        left = None if left is None else left - len(response.rows)
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def verdict(
    connection: Connection, stub: admin_pb2_grpc.AdminServiceStub, head: str, timeout: float | None
) -> AuditVerdict:
    """What the server finds when it reads the whole trail."""
    answer = connection.unary(stub.VerifyAudit, admin_pb2.VerifyAuditRequest(head=head), timeout=timeout)
    return AuditVerdict(answer.rows, answer.first, answer.head, answer.problem)


def _row(message: admin_pb2.AuditRow) -> AuditRow:
    return AuditRow(
        sequence=message.sequence,
        time=message.time.ToDatetime(tzinfo=UTC),
        method=message.method,
        caller=message.caller,
        peer=message.peer,
        gallery=message.gallery,
        purpose=message.purpose,
        code=message.code,
        calls=message.calls,
        items=message.items,
        top_k=message.top_k,
        hash=message.hash.hex(),
        target=message.target,
    )
