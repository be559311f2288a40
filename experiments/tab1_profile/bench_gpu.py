"""Tab. 1 on the GPU at hand: frames and training samples per second, the most important first.

    python experiments/tab1_profile/bench_gpu.py [--out FOLDER] [--minutes 8] [--only compiled L384] [--beside FILE.py]

Every row is printed and appended to <out>/rows.jsonl as soon as it is known, so nothing is lost when the machine is
taken away; rows for which no time is left are named. Weights are random: they change no time. FILE.py may give another
implementation of the same models, measured in the same process and with the same weights:
    network(name) -> module, its state dict an official checkpoint's "net"
    tracker(name, checkpoint) -> (init(image, box_xywh), update(image) -> box_xywh)
    step(name, batch) -> a function that takes one training step
"""

import argparse
import json
import runpy
import statistics
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from seqtrack_lit.data.samples.batch import Batch
from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder, normalise
from seqtrack_lit.models.inference_decoder import InferenceDecoder
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.profile import count_macs
from seqtrack_lit.tokens import BoxTokenizer
from seqtrack_lit.tracking.cuda_graph import CapturedGeneration
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack
from seqtrack_lit.training.losses import token_loss
from seqtrack_lit.training.optim import AdamWSettings

BASE, LARGE = {"width": 768, "depth": 12, "heads": 12}, {"width": 1024, "depth": 24, "heads": 16}
MODELS = {
    "seqtrack_b256": {"search_size": 256, "template_size": 256, **BASE},
    "seqtrack_b384": {"search_size": 384, "template_size": 384, **BASE},
    "seqtrack_l256": {"search_size": 256, "template_size": 256, **LARGE},
    "seqtrack_l384": {"search_size": 384, "template_size": 384, **LARGE},
}
FRAME = (720, 1280)  # height, width of the images, pixels
BOX = np.array([560.0, 300.0, 120.0, 140.0])  # xywh, pixels
Row = dict[str, Any]


def model_of(name: str, **encoder: Any) -> SeqTrack:
    """One of the four models with random weights."""
    torch.manual_seed(0)
    tokenizer = BoxTokenizer()
    sizes: dict[str, Any] = {**MODELS[name], **encoder}
    return SeqTrack(tokenizer=tokenizer, encoder=ViTEncoder(**sizes), decoder=Decoder(tokenizer=tokenizer))


def device_ms(work: Callable[[], object], *, repeats: int = 50, warm_up: int = 5) -> list[float]:
    """Milliseconds between CUDA events around each call."""
    for _ in range(warm_up):
        work()
    torch.cuda.synchronize()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in events]


def frame_ms(init: Callable[..., object], update: Callable[..., object], frames: int = 100) -> list[float]:
    """Milliseconds of whole frames, from an image in the host's memory to a box in the host's memory."""
    images = np.random.default_rng(0).integers(0, 256, (4, *FRAME, 3), dtype=np.uint8)
    init(images[0], BOX)
    times = []
    for i in range(frames + 10):
        begin = time.perf_counter()
        update(images[i % 4])  # reads the box back: waits for the device by itself
        times.append(1000 * (time.perf_counter() - begin))
    return times[10:]


def spread(times: list[float], count: int = 1) -> Row:
    """Median, tenth and ninetieth percentile in milliseconds; how many things a second."""
    low, median, high = np.percentile(times, [10, 50, 90])
    return {
        "ms": round(median, 3),
        "p10": round(low, 3),
        "p90": round(high, 3),
        "per_second": round(count * 1000 / median, 1),
    }


def machine() -> Iterator[Row]:
    """The device and its measured ceiling."""
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
    ).stdout.strip()
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = device_ms(lambda: a @ b, repeats=10)
    yield {
        "row": "machine",
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "driver": driver,
        "date": time.strftime("%Y-%m-%d"),
        "bf16_tflops": round(2 * 8192**3 / statistics.median(times) / 1e9, 1),
    }


