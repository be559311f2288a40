"""COCO's compressed run lengths read back (cocodataset/cocoapi, common/maskApi.c, rleFrString)."""

import numpy as np
from jaxtyping import Bool


def decode_rle(rle: dict) -> Bool[np.ndarray, "H W"]:
    """The mask of run lengths that fill its size."""
    runs, value, shift = [], 0, 0
    for digit in (ord(letter) - 48 for letter in rle["counts"]):
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (digit & 16 and 1) << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(rle["size"], order="F")
