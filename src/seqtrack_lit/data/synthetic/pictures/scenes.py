"""Pairs of a template and a search crop made of pictures: composed scenes, photographs, frames of videos.

Every scene makes two pairs. Where possible both have the same search crop with another object as the target: only the
template distinguishes them, so that it must be used. Templates and search crops have the same scale, the tracker's.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float64

from seqtrack_lit.checks import number
from seqtrack_lit.crops import Image
from seqtrack_lit.data.samples.augment import CropSettings
from seqtrack_lit.data.synthetic.pictures.camera import cut_off, photograph
from seqtrack_lit.data.synthetic.pictures.cutouts import (
    Appearance,
    Canvas,
    Change,
    Corners,
    Cutout,
    Rng,
    blob,
    draw_appearance,
    draw_change,
    paint,
    place,
)
from seqtrack_lit.data.synthetic.pictures.pool import Levels, PicturePool, Seen

OBJECT_SHARES = {"photo": 0.2, "cut": 0.5, "render": 0.3}  # of the objects that are no pieces of pictures
_PIECE = 0.22  # probability that an object is a piece of a picture
_COUNTS = (0.15, 0.3, 0.3, 0.25)  # probability of 0, 1, 2, 3 objects beside the first
_SEEN = 0.4  # share of the target that nothing covers, at least
_TRIES = 4


class Pair(NamedTuple):
    """A template and a search crop; boxes are x1 y1 x2 y2 in pixels of the crop."""

    template: Image
    template_box: Corners
    search: Image
    box: Corners


@dataclass(frozen=True)
class Mix:
    """Shares of the scenes; they need not sum to 1, and what the pool does not hold is left out.

    Args:
        composed: objects painted into a background.
        still: an object in its own photograph, template and search crop cut apart.
        video: an object in two frames of a video.
    """

    composed: float = 0.55
    still: float = 0.15
    video: float = 0.3

    def __post_init__(self) -> None:
        number("data.mix", composed=self.composed, still=self.still, video=self.video)


class _Item(NamedTuple):
    """An object of a scene."""

    cutout: Cutout
    appearance: Appearance
    size: float
    center: Float64[np.ndarray, "2"]


class _Shown(NamedTuple):
    """Where an item is in the search crop, and which share of it can be seen."""

    box: Corners
    seen: float


class SceneDrawer:
    """Draws scenes from a pool.

    Args:
        pool: the pictures.
        crops: sizes of the crops and how far they reach.
        mix: of the kinds of scenes.

    Raises:
        ValueError: templates and search crops of different scale.
    """

    def __init__(self, pool: PicturePool, crops: CropSettings, mix: Mix) -> None:
        self.pool, self.crops = pool, crops
        self.target = crops.search_size / crops.search_factor  # sqrt(w * h) of a target in both, before jitter
        if not math.isclose(self.target, crops.template_size / crops.template_factor, rel_tol=1e-3):
            raise ValueError(
                f"data.crops.template_factor must be {crops.template_size / self.target:g}, so that templates and "
                f"search crops have the same scale, got {crops.template_factor}"
            )
        shares = np.array([mix.composed, mix.still * bool(pool.stills), mix.video * bool(pool.tracks)])
        self._kinds = np.cumsum(shares / shares.sum())
        lists = {kind: share for kind, share in OBJECT_SHARES.items() if pool.objects.get(kind)}
        self._lists, self._list_ends = list(lists), np.cumsum(np.array([*lists.values()]) / sum(lists.values()))

    def draw(self, rng: Rng, jitter: float) -> list[Pair]:
        """Two pairs.

        Args:
            rng: of everything.
            jitter: offset of targets from the middle of the search crop and from their usual size, 0 to 1.
        """
        first = self._scene(rng, jitter)
        return first if len(first) > 1 else [*first, self._scene(rng, jitter)[0]]

    def _scene(self, rng: Rng, jitter: float) -> list[Pair]:
        kind = int(np.searchsorted(self._kinds, rng.random(), side="right"))
        if kind == 2:
            track = self.pool.tracks[rng.integers(len(self.pool.tracks))]
            first, second = rng.integers(len(track), size=2)
            return self._cut_pair(track[first], track[second], rng, jitter, still=bool(first == second))
        if kind == 1:
            seen = self.pool.stills[rng.integers(len(self.pool.stills))]
            return self._cut_pair(seen, seen, rng, jitter, still=True)
        for _ in range(_TRIES):
            pairs = self._compose(rng, jitter)
            if pairs:
                return pairs
        return self._compose(rng, jitter, alone=True) or self._scene(rng, jitter)

    # --- composed scenes

    def _compose(self, rng: Rng, jitter: float, *, alone: bool = False) -> list[Pair]:
        """Objects in a background; empty where the first is covered too much."""
        side = self.crops.search_size
        background = self._background(rng)
        canvas, reach, middle = self._behind(background, side, rng)
        items = self._items(rng, jitter, 0 if alone else int(rng.choice(4, p=_COUNTS)))
        shown = self._paint(canvas, items, rng)
        if shown[0] is None or shown[0].seen < _SEEN:
            return []
        boxes = [one.box if one else None for one in shown]
        boxes[0] = cut_off(canvas, shown[0].box, rng, 0.12)
        image = photograph(canvas, rng)
        targets = [0]
        others = [i for i, one in enumerate(shown) if i and one and self._can_be_target(one, items[i])]
        if others and rng.random() < 0.7 and boxes[0] is shown[0].box:
            targets.append(others[rng.integers(len(others))])
        pairs = []
        for i in targets:
            template, box = self._template(items[i], background, reach / side, middle, rng)
            pairs.append(Pair(template, box, image, boxes[i]))  # type: ignore[arg-type]
        return pairs

    def _items(self, rng: Rng, jitter: float, others: int) -> list[_Item]:
        """The target, and objects around it that may be of its kind or copies of it."""
        cutout, appearance = self._object(rng), draw_appearance(rng)
        size, center = self._where(rng, jitter)
        items = [_Item(cutout, appearance, size, center)]
        for _ in range(others):
            kind = rng.random()
            other = self._neighbour(cutout, rng) if kind < 0.55 else cutout if kind < 0.67 else self._object(rng)
            own = draw_appearance(rng)
            if other is cutout:  # a copy: different in its colours alone
                own = own._replace(angle=appearance.angle, gain=np.exp(rng.normal(0, 0.35, 3)).astype(np.float32))
            elif kind < 0.55:
                own = own._replace(angle=appearance.angle + rng.normal(0, 0.2))
            its_size = size * math.exp(rng.normal(0, 0.25))
            place_ = center
            for _ in range(_TRIES):
                place_ = rng.uniform(0, 1, 2) * self.crops.search_size
                if np.abs(place_ - center).max() > 0.38 * (size + its_size):
                    break
            items.append(_Item(other, own, its_size, place_))
        return items

    def _paint(self, canvas: Canvas, items: list[_Item], rng: Rng) -> list[_Shown | None]:
        """Paint the items in some order, and at times something thin or large over the first."""
        side = len(canvas)
        owner = np.full((side, side), -1, np.int8)
        painted = [0] * len(items)
        boxes: list[Corners | None] = [None] * len(items)
        for i in rng.permutation(len(items)):
            item = items[i]
            change = draw_change(rng)
            placed = place(item.cutout, item.appearance, change, rng, size=item.size, center=item.center)
            done = paint(canvas, placed)
            if done is None:
                continue
            solid = done.alpha > 0.5
            owner[done.window][solid] = i
            painted[i], boxes[i] = int(solid.sum()), done.box
        if rng.random() < 0.2:
            self._occlude(canvas, owner, items[0], rng)
        shown: list[_Shown | None] = []
        for i, box in enumerate(boxes):
            if box is None or not painted[i]:
                shown.append(None)
            else:
                shown.append(_Shown(box, int((owner == i).sum()) / painted[i]))
        return shown

    def _occlude(self, canvas: Canvas, owner: np.ndarray, item: _Item, rng: Rng) -> None:
        """Something over an object: a strip, or a piece of a picture; the object's box stays."""
        thin = rng.random() < 0.6
        size = item.size * (rng.uniform(0.3, 0.6) if thin else rng.uniform(0.4, 0.9))
        appearance = draw_appearance(rng)._replace(aspect=-2.8 if thin else rng.normal(0, 0.4))
        center = item.center + rng.normal(0, 0.3, 2) * item.size
        change = Change(0.0, 0.0, 0.0, False, 0.0)
        done = paint(canvas, place(self._piece(rng), appearance, change, rng, size=size, center=center))
        if done is not None:
            owner[done.window][done.alpha > 0.5] = -1

    def _can_be_target(self, shown: _Shown, item: _Item) -> bool:
        """Whether an object can be the target in the search crop of another one."""
        side, (x1, y1, x2, y2) = self.crops.search_size, shown.box.tolist()
        inside = 0.08 * side < (x1 + x2) / 2 < 0.92 * side and 0.08 * side < (y1 + y2) / 2 < 0.92 * side
        return inside and shown.seen > 0.5 and 0.55 < item.size / self.target < 1.8 and item.size > 8

    def _template(
        self, item: _Item, background: Levels, scale: float, middle: tuple[float, float], rng: Rng
    ) -> tuple[Image, Corners]:
        """The template of an object, often in front of the same place; its box a little off, as people draw them."""
        side, target = self.crops.template_size, self.target
        canvas, _, _ = self._behind(background, side, rng, side * scale, middle if rng.random() < 0.6 else None)
        placed = place(
            item.cutout, item.appearance, draw_change(rng, 0.3), rng, size=target, center=np.array([side / 2, side / 2])
        )
        done = paint(canvas, placed)
        box = placed.box if done is None else done.box
        box = cut_off(canvas, box + rng.normal(0, 0.015, 4) * target, rng, 0.06)
        return photograph(canvas, rng, strength=0.6, blurred=rng.random() < 0.3), box

    # --- photographs and frames

    def _cut_pair(self, first: Seen, second: Seen, rng: Rng, jitter: float, *, still: bool) -> list[Pair]:
        """Template and search crop cut out of pictures, mirrored alike; something may be painted in beside."""
        crops, flip = self.crops, bool(rng.random() < 0.5)
        size, center = self._where(rng, jitter)
        search, box = _cut(second, crops.search_size, size, center, rng.normal(0, 0.14 if still else 0.06), flip, rng)
        middle, turned = np.full(2, crops.template_size / 2), flip ^ bool(rng.random() < 0.04)
        template, shown = _cut(first, crops.template_size, self.target, middle, rng.normal(0, 0.04), turned, rng)
        if rng.random() < 0.4:
            other, its_size = self._object(rng), size * math.exp(rng.normal(0, 0.3))
            where = rng.uniform(0, 1, 2) * crops.search_size
            if np.abs(where - center).max() > 0.45 * (size + its_size):
                paint(search, place(other, draw_appearance(rng), draw_change(rng), rng, size=its_size, center=where))
        box = cut_off(search, box, rng, 0.06)
        image = photograph(template, rng, strength=0.6, blurred=rng.random() < 0.3)
        return [Pair(image, shown, photograph(search, rng), box)]

    # --- what scenes are made of

    def _where(self, rng: Rng, jitter: float) -> tuple[float, Float64[np.ndarray, "2"]]:
        """Size and centre of a target in the search crop."""
        side = self.crops.search_size
        size = self.target * math.exp(float(np.clip(rng.normal(0, 0.14 + 0.2 * jitter), -0.9, 0.9)))
        far = rng.random() < 0.3 + 0.4 * jitter
        away = rng.uniform(-0.38, 0.38, 2) if far else rng.normal(0, 0.07, 2)
        return size, np.clip(0.5 + away, 0.08, 0.92) * side

    def _background(self, rng: Rng) -> Levels:
        if self.pool.textures and rng.random() < 0.04:
            return self.pool.textures[rng.integers(len(self.pool.textures))]
        return self.pool.backgrounds[rng.integers(len(self.pool.backgrounds))]

    def _behind(
        self,
        levels: Levels,
        side: int,
        rng: Rng,
        reach: float | None = None,
        middle: tuple[float, float] | None = None,
    ) -> tuple[Canvas, float, tuple[float, float]]:
        """A square of a picture as a canvas, and the square: its side and centre in pixels of the picture."""
        height, width = levels[0].shape[:2]
        reach = reach or float(rng.uniform(0.3, 1)) * min(height, width)
        if middle is None:
            low = min(reach / 2, min(height, width) / 2)
            middle = float(rng.uniform(low, width - low)), float(rng.uniform(low, height - low))
        flip = rng.random() < 0.5
        canvas = _window(levels, middle, reach, reach, side, flip, cv2.BORDER_REFLECT, smooth=True)
        return canvas, reach, middle

    def _object(self, rng: Rng) -> Cutout:
        if rng.random() < _PIECE or not self._lists:
            return self._piece(rng)
        objects = self.pool.objects[self._lists[int(np.searchsorted(self._list_ends, rng.random(), side="right"))]]
        return objects[rng.integers(len(objects))]

    def _neighbour(self, cutout: Cutout, rng: Rng) -> Cutout:
        """Another object of the same kind, as far as the pool's lists show."""
        if not cutout.group:
            return self._object(rng)
        objects = self.pool.objects[cutout.group]
        step = int(rng.integers(1, 5)) * (1 if rng.random() < 0.5 else -1)
        return objects[int(np.clip(cutout.index + step, 0, len(objects) - 1))]

    def _piece(self, rng: Rng) -> Cutout:
        """A piece of a picture of random shape."""
        textures = self.pool.textures if rng.random() < 0.2 else []
        image = (textures[rng.integers(len(textures))] if textures else self._background(rng))[0]
        height, width = image.shape[:2]
        wide = int(rng.uniform(40, min(150, height, width)))
        high = int(np.clip(wide * math.exp(rng.normal(0, 0.4)), 30, min(150, height) - 1))
        x, y = int(rng.integers(0, width - wide)), int(rng.integers(0, height - high))
        mask = blob(rng, wide, high)
        return Cutout(np.dstack([image[y : y + high, x : x + wide], mask]))


