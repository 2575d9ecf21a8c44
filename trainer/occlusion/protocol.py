"""The fixed recipe for occluded queries: any data set's robustness, measured on images one may have. Knows no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from glimpse.images import Image
from trainer.data.annotated import Annotated
from trainer.data.listing import DatasetError, ImageSet, Int64
from trainer.occlusion import build_simulator, generator_for
from trainer.occlusion.strip import Strip

RATIO = (0.3, 0.6)
"""Of ``market1501-occluded`` and its like."""


def occluded_queries(query: ImageSet, others: ImageSet, seed: int = 0, ratio: tuple[float, float] = RATIO) -> ImageSet:
    """The queries, each with a strip of background from another image over one side; the gallery is to stay clean.

    The side is the bottom twice as often as top, left or right; U(ratio) of it is covered, to the nearest pixel, by a
    side margin of an image of another person, stretched across the strip (`trainer.occlusion.strip`). Everything is
    drawn from the seed and the query's own id: other queries, their number and the order of either set change nothing,
    and another ``ratio`` keeps side and donor.

    Args:
        query: what to occlude; ids, people and cameras stay.
        others: where background comes from: the gallery, as a rule. Other images here are another protocol.
        seed: of the protocol, not of a training.
        ratio: covered share of the side: from, to.

    Returns:
        The set, drawn as it is loaded, with ``hidden`` as the covered share of the image.

    Raises:
        DatasetError: somebody for whom there is no image of another person.
        SimulatorError: ``ratio`` is not two shares in order.
    """
    strip = cast(Strip, build_simulator("strip", {"ratio": ratio}))
    rows = np.argsort(np.array(others.ids), kind="stable")  # drawn by id, whatever order they are listed in
    donors = others.people[rows]
    for person in np.unique(query.people):
        _strangers(donors, int(person))

    def load(i: int) -> Image:
        strangers = _strangers(donors, int(query.people[i]))
        donor = strangers[generator_for(seed, query.ids[i], "donor").integers(len(strangers))]
        random = generator_for(seed, query.ids[i])
        side, share = strip.draw(random)
        return strip.hide(Annotated(query.load(i)), others.load(int(rows[donor])), side, share, random).image

    hidden = [strip.draw(generator_for(seed, name))[1] for name in query.ids]
    return replace(query, load=load, hidden=np.array(hidden, np.float32))


def occlusion_fact(seed: int = 0, ratio: tuple[float, float] = RATIO) -> str:
    """What a report says beside figures measured this way."""
    return (
        f"every query occluded (seed {seed}): {ratio[0]:.0%} to {ratio[1]:.0%} of one side, the bottom twice as likely "
        "as top, left or right, behind background of another person's image; the gallery is clean"
    )


def _strangers(people: Int64, person: int) -> Int64:
    """Places of everybody else."""
    places = np.flatnonzero(people != person)
    if not len(places):
        raise DatasetError(f"no image of anybody but person {person} to take background from, among {len(people)}")
    return places
