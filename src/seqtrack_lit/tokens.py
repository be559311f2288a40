"""A box as a sequence of four tokens from one vocabulary (paper section 3.2).

The vocabulary holds `bins` coordinate tokens and two special ones: END = bins, START = bins + 1. A crop box
in fractions of the crop's side becomes [t1, t2, t3, t4]; with teacher forcing the decoder's input is
[START, t1..t4] and its target [t1..t4, END].
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from seqtrack_lit.boxes import Boxes, cxcywh_to_xyxy, xyxy_to_cxcywh
from seqtrack_lit.checks import one_of, whole

Order = Literal["cxcywh", "whcxcy", "xyxy"]
Tokens = Int64[Tensor, "*batch 4"]
_NAMES: dict[Order, tuple[str, str, str, str]] = {
    "cxcywh": ("cx", "cy", "w", "h"),
    "whcxcy": ("w", "h", "cx", "cy"),
    "xyxy": ("x1", "y1", "x2", "y2"),
}


@dataclass(frozen=True)
class BoxTokenizer:
    """Crop boxes (cxcywh, fractions) <-> four tokens.

    Args:
        bins: number of coordinate tokens, the values 0, 1/(bins-1), ..., 1.
        order: order of the coordinates (paper Tab. 4: rows 1, 4 and 5).
        rounding: "floor" is the official code's `int(v * (bins - 1))`; "nearest" halves the mean error.
    """

    bins: int = 4000
    order: Order = "cxcywh"
    rounding: Literal["floor", "nearest"] = "floor"

    def __post_init__(self) -> None:
        whole("tokenizer", 2, bins=self.bins)
        one_of("tokenizer", get_args(Order), order=self.order)
        one_of("tokenizer", ("floor", "nearest"), rounding=self.rounding)

    @property
    def end(self) -> int:
        """The last token of a target; trained, never generated."""
        return self.bins

    @property
    def start(self) -> int:
        """The first token of an input; never a target."""
        return self.bins + 1

    @property
    def vocab_size(self) -> int:
        """Coordinate tokens and the two special ones."""
        return self.bins + 2

    @property
    def names(self) -> tuple[str, str, str, str]:
        """What the four tokens stand for."""
        return _NAMES[self.order]

    @property
    def window_positions(self) -> tuple[int, int]:
        """The two of the four token positions the window penalty applies to: those of the target's centre."""
        return (2, 3) if self.order == "whcxcy" else (0, 1)

    def continuous(self, boxes_cxcywh: Boxes) -> Boxes:
        """The four values in the order of the tokens on the scale of the bins, [0, bins - 1], before rounding.

        The box is clamped to the crop as corners FIRST, so the centre is that of the visible part (official
        lib/train/actors/seqtrack.py).
        """
        corners = cxcywh_to_xyxy(boxes_cxcywh).clamp(0, 1)
        if self.order == "xyxy":
            values = corners
        else:
            centered = xyxy_to_cxcywh(corners)
            center, size = centered[..., :2], centered[..., 2:]
            values = torch.cat([center, size] if self.order == "cxcywh" else [size, center], dim=-1)
        return values * (self.bins - 1)

    def encode(self, boxes_cxcywh: Boxes) -> Tokens:
        """Boxes in fractions of the crop, clamped to it, to four tokens each.

        Examples:
            >>> BoxTokenizer(bins=101).encode(torch.tensor([0.5, 0.5, 0.2, 0.4]))
            tensor([50, 50, 20, 40])
        """
        values = self.continuous(boxes_cxcywh)
        return (values.round() if self.rounding == "nearest" else values).long()

    def decode(self, tokens: Tokens | Float[Tensor, "*batch 4"]) -> Boxes:
        """Four tokens, or values between them, to a box (cxcywh, fractions, float32).

        Crossed corners of order xyxy give negative sizes.
        """
        if self.order == "xyxy":
            # to centre form on the integers, by true division, before the scaling: the official order of operations
            low, high = tokens[..., :2], tokens[..., 2:]
            tokens_cxcywh = torch.cat([(low + high) / 2, (high - low).float()], dim=-1)
            return tokens_cxcywh / (self.bins - 1)
        first, second = tokens[..., :2], tokens[..., 2:]
        ordered = [first, second] if self.order == "cxcywh" else [second, first]
        return torch.cat(ordered, dim=-1) / (self.bins - 1)

    def teacher(self, boxes_cxcywh: Boxes) -> tuple[Int64[Tensor, "*batch 5"], Int64[Tensor, "*batch 5"]]:
        """Decoder input [START, t1..t4] and target [t1..t4, END] of training with teacher forcing."""
        tokens = self.encode(boxes_cxcywh)
        special = tokens[..., :1]
        start, end = torch.full_like(special, self.start), torch.full_like(special, self.end)
        return torch.cat([start, tokens], dim=-1), torch.cat([tokens, end], dim=-1)

    def hann_window(self) -> Float[Tensor, "bins"]:
        """Hann window over the coordinate tokens, symmetric, exactly 0 at both ends, float64 (paper section 3.5)."""
        # numpy's, as in the official code: torch.hann_window differs in the last bit
        return torch.from_numpy(np.hanning(self.bins))
