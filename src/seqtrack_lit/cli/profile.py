"""seqtrack-profile: parameters, multiply-accumulates and the time of a tracked frame by stage, on this device.

    seqtrack-profile model=seqtrack_b384 dtype=bfloat16
    seqtrack-profile model=seqtrack_l384 frames=0        count only, no timing
    seqtrack-profile -m 'model=glob(seqtrack_*)'
    seqtrack-profile checkpoint=runs/quickstart/checkpoints/best.ckpt device=cpu threads=1

The table is printed and written as <out>/<name>.md and .json. Loader speed: `seqtrack-data bench=NAME`.
"""

import json
import platform
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from seqtrack_lit.checks import whole
from seqtrack_lit.cli.checkpoints import check_encoder
from seqtrack_lit.cli.hydra.runtime import existing, instantiate, run, without_start

if TYPE_CHECKING:
    from seqtrack_lit.tracking.seqtrack import SeqTrackTracker


def body(config: DictConfig) -> None:
    """Measure one model; print and write the table."""
    whole("", 0, frames=config.frames)
    if config.checkpoint is not None:
        existing(config.checkpoint, "checkpoint")
    else:
        check_encoder()
    if config.official_config is not None:
        existing(config.official_config, "official_config")
    import torch

    from seqtrack_lit.files import write_atomic
    from seqtrack_lit.profile import count_macs, count_parameters, time_tracker

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    name, tracker = _tracker(config)
    macs = count_macs(tracker.model)
    size = (int(config.image_size[0]), int(config.image_size[1]))
    times = time_tracker(tracker, frames=config.frames, image_size=size) if config.frames else None
    facts: dict[str, Any] = {
        "model": name,
        "device": torch.cuda.get_device_name(tracker.device) if tracker.device.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "dtype": str(tracker.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "frames": config.frames,
        "image_size": list(size),
        "parameters": count_parameters(tracker.model),
        "macs": {"paper": macs.paper, "everything": macs.everything},
        **({} if times is None else {"milliseconds": times.stages, "fps": times.fps}),
    }
    folder = Path(config.out)
    write_atomic(folder / f"{name}.json", json.dumps(facts, indent=2) + "\n")
    write_atomic(folder / f"{name}.md", markdown(facts))
    print(markdown(facts))
    print(f"Written to {folder / name}.md and .json")


def _tracker(config: DictConfig) -> tuple[str, "SeqTrackTracker"]:
    import torch

    from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack

    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if config.checkpoint is not None:
        path = Path(config.checkpoint).expanduser()
        return path.stem, load_seqtrack(path, device=device, dtype=config.dtype, official_config=config.official_config)
    choice = str(HydraConfig.get().runtime.choices["model"])
    return choice, SeqTrackTracker(instantiate(without_start(config.model)), device=device, dtype=config.dtype)


def markdown(facts: dict[str, Any]) -> str:
    """The measured facts as two small tables."""
    parameters = ", ".join(f"{part} {n:,}" for part, n in facts["parameters"].items() if part != "total")
    lines = [
        f"# {facts['model']}",
        "",
        "| what | value |",
        "|---|---|",
        f"| parameters | {facts['parameters']['total']:,} ({parameters}) |",
        f"| MACs, paper's convention | {facts['macs']['paper'] / 1e9:.2f} G |",
        f"| MACs, everything but LayerNorm | {facts['macs']['everything'] / 1e9:.2f} G |",
        "",
    ]
    if "fps" in facts:
        width, height = facts["image_size"]
        lines += [
            f"Time of a frame of {width} x {height} pixels, medians of {facts['frames']}: {facts['fps']:.2f} "
            f"frames per second on {facts['device'] or 'CPU'}, {facts['threads']} threads, {facts['dtype']}, "
            f"torch {facts['torch']}.",
            "",
            "| stage | ms |",
            "|---|---|",
            *(f"| {stage} | {value:.3f} |" for stage, value in facts["milliseconds"].items()),
            "",
        ]
    return "\n".join(lines)


main = partial(run, "profile", body)

if __name__ == "__main__":
    main()
