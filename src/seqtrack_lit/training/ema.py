"""Exponential moving average of the weights: what is validated, stored beside the weights and tracked with."""

import copy

import torch
from torch import Tensor

from seqtrack_lit.models.seqtrack import SeqTrack


class Ema:
    """A copy of a network that follows it.

    Args:
        net: the network; copied.
        decay: share of the average that stays in a step; early steps average evenly over all steps so far.
    """

    def __init__(self, net: SeqTrack, decay: float) -> None:
        self.decay = decay
        self.net = copy.deepcopy(net).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, net: SeqTrack, steps: int) -> None:
        """Follow the network after its optimizer step number `steps` (1-based)."""
        weight = max(1 - self.decay, 1 / (steps + 1))
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), weight)
        for mine, theirs in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, Tensor]:
        """The average, with the network's own names."""
        return dict(self.net.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a stored average."""
        self.net.load_state_dict(state)
