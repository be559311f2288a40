"""Textures, outlines and sprites drawn from random numbers: what generated videos are painted with.

Every function draws from the generator it is given and from nothing else. H, W: height and width in pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

Texture = Float32[np.ndarray, "H W 3"]  # RGB, 0..255
Outline = Float64[np.ndarray, "points 2"]  # closed polygon that touches all four sides of [-1, 1]^2

SPRITE_SIDE = 64  # pixels of a sprite's texture
SPRITE_HALF = SPRITE_SIDE / 2 - 1.5  # of which the outline uses this many on each side of the centre
_ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)


def color(rng: np.random.Generator) -> tuple[float, float, float]:
    """Any RGB colour, channels 0..255."""
    red, green, blue = rng.uniform(0, 255, 3)
    return red, green, blue


def point(xy: Float64[np.ndarray, "2"]) -> tuple[int, int]:
    """Whole pixels, as OpenCV's drawing functions want them."""
    return int(xy[0]), int(xy[1])


def value_noise(
    rng: np.random.Generator, H: int, W: int, *, octaves: int, persistence: float, cells: int, channels: int = 1
) -> Float32[np.ndarray, "H W channels"]:
    """Smooth noise about 0: random grids, each twice as fine and `persistence` times as strong as the one before."""
    total = np.zeros((H, W, channels), np.float32)
    amplitude = 1.0
    for _ in range(octaves):
        grid = rng.random((cells + 1, cells + 1, channels), np.float32) * 2 - 1
        total += cv2.resize(grid * np.float32(amplitude), (W, H)).reshape(H, W, channels)
        amplitude *= persistence
        cells = min(cells * 2, max(H, W))
    return total


def _share(values: Float32[np.ndarray, "*shape"], sharpness: float) -> Float32[np.ndarray, "*shape"]:
    """Values about 0 to shares in [0, 1]; a high sharpness makes the steps between colours hard."""
    return np.asarray(1 / (1 + np.exp(values * np.float32(-sharpness))))


def _pattern(rng: np.random.Generator, kind: str, H: int, W: int) -> Float32[np.ndarray, "H W"]:
    """Stripes, checker, gradient or rings in a random direction and frequency, values about 0."""
    x = np.arange(W, dtype=np.float32)[None] / max(H, W)
    y = np.arange(H, dtype=np.float32)[:, None] / max(H, W)
    angle, frequency = rng.uniform(0, np.pi), np.float32(2 * np.pi * rng.uniform(2, 9))
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    if kind == "stripes":
        return np.sin(frequency * (x * c + y * s))
    if kind == "checker":
        return np.sin(frequency * (x * c + y * s)) * np.sin(frequency * (y * c - x * s))
    if kind == "gradient":
        return 2 * (x * c + y * s) - 1
    center_x, center_y = rng.random(2, np.float32)
    return np.asarray(np.cos(frequency * np.hypot(x - center_x, y - center_y)))


def texture(rng: np.random.Generator, H: int, W: int, contrast: float = 1.0) -> Texture:
    """A surface of two or three colours: noise (a third of all), stripes, checker, gradient or rings."""
    base, first, second = rng.uniform(0, 255, (3, 3)).astype(np.float32)
    first, second = (first - base) * np.float32(contrast), (second - base) * np.float32(contrast)
    kind = ("noise", "noise", "stripes", "checker", "gradient", "rings")[rng.integers(6)]
    if kind == "noise":
        noise = value_noise(
            rng,
            H,
            W,
            octaves=int(rng.integers(2, 6)),
            persistence=rng.uniform(0.5, 0.9),
            cells=int(rng.integers(2, 5)),
            channels=2,
        )
        shares = _share(noise, rng.uniform(1.5, 6))
        image = base + shares[..., :1] * first + shares[..., 1:] * (second * np.float32(0.6))
    else:
        share = _share(_pattern(rng, kind, H, W), rng.uniform(1.5, 8))[..., None]
        grain = value_noise(rng, H, W, octaves=3, persistence=0.7, cells=int(rng.integers(2, 6)))
        image = base + share * first + grain * np.float32(rng.uniform(5, 35))
    return np.asarray(np.clip(image, 0, 255, out=image))