def _cut(
    seen: Seen, side: int, size: float, center: Float64[np.ndarray, "2"], aspect: float, flip: bool, rng: Rng
) -> tuple[Canvas, Corners]:
    """A crop of a picture with its object at a size and a place, stretched by exp(aspect); and the object's box."""
    x, y, w, h = seen.box_xywh.tolist()
    scale, stretch = size / math.sqrt(w * h), math.exp(aspect / 2)
    kx, ky = scale * stretch, scale / stretch
    reach_x, reach_y = side / kx, side / ky
    place_x = side - center[0] if flip else center[0]
    middle = float(x + w / 2 + (side / 2 - place_x) / kx), float(y + h / 2 + (side / 2 - center[1]) / ky)
    canvas = _window(
        seen.levels, middle, reach_x, reach_y, side, flip, cv2.BORDER_CONSTANT, smooth=bool(rng.random() < 0.5)
    )
    half = np.array([w * kx, h * ky]) / 2
    height, width = seen.levels[0].shape[:2]
    ends_x = sorted((_along(0, middle[0], kx, side, flip), _along(width, middle[0], kx, side, flip)))
    ends_y = _along(0, middle[1], ky, side, False), _along(height, middle[1], ky, side, False)
    low = np.maximum(center - half, (ends_x[0], ends_y[0]))
    high = np.minimum(center + half, (ends_x[1], ends_y[1]))
    return canvas, np.concatenate([low, high])


