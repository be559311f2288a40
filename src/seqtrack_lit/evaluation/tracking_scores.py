"""Scores as a torchmetrics metric, for validation inside training, on one process or several."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torchmetrics import Metric

from seqtrack_lit.evaluation.metrics import convention_of, curve_lengths
from seqtrack_lit.evaluation.ope import GroundTruth, SequenceCurves
from seqtrack_lit.evaluation.scores import Scores, score_curves


class TrackingScores(Metric):
    """A benchmark's scores in percent, from tracked boxes of its sequences, in any order and on any process.

    The state is a row of curves and weights for each sequence, summed over processes, with a count: a sequence that
    was tracked twice counts once, and processes may hold different numbers of sequences.

    Args:
        truths: all sequences of the benchmark, the same on every process.
        convention: a key of `scores.CONVENTIONS`.
    """

    full_state_update = False
    sums: Tensor  # [sequences, curve points + curves], float64
    counts: Tensor  # [sequences], float64

    def __init__(self, truths: Sequence[GroundTruth], convention: str = "seqtrack") -> None:
        super().__init__()
        self.truths, self.convention = list(truths), convention
        self._points = curve_lengths(convention)
        width = sum(self._points.values()) + len(self._points)
        self.add_state("sums", torch.zeros(len(self.truths), width, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(self.truths), dtype=torch.float64), dist_reduce_fx="sum")
        self.scores: Scores | None = None

    def update(self, index: int, boxes_xywh: Float64[np.ndarray, "frames 4"]) -> None:
        """Add the tracked boxes (pixels) of sequence `index` of `truths`."""
        measured = convention_of(self.convention).measure(self.truths[index], boxes_xywh)
        row = [*measured.curves.values(), np.array([measured.weights[name] for name in measured.curves])]
        self.sums[index] += torch.from_numpy(np.concatenate(row)).to(self.sums)
        self.counts[index] += 1

    def compute(self) -> dict[str, Tensor]:
        """Scores by name, in percent, over the sequences tracked on any process; float64.

        The same with values per sequence and curves is in `scores` afterwards.

        Raises:
            ValueError: no sequence was tracked.
        """
        seen = np.flatnonzero(self.counts.cpu().numpy())
        if not seen.size:
            raise ValueError("no sequence was tracked, so there is nothing to score")
        rows = (self.sums / self.counts[:, None]).cpu().numpy()
        truths = [self.truths[index] for index in seen]
        curves = {self.truths[index].name: self._unpack(rows[index]) for index in seen}
        self.scores = score_curves(truths, curves, convention=self.convention)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in self.scores.values.items()}

    def _unpack(self, row: Float64[np.ndarray, "width"]) -> SequenceCurves:
        """A row of the state as curves and weights."""
        parts = np.split(row, np.cumsum(list(self._points.values())))
        return SequenceCurves(
            dict(zip(self._points, parts[:-1], strict=True)),
            dict(zip(self._points, parts[-1].tolist(), strict=True)),
        )