def tracking(name: str, beside: SimpleNamespace | None, folder: Path) -> Iterator[Row]:
    """Frames per second at batch 1 from an image of the host, ours and another implementation's on equal weights."""
    frames = 100 if "b256" in name else 40
    path = folder / "weights.pth"
    boxes: dict[str, np.ndarray] = {}
    if beside is not None:
        torch.save({"net": beside.network(name).state_dict()}, path)
        init, update = beside.tracker(name, str(path))
        yield {"row": f"{name} tracker, beside, fp32", **spread(frame_ms(init, update, frames))}
        boxes["beside"] = follow(init, update)
    for label, dtype, tf32 in (("bf16", "bfloat16", False), ("fp32", "float32", False), ("tf32", "float32", True)):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        if beside is None:
            tracker = SeqTrackTracker(model_of(name), device="cuda", dtype=dtype)  # type: ignore[arg-type]
        else:
            tracker = load_seqtrack(path, device="cuda", dtype=dtype, padding="official", window=True, update="none")
        row: Row = {"row": f"{name} tracker, {label}", **spread(frame_ms(tracker.init, tracker.update, frames))}
        if beside is not None:
            ours = follow(tracker.init, lambda image, t=tracker: t.update(image).box_xywh)
            row["largest_difference_px"] = round(float(np.abs(ours - boxes["beside"]).max()), 6)
        yield row
        del tracker
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    path.unlink(missing_ok=True)


def follow(init: Callable[..., object], update: Callable[..., Any], frames: int = 20) -> np.ndarray:
    """Boxes on a few smooth images, of one run."""
    noise = np.random.default_rng(1).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    image = np.asarray(np.kron(noise, np.ones((16, 16, 1), np.uint8)))
    init(image, BOX)
    return np.stack([np.asarray(update(np.roll(image, i, 1)), dtype=float) for i in range(frames)])


