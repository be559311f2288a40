"""COCO's compressed run lengths: masks as short text, as pycocotools reads and writes them.

Runs go down the columns and begin with background. From the fourth on, a run is written as its difference to the one
two before; numbers are in base 32, lowest digit first, with a bit for "more follows" and a sign in the last digit.
Source: cocodataset/cocoapi, common/maskApi.c (rleToString, rleFrString).

Letters: H W image.
"""

import numpy as np
from jaxtyping import Bool
from typing_extensions import TypedDict

from seqtrack_lit.checks import shown

_LARGEST = 2**30  # pixels of a mask


class Rle(TypedDict):
    """A mask: height and width, and its runs."""

    size: list[int]
    counts: str


def encode_rle(mask: Bool[np.ndarray, "H W"]) -> Rle:
    """A mask as compressed run lengths."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(changes, prepend=0, append=flat.size).tolist()
    if flat.size and flat[0]:
        runs.insert(0, 0)
    text = []
    for index, run in enumerate(runs):
        value, more = run - runs[index - 2] if index > 2 else run, True
        while more:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text.append(chr(48 + digit + 32 * more))
    return {"size": list(mask.shape), "counts": "".join(text)}


def decode_rle(rle: Rle) -> Bool[np.ndarray, "H W"]:
    """The mask of compressed run lengths.

    Raises:
        ValueError: not such text, or runs that do not fill the size.
    """
    height, width = rle["size"]
    if min(height, width) < 0 or height * width > _LARGEST:
        raise ValueError(f"COCO run lengths: a mask of size {shown([height, width])}, at most {_LARGEST} pixels")
    runs: list[int] = []
    value = shift = 0
    for letter in rle["counts"]:
        digit = ord(letter) - 48
        if not 0 <= digit < 64 or shift > 35:
            raise ValueError(f"COCO run lengths: {shown(rle['counts'])} is no compressed text of pycocotools")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (digit & 16 and 1) << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift or min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"COCO run lengths: {sum(runs)} pixels in the runs, {height} x {width} in the size")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape((height, width), order="F")
