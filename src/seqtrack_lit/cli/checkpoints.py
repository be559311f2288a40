"""Models, checkpoints and baselines as the commands name them; checkpoints loaded as trackers."""

import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from seqtrack_lit.checks import one_of
from seqtrack_lit.cli.hydra.overrides import options_of
from seqtrack_lit.cli.hydra.runtime import config_folder, existing
from seqtrack_lit.runs.folder import read_metadata
from seqtrack_lit.weights import SMALL

if TYPE_CHECKING:
    from seqtrack_lit.tracking.long_term import LongTermTracker
    from seqtrack_lit.tracking.seqtrack import SeqTrackTracker

BASELINES = ("static", "kcf", "csrt", "nano", "vit")


def named_checkpoint(given: str) -> Path:
    """The file of a checkpoint; `small` is the tracker that comes with the package.

    Raises:
        FileNotFoundError: it does not exist.
    """
    return SMALL if given == "small" else existing(given, "checkpoint")


def checkpoint_of(config: DictConfig) -> Path | None:
    """The checkpoint asked for, else the one of the run asked for; None where neither is.

    Of a run it is the best one or the last one: as asked for, else as the run was configured.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: `eval_checkpoint` is neither best nor last.
    """
    if config.checkpoint is not None:
        return named_checkpoint(config.checkpoint)
    run = Path(config.run).expanduser()
    chosen = config.eval_checkpoint or read_metadata(run).get("eval_checkpoint") or "best"
    one_of("", ("best", "last"), eval_checkpoint=chosen)
    path = run / "checkpoints" / f"{chosen}.ckpt"
    if path.is_file():
        return path
    if config.run == config.paths.runs:
        return None
    other = "last" if chosen == "best" else "best"
    there = (path.parent / f"{other}.ckpt").is_file()
    remedy = f"eval_checkpoint={other} takes the other one" if there else "train first, or give checkpoint=FILE"
    raise FileNotFoundError(f"run={config.run}: there is no {path}; {remedy}")


def check_encoder() -> None:
    """The encoder has the size that the model's name says.

    Raises:
        ValueError: it has not, as with model=seqtrack_l256 model/encoder=mae_b16.
    """
    choices = HydraConfig.get().runtime.choices
    model, encoder = str(choices.get("model")), str(choices.get("model/encoder"))
    sizes = [re.fullmatch(pattern, name) for pattern, name in ((r".*_([bl])\d+", model), (r"(.*_)([bl])\d+", encoder))]
    if sizes[0] is None or sizes[1] is None or sizes[0][1] == sizes[1][2]:
        return
    fitting = f"{sizes[1][1]}{sizes[0][1]}"
    names = [name for name in options_of(config_folder(), "model/encoder") if name.startswith(fitting)]
    raise ValueError(
        f"model/encoder={encoder} is a ViT-{sizes[1][2].upper()}, but model={model} has a ViT-{sizes[0][1].upper()}: "
        f"take {f'model/encoder={names[0]}, or ' if names else ''}a model of the encoder's size"
    )


def baselines_of(value: Any) -> list[str]:
    """The baselines asked for: a name, a list of names, or none.

    Raises:
        ValueError: an unknown name.
    """
    names = [] if value is None else list(value) if OmegaConf.is_list(value) else [value]
    for name in names:
        if name not in BASELINES:
            raise ValueError(f"baseline={name}: no such baseline; allowed: {', '.join(BASELINES)}, or a list of them")
    return names


def tracker_options(config: DictConfig) -> dict[str, Any]:
    """Arguments of load_seqtrack: what the command line, the benchmark and the inference group set.

    Raises:
        ValueError: a setting that trackers have not, or of a wrong value.
    """
    from seqtrack_lit.tracking.seqtrack import check_settings

    options = OmegaConf.to_container(config.tracker, resolve=True)
    assert isinstance(options, dict)
    set_ones = {str(key): value for key, value in options.items() if value is not None}
    check_settings(set_ones)
    return {**set_ones, "official_config": config.official_config}


def name_by_inference(inference: str, tracker: "SeqTrackTracker", options: dict[str, Any]) -> None:
    """Results of an inference option go to a folder of their own, named after it, unless a name is given.

    Raises:
        ValueError: the option renews templates, and this model has none to renew.
    """
    if inference in ("likelihood_update", "naive_update") and tracker.model.templates == 1:
        raise ValueError(
            f"inference={inference} renews the second template, but the model has only one: all results would be those "
            "of inference=no_update; give a checkpoint trained with two (ablation=likelihood_update)"
        )
    if "name" not in options and inference not in ("default", tracker.name):
        options["name"] = tracker.name = f"{tracker.name}_{inference}"


def devices_of(device: str | None) -> list[str]:
    """The device asked for; else all GPUs; else the CPU.

    Raises:
        ValueError: there is no such device, or no tracker runs on it.
    """
    import torch

    from seqtrack_lit.tracking.device import device_of

    if device is not None:
        return [str(device_of(device))]
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]


def batch_of(batch: object, devices: list[str]) -> int:
    """Videos that a process tracks at a time: as asked for, or what keeps the device busy."""
    if batch == "auto":
        return 16 if devices[0].startswith("cuda") else 8
    assert isinstance(batch, int)
    return batch


def digest(path: str | Path | None) -> str:
    """The beginning of a file's hash, by which results tell what they were made with; of None empty."""
    if path is None:
        return ""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def load_on(checkpoint: str, options: dict[str, Any], device: str) -> "SeqTrackTracker":
    """The checkpoint's tracker on a device; a function of this module, so that processes can be given it."""
    from seqtrack_lit.tracking.seqtrack import load_seqtrack

    return load_seqtrack(Path(checkpoint).expanduser(), device=device, **options)


def load_for_long(checkpoint: str, options: dict[str, Any], device: str) -> "SeqTrackTracker | LongTermTracker":
    """Likewise a tracker that says when the target is lost, and looks for it."""
    from seqtrack_lit.tracking.long_term import for_long

    return for_long(load_on(checkpoint, options, device), Path(checkpoint).expanduser(), wanted=True)


def calibration_of(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint's confidences mean, as plain values.

    Raises:
        FileNotFoundError: that was never measured.
    """
    from seqtrack_lit.tracking.long_term import Calibration

    return asdict(Calibration.needed(checkpoint))
