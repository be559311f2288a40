"""Tab. 1 on one thread of this processor, in at most five minutes: is anything slower than it was?

    python experiments/tab1_profile/bench_cpu.py [--out FILE] [--compare FILE] [--only small] [--beside FILE.py]

Each row times the code as it runs ("ours") beside the plain path of the same network ("plain": every template through
the encoder in every frame, layers as they are, the decoder of training), in turns, by the CPU time of this process, so
that other programs disturb little. What counts is the median of the ratios plain / ours, with its tenth and ninetieth
percentile. The rows are compared with those of an earlier file; the exit code is 1 where a ratio of the same processor
and torch fell by more than a tenth and both its spreads. FILE.py of `--beside` gives another implementation, as
bench_gpu.py says; it is timed in the same turns.
"""

import argparse
import json
import platform
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from bench_gpu import BOX, FRAME, model_of

from seqtrack_lit.files import write_atomic
from seqtrack_lit.models.prepacked import best_layout, capabilities, computes_bfloat16
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack

STORED = Path(__file__).with_name("cpu.json")
SLOWER = 0.9
Row = dict[str, Any]
Paths = dict[str, Callable[[], object]]


def in_turns(paths: Paths, turns: float) -> Row:
    """Milliseconds of the process on each path, and ratios of the other paths to "ours", turn by turn."""
    for work in paths.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in paths}
    repeats = max(1, round(turns))
    for _ in range(repeats):
        for name, work in paths.items():
            begin = time.process_time()
            work()
            times[name].append(1000 * (time.process_time() - begin))
    row: Row = {f"{name}_ms": round(float(np.median(one)), 3) for name, one in times.items()}
    for name in paths:
        if name != "ours":
            low, median, high = np.percentile(np.array(times[name]) / np.array(times["ours"]), [10, 50, 90])
            row[f"{name}/ours"] = [round(float(value), 3) for value in (median, low, high)]
    return {**row, "turns": repeats}


def plain_frame(tracker: SeqTrackTracker, image: np.ndarray) -> object:
    """A frame by the network as it was trained."""
    with torch.inference_mode():
        return tracker.model.generate(
            tracker.templates,
            tracker.search_pixels(image),
            hann_window=tracker.hann_window,
            template_boxes=tracker.template_boxes,
        )


def frames(tracker: SeqTrackTracker, turns: float, beside: Paths | None = None) -> Row:
    """A whole frame of 1280 x 720, the target where it was."""
    image = np.random.default_rng(0).integers(0, 256, (*FRAME, 3), dtype=np.uint8)
    tracker.init(image, BOX)
    paths: Paths = {"ours": lambda: tracker.predict(image), "plain": lambda: plain_frame(tracker, image)}
    return in_turns({**paths, **(beside or {})}, turns)


def small(turns: float) -> Iterator[Row]:
    """The tracker that ships."""
    yield {"row": "seqtrack_small, a frame, fp32", **frames(load_seqtrack(device="cpu"), 40 * turns)}
    if computes_bfloat16():
        tracker = load_seqtrack(device="cpu", dtype="bfloat16")
        yield {"row": "seqtrack_small, a frame, bf16", **frames(tracker, 40 * turns)}


def base(turns: float, beside: SimpleNamespace | None) -> Iterator[Row]:
    """SeqTrack-B256 with two templates."""
    net, other = model_of("seqtrack_b256").eval(), {}
    if beside is not None:
        net, update = _official(beside, "seqtrack_b256")
        other = {"official": update}
    yield {"row": "seqtrack_b256, a frame, fp32", **frames(SeqTrackTracker(net), 7 * turns, other)}
    if computes_bfloat16():
        tracker = SeqTrackTracker(net, dtype="bfloat16")
        yield {"row": "seqtrack_b256, a frame, bf16", **frames(tracker, 7 * turns, other)}


def decoder(turns: float, beside: SimpleNamespace | None) -> Iterator[Row]:
    """Four tokens of B256, features given."""
    net = model_of("seqtrack_b256", depth=1).eval()
    tracker = SeqTrackTracker(net)
    official = None if beside is None else beside.network("seqtrack_b256").eval()
    for batch in (1, 8):
        features = torch.randn(batch, net.encoder.search_tokens, net.encoder.width)
        paths = _decoder_paths(net, tracker, features)
        if official is not None:
            start = torch.full((batch, 1), net.tokenizer.bins + 1)
            window = net.tokenizer.hann_window()[None]
            paths["official"] = lambda x=features, s=start, w=window: official.inference_decoder([x], s, w, "xywh")
        with torch.inference_mode():
            yield {"row": f"seqtrack_b256, decoder, batch {batch}, fp32", **in_turns(paths, 20 * turns)}


