"""Milliseconds of SeqTrack-B256 on a GPU in bf16: plain and cached templates, tokens one after another and at once.

    python experiments/faster/time_b256.py [rows.jsonl]

Two templates that are prepared, search crops on the device, random weights; each row is a recorded graph.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from seqtrack_lit.models.cached_encoder import CachedEncoder
from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.inference_decoder import InferenceDecoder
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tokens import BoxTokenizer


def median_ms(call: Callable[[], object], seconds: float = 1.0) -> float:
    """Median milliseconds of a call recorded as a CUDA graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(times), 3)


@torch.inference_mode()
def main() -> None:
    """Print a row for every encoder, way of reading tokens and batch size; append it to a file if one is named."""
    if not torch.cuda.is_available():
        raise SystemExit("time_b256: PyTorch finds no CUDA device")
    tokenizer = BoxTokenizer()
    for encoder in (ViTEncoder, CachedEncoder):
        for parallel in (None, "independent", "refined"):
            decoder = Decoder(tokenizer=tokenizer, parallel=parallel)
            net = SeqTrack(tokenizer=tokenizer, encoder=encoder(), decoder=decoder).cuda().bfloat16().eval()
            fast, window = InferenceDecoder(net.decoder, net.memory_position), tokenizer.hann_window().cuda()
            for batch in (1, 8, 32):
                search = torch.randn(batch, 3, 256, 256, device="cuda", dtype=torch.bfloat16)
                templates = torch.randn(batch, 2, 3, 256, 256, device="cuda", dtype=torch.bfloat16)
                prepared = net.prepare_templates(templates)
                encode = partial(net.search_features, prepared, search)
                decode = partial(net.generate_from, hann_window=window, decoder=fast)
                row: dict[str, Any] = {"encoder": encoder.__name__, "parallel": parallel, "batch": batch}
                row["encoder_ms"] = median_ms(encode)
                row["decoder_ms"] = median_ms(partial(decode, encode()))
                row["whole_ms"] = median_ms(lambda run=decode, features=encode: run(features()))
                print(json.dumps(row), flush=True)
                if sys.argv[1:]:
                    with Path(sys.argv[1]).open("a") as file:
                        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
