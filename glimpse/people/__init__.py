"""Generated people: articulated, dressed figures whose identity, key-points, parts and visibility are known exactly.

Tests, the demo and the trainer live on them. `PeopleGenerator` is the way in; a `PersonView` is what comes out.

    from glimpse.people import PARTS, PeopleGenerator

    generator = PeopleGenerator(seed=7, wardrobe="train")
    clean = generator.view(identity=3, camera=1, shot=0)
    query = generator.view(identity=3, camera=2, shot=0, occlusion=(0.5, 0.7))
    again = generator.occlude(clean, numpy.random.default_rng(0), 0.3, 0.6)     # cheap: for training

Colours are in `palette`, clothes in `wardrobe`, drawing in `figure`, `garments` and `heads`, places in `scenes`,
obstacles in `occluders`, camera effects in `cameras`.
"""

from glimpse.people.generator import PeopleGenerator
from glimpse.people.occluders import occluder_kinds
from glimpse.people.palette import Wardrobe
from glimpse.people.view import PART_NAMES, PARTS, PersonView
from glimpse.people.wardrobe import Appearance

__all__ = ["PARTS", "PART_NAMES", "Appearance", "PeopleGenerator", "PersonView", "Wardrobe", "occluder_kinds"]
