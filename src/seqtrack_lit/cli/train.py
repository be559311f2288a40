"""seqtrack-train: train SeqTrack; validate on held-out pairs after every epoch, on whole videos every few epochs.

    seqtrack-train experiment=quickstart             a tiny model on generated videos, minutes on a CPU
    seqtrack-train data=... trainer=ddp              the paper's SeqTrack-B256 on all GPUs of this machine
    seqtrack-train ... model.encoder.pretrained=false   its encoder from random weights instead of MAE's
    seqtrack-train ... resume=auto                   go on with the newest run of this name, bitwise the same
    seqtrack-train resume=runs/seqtrack/DATE         go on with this run, with its own settings
                                                     (plain ones: what was added by + or names code is typed again,
                                                     for somebody else's run also logger, paths and data roots)
    seqtrack-train -m tokenizer.bins=100,1000,4000   a sweep; repeated, it finishes what is missing
    seqtrack-train -m seed=0,1 hydra/launcher=local  a sweep with one job per GPU at a time; =slurm on a cluster

Main keys:
  name                  of the run; its folder is <paths.runs>/<name>/<date>
  seed                  same seed, same machine: same weights
  train.samples         length of the training in samples; train.epoch_samples between two validations
  train.global_batch    samples of one step over all devices; train.device_batch x devices x accumulation
  train.precision       auto, bf16, fp16, fp32; train.tf32 false: fp32 products on GPUs are exact
  model.encoder.pretrained   the paper's models: true, MAE weights are downloaded (CC-BY-NC 4.0, not for commercial
                        use); a file mae_pretrain_vit_*.pth; false, random weights
  init_from             a checkpoint of any kind whose weights to start from
  resume                auto, or the folder of a run
  overwrite             true: delete a former run in the same folder
  eval_checkpoint       best (by val/auc) or last: the checkpoint that evaluation takes; data=paper, quickstart: last
  dry_run               true: a few steps and one validation, then peak memory and speed; nothing is kept

The folder of a run holds config.yaml, run.json (revision, versions, data, length), metrics.csv, pictures/ and
checkpoints/ (best.ckpt by val/auc, last.ckpt, previous.ckpt). Ctrl-C or SIGTERM save and stop; resume goes on,
only with the settings the run was begun with.
"""

import logging
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqtrack_lit.checks import flag, one_of, printable, whole
from seqtrack_lit.cli.checkpoints import check_encoder
from seqtrack_lit.cli.hydra.overrides import (
    OF_A_SWEEP,
    constant_keys,
    going_on_in,
    key_of,
    names_a_place,
    options_first,
    quote_paths,
    recorded,
    with_implied,
)
from seqtrack_lit.cli.hydra.runtime import (
    USER_ERRORS,
    config_folder,
    existing,
    inference_of,
    leave,
    one_line,
    run,
)
from seqtrack_lit.cli.launch.processes import agree_on_start, slurm_job
from seqtrack_lit.runs.folder import check_same, is_own, read_metadata
from seqtrack_lit.runs.migrate import migrate_overrides

