"""Which layers must stay in float32? Found by measuring, not by guessing.

Everything is converted first. While that costs too much, the group whose return to float32 helps most is returned:
among the sensitive ones (stem, last convolution, heads) first, then among the blocks of the backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from exporter.groups import LayerGroup
from glimpse.precision import GateFigures, GateLimits

Build = Callable[[Collection[str]], bytes]
Damage = Callable[[bytes], float]


@dataclass(frozen=True)
class Choice:
    """The graph that the search ended with."""

    graph: bytes
    kept: tuple[str, ...]
    """Groups in float32."""
    damage: float
    """1 is at the limits; more is beyond them."""
    tried: int


def search(groups: Sequence[LayerGroup], build: Build, damage: Damage, enough: float) -> Choice:
    """Returns groups to float32 until the damage is small enough, or none is left that helps.

    ``enough`` is below 1: the search sees few people, and the gate will see many.
    In each tier, every group is first tried alone; then they are added, most helpful first.
    """
    graph = build(())
    best = Choice(graph, (), damage(graph), 1)
    for sensitive in (True, False):
        if best.damage <= enough:
            break
        base, tried, alone = best.kept, best.tried, []
        for group in groups:
            if group.sensitive == sensitive:
                alone.append((damage(build((*base, group.name))), group.name))
                tried += 1
        kept: tuple[str, ...] = base
        for _, name in sorted(alone):
            kept = (*kept, name)
            graph = build(kept)
            tried += 1
            found = Choice(graph, kept, damage(graph), tried)
            if found.damage < best.damage:
                best = found
            if best.damage <= enough:
                break
        best = Choice(best.graph, best.kept, best.damage, tried)
    return best


def damage_of(figures: GateFigures, limits: GateLimits) -> float:
    """How much of what is allowed was used, the worst of all limits; changes of mAP are left to more people."""
    used = [_share(1 - cosine, 1 - limits.min_cosine) for cosine in figures.min_cosine.values()]
    used += [_share(off, limits.max_visibility_difference) for off in figures.max_visibility_difference.values()]
    for ranking in (figures.own, figures.mixed):
        used.append(_share(1 - ranking.top1, 1 - limits.min_top1))
        used.append(_share(1 - ranking.top10, 1 - limits.min_top10))
    return max(used)


def _share(used: float, allowed: float) -> float:
    if used <= 0:
        return 0.0
    return used / allowed if allowed > 0 else float("inf")
