"""Scores as a torchmetrics metric, for validation inside training, on one rank or many."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torchmetrics import Metric

from seqtrack_lit.evaluation.ope import GroundTruth, SequenceCurves
from seqtrack_lit.evaluation.scores import convention_of, mean_curves, values_of


class TrackingScores(Metric):
    """A benchmark's scores in percent, from tracked boxes of its sequences, in any order and on any rank.

    The state is one row per sequence, summed over ranks, with a count: a sequence that was tracked twice (samplers
    fill up the last round by repeating) counts once, and ranks may hold different numbers of sequences.

    Args:
        truths: all sequences of the benchmark, the same on every rank.
        convention: a key of `scores.CONVENTIONS`.
    """

    full_state_update = False
    sums: Tensor  # [sequences, curve points + curves], float64
    counts: Tensor  # [sequences]

    def __init__(self, truths: Sequence[GroundTruth], convention: str = "seqtrack") -> None:
        super().__init__()
        self.truths = list(truths)
        self.convention = convention
        # Curve names and lengths, from the ground truth scored against itself.
        blank = convention_of(convention).measure(self.truths[0], self.truths[0].boxes)
        self._points = {name: len(curve) for name, curve in blank.curves.items()}
        width = sum(self._points.values()) + len(self._points)
        self.add_state("sums", torch.zeros(len(self.truths), width, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(self.truths), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, index: int, boxes_xywh: Float64[np.ndarray, "frames 4"]) -> None:
        """Add the tracked boxes (pixels) of sequence `index` of `truths`."""
        measured = convention_of(self.convention).measure(self.truths[index], boxes_xywh)
        row = [*measured.curves.values(), np.array([measured.weights[name] for name in measured.curves])]
        self.sums[index] += torch.from_numpy(np.concatenate(row)).to(self.sums)
        self.counts[index] += 1

    def compute(self) -> dict[str, Tensor]:
        """Scores by name, in percent, over the sequences seen; float64.

        Raises:
            ValueError: no sequence was seen.
        """
        seen = self.counts > 0
        if not seen.any():
            raise ValueError("no sequence was tracked, so there is nothing to score")
        rows = (self.sums[seen] / self.counts[seen, None]).cpu().numpy()
        mean = mean_curves([self._unpack(row) for row in rows])
        values = values_of(convention_of(self.convention), mean)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def _unpack(self, row: Float64[np.ndarray, "width"]) -> SequenceCurves:
        """A row of the state as curves and weights."""
        parts = np.split(row, np.cumsum(list(self._points.values())))
        return SequenceCurves(
            dict(zip(self._points, parts[:-1], strict=True)),
            dict(zip(self._points, parts[-1].tolist(), strict=True)),
        )
