"""A frame at half of its cost: only the search tokens around the target go through the network, while that is likely.

Beyond the paper, and without training. The search region is cut as always; of its tokens those within half a target's
size of the previous box are kept, with their positions. Their box is taken where it is likely and lies among them;
else, and in the frames after one that was not likely, the whole region is read. experiments/faster has the numbers.

Letters: N search tokens, n of them kept, S side of the search crop.
"""

import math
from typing import cast

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.inference_decoder import InferenceDecoder
from seqtrack_lit.models.seqtrack import Prediction, SeqTrack
from seqtrack_lit.models.two_stage_encoder import TwoStageEncoder

_MARGIN = 0.5  # of sqrt(w * h), on each side of the previous box
_LARGEST = 0.8  # of the search tokens; a pass over more is not worth it


class Cascade:
    """The cheap pass of a tracker.

    Args:
        threshold: mean probability of the four tokens, after the Hann window, from which its box is taken.
        model: the tracker's network.

    Raises:
        ValueError: a network for which that was never measured, or one on a GPU, where a frame is one recorded graph.
    """

    def __init__(self, threshold: float, model: SeqTrack) -> None:
        encoder = model.encoder
        if not isinstance(encoder, TwoStageEncoder) or model.memory != "search":
            raise ValueError(
                f"tracker.cascade={threshold:g} is for models with TwoStageEncoder and memory=search "
                "(model=seqtrack_small), whose encoder takes a part of the search tokens; leave it out"
            )
        if next(model.parameters()).device.type != "cpu":
            raise ValueError(f"tracker.cascade={threshold:g} is for CPUs; leave it out on a GPU, or give device=cpu")
        self.threshold, self.grid, self.patch = threshold, encoder.search_grid, encoder.patch

    def __call__(
        self,
        network: SeqTrack,
        prepared: Float[Tensor, "1 m C"],
        decoder: InferenceDecoder,
        pixels: UInt8[Tensor, "1 3 S S"],
        size: tuple[float, float],
        hann_window: Float64[Tensor, "bins"] | None,
        expectation: int = 0,
    ) -> Prediction | None:
        """The box by the tokens around the previous one, which lies in the middle of the crop; None if not likely.

        Args:
            network: the model, prepacked.
            prepared: templates as `SeqTrack.prepare_templates` makes them.
            decoder: the model's.
            pixels: the search crop.
            size: width and height of the previous box, pixels of the crop.
            hann_window: see `SeqTrack.generate`.
            expectation: likewise.
        """
        columns, rows = self.spans(size)
        if len(columns) * len(rows) > _LARGEST * self.grid**2:
            return None
        kept = (torch.tensor(rows)[:, None] * self.grid + torch.tensor(columns)).flatten()
        y, x = (slice(self.patch * span.start, self.patch * span.stop) for span in (rows, columns))
        part = pixels[..., y, x]
        encoder = cast(TwoStageEncoder, network.encoder)
        features = encoder.features(prepared, normalise(part).to(prepared.dtype), kept=kept)
        found = network.generate_from(
            features, hann_window=hann_window, decoder=decoder.for_tokens(kept), expectation=expectation
        )
        if found.likelihoods.mean() < self.threshold:
            return None
        center, half = (found.boxes[0] * self.grid).view(2, 2) / torch.tensor([[1.0], [2.0]])
        inside = all(
            (span.start == 0 or low >= span.start) and (span.stop == self.grid or high <= span.stop)
            for span, low, high in zip((columns, rows), center - half, center + half, strict=True)
        )
        return found if inside else None

    def spans(self, size: tuple[float, float]) -> tuple[range, range]:
        """Columns and rows of the tokens that are kept for a target of that size in the middle of the crop."""
        margin = _MARGIN * math.sqrt(size[0] * size[1])
        first = (round(self.grid / 2 - (side / 2 + margin) / self.patch) for side in size)
        columns, rows = (min(max(0, low), (self.grid - 1) // 2) for low in first)
        return range(columns, self.grid - columns), range(rows, self.grid - rows)