def outline(rng: np.random.Generator) -> Outline:
    """The shape of an object: ellipse, polygon with 3-8 corners, superellipse (rounded box), or a blob (two fifths)."""
    kind = ("ellipse", "polygon", "superellipse", "blob", "blob")[rng.integers(5)]
    cos, sin = np.cos(_ANGLES), np.sin(_ANGLES)
    if kind == "ellipse":
        points = np.stack([cos, sin], 1)
    elif kind == "polygon":
        corners = int(rng.integers(3, 9))
        angles = np.sort((np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners)
        radii = rng.uniform(0.45, 1, corners)
        points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    elif kind == "superellipse":
        power = rng.uniform(0.25, 0.6)
        points = np.stack([np.sign(cos) * np.abs(cos) ** power, np.sign(sin) * np.abs(sin) ** power], 1)
    else:
        radii = np.ones_like(_ANGLES)
        for wave in range(2, 6):
            radii += rng.uniform(-0.35, 0.35) / (wave - 1) * np.cos(wave * _ANGLES + rng.uniform(0, 2 * np.pi))
        radii = np.maximum(radii, 0.25)
        points = np.stack([radii * cos, radii * sin], 1)
    low, high = points.min(0), points.max(0)
    return np.asarray((points - (low + high) / 2) / ((high - low) / 2))


@dataclass(frozen=True, eq=False)
class Sprite:
    """A textured shape with soft edges.

    Args:
        levels: RGBA images of side 64, 32 and 16, so that a small sprite is painted without aliasing.
    """

    levels: tuple[UInt8[np.ndarray, "_ _ 4"], ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: Outline, surface: Texture | None = None) -> "Sprite":
        """A sprite of the given shape; the surface is drawn too unless given (copied from another sprite).

        On the surface: up to three ellipses or bars, an edge line in 30 % of the sprites, shading.
        """
        side = SPRITE_SIDE
        image = texture(rng, side, side) if surface is None else surface.copy()
        for _ in range(int(rng.integers(0, 4))):
            center = point(rng.uniform(8, side - 8, 2))
            if rng.random() < 0.5:
                axes = int(rng.integers(4, 18)), int(rng.integers(4, 18))
                cv2.ellipse(image, center, axes, rng.uniform(0, 180), 0, 360, color(rng), -1, cv2.LINE_AA)
            else:
                end = point(rng.uniform(0, side, 2))
                cv2.line(image, center, end, color(rng), int(rng.integers(2, 8)), cv2.LINE_AA)
        # half a pixel less than the outline, because OpenCV fills half a pixel more; 4 fractional bits
        polygon = np.round((shape * (SPRITE_HALF - 0.5) + side / 2 - 0.5) * 16).astype(np.int32)
        alpha = np.zeros((side, side), np.uint8)
        cv2.fillPoly(alpha, [polygon], 255, cv2.LINE_AA, 4)
        if rng.random() < 0.3:
            cv2.polylines(image, [polygon], True, color(rng), int(rng.integers(1, 4)), cv2.LINE_AA, 4)
        shading = value_noise(rng, side, side, octaves=1, persistence=1, cells=1) * np.float32(rng.uniform(0, 40))
        levels = [np.dstack([np.clip(image + shading, 0, 255).astype(np.uint8), alpha])]
        for _ in range(2):
            levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        return cls(tuple(levels))

    @property
    def surface(self) -> Texture:
        """The texture, for another sprite to copy."""
        return np.asarray(self.levels[0][..., :3], np.float32)


def background(rng: np.random.Generator, H: int, W: int) -> UInt8[np.ndarray, "H W 3"]:
    """A textured ground: half of them a patchwork of two textures, up to eleven shapes painted on, two fifths blurred.

    Sizes of the shapes follow W, the ground being three quarters as wide as the picture.
    """
    scale = W / 192
    image = texture(rng, H, W, rng.uniform(0.3, 1))
    if rng.random() < 0.5:
        noise = value_noise(rng, H, W, octaves=3, persistence=0.6, cells=3)
        mask = (noise > rng.uniform(-0.3, 0.3)).astype(np.float32)
        mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 3))[..., None]
        image += (texture(rng, H, W, rng.uniform(0.3, 1)) - image) * mask
    for _ in range(int(rng.integers(0, 12))):
        start = rng.uniform(0, 1, 2) * (W, H)
        match rng.integers(3):
            case 0:
                end = start + rng.uniform(5, 45, 2) * scale
                cv2.rectangle(image, point(start), point(end), color(rng), -1, cv2.LINE_AA)
            case 1:
                axes = int(rng.integers(3, 25)), int(rng.integers(3, 25))
                cv2.ellipse(image, point(start), axes, rng.uniform(0, 180), 0, 360, color(rng), -1, cv2.LINE_AA)
            case _:
                end = start + rng.normal(0, 60, 2) * scale
                cv2.line(image, point(start), point(end), color(rng), int(rng.integers(1, 6)), cv2.LINE_AA)
    ground = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        ground = cv2.GaussianBlur(ground, (0, 0), rng.uniform(0.6, 2.5) * scale)
    return np.asarray(ground)
