"""Generated videos of real pictures with exact boxes, to test trackers on: easy, hard, long ones with absences.

A cut-out moves, grows, turns and bends before a photograph that pans and zooms. A video is a pure function of the
pool's part, seed, kind and number. `write_videos` writes them as folders that `benchmark=folder` reads.

F: frames.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from jaxtyping import Float64

from seqtrack_lit.crops import Image
from seqtrack_lit.data.synthetic.pictures.cutouts import (
    Appearance,
    Canvas,
    Change,
    Cutout,
    Placed,
    Rng,
    blob,
    draw_appearance,
    paint,
    place,
)
from seqtrack_lit.data.synthetic.pictures.pool import KINDS, PicturePool
from seqtrack_lit.data.synthetic.scenes import waves
from seqtrack_lit.files import write_atomic

Kind = Literal["easy", "hard", "long"]
SIZE = 384, 288  # pixels of a frame
_SEEN = 0.2  # share of the target inside the frame and uncovered, from which it is visible
_SOLID = 127  # alpha above which a pixel of a cut-out counts
_SMALLEST = 4  # pixels of a visible target
_QUALITY = 92  # of the written JPEGs
_TARGET = 26.0, 76.0  # sqrt(w * h) of a target, pixels


@dataclass(frozen=True)
class _Plan:
    """What videos of a kind are made of.

    Args:
        length: frames.
        speed: of all paths.
        change: of size, shape and bending.
        others: least and largest number of other objects.
        alike: probability that another object is the target's twin in other colours, or of its kind.
        crossings: objects that cross in front of the target.
        absences: times the target leaves the picture or is wholly covered.
    """

    length: int
    speed: float
    change: float
    others: tuple[int, int]
    alike: float = 0.0
    crossings: int = 0
    absences: int = 0


PLANS = {
    "easy": _Plan(length=40, speed=0.8, change=0.6, others=(0, 2)),
    "hard": _Plan(length=50, speed=1.7, change=1.3, others=(2, 4), alike=0.8, crossings=1),
    "long": _Plan(length=130, speed=1.0, change=1.0, others=(1, 2), alike=0.4, absences=2),
}


class _Actor(NamedTuple):
    """An object and its path; angle, aspect, shear and bending are changes of its appearance."""

    cutout: Cutout
    appearance: Appearance
    center: Float64[np.ndarray, "F 2"]
    size: Float64[np.ndarray, "F"]
    change: Float64[np.ndarray, "4 F"]
    seed: int  # of the way it bends


class PictureVideo:
    """One video: its frames, the target's boxes (xywh, pixels, clipped to the frame; zeros where it is not visible).

    Args:
        pool: pictures of one part.
        kind: easy, hard or long.
        number: of the video.
        seed: of all videos.
    """

    def __init__(self, pool: PicturePool, kind: Kind, number: int, *, seed: int = 0) -> None:
        self.pool, self.plan = pool, PLANS[kind]
        rng = np.random.default_rng((seed, get_args(Kind).index(kind), number))
        self.absences = self._absences(rng)
        self.actors = self._actors(rng)
        self.background = pool.backgrounds[rng.integers(len(pool.backgrounds))]
        self._camera = self._draw_camera(rng)
        gain, offset, *tint = waves(rng, self.plan.length, rng.uniform(0, [0.2, 12, 0.05, 0.05, 0.05]), [(40, 200)] * 5)
        self._gain, self._offset = ((1 + gain) * (1 + np.array(tint))).T, offset
        self._noise, self._blur = rng.uniform(0, 5) * (rng.random() < 0.5), rng.uniform(0.4, 1.0) * (rng.random() < 0.3)
        self._noise_seed = int(rng.integers(2**31))

    def __len__(self) -> int:
        return self.plan.length

    def frame(self, t: int) -> tuple[Image, Float64[np.ndarray, "4"]]:
        """Frame `t`, and the target's box in it."""
        canvas = self._ground(t)
        free = np.ones(canvas.shape[:2], bool)  # of what is in front of the target
        target, box = None, np.zeros(4)
        for index in sorted(range(len(self.actors)), key=lambda i: i == 0 or i in self._front):
            placed = self._place(self.actors[index], t)
            painted = paint(canvas, placed)
            if index == 0:
                target = painted
                pixels = float((placed.cutout.picture[..., 3] > _SOLID).sum())
                whole = abs(float(np.linalg.det(placed.matrix))) * pixels
            elif target is not None and painted is not None:
                free[painted.window] &= painted.alpha <= 0.5
        if target is not None and (free[target.window] & (target.alpha > 0.5)).sum() > _SEEN * whole:
            size = target.box[2:] - target.box[:2]
            box = np.concatenate([target.box[:2], size]) if size.min() >= _SMALLEST else box
        return self._photograph(canvas, t), box

    def _place(self, actor: _Actor, t: int) -> Placed:
        angle, aspect, shear, bending = actor.change[:, t].tolist()
        change, rng = Change(angle, aspect, shear, False, bending), np.random.default_rng(actor.seed)
        size, center = float(actor.size[t]), actor.center[t]
        return place(actor.cutout, actor.appearance, change, rng, size=size, center=center)

    # --- what happens

    def _absences(self, rng: Rng) -> list[tuple[int, int]]:
        """First and last frame of each: spread evenly, 30 frames are left behind the last."""
        each, found = (self.plan.length - 30) // max(1, self.plan.absences), []
        for place_ in range(self.plan.absences):
            first = place_ * each + int(rng.integers(18, 24))
            found.append((first, first + int(rng.integers(12, each - 24))))
        return found

    def _actors(self, rng: Rng) -> list[_Actor]:
        plan, size = self.plan, float(np.exp(rng.uniform(*np.log(_TARGET))))
        cutout, appearance = self._object(rng), draw_appearance(rng)
        target = self._actor(rng, cutout, appearance, size)
        actors, self._front = [target], list[int]()
        for _ in range(int(rng.integers(plan.others[0], plan.others[1] + 1))):
            other, own = self._object(rng), draw_appearance(rng)
            if rng.random() < plan.alike:
                gain = np.exp(rng.normal(0, 0.35, 3)).astype(np.float32)
                other = cutout if rng.random() < 0.5 else self._neighbour(cutout, rng)
                own = own._replace(angle=appearance.angle, gain=gain if other is cutout else own.gain)
            actors.append(self._actor(rng, other, own, size * math.exp(rng.normal(0, 0.2))))
        for _ in range(plan.crossings):
            self._front.append(len(actors))
            actors.append(self._crossing(rng, target, size))
        for first, last in self.absences:
            if rng.random() < 0.5:
                target.center[:] += self._way_out(rng, first, last, size)
            else:
                self._front.append(len(actors))
                actors.append(self._cover(rng, target, first, last))
        return actors

    def _actor(self, rng: Rng, cutout: Cutout, appearance: Appearance, size: float) -> _Actor:
        """Smooth paths within the picture."""
        plan, drift = self.plan, (40 / self.plan.speed, 150 / self.plan.speed)
        width, height = SIZE
        x, y, grow, *change = waves(
            rng,
            plan.length,
            np.array([0.33 * width, 0.3 * height, 0.4 * plan.change, 0.3, 0.25, 0.1, 0.08])
            * np.array([1, 1, 1, *[plan.change] * 4])
            * rng.uniform(0.4, 1, 7),
            [drift, drift, (50, 150), (40, 120), (40, 120), (40, 120), (15, 60)],
        )
        middle = rng.uniform(0.35, 0.65, 2) * SIZE
        center = middle + np.stack([x, y], -1)
        return _Actor(cutout, appearance, center, size * np.exp(grow), np.array(change), int(rng.integers(2**31)))

    def _crossing(self, rng: Rng, target: _Actor, size: float) -> _Actor:
        """Something that passes straight over the place of the target at some time."""
        own = self._actor(rng, self._piece(rng), draw_appearance(rng), size * rng.uniform(0.6, 1.2))
        at, angle = int(rng.integers(12, self.plan.length - 12)), rng.uniform(0, 2 * math.pi)
        speed = size * rng.uniform(0.12, 0.3)
        time = np.arange(self.plan.length)[:, None] - at
        line = target.center[at] + time * speed * np.array([math.cos(angle), math.sin(angle)])
        return own._replace(center=line)

    def _cover(self, rng: Rng, target: _Actor, first: int, last: int) -> _Actor:
        """Something large that comes over the target, moves with it, and goes: it covers it from first to last."""
        own = self._actor(rng, self._piece(rng, square=True), draw_appearance(rng), 1.0)
        angle, ramp = rng.uniform(0, 2 * math.pi), 8
        size = 2.4 * target.size.max()
        time = np.arange(self.plan.length)
        away = np.maximum(first - time, 0) - np.maximum(time - last, 0)
        shift = away[:, None] * size / ramp * np.array([math.cos(angle), math.sin(angle)])
        appearance = own.appearance._replace(aspect=0.0, angle=0.0)
        return own._replace(
            center=target.center + shift, size=np.full(len(time), size), change=own.change * 0, appearance=appearance
        )

    def _way_out(self, rng: Rng, first: int, last: int, size: float) -> Float64[np.ndarray, "F 2"]:
        """A shift that takes the target out of the picture on one side and back in on any side."""
        sides, ramp = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]), 10
        far = (np.array(SIZE) + 2 * size) * 0.8
        time, middle = np.arange(self.plan.length), (first + last) / 2
        out, back = (sides[rng.integers(4)] * far for _ in range(2))
        leaving = np.clip((time - first + ramp / 2) / ramp, 0, 1) * (time < middle)
        coming = np.clip((last + ramp / 2 - time) / ramp, 0, 1) * (time >= middle)
        return np.asarray(leaving[:, None] * out + coming[:, None] * back)

    # --- what it is made of

    def _object(self, rng: Rng) -> Cutout:
        lists = [self.pool.objects[kind] for kind in KINDS if self.pool.objects.get(kind)]
        objects = lists[rng.integers(len(lists))]
        return objects[rng.integers(len(objects))]

    def _neighbour(self, cutout: Cutout, rng: Rng) -> Cutout:
        objects = self.pool.objects[cutout.group]
        return objects[(cutout.index + int(rng.integers(1, 4))) % len(objects)]

    def _piece(self, rng: Rng, *, square: bool = False) -> Cutout:
        """A piece of a photograph."""
        levels = self.pool.backgrounds[rng.integers(len(self.pool.backgrounds))]
        image = next((one for one in levels if min(one.shape[:2]) < 400), levels[-1])
        height, width = image.shape[:2]
        side = int(min(height, width) * rng.uniform(0.3, 0.7))
        x, y = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
        alpha = np.full((side, side), 255, np.uint8) if square else blob(rng, side, side)
        return Cutout(np.dstack([image[y : y + side, x : x + side], alpha]))

    # --- camera and light

    def _draw_camera(self, rng: Rng) -> Float64[np.ndarray, "4 F"]:
        """Zoom (picture pixels a frame pixel), centre x and y in the picture, roll."""
        height, width = self.background[0].shape[:2]
        fit = min(width / SIZE[0], height / SIZE[1])
        zoom = fit * rng.uniform(0.45, 0.8)
        room = (np.array([width, height]) - zoom * np.array(SIZE)) / 2
        pan = room * rng.uniform(0, 0.9, 2)
        drift = (60 / self.plan.speed, 200 / self.plan.speed)
        x, y, grow, roll = waves(
            rng, self.plan.length, np.array([*pan, 0.08, 0.04]), [drift, drift, (60, 200), (60, 200)]
        )
        return np.stack([zoom * np.exp(grow), width / 2 + x, height / 2 + y, roll])

    def _ground(self, t: int) -> Canvas:
        zoom, x, y, roll = self._camera[:, t].tolist()
        level = 0
        while level + 1 < len(self.background) and zoom / 2 ** (level + 1) >= 1:
            level += 1
        image = self.background[level]
        share = image.shape[1] / self.background[0].shape[1]
        zoom, x, y = zoom * share, x * share, y * share
        turn = zoom * np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
        shift = np.array([x, y]) - turn @ (np.array(SIZE) / 2)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        matrix = np.concatenate([turn, shift[:, None]], 1)
        return np.asarray(cv2.warpAffine(image, matrix, SIZE, flags=flags, borderMode=cv2.BORDER_REFLECT), np.float32)

    def _photograph(self, canvas: Canvas, t: int) -> Image:
        image = canvas * self._gain[t].astype(np.float32) + np.float32(self._offset[t])
        if self._blur:
            image = cv2.GaussianBlur(image, (0, 0), self._blur)
        if self._noise:
            rng = np.random.default_rng((self._noise_seed, t))
            image = image + rng.standard_normal((*canvas.shape[:2], 1), np.float32) * np.float32(self._noise)
        return np.asarray(image.clip(0, 255).astype(np.uint8))


def write_videos(
    out: Path,
    pool: PicturePool,
    kind: Kind,
    count: int,
    *,
    seed: int = 0,
    step: Callable[[int, int], None] | None = None,
) -> None:
    """Write videos as folders of JPEGs with groundtruth.txt, which `benchmark=folder benchmark.root=OUT` reads.

    Args:
        out: gets <kind>-000 and so on; videos that are there are kept.
        pool: pictures of one part.
        kind: easy, hard or long.
        count: of videos.
        seed: of all videos.
        step: called with the number of videos done and of all.
    """
    for number in range(count):
        folder = out / f"{kind}-{number:03d}"
        if not (folder / "groundtruth.txt").is_file():
            video, rows = PictureVideo(pool, kind, number, seed=seed), []
            for t in range(len(video)):
                image, box = video.frame(t)
                data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
                write_atomic(folder / f"{t:06d}.jpg", data.tobytes())
                rows.append(",".join(f"{value:.3f}" for value in box))
            write_atomic(folder / "groundtruth.txt", "\n".join(rows) + "\n")  # last: with it, a video is whole
        if step is not None:
            step(number + 1, count)