def batches(name: str, sizes: tuple[int, ...], *, compiled: bool = False) -> Iterator[Row]:
    """Crops on the device to boxes on the device, batched, bf16; eager at batch 1 too unless compiled."""
    net = model_of(name).cuda().bfloat16().eval()
    window, fast = net.tokenizer.hann_window().cuda(), InferenceDecoder(net.decoder, net.memory_position)
    macs = count_macs(net).everything
    for size in sizes:
        templates = torch.randn(size, net.templates, 3, net.template_size, net.template_size, device="cuda").bfloat16()
        crops = torch.randint(0, 256, (size, 3, net.search_size, net.search_size), device="cuda", dtype=torch.uint8)
        captured = CapturedGeneration(net, hann_window=window, decoder=fast, compiled=compiled)
        begin = time.perf_counter()
        with torch.inference_mode():
            ready = net.prepare_templates(templates)
        captured(ready, crops)
        prepared = time.perf_counter() - begin
        torch.cuda.reset_peak_memory_stats()
        times = device_ms(lambda c=captured, t=ready, x=crops: c(t, x), repeats=30)
        title = f"{name} batch {size}, bf16, crops on the device" + (", compiled" if compiled else "")
        row: Row = {"row": title, **spread(times, size), "prepare_s": round(prepared, 1)}
        row["tflops"] = round(2 * macs * size / statistics.median(times) / 1e9, 1)
        row["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        yield row
        if size == 1 and not compiled:
            with torch.inference_mode():
                search = normalise(crops).bfloat16()
                times = device_ms(
                    lambda t=templates, x=search: net.generate(t, x, hann_window=window, decoder=fast), repeats=20
                )
            yield {"row": f"{name} batch 1, bf16, without graph", **spread(times)}
            with torch.inference_mode():
                times = device_ms(lambda t=templates, x=search: net.encode(t, x), repeats=20)
            yield {"row": f"{name} batch 1, bf16, encoder without graph", **spread(times)}
        del captured


def training(
    name: str, batch: int, *, precision: str, compiled: bool = False, checkpoint: bool = False
) -> Iterator[Row]:
    """One step on a batch that lies on the device: forward, backward, clipping, AdamW."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    net = model_of(name, checkpoint=checkpoint).cuda().train()
    macs = count_macs(net).everything
    if compiled:
        for block in net.encoder.blocks:  # type: ignore[union-attr]
            block.compile()
    optim = AdamWSettings()
    optimizer = optim.build(net, batch)
    size = net.search_size
    sample = Batch(
        templates=torch.randint(0, 256, (batch, 2, 3, size, size), device="cuda", dtype=torch.uint8),
        search=torch.randint(0, 256, (batch, 3, size, size), device="cuda", dtype=torch.uint8),
        box=torch.rand(batch, 4, device="cuda") / 2,
        template_boxes=torch.zeros(batch, 2, 4, device="cuda"),
        past=torch.zeros(batch, 0, 4, device="cuda"),
        key=torch.zeros(batch, 3, dtype=torch.int64, device="cuda"),
        dataset=torch.zeros(batch, dtype=torch.int64, device="cuda"),
    )

    def step() -> None:
        inputs, _ = net.tokenizer.teacher(sample.box)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            logits = net(normalise(sample.templates), normalise(sample.search), inputs)
            loss = token_loss(logits.tokens.float(), sample.box, net.tokenizer).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), optim.clip)
        optimizer.step()

    torch.cuda.reset_peak_memory_stats()
    times = device_ms(step, repeats=12, warm_up=4)
    extra = (", compiled blocks" if compiled else "") + (", recomputed activations" if checkpoint else "")
    yield {
        "row": f"{name} training step, batch {batch}, {precision}{extra}",
        **spread(times, batch),
        "tflops": round(6 * macs * batch / statistics.median(times) / 1e9, 1),
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
    }


def training_beside(name: str, batch: int, beside: SimpleNamespace | None) -> Iterator[Row]:
    """The other implementation's step."""
    if beside is not None:
        torch.cuda.reset_peak_memory_stats()
        times = device_ms(beside.step(name, batch), repeats=8, warm_up=3)
        yield {
            "row": f"{name} training step, beside, batch {batch}, fp32",
            **spread(times, batch),
            "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        }


def plan(beside: SimpleNamespace | None, folder: Path) -> list[tuple[str, Callable[[], Iterator[Row]]]]:
    """What is measured, in the order of its importance."""
    b, large = "seqtrack_b256", "seqtrack_l384"
    return [
        ("machine", machine),
        ("tracker B256", lambda: tracking(b, beside, folder)),
        ("batches B256", lambda: batches(b, (1, 8, 32, 64))),
        ("step B256 beside", lambda: training_beside(b, 16, beside)),
        ("step B256 bf16 64 compiled", lambda: training(b, 64, precision="bf16", compiled=True)),
        ("batches B256 compiled", lambda: batches(b, (1, 32), compiled=True)),
        ("step B256 bf16 16", lambda: training(b, 16, precision="bf16")),
        ("step B256 bf16 64", lambda: training(b, 64, precision="bf16")),
        ("step B256 fp32 16", lambda: training(b, 16, precision="fp32")),
        ("step L384 bf16 8", lambda: training(large, 8, precision="bf16")),
        ("step L384 beside", lambda: training_beside(large, 8, beside)),
        ("tracker L384", lambda: tracking(large, beside, folder)),
        ("step L384 bf16 32", lambda: training(large, 32, precision="bf16", checkpoint=True)),
        ("tracker B384", lambda: tracking("seqtrack_b384", beside, folder)),
        ("tracker L256", lambda: tracking("seqtrack_l256", beside, folder)),
        ("batches L384", lambda: batches(large, (1, 8))),
        ("step B256 tf32 16", lambda: training(b, 16, precision="tf32")),
    ]


def main() -> None:
    """Measure until everything is known or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_gpu"))
    parser.add_argument("--minutes", type=float, default=8.0, help="no row is begun after this time")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of titles: the rows to measure")
    parser.add_argument("--beside", type=Path, help="a Python file with another implementation, see above")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("bench_gpu: PyTorch finds no CUDA device; seqtrack-profile device=cpu measures without one")
    arguments.out.mkdir(parents=True, exist_ok=True)
    beside = None if arguments.beside is None else SimpleNamespace(**runpy.run_path(str(arguments.beside)))
    start, rows = time.monotonic(), arguments.out / "rows.jsonl"
    for title, measure in plan(beside, arguments.out):
        if not any(part in title for part in arguments.only):
            continue
        if time.monotonic() - start > 60 * arguments.minutes:
            print(f"not measured, no time left: {title}", flush=True)
            continue
        try:
            for row in measure():
                with rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{time.monotonic() - start:5.0f} s  {json.dumps(row)}", flush=True)
        except Exception:  # the next rows matter more than this one
            print(f"failed: {title}\n{traceback.format_exc(limit=-3)}", flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
