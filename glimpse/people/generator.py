"""`PeopleGenerator`: endless people, each seen by endless cameras; the same arguments always give the same pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.people.cameras import Camera
from glimpse.people.figure import Sketch, draw_person
from glimpse.people.occluders import KINDS, occluder_kinds
from glimpse.people.palette import Wardrobe
from glimpse.people.placement import find, slide
from glimpse.people.skeleton import draw_pose
from glimpse.people.sprites import Rect, over
from glimpse.people.stage import WARDROBES, Stage
from glimpse.people.view import PersonView, count_parts, visible_share
from glimpse.people.wardrobe import Appearance

NARROWEST_OCCLUSION = 0.02
_ATTEMPTS = 12


class PeopleGenerator:
    """Draws people who can be re-identified, and what stands in front of them.

    An identity fixes body, skin, hair, hat, clothes, bag and shoes; a camera fixes colours, sharpness, place and
    light; a shot fixes pose, direction, crop and noise. A view is a pure function of
    ``(seed, wardrobe, height, width, identity, camera, shot, occlusion)``.

    The wardrobes ``"train"`` and ``"test"`` share no clothing colour, cloth pattern, chest print, hat, sleeve or leg
    trim, background or occluder kind (only plain cloth, common garments and people as occluders); ``"all"`` mixes
    both. Identities of different seeds or wardrobes are different people.

    Args:
        seed: at least 0.
        height: of the images, 64 to 1024 pixels.
        width: of the images, 32 to 1024 pixels, and not wider than twice the height.
        wardrobe: which split of clothes, places and occluders to use.

    Raises:
        ValueError: an argument is out of its range; the message says what is allowed.

    Example:
        >>> generator = PeopleGenerator(seed=7)
        >>> view = generator.view(identity=3, camera=1, shot=0, occlusion=(0.5, 0.7))
        >>> view.image.shape, 0.5 <= view.hidden <= 0.7
        ((256, 128, 3), True)
    """

    def __init__(self, seed: int, height: int = 256, width: int = 128, wardrobe: Wardrobe = "train") -> None:
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        if not (64 <= height <= 1024 and 32 <= width <= 1024 and width <= 2 * height):
            raise ValueError(
                f"height must be 64 to 1024, width 32 to 1024 and at most twice the height, got {height} x {width}"
            )
        if wardrobe not in WARDROBES:
            raise ValueError(f"unknown wardrobe {wardrobe!r}; allowed: {', '.join(WARDROBES)}")
        self.seed, self.height, self.width, self.wardrobe = seed, height, width, wardrobe
        self._stage = Stage(seed, height, width, wardrobe)

    def __reduce__(self) -> tuple[type[PeopleGenerator], tuple[int, int, int, Wardrobe]]:
        """A generator is its arguments, so that worker processes can be handed one."""
        return type(self), (self.seed, self.height, self.width, self.wardrobe)

    @property
    def occluders(self) -> tuple[str, ...]:
        """The kinds of things (and people) that may hide somebody in this wardrobe."""
        return occluder_kinds(self.wardrobe)

    def appearance(self, identity: int) -> Appearance:
        """What identity ``identity`` (at least 0) looks like in every view."""
        if identity < 0:
            raise ValueError(f"identity must be at least 0, got {identity}")
        return self._stage.appearance(identity)

    def view(self, identity: int, camera: int, shot: int, occlusion: tuple[float, float] | None = None) -> PersonView:
        """One image of one person.

        Args:
            identity: who, any integer from 0.
            camera: which camera, any integer from 0.
            shot: which of this camera's shots of this person, any integer from 0.
            occlusion: the least and most of the person's pixels to hide, for example ``(0.5, 0.7)``; None for a
                clean view. A clean view may still lose a few per cent at the image's border. Person, pose and place are
                the same with and without occlusion (a person cut off by more than the range allows is moved inside).

        Raises:
            ValueError: a negative number, or a range outside [0, 1] or narrower than 0.02.
        """
        for name, value in (("identity", identity), ("camera", camera), ("shot", shot)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if occlusion is None:
            return self._clean(identity, camera, shot)
        low, high = _checked(occlusion)
        clean = self._clean(identity, camera, shot, final=False)
        if clean.hidden > 0.5 * (low + high):
            clean = self._clean(identity, camera, shot, final=False, whole=True)
        return self.occlude(clean, self._stage.rng("occlusion", identity, camera, shot), low, high)

    def occlude(
        self,
        view: PersonView,
        rng: np.random.Generator,
        low: float,
        high: float,
        kinds: Sequence[str] | None = None,
    ) -> PersonView:
        """Put something in front of the person of an existing view: far cheaper than a new view.

        Args:
            view: a view of this generator (its size and camera are used).
            rng: decides kind, place and size.
            low: least share of the whole person's pixels to be hidden afterwards, crop losses included.
            high: the most.
            kinds: which kinds of occluder (of any wardrobe) to choose from; None for all of this wardrobe. When none
                of them fits after a dozen tries, a solid wall does.

        Returns:
            A new view; the given one is not changed.

        Raises:
            ValueError: an impossible range, an unknown kind, a view of another size, or a view of which more than
                ``high`` is hidden already.
        """
        low, high = _checked((low, high))
        names = tuple(kinds) if kinds is not None else self.occluders
        for name in names:
            if name not in KINDS:
                raise ValueError(f"unknown occluder kind {name!r}; allowed: {', '.join(KINDS)}")
        if not names:
            raise ValueError(f"kinds must name at least one of {', '.join(KINDS)}")
        if view.parts.shape != (self.height, self.width):
            raise ValueError(
                f"this generator's images are {self.height} x {self.width}, got a view of {view.parts.shape}"
            )
        if view.hidden > high:
            raise ValueError(f"{view.hidden:.2f} of the person is hidden already, more than the {high:.2f} asked for")
        floor = max(low, view.hidden)
        target = float(rng.uniform(floor + 0.15 * (high - floor), high - 0.15 * (high - floor)))
        seen = view.visible.astype(np.uint8) * 255
        box = cv2.boundingRect(seen)
        person = Rect(float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        whole, now = float(view.extent[0]), float(cv2.countNonZero(seen))
        # Half a pixel inwards, so that rounding cannot leave the range.
        fewest, most = (low - 1.0) * whole + now + 0.5, (high - 1.0) * whole + now - 0.5
        wanted = (max(0.0, fewest), (target - 1.0) * whole + now, most)
        for attempt in range(_ATTEMPTS + 1):
            name = names[int(rng.integers(len(names)))]
            kind = KINDS[name]
            entry, spans = kind.entries[int(rng.integers(len(kind.entries)))], kind.spans
            if attempt == _ATTEMPTS:  # a solid thing across the whole picture can hide any share
                name, entry, spans = ("pillar" if self.wardrobe == "test" else "wall"), "bottom", True
            sprite = self._stage.sprite(name, rng)
            mirrored = bool(rng.random() < 0.5)
            stretch = float(rng.uniform(*kind.stretch))
            path = slide(sprite, entry, spans, person, self.height, self.width, stretch, rng)
            place = find(sprite, path, mirrored, seen, wanted)
            if place is not None:
                return self._cover(view, sprite.layer(place, self.height, self.width, mirrored), rng)
        raise ValueError(f"no occluder hides between {low:.3f} and {high:.3f} of this person; ask for a wider range")

    # One view

    def _clean(self, identity: int, camera: int, shot: int, *, final: bool = True, whole: bool = False) -> PersonView:
        """A view without occluder, compressed if ``final``; ``whole`` keeps all of the person inside the image."""
        rng = self._stage.rng("shot", identity, camera, shot)
        lens = self._stage.camera(camera)
        pose = draw_pose(rng, lens.pitch + float(rng.normal(0.0, 0.02)))
        light = replace(lens.light, ambient=lens.light.ambient + float(rng.normal(0.0, 0.03)))
        tall = math.cos(pose.pitch) + 0.03
        above, below = float(rng.uniform(-0.025, 0.09)), float(rng.uniform(-0.03, 0.08))
        aside = float(np.clip(rng.normal(0.0, 0.05), -0.12, 0.12))
        if whole:
            above, below, aside = max(above, 0.03), max(below, 0.04), 0.0
        scale = self.height * (1.0 - above - below) / tall
        sketch = draw_person(self._stage.appearance(identity), pose, scale, light, float(rng.uniform(1.08, 1.36)))
        feet = (self.width * (0.5 + aside), self.height * (1.0 - below) - 0.03 * scale)
        left, top = round(feet[0] - sketch.origin[0]), round(feet[1] - sketch.origin[1])
        backdrop = self._backdrop(lens, camera, rng, feet, scale)
        image, parts = self._paste(sketch, backdrop, left, top)
        image = lens.grain(lens.soften(lens.expose(image)), self._stage.noise(), rng)
        if final:
            image = lens.compress(image)
        extent = count_parts(sketch.parts)
        visible = parts > 0
        points = sketch.keypoints + np.array([left, top, 0.0], np.float32)
        return PersonView(
            image=image,
            identity=identity,
            camera=camera,
            shot=shot,
            keypoints=_framed(points, self.height, self.width),
            parts=parts,
            visible=visible,
            extent=extent,
            visibility=visible_share(parts, visible, extent),
        )

    def _backdrop(
        self, lens: Camera, camera: int, rng: np.random.Generator, feet: tuple[float, float], scale: float
    ) -> NDArray[np.uint8]:
        """This shot's window on the camera's place, with passers-by and the person's shadow on the ground."""
        scene = self._stage.scene(camera)
        top = int(rng.integers(scene.shape[0] - self.height + 1))
        left = int(rng.integers(scene.shape[1] - self.width + 1))
        image = np.ascontiguousarray(scene[top : top + self.height, left : left + self.width])
        for _ in range(int(rng.choice(3, p=(0.62, 0.28, 0.1)))):
            sprite = self._stage.sprite("person", rng)
            tall = self.height * float(rng.uniform(0.35, 0.7))
            wide = tall * sprite.aspect
            side = -1.0 if rng.random() < 0.5 else 1.0
            x = feet[0] + side * self.width * float(rng.uniform(0.3, 0.55)) - wide / 2
            y = self.height * float(rng.uniform(0.72, 0.92)) - tall
            image = over(image, sprite.layer(Rect(x, y, wide, tall), self.height, self.width, False))
        shift = -math.sin(lens.light.angle) * 0.13 * scale
        shadow = np.zeros((self.height, self.width), np.uint8)
        centre = (round(feet[0] + shift), round(feet[1] + 0.005 * scale))
        cv2.ellipse(shadow, centre, (max(2, round(0.2 * scale)), max(1, round(0.035 * scale))), 0, 0, 360, 110, -1)
        band = slice(max(0, centre[1] - round(0.12 * scale)), min(self.height, centre[1] + round(0.12 * scale)))
        if band.stop - band.start > 2:
            soft = cv2.GaussianBlur(shadow[band], (0, 0), max(0.6, 0.014 * scale))
            image[band] = cv2.multiply(image[band], cv2.cvtColor(255 - soft, cv2.COLOR_GRAY2RGB), scale=1 / 255.0)
        return image

    def _paste(
        self, sketch: Sketch, image: NDArray[np.uint8], left: int, top: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The sketch over the image at an offset; also its part map cut to the image."""
        height, width = sketch.parts.shape
        x0, y0, x1, y1 = max(0, left), max(0, top), min(self.width, left + width), min(self.height, top + height)
        rows, columns = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        planes = sketch.planes[:, rows, columns]
        behind = cv2.split(image[y0:y1, x0:x1])
        keep = 1.0 - planes[3]
        merged = [np.minimum(plane + keep * under + 0.5, 255.0) for plane, under in zip(planes, behind, strict=False)]
        image[y0:y1, x0:x1] = cv2.merge([plane.astype(np.uint8) for plane in merged])
        parts = np.zeros((self.height, self.width), np.uint8)
        parts[y0:y1, x0:x1] = sketch.parts[rows, columns]
        return image, parts

    def _cover(self, view: PersonView, layer: NDArray[np.uint8], rng: np.random.Generator) -> PersonView:
        """The view with an occluder's layer in front, seen through the view's camera."""
        lens = self._stage.camera(view.camera)
        covered = layer[..., 3] > 127
        softened = lens.soften(layer)
        alpha = cv2.cvtColor(softened[..., 3], cv2.COLOR_GRAY2RGB)
        # The curves apply to colours, not to premultiplied ones: undo, expose, redo.
        colour = cv2.divide(softened[..., :3], alpha, scale=255.0)
        toned = lens.grain(lens.expose(colour), self._stage.noise(), rng)
        softened[..., :3] = cv2.multiply(toned, alpha, scale=1 / 255.0)
        image = lens.compress(over(view.image, softened))
        visible = view.visible & ~covered
        points = view.keypoints.copy()
        for point in points:
            if point[2] == 2.0 and not visible[int(point[1] + 0.5), int(point[0] + 0.5)]:
                point[2] = 1.0
        return replace(
            view,
            image=image,
            keypoints=points,
            visible=visible,
            visibility=visible_share(view.parts, visible, view.extent),
        )


def _checked(occlusion: tuple[float, float]) -> tuple[float, float]:
    low, high = float(occlusion[0]), float(occlusion[1])
    if not 0.0 <= low < high <= 1.0 or high - low < NARROWEST_OCCLUSION - 1e-9:
        raise ValueError(
            f"occlusion must be a range (low, high) within [0, 1], at least {NARROWEST_OCCLUSION} wide, got {occlusion}"
        )
    return low, high


def _framed(points: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Key-points outside the image become (0, 0, 0)."""
    inside = (points[:, :2] >= 0).all(axis=1) & (points[:, 0] <= width - 1) & (points[:, 1] <= height - 1)
    return np.where(inside[:, None], points, 0.0).astype(np.float32)
