"""The search for layers to keep in float32, on damages that are known."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from exporter.groups import LayerGroup
from exporter.search import damage_of, search
from glimpse.precision import Agreement, GateFigures, GateLimits

GROUPS = tuple(
    LayerGroup(name, (name,), sensitive)
    for name, sensitive in (("stem", True), ("heads", True), ("last", True), ("block1", False), ("block2", False))
)


def searched(harm: dict[str, float], enough: float = 0.8) -> tuple[tuple[str, ...], float, int]:
    """The search where each group that is converted does this much harm."""

    def build(kept: Collection[str]) -> bytes:
        return ",".join(sorted(kept)).encode()

    def damage(graph: bytes) -> float:
        return sum(amount for name, amount in harm.items() if name not in graph.decode().split(","))

    found = search(GROUPS, build, damage, enough)
    return found.kept, found.damage, found.tried


def test_nothing_is_kept_where_nothing_hurts() -> None:
    assert searched({"stem": 0.3, "block1": 0.3}) == ((), 0.6, 1)


def test_the_group_that_hurts_most_is_kept_and_no_more() -> None:
    kept, damage, _ = searched({"stem": 0.2, "heads": 3.0, "last": 0.3})
    assert kept == ("heads",)
    assert damage == pytest.approx(0.5)


def test_blocks_of_the_backbone_are_tried_after_the_sensitive_groups() -> None:
    kept, damage, tried = searched({"stem": 0.5, "heads": 0.4, "block2": 2.0, "block1": 0.1})
    assert kept[-1] == "block2"
    assert "block1" not in kept
    assert damage <= 0.8
    assert tried == 1 + 3 + 3 + 2 + 1


def test_less_may_be_asked_for_and_more_is_kept() -> None:
    harm = {"stem": 0.3, "block1": 0.4}
    assert searched(harm)[0] == ()
    assert searched(harm, enough=0.5)[0] == ("stem",)
    assert searched(harm, enough=0.25)[0] == ("stem", "block1")


def test_the_least_damage_is_given_when_nothing_is_good_enough() -> None:
    kept, damage, _ = searched({"stem": 1.0, "elsewhere": 5.0})
    assert kept == ("stem",)
    assert damage == 5.0


def test_damage_is_the_share_of_the_tightest_limit() -> None:
    ranking = Agreement(
        top1=0.95, top10=0.9, mAP_drop=0.5, mAP_drop_interval=(0, 1), rank1_drop=0, rank1_drop_interval=(0, 0)
    )
    figures = GateFigures(
        precision="int8",
        provider="cpu",
        queries=4,
        gallery=2,
        min_cosine={"global": 0.98, "legs": 0.97},
        max_visibility_difference={"global": 0.0, "legs": 0.15},
        batch_mate_difference=0,
        reference_mAP=0.5,
        reference_rank1=0.5,
        own=ranking,
        mixed=ranking,
    )
    limits = GateLimits(
        min_cosine=0.9,
        max_visibility_difference=0.2,
        min_top1=0.9,
        min_top10=0.8,
        max_mAP_drop=0.005,
        max_rank1_drop=0.01,
    )
    assert damage_of(figures, limits) == pytest.approx(0.75)  # the visibility of legs; mAP is left to more people