log = logging.getLogger(__name__)
_PRECISIONS = ("fp32", "bf16", "fp16", "auto")  # as training/precision.py, which imports torch
_LONGEST = 1000  # letters of overrides that are shown
# What a result depends on: a run goes on, or counts as done, only if all of it is the same ...
_DECISIVE = ("seed", "train", "tokenizer", "model", "optimizer", "data", "tracker", "init_from")
# ... but for where the data lie, who reads them and how much fits into memory.
# Arguments of lightning's Trainer that this project sets, and the key to use.
_OURS = {
    "precision": "train.precision", "accumulate_grad_batches": "train.device_batch",
    **dict.fromkeys(("max_epochs", "max_steps", "min_epochs", "min_steps", "max_time"), "train.samples"),
    **dict.fromkeys(
        ("limit_train_batches", "check_val_every_n_epoch", "val_check_interval", "reload_dataloaders_every_n_epochs"),
        "train.epoch_samples",
    ),
    **dict.fromkeys(("gradient_clip_val", "gradient_clip_algorithm"), "optimizer.clip"),
    **dict.fromkeys(("fast_dev_run", "overfit_batches", "num_sanity_val_steps", "barebones"), "dry_run=true"),
    "limit_val_batches": "data.validation.pairs", "log_every_n_steps": "callbacks.log_every", "logger": "logger=",
    "callbacks": "callbacks.extra", "enable_checkpointing": "callbacks.checkpoint_steps",
    "enable_progress_bar": "callbacks.progress", "enable_model_summary": "seqtrack-profile",
    "default_root_dir": "paths.runs", "use_distributed_sampler": "data.*",
}  # fmt: skip
# What a run writes into its folder again when it goes on.
_WRITTEN_AGAIN = (
    ".lock", ".hydra", ".hydra/*", "checkpoints", "checkpoints/*", "pictures", "pictures/*", "tensorboard",
    "tensorboard/*", "wandb", "*.csv", "*.log", "*.txt",
)  # fmt: skip
_HARMLESS = (
    "root", "cache", "cache_gb", "packs", "workers", "prefetch", "start_method", "max_skipped", "device_batch",
    "nonfinite_limit",
)  # fmt: skip


def body(config: DictConfig) -> float | None:
    """Check what needs no torch, then train; gives back the best `val/auc`, for sweepers that optimise."""
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    flag("", dry_run=config.dry_run, overwrite=config.overwrite)
    flag("train", tf32=config.train.tf32)
    one_of("train", _PRECISIONS, precision=config.train.precision)
    one_of("", ("best", "last"), eval_checkpoint=config.eval_checkpoint)
    whole("", 0, seed=config.seed)
    sweep = settings.mode == RunMode.MULTIRUN
    if not str(config.name or "").strip("./ "):
        raise ValueError(f"name={config.name!s} cannot name the folder of a run; give it a word, as in name=first_try")
    inference_of(config)
    check_encoder()
    for name in config.trainer:
        if name in _OURS:
            raise ValueError(f"trainer.{name} is set by this project: use {_OURS[name]} instead")
    begun = (folder / "checkpoints").exists() and not config.overwrite
    if config.init_from is not None and not begun:
        weights = existing(config.init_from, "init_from")
        if config.overwrite and folder.resolve() in weights.resolve().parents:
            raise ValueError(f"overwrite=true would delete init_from={weights}: give this run another name=...")
    goes_on = begun and (sweep or config.resume is not None)
    if goes_on:
        settings_now: Any = OmegaConf.to_container(config, resolve=True)
        check_same(folder, settings_now, _DECISIVE, harmless=_HARMLESS)
    if goes_on and status(folder) == "finished":
        log.info("%s: already finished, nothing to do (overwrite=true trains again)", folder)
        return read_metadata(folder).get("best")
    if begun and config.resume is None and not sweep:
        raise ValueError(
            f"{folder} already holds a run: go on with it by resume=auto, delete it by overwrite=true, or give this "
            "one another name=..."
        )
    group = Path(settings.sweep.dir).name if sweep else read_metadata(folder).get("group")
    from seqtrack_lit.cli.run_training import fit

    return fit(config, folder, group=group)


def status(folder: Path) -> str | None:
    """What became of the run in a folder: running, finished, stopped, failed; None where there is none."""
    found = read_metadata(folder).get("status")
    return None if found is None else str(found)


