"""Means of logged numbers over batches and processes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Sums = dict[str, tuple[float, float]]  # by name: sum of values x weights, sum of weights


class Means:
    """Means by name since they were last taken; values that are not finite are left out.

    Sums stay on the device of the values, so that adding one waits for nothing.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # pairs as in Sums, float64

    def add(self, values: Mapping[str, Tensor | float], weight: float = 1.0) -> None:
        """Add a number by name, counted `weight` times."""
        for name, value in values.items():
            value = torch.as_tensor(value, dtype=torch.float64).detach()
            pair = torch.stack([value, torch.ones_like(value)]) * weight
            pair = torch.where(value.isfinite(), pair, 0.0)
            self._sums[name] = pair if name not in self._sums else self._sums[name] + pair

    def take(self) -> dict[str, float]:
        """The means over all processes, each of which must call this; names may differ between them. Forgets them."""
        total: Sums = {}
        for part in self.gathered().values():
            for name, (value, weight) in part.items():
                before = total.get(name, (0.0, 0.0))
                total[name] = before[0] + value, before[1] + weight
        self._sums = {}
        return {name: value / weight for name, (value, weight) in total.items() if weight}

    def gathered(self) -> dict[int, Sums]:
        """The sums of all processes by rank: plain values for a checkpoint."""
        mine = {name: tuple(pair.tolist()) for name, pair in self._sums.items()}
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return {0: mine}
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, mine)
        return dict(enumerate(parts))

    def restore(self, parts: dict[int, Sums], *, rank: int, world: int, device: torch.device) -> None:
        """Go on from the sums of a checkpoint; with another number of processes the first one takes all."""
        kept = range(rank, rank + 1) if len(parts) == world else range(len(parts) if rank == 0 else 0)
        self._sums = {}
        for other in kept:
            for name, pair in parts[other].items():
                sums = torch.tensor(pair, dtype=torch.float64, device=device)
                self._sums[name] = sums if name not in self._sums else self._sums[name] + sums
