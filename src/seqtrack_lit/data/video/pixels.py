"""From what a file holds to RGB uint8: bounds on the size, the values that are shown, which way is up."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int32, Shaped, UInt8

from seqtrack_lit.crops import Image

MAX_PIXELS = 2**27  # 16384 x 8192; a forged header of 30000 x 30000 would take 5 GB
SAMPLES = 9  # frames of a video that are looked at for its range of values

Range = tuple[float, float]  # the value shown black, and the first one beyond white


def check_size(width: int, height: int, what: object) -> None:
    """Refuse a picture before memory is taken for it.

    Raises:
        ValueError: it has no pixel, or more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS or min(width, height) < 1:
        raise ValueError(
            f"{what} says it has {width} x {height} pixels; expected 1 to {MAX_PIXELS / 1e6:.0f} million: the file is "
            "damaged, or make it smaller"
        )


def spread(count: int) -> list[int]:
    """Positions of at most `SAMPLES` frames, evenly over a video of `count`."""
    return sorted({round(i * (count - 1) / (SAMPLES - 1)) for i in range(SAMPLES)}) if count else []


def value_range(samples: Iterable[Shaped[np.ndarray, "..."]]) -> Range:
    """Which values of a video of more than 8 bits are shown black and white: the same for all of its frames.

    Photographs use the whole range of their type (0 to 65535, or 0 to 1) and keep it. Thermal and scientific cameras
    fill a small part of it, which would become a few grey levels: where less than a quarter is used, it is stretched,
    but for a thousandth of the values at either end of a frame.

    Args:
        samples: some frames of the video, any shape.
    """
    low, high, top = np.inf, -np.inf, 1.0
    for values in samples:
        top = float(np.iinfo(values.dtype).max) + 1 if values.dtype.kind in "iu" else 1.0
        finite = values[np.isfinite(values)]
        if finite.size:
            ends = np.percentile(finite, (0.1, 99.9))
            low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    if low > high or (low >= 0 and high <= top and high - low >= top / 4):
        return 0.0, top
    return low, max(high, float(np.nextafter(np.float32(low), np.float32(np.inf))))


def to_rgb8(values: Shaped[np.ndarray, "..."], shown: Range) -> Image:
    """Grey [H W] or colour [H W 3] of any depth as RGB uint8; NaN is black."""
    low, high = shown
    scaled = np.nan_to_num((values.astype(np.float64) - low) * (256 / (high - low)), nan=0.0)
    image = np.clip(scaled, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))


def upright(image: UInt8[np.ndarray, "rows columns 3"], matrix: Int32[np.ndarray, "9"] | None) -> Image:
    """Turn and mirror an image by the display matrix of its file, to the nearest quarter of a turn.

    Args:
        image: as it is stored.
        matrix: nine numbers a b u c d v x y w (ISO/IEC 14496-12, 6.2.2): a stored pixel (p, q) is shown at
            (a p + c q, b p + d q); None where the file has none.
    """
    if matrix is None:
        return image
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(a) + abs(d) < abs(b) + abs(c):  # x is shown along y
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