def continued(arguments: list[str]) -> list[str]:
    """Put the folder and the settings of the run to resume in front of the command line.

    Raises:
        FileNotFoundError: resume=FOLDER does not exist or is not the folder of a run.
        ValueError: its settings are not what a file may say, or a link leads out of it.
    """
    given = {key_of(item): item.partition("=")[2] for item in arguments if not item.startswith("-")}
    wanted = given.get("resume", "null").strip("'\"")
    if wanted == "null" or "--config-path" in arguments:
        return arguments
    if {"-m", "--multirun"} & set(arguments):
        if wanted != "auto":
            raise ValueError(f"resume={wanted} goes on with one run, without -m; a sweep goes on when it is repeated")
        return arguments
    folder = _newest(arguments) if wanted == "auto" else existing(wanted, "resume")
    if folder is None:
        return arguments
    facts = read_metadata(folder)
    former = facts.get("overrides")  # Hydra's own list would be that of a refused attempt, too
    if former is None:
        raise FileNotFoundError(
            f"resume={wanted}: {folder} is not the folder of a run, it has no run.json with overrides"
        )
    for pattern in _WRITTEN_AGAIN:
        # without a "*", glob finds no link to nothing
        _require_plain(folder.glob(pattern) if "*" in pattern else [folder / pattern])

    own = {*given, *OF_A_SWEEP}
    former = migrate_overrides(former)
    kept = recorded(former, source=f"resume={wanted}: {folder / 'run.json'}", folder=config_folder(), without=own)
    if places := [] if is_own(facts) else [item for item in kept if names_a_place(item)]:
        kept = [item for item in kept if item not in places]
        text = f"{folder / 'run.json'} is somebody else's, so its services and places are not taken: {' '.join(places)}"
        print(f"{printable(text)[:_LONGEST]}; write those you need on the command line", flush=True)
    rest = [item for item in arguments if key_of(item) != "resume"]
    return [*kept, *rest, *going_on_in(folder)]


def _require_plain(paths: Iterable[Path]) -> None:
    """Refuse links and pipes among what a run writes or reads.

    Raises:
        ValueError: names the first.
    """
    for path in paths:
        if path.is_symlink():
            raise ValueError(f"{path} is a link, and this run would write to where it points: put the real one there")
        if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe would wait for ever
            raise ValueError(f"{path} is a pipe or a device, no file of a run; remove it")


def _newest(arguments: list[str]) -> Path | None:
    """The newest begun run of this name; None where there is none, or where the run has one fixed folder."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            overrides = with_implied(item for item in quote_paths(arguments) if not item.startswith("-"))
            config = compose("train", overrides, return_hydra_config=True)
        named = OmegaConf.to_container(config.hydra.run, resolve=False)["dir"]  # type: ignore[call-overload,index]
        if str(config.hydra.mode) == "RunMode.MULTIRUN" or "${now:" not in str(named):
            return None
        fixed = Path(str(config.hydra.run.dir))
    except (HydraException, OmegaConfBaseException):
        return None  # the same mistake stops the command itself, with a good message
    if (fixed / "checkpoints").exists():  # of this Slurm job
        return None
    begun = [path.parent for path in fixed.parent.glob("*/checkpoints")]
    if (job := slurm_job()) is not None:  # jobs beside it may have the same name
        own = [path for path in begun if path.name.endswith(f"slurm_{job}")]
        if begun and not own:
            print(f"resume=auto: no run of this Slurm job yet; resume={max(begun, key=_time)} goes on with the newest")
        begun = own
    # the folder, not last.ckpt: a run may have ended while that was being replaced
    return max(begun, key=_time, default=None)


def _time(run: Path) -> float:
    return (run / "checkpoints").stat().st_mtime  # files are moved in it at every checkpoint


def main() -> None:
    """Entry point of seqtrack-train."""
    agree_on_start()
    try:
        sys.argv[1:] = continued(sys.argv[1:])
    except USER_ERRORS as error:
        leave("seqtrack-train", one_line(error), 2)
    wanted = [item.partition("=")[2].lower() for item in sys.argv[1:] if key_of(item) == "dry_run"]
    if set(wanted) - {"true", "false"}:
        leave("seqtrack-train", f"dry_run must be true or false, got {wanted[-1]!r}", 2)  # before Hydra makes a folder
    if not {"hydra.sweep.subdir", "--config-path"} & {key_of(item) for item in sys.argv[1:]}:
        constant = ",".join(constant_keys(quote_paths(options_first(sys.argv[1:]))))
        sys.argv.append(f"hydra.sweep.subdir='${{job_folder:${{hydra.overrides.task}},[{constant}]}}'")
    with tempfile.TemporaryDirectory(prefix="seqtrack_dry_run_") as folder:
        if wanted and wanted[-1] == "true":
            # a dry run touches no run: Hydra, too, writes what it was asked into the folder
            sys.argv += [f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
        run("train", body)


if __name__ == "__main__":
    main()
