"""`glimpse audit`: who asked or changed what, and whether the record of it is whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glimpse.cli.boundary import Failure
from glimpse.cli.connection import DEFAULT_SERVER, Ca, Cert, Key, Server, connect
from glimpse.cli.quantities import parse_duration

if TYPE_CHECKING:
    from glimpse.client import AuditRow

audit = typer.Typer(name="audit", help="Read and verify the audit trail.", no_args_is_help=True)

When = Annotated[str, typer.Option(metavar="TIME", help="2026-11-24T09:00 (UTC), or a span before now, such as 7d.")]


@audit.command("list")
def list_rows(
    since: When = "",
    until: When = "",
    method: Annotated[str, typer.Option(help="Search, Upsert, DeleteItems, ...")] = "",
    caller: Annotated[str, typer.Option(help="A token's id, a certificate's CN=NAME, anonymous or server.")] = "",
    gallery: Annotated[str, typer.Option(help="Rows about this gallery.")] = "",
    item: Annotated[str, typer.Option(help="Rows about this item of --gallery.")] = "",
    person: Annotated[str, typer.Option(help="Rows about this person of --gallery.")] = "",
    code: Annotated[str, typer.Option(help="Outcome: OK, PERMISSION_DENIED, ...")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Rows at most, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """List rows of the audit trail, the newest first. Needs the role admin.

    Example: glimpse audit list --gallery lobby --person 0042 --since 30d
    """
    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "since": _moment(since, now),
        "until": _moment(until, now),
        "method": method,
        "caller": caller,
        "gallery": gallery,
        "item_id": item,
        "person_id": person,
        "code": code,
    }
    with connect(server, ca, cert, key) as glimpse:
        rows = list(glimpse.audit(limit=limit, **{name: value for name, value in given.items() if value}))
    if as_json:
        for row in rows:
            typer.echo(json.dumps({**asdict(row), "time": row.time.isoformat()}))
        return
    if not rows:
        typer.echo("no rows match")
        return
    _print(rows)


@audit.command()
def verify(
    head: Annotated[
        str, typer.Option(metavar="NUMBER:HASH", help="A head printed earlier, which the trail must still hold.")
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="Read this data folder instead of asking a server; one may run on it.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Recompute the hash chain of the audit trail: was a row changed, removed or reordered?

    Exit code 0 when it is whole, 1 otherwise. Prints the head; write it down elsewhere for the next time.

    Example: glimpse audit verify --data ./galleries --head 1042:9f86d0...
    """
    if data is None:
        with connect(server, ca, cert, key) as glimpse:
            verdict = glimpse.verify_audit(head, timeout=600)
        rows, first, last, problem = verdict.rows, verdict.first, verdict.head, verdict.problem
    else:
        rows, first, last, problem = _verify_folder(data, head)
    if problem:
        raise Failure(f"the audit trail is not whole: {problem}")
    earlier = f", from row {first} on" if first > 1 else ""
    typer.echo(f"the audit trail is whole: {rows:,} rows{earlier}")
    typer.echo(f"head {last}")


def _verify_folder(data: Path, head: str) -> tuple[int, int, str, str]:
    import sqlite3

    from server.security.verification import Head, verify_folder

    try:
        expected = Head.parse(head) if head else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        verdict = verify_folder(data, expected)
    except sqlite3.Error as error:
        raise Failure(f"there is no store of this format to read in {data}: {error}") from None
    return verdict.rows, verdict.first, str(verdict.head), verdict.problem


def _moment(text: str, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        span: timedelta = parse_duration(text)
        return now - span
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _print(rows: list[AuditRow]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("row", "time (UTC)", "method", "caller", "gallery", "items", "outcome", "purpose"):
        whole = heading in ("row", "time (UTC)", "method", "items", "outcome")
        table.add_column(heading, no_wrap=whole, justify="right" if heading in ("row", "items") else "left")
    for row in rows:
        times = f" x{row.calls}" if row.calls > 1 else ""
        table.add_row(
            str(row.sequence),
            row.time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            row.method.rpartition("/")[2],
            escape(_harmless(row.caller)),
            escape(_harmless(", ".join(filter(None, (row.gallery, row.target))))),
            str(row.items),
            row.code + times,
            escape(_harmless(row.purpose)),
        )
    Console().print(table)


def _harmless(text: str) -> str:
    """What callers wrote, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