def _along(position: float, middle: float, scale: float, side: int, flip: bool) -> float:
    """A coordinate of a picture in a crop."""
    inside = side / 2 + (position - middle) * scale
    return side - inside if flip else inside


def _window(
    levels: Levels,
    middle: tuple[float, float],
    reach_x: float,
    reach_y: float,
    side: int,
    flip: bool,
    border: int,
    *,
    smooth: bool,
) -> Canvas:
    """A rectangle of a picture as a square canvas.

    Args:
        levels: the picture.
        middle: centre of the rectangle, pixels.
        reach_x: its width, pixels.
        reach_y: its height, pixels.
        side: of the canvas.
        flip: mirror the canvas.
        border: what cv2 shows outside of the picture.
        smooth: average pixels where the picture shrinks; without, it shows steps, as trackers that cut fast do.
    """
    height, width = levels[0].shape[:2]
    kx, ky, (cx, cy), level = side / reach_x, side / reach_y, middle, 0
    while smooth and level + 1 < len(levels) and max(kx, ky) * 2 ** (level + 1) <= 1.3:
        level += 1
    image = levels[level]
    fx, fy = image.shape[1] / width, image.shape[0] / height
    kx, ky, cx, cy = kx / fx, ky / fy, cx * fx, cy * fy
    # positions: canvas = side / 2 + (picture - middle) * k; cv2 counts both from the centre of the first pixel
    matrix = np.array([[kx, 0, side / 2 - cx * kx + 0.5 * kx - 0.5], [0, ky, side / 2 - cy * ky + 0.5 * ky - 0.5]])
    if flip:
        matrix[0] = [-kx, 0, side - 1 - matrix[0, 2]]
    canvas = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(canvas, np.float32)