def _decoder_paths(net: SeqTrack, tracker: SeqTrackTracker, features: torch.Tensor) -> Paths:
    window, fast = tracker.hann_window, tracker._decoder
    return {
        "ours": lambda: net.generate_from(features, hann_window=window, decoder=fast),
        "plain": lambda: net.generate_from(features, hann_window=window),
    }


def training(beside: SimpleNamespace) -> Iterator[Row]:
    """Forward and backward of B256 with a batch of 2, in training mode; only beside the other implementation."""
    net, other = model_of("seqtrack_b256").train(), beside.network("seqtrack_b256").train()
    size = net.search_size
    search, templates = torch.randn(2, 3, size, size), torch.randn(2, 2, 3, size, size)
    tokens, _ = net.tokenizer.teacher(torch.rand(2, 4) / 2)

    def ours(dtype: torch.dtype) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = net(templates, search, tokens).tokens.float().square().mean()
        loss.backward()

    def official() -> None:
        features = other(images_list=[*templates.unbind(1), search], mode="encoder")
        other(xz=features, seq=tokens, mode="decoder").square().mean().backward()

    for dtype in (torch.float32, *([torch.bfloat16] if computes_bfloat16() else [])):
        name = "fp32" if dtype == torch.float32 else "bf16"
        paths: Paths = {"ours": lambda dtype=dtype: ours(dtype), "official": official}
        yield {"row": f"seqtrack_b256, forward and backward, batch 2, {name}", **in_turns(paths, 3)}


def _official(beside: SimpleNamespace, name: str) -> tuple[SeqTrack, Callable[[], object]]:
    """Our network with the weights of the other implementation, and a frame of that one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "SEQTRACK_ep0500.pth.tar"
        torch.save({"net": beside.network(name).state_dict()}, file)
        net = load_seqtrack(file, device="cpu").model
        init, update = beside.tracker(name, file)
    image = np.random.default_rng(0).integers(0, 256, (*FRAME, 3), dtype=np.uint8)

    def frame() -> object:
        init(image, BOX)  # cuts a template, as a frame in 25 does: 1 ms of two seconds
        return update(image)

    return net, frame


def compare(rows: Mapping[str, Row], earlier: Mapping[str, Row]) -> list[str]:
    """Lines of rows whose ratio to the plain path fell."""
    slower = []
    for name, row in rows.items():
        before, now = earlier.get(name, {}).get("plain/ours"), row.get("plain/ours")
        if before is not None and now is not None and now[0] < SLOWER * before[0] and now[2] < before[1]:
            slower.append(f"slower: {name}: plain / ours was {before[0]:.2f}, is {now[0]:.2f}")
    return slower


def machine() -> Row:
    """What numbers depend on."""
    return {
        "processor": capabilities().get("cpu_name", platform.processor()),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": computes_bfloat16(),
        "layout": best_layout(torch.float32),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }


def main(given: list[str] | None = None) -> int:
    """Measure, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_cpu.json"))
    parser.add_argument("--compare", type=Path, default=STORED, help="an earlier file")
    parser.add_argument("--minutes", type=float, default=5.0, help="no row is begun after this time")
    parser.add_argument("--turns", type=float, default=1.0, help="factor on the number of turns")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of titles: the rows to measure")
    parser.add_argument("--beside", type=Path, help="a Python file with another implementation, see above")
    arguments = parser.parse_args(given)
    torch.set_num_threads(1)
    beside = None if arguments.beside is None else SimpleNamespace(**runpy.run_path(str(arguments.beside)))
    plan: list[tuple[str, Callable[[], Iterator[Row]]]] = [
        ("small", lambda: small(arguments.turns)),
        ("decoder", lambda: decoder(arguments.turns, beside)),
        ("b256", lambda: base(arguments.turns, beside)),
    ]
    if beside is not None:
        plan.append(("training", lambda: training(beside)))
    start, facts, rows = time.monotonic(), machine(), {}
    print(json.dumps(facts), flush=True)
    for title, measure in plan:
        if not any(part in title for part in arguments.only):
            continue
        if time.monotonic() - start > 60 * arguments.minutes:
            print(f"not measured, no time left: {title}", flush=True)
            continue
        for row in measure():
            rows[row.pop("row")] = row
            print(f"{time.monotonic() - start:5.0f} s  {list(rows)[-1]}: {json.dumps(row)}", flush=True)
            write_atomic(arguments.out, json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    print(f"Written to {arguments.out}")
    if not arguments.compare.is_file():
        return 0
    earlier = json.loads(arguments.compare.read_text())
    if any(earlier.get(key) != facts[key] for key in ("processor", "isa", "torch")):
        print(f"Not compared with {arguments.compare}: another processor or version of torch")
        return 0
    slower = compare(rows, earlier["rows"])
    print("\n".join(slower) or f"Not slower than {arguments.compare} ({earlier['date']})")
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())
