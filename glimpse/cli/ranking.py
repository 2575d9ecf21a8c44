"""A ranking for people to read: the terminal table of one search."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glimpse.client import Match, PartMatch, SearchResult
from glimpse.pictures.ranking import SEEN, SILENT


def print_ranking(
    console: Console, title: str, result: SearchResult, *, person_id: str = "", explain: bool = False
) -> None:
    """Prints what was seen of the query, then the matches; with ``explain`` also what each part said.

    Args:
        person_id: the query's person, if known: matches of the same person are green, others red.
    """
    console.print(Text(title, style="bold"))
    console.print(seen(result.query))
    if not result.matches:
        console.print("no comparable items", style="yellow")
        return
    console.print(_explained(result, person_id) if explain else _plain(result, person_id))
    how = "exact" if result.exact else "approximate"
    notes = f"{how} ranking at write {result.sequence}, {result.timings.total * 1e3:.1f} ms in the server"
    if explain:
        notes += "; parts: cosine (in brackets where one side hides the part), below it the share of the decision"
    console.print(notes, style="dim", highlight=False)


def _plain(result: SearchResult, person_id: str) -> Table:
    """A line a match."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("#", justify="right")
    for heading in ("item", "person", "camera"):
        table.add_column(heading, overflow="fold")
    for heading in ("distance", "joint"):
        table.add_column(heading, justify="right", no_wrap=True)
    calibrated = any(match.probability is not None for match in result)
    if calibrated:
        table.add_column("same", justify="right")
    for rank, match in enumerate(result, 1):
        item = Text(match.item_id, style=_verdict(match, person_id))
        cells: list[str | Text] = [
            str(rank),
            item,
            match.person_id,
            match.camera_id,
            _distance(match),
            f"{match.joint_visibility:.2f}",
        ]
        if calibrated:
            cells.append(_chance(match))
        table.add_row(*cells)
    return table


def _explained(result: SearchResult, person_id: str) -> Table:
    """Two lines a match, narrow enough for 80 columns with seven parts."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("distance\njoint", justify="right", no_wrap=True)
    calibrated = any(match.probability is not None for match in result)
    if calibrated:
        table.add_column("same", justify="right", no_wrap=True)
    for part in result[0].parts:
        table.add_column(part.part, justify="right", no_wrap=True)
    for rank, match in enumerate(result, 1):
        known = " · ".join(word for word in (match.person_id and f"person {match.person_id}", match.camera_id) if word)
        item = Text.assemble((match.item_id, _verdict(match, person_id)), ("\n" + known, "dim"))
        measures = Text.assemble(_distance(match), (f"\n{match.joint_visibility:.2f}", "dim"))
        chance = (_chance(match),) if calibrated else ()
        table.add_row(str(rank), item, measures, *chance, *(_evidence(part) for part in match.parts))
    return table


def seen(visibility: dict[str, float]) -> Text:
    """``● global ● upper ○ legs``: what is seen of a person, filled when visible."""
    line = Text()
    for part, value in visibility.items():
        line.append(f"{'●' if value >= SEEN else '○'} {part} {value:.2f}  ", style="" if value >= SEEN else "dim")
    return line


def _distance(match: Match) -> str:
    return "none" if match.distance is None else f"{match.distance:.4f}"


def _chance(match: Match) -> str:
    return "" if match.probability is None else f"{match.probability:.1%}"


def _verdict(match: Match, person_id: str) -> str:
    """The style of a match: green or red when the query's person and the match's are known."""
    if not person_id or not match.person_id:
        return ""
    return "green" if match.person_id == person_id else "red"


def _evidence(part: PartMatch) -> Text:
    share = (f"\n{part.weight:.0%}", "dim")
    if part.part == "prior":
        return Text.assemble("", share)
    if part.weight < SILENT:
        return Text.assemble(("○", "dim"), share)
    hidden = min(part.query_visibility, part.item_visibility) < SEEN
    return Text.assemble((f"({part.similarity:.2f})", "dim") if hidden else f"{part.similarity:.2f}", share)
