"""Generation on a CUDA device without the cost of launching it: from pixels to boxes as one CUDA graph.

At batch 1 a SeqTrack-B256 takes longer to launch its thousand kernels than to run them. A graph is recorded once for
fixed shapes and replayed with one launch; it runs the same kernels on the same numbers, so tokens are those of
`SeqTrack.generate`. Letters: B batch, T templates, S search size, P past boxes.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.inference_decoder import InferenceDecoder
from seqtrack_lit.models.seqtrack import Prediction, SeqTrack

_WARM_UP = 3  # runs before recording: libraries choose their kernels and allocate their workspaces in them


class CapturedGeneration:
    """`SeqTrack.generate` of one model for uint8 crops; a graph for every batch size it meets.

    Args:
        model: in evaluation mode on a CUDA device; its weights must stay where they are.
        hann_window: factor on the probabilities of the two position tokens.
        decoder: the model's decoder for generation.
        expectation: see `SeqTrack.generate`.
        compiled: fuse the kernels by torch.compile before recording: about a minute for each batch size, and rounding
            that differs in the last bits.
    """

    def __init__(
        self,
        model: SeqTrack,
        *,
        hann_window: Float64[Tensor, "bins"] | None,
        decoder: InferenceDecoder | None = None,
        expectation: int = 0,
        compiled: bool = False,
    ) -> None:
        self.model, self.compiled = model, compiled
        self.reading: dict[str, Any] = {"hann_window": hann_window, "decoder": decoder, "expectation": expectation}
        self._graphs: dict[int, _Graph] = {}

    @torch.inference_mode()
    def __call__(
        self,
        prepared: Float[Tensor, "B ..."],
        pixels: UInt8[Tensor, "B 3 S S"],
        past: Int64[Tensor, "B P 4"] | None = None,
    ) -> Prediction:
        """Boxes of a batch; the tensors are overwritten by the next call.

        Args:
            prepared: templates as `SeqTrack.prepare_templates` makes them; copied only when another tensor comes.
            pixels: search crops, on the device or in (pinned) memory of the host.
            past: see `SeqTrack.generate`.
        """
        graph = self._graphs.get(len(pixels))
        if graph is None:
            graph = self._graphs[len(pixels)] = self._record(prepared, pixels, past)
        if graph.copied[0] is not prepared:
            graph.prepared.copy_(prepared)
            graph.copied[0] = prepared
        graph.pixels.copy_(pixels, non_blocking=True)
        if past is not None and graph.past is not None:
            graph.past.copy_(past, non_blocking=True)
        graph.graph.replay()
        return graph.prediction

    def _record(self, prepared: Tensor, pixels: Tensor, past: Tensor | None) -> "_Graph":
        device, dtype = prepared.device, next(self.model.parameters()).dtype
        prepared, pixels = prepared.clone(), pixels.to(device, copy=True)
        past = None if past is None else past.to(device, copy=True)

        def run() -> Prediction:
            features = self.model.search_features(prepared, normalise(pixels).to(dtype))
            return self.model.generate_from(features, past=past, **self.reading)

        if self.compiled:
            run = torch.compile(run, dynamic=False)
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                run()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # other threads may use the device meanwhile: loaders pin memory
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            prediction = run()
        return _Graph(graph, prepared, pixels, past, prediction, [None])


class _Graph(NamedTuple):
    """A recorded graph with the tensors it reads and writes; `copied` holds the prepared templates last copied."""

    graph: torch.cuda.CUDAGraph
    prepared: Tensor
    pixels: Tensor
    past: Tensor | None
    prediction: Prediction
    copied: list[Tensor | None]
