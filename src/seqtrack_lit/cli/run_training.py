"""One training run from its configuration: build the parts, fit, record. Imported once the configuration composes."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from omegaconf import DictConfig, OmegaConf

from seqtrack_lit.cli.dry_run import dry_run
from seqtrack_lit.cli.hydra.runtime import instantiate, without_start
from seqtrack_lit.cli.launch.processes import check_processes, first_process, only_here, processes
from seqtrack_lit.data.datamodule import TrackingData
from seqtrack_lit.files import write_atomic
from seqtrack_lit.models.checkpoint import load_weights
from seqtrack_lit.models.description import FORMAT
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.process import keep_freed_memory
from seqtrack_lit.runs.folder import (
    CONFIG,
    differences,
    environment,
    read_metadata,
    remove_run,
    seal_of,
    write_metadata,
)
from seqtrack_lit.runs.migrate import migrate_settings
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.training.callbacks.checkpoint import Checkpoints, RandomState, remove_parts, resumable, steps_of
from seqtrack_lit.training.callbacks.metrics import FileLogger, LogMetrics, RunLogger, StepTimer
from seqtrack_lit.training.callbacks.progress import ProgressLines
from seqtrack_lit.training.callbacks.sample_pictures import SamplePictures
from seqtrack_lit.training.callbacks.stop import StopCleanly, StoppedError
from seqtrack_lit.training.callbacks.track_videos import TrackHeldOut
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.module import SeqTrackModule
from seqtrack_lit.training.precision import LIGHTNING, choose_precision, same_for_sweep, tf32

if TYPE_CHECKING:
    from seqtrack_lit.cli.loggers import RunFacts, Service

log = logging.getLogger(__name__)
_TINY = 5_000_000  # parameters below which threads on a CPU wait for each other longer than they compute
_THREADS = torch.get_num_threads()
_LENGTH = ("samples", "epoch_samples", "global_batch", "device_batch")


def fit(config: DictConfig, folder: Path, *, group: str | None) -> float | None:
    """Train as configured, in this folder; gives back the best `val/auc`.

    Args:
        config: the whole configuration of seqtrack-train.
        folder: the run's folder.
        group: name of the sweep this run is part of.

    Raises:
        ValueError, FileNotFoundError: something is wrong with the configuration, the data or a checkpoint.
        SystemExit: training was asked to stop (128 + number of the signal).
    """
    _quiet()
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    with processes(), only_here(folder), tf32(config.train.tf32):
        seed_everything(config.seed, verbose=False)
        accelerator = _accelerator(config.trainer.accelerator)
        resume = not config.overwrite and (config.resume is not None or group is not None)
        checkpoint, passed_over = resumable(folder / "checkpoints") if resume else (None, "")
        if passed_over and first_process():
            log.warning("%s: %s, passed over", folder, passed_over)
        from_file = checkpoint is not None or config.init_from is not None
        net: SeqTrack = instantiate(without_start(config.model) if from_file else config.model)
        SeqTrackTracker(net, **plain["tracker"])  # wrong arguments stop here, not after the first epoch
        if checkpoint is None and config.init_from is not None:
            log.info("weights of %s", load_weights(net, Path(config.init_from).expanduser()))
        known = read_metadata(folder) if checkpoint is not None or not (first_process() or config.overwrite) else {}
        gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
        if not gpu:
            keep_freed_memory()
        if not gpu and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1 if sum(one.numel() for one in net.parameters()) < _TINY else _THREADS)
        precision = _precision(config.train.precision, known, None if group is None else folder.parent, gpu=gpu)
        trainer = _trainer(config, folder, precision, accelerator)
        module, data = _parts(config, plain, net, trainer)
        if not first_process():
            torch.manual_seed(config.seed + 7919 * trainer.global_rank)  # dropout of its own for every process
        if config.dry_run:
            try:
                dry_run(trainer, module, data, plain["tracker"])
            except torch.OutOfMemoryError as error:
                raise ValueError(_out_of_memory(error)) from error
            return None
        if first_process():
            remove_parts(folder)
            if config.overwrite:
                remove_run(folder)  # not before, or a mistake in the new run would cost the former one
        run = _Run(
            config=config, plain=plain, folder=folder, group=group, checkpoint=checkpoint, passed_over=passed_over,
            precision=precision, trainer=trainer, module=module, data=data,
        )  # fmt: skip
        return _fit(run)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A training that is ready to begin."""

    config: DictConfig
    plain: Mapping[str, Any]  # the configuration, resolved
    folder: Path
    group: str | None  # name of the sweep
    checkpoint: Path | None  # training goes on from it
    passed_over: str  # damaged checkpoints, and why
    precision: str
    trainer: Trainer
    module: SeqTrackModule
    data: TrackingData


def _fit(run: _Run) -> float | None:
    """Fit with all callbacks and loggers; the best `val/auc`."""
    config, folder, trainer, checkpoint = run.config, run.folder, run.trainer, run.checkpoint
    derived = {"start": _start(config, run.plain), **_derived(run)}
    overrides = [str(item) for item in HydraConfig.get().overrides.task]
    facts = {"group": run.group, "seed": config.seed, "eval_checkpoint": config.eval_checkpoint, **derived}
    facts |= {"overrides": overrides, "seal": seal_of(overrides), "environment": environment()}
    first = trainer.is_global_zero
    if checkpoint is not None:  # in every process: one that failed alone would leave the others waiting
        _check_going_on(folder, checkpoint, run.module.length, facts)
    loggers: list[RunLogger] = []  # filled by `_open`; stays empty in all processes but the first
    service: Service | None = None
    report = partial(_report_best, loggers)
    checkpoints = Checkpoints(folder / "checkpoints", every_steps=config.callbacks.checkpoint_steps, report=report)
    stopping = StopCleanly(checkpoints)
    trainer.callbacks += [*_callbacks(run, checkpoints, loggers), stopping]  # type: ignore[attr-defined]
    former = read_metadata(folder) if checkpoint is not None else {}
    began, status, code = time.time() - float(former.get("seconds") or 0.0), "failed", 1
    try:
        if first:
            write_atomic(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(run.plain))))
            write_metadata(folder, {"status": "running", **facts})
            settings = {**migrate_settings(run.plain), "derived": derived}
            service = _open(run, loggers, settings, killed=former.get("status") == "running")
            log.info("%s", "\n".join(_summary(run)))
        trainer.fit(run.module, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        status, code = "finished", 0
    except StoppedError as stop:
        status, code = "stopped", 128 + stop.number
        log.info("%s after step %d, saved; go on with resume=%s", stop, trainer.global_step, folder)
        stop.hand_on()
        raise SystemExit(code) from None
    except SystemExit:  # Lightning's answer to a second Ctrl-C
        status, code = "stopped", 130
        raise KeyboardInterrupt from None
    except torch.OutOfMemoryError as error:
        raise ValueError(_out_of_memory(error)) from error
    finally:
        outcome = {"status": status, "seconds": round(time.time() - began, 1), "best": _rounded(checkpoints.best)}
        if service is not None:
            service.close(code, outcome, error=" ".join(str(sys.exception()).split()) if status == "failed" else "")
        if first:
            write_metadata(folder, outcome)
    if first:
        best = "none" if checkpoints.best is None else f"{checkpoints.best:.1f}"
        log.info("done     %s, best val/auc %s", folder / "checkpoints" / f"{config.eval_checkpoint}.ckpt", best)
    if stopping.asked is not None and HydraConfig.get().mode == RunMode.MULTIRUN:
        late = StoppedError(stopping.asked)  # in the last epoch: this job is finished, the sweep is not
        log.info("%s after its last step; the sweep ends here, the same command goes on", late)
        late.hand_on()
        raise SystemExit(128 + late.number)
    return _rounded(checkpoints.best)  # what a skipped run gives back, too


def _parts(
    config: DictConfig, plain: Mapping[str, Any], net: SeqTrack, trainer: Trainer
) -> tuple[SeqTrackModule, TrackingData]:
    """What is trained and what with, by the length for as many devices as the trainer has."""
    settings = dict(plain["train"])
    for name in ("precision", "tf32"):
        settings.pop(name)
    length = TrainingLength(**{name: settings.pop(name) for name in _LENGTH}, devices=trainer.world_size)
    trainer.accumulate_grad_batches = length.accumulate
    trainer.fit_loop.max_epochs = length.epochs
    description = {"format": FORMAT, **{name: plain[name] for name in ("tokenizer", "model", "tracker")}}
    optim = instantiate(config.optimizer)
    module = SeqTrackModule(net, optim=optim, length=length, description=description, **settings)
    numbers = {"batch": length.batch, "epoch_samples": length.samples_per_epoch, "total_samples": length.total}
    data: TrackingData = instantiate(config.data, seed=config.seed, **numbers)
    data.setup()
    module.datasets = tuple(data.summary())
    return module, data


def _trainer(config: DictConfig, folder: Path, precision: str, accelerator: str) -> Trainer:
    make = partial(
        instantiate,
        config.trainer,
        accelerator=accelerator,
        default_root_dir=str(folder),
        precision=LIGHTNING[precision],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer: Trainer = make()
    if isinstance(trainer.strategy, DDPStrategy) and trainer.world_size == 1:
        trainer = make(strategy="auto")  # nobody to agree with
    check_processes(trainer.num_devices * trainer.num_nodes)  # as configured; world_size is what Slurm says
    if isinstance(trainer.strategy, (FSDPStrategy, ModelParallelStrategy)):
        raise ValueError(
            "trainer.strategy shards the model, which the norm of the gradient, Muon, averaged weights and tracking "
            "in validation do not know; use trainer=ddp with model.encoder.checkpoint=true (docs/scaling.md)"
        )
    return trainer


def _callbacks(run: _Run, checkpoints: Checkpoints, loggers: list[RunLogger]) -> list[Callback]:
    """All callbacks, in order: what saves comes behind what measures, what stops behind what saves."""
    settings = run.config.callbacks
    tracking = TrackHeldOut(
        run.data.val_sequences,
        tracker=run.plain["tracker"],
        every=settings.track_every,
        loggers=loggers,
        clips=settings.clips,
    )
    pictures = [SamplePictures(loggers, count=settings.pictures)] if settings.pictures else []
    extra = [instantiate(item) for item in (settings.get("extra") or {}).values()]
    bar = settings.get("progress", "auto")
    progress = ProgressLines(bar=None if bar == "auto" else bar)
    record = LogMetrics(loggers, every=settings.log_every)
    return [StepTimer(), tracking, *pictures, *extra, record, progress, RandomState(), checkpoints]


def _open(run: _Run, loggers: list[RunLogger], settings: Mapping[str, Any], *, killed: bool) -> "Service | None":
    """Begin to record, or go on behind the checkpoint's step; adds the loggers and gives back what must be closed."""
    step = 0 if run.checkpoint is None else steps_of(run.checkpoint)
    files = FileLogger(run.folder)
    known = files.metrics.cut(step)
    loggers.append(files)
    if run.config.get("logger") is None:
        return None
    service: Service = instantiate(run.config.logger)
    name = run.config.name if run.group is None else f"{run.group}/{run.folder.name}"
    told: RunFacts = {"name": name, "group": run.group, "config": settings, "step": step, "known": known}
    told["killed"] = killed
    loggers.append(service.open(run.folder, **told))
    if killed:
        loggers[-1].alert("training was killed", f"it goes on from {run.checkpoint}")
    return service


def _report_best(loggers: list[RunLogger], best: float) -> None:
    for logger in loggers:
        logger.summary({"best": round(best, 1)})


def _accelerator(wanted: str) -> str:
    """The accelerator to train on; a GPU that cannot train, or is not there, is refused before anything is built."""
    mps = torch.backends.mps.is_available()
    if wanted == "mps" or (wanted == "gpu" and mps and not torch.cuda.is_available()):
        raise ValueError(
            f"trainer.accelerator={wanted}: Apple's GPUs (MPS) have no float64, which tracking in validation computes "
            "in; trainer=cpu or trainer=auto trains on the CPU"
        )
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator={wanted}, but torch {torch.__version__} finds no GPU here (no driver, or a torch "
            "built for CPUs); trainer=cpu or trainer=auto trains without"
        )
    return "cpu" if wanted == "auto" and mps else wanted


def _precision(wanted: str, facts: Mapping[str, Any], sweep: Path | None, *, gpu: bool) -> str:
    """As configured; a run that is continued, its further processes and a sweep's jobs keep what was chosen first."""
    if wanted == "auto" and facts.get("precision") in LIGHTNING:
        return str(facts["precision"])
    chosen, why = choose_precision(wanted, gpu=gpu)
    if wanted != "auto":
        return chosen
    if sweep is not None and (kept := same_for_sweep(chosen, sweep, gpu=gpu)) != chosen:
        chosen, why = kept, f"as the sweep's other jobs in {sweep}"
    log.info("precision %s: %s", chosen, why)
    return chosen


def _derived(run: _Run) -> dict[str, Any]:
    """What follows from the configuration on this machine."""
    module, length = run.module, run.module.length
    groups = module.optim.build(module.net, length.global_batch).param_groups
    return {
        "precision": run.precision,
        "parameters": sum(parameter.numel() for parameter in module.net.parameters()),
        "device": torch.cuda.get_device_name() if _on_gpu(run.trainer) else "cpu",
        "length": {
            **asdict(length), "steps": length.steps, "epochs": length.epochs, "device_batch": length.batch,
            "accumulate": length.accumulate, "total": length.total,
        },
        "learning_rates": {str(group["name"]): float(group["lr"]) for group in groups},
        "data": run.data.summary(),
    }  # fmt: skip


def _start(config: DictConfig, plain: Mapping[str, Any]) -> str:
    """What the weights started from."""
    if config.init_from is not None:
        return f"weights of {config.init_from}"
    if not plain["model"]["encoder"].get("pretrained"):
        return "random weights"
    from seqtrack_lit.models.pretrained import start_of  # timm takes seconds to import

    return f"encoder: {start_of(plain['model']['encoder'])}; the rest: random weights"


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 1)


def _on_gpu(trainer: Trainer) -> bool:
    return trainer.strategy.root_device.type == "cuda"


def _summary(run: _Run) -> list[str]:
    facts, module = read_metadata(run.folder), run.module
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in facts["learning_rates"].items())
    scaled = module.optim.scale(module.length.global_batch)
    tf32_text = f"TF32 {'allowed' if torch.backends.cudnn.allow_tf32 else 'off'} (train.tf32)"
    detail = tf32_text if _on_gpu(run.trainer) else f"{torch.get_num_threads()} thread(s)"
    mix = ", ".join(f"{name} {part['share']:.0%} ({part['videos']:,})" for name, part in facts["data"].items())
    return [
        f"run      {run.folder}"
        + (f", going on from {run.checkpoint.name}" if run.checkpoint else "")
        + (f" because {run.passed_over}" if run.passed_over else ""),
        f"start    {facts['start']}",
        f"model    {facts['parameters']:,} parameters on {facts['device']}, {run.precision}, {detail}",
        f"data     {mix}",
        f"length   {module.length}",
        f"rates    {rates} (stated for a batch of {module.optim.base_batch}, here x {scaled:.3g})",
    ]


def _out_of_memory(error: Exception) -> str:
    return (
        f"out of memory: lower train.device_batch (the global batch stays, by accumulation), or set "
        f"model.encoder.checkpoint=true or train.precision=bf16 ({' '.join(str(error).split())[:200]})"
    )


def _check_going_on(folder: Path, checkpoint: Path, length: TrainingLength, now: Mapping[str, Any]) -> None:
    """Refuse other batches inside an epoch, whose batches are counted; say what may make a difference.

    Raises:
        ValueError: other devices or another device_batch inside an epoch.
    """
    known = read_metadata(folder)
    then = known.get("length") or {}
    before, after = (then.get("devices"), then.get("device_batch")), (length.devices, length.batch)
    steps = steps_of(checkpoint)
    if then and before != after and steps % length.steps_per_epoch:
        raise ValueError(
            f"{folder} stopped inside an epoch (step {steps}) on {before[0]} device(s) x train.device_batch={before[1]}"
            f" and cannot go on with {after[0]} x {after[1]}; go on as before to the epoch's end at least"
        )
    changed = differences(known, now) if first_process() else []
    if changed:
        log.warning("not exactly the run that was begun: %s", ", ".join(changed))


def _quiet() -> None:
    """Only what a user can act on: no advice that does not fit, one voice among several processes."""
    cv2.setNumThreads(0)
    for text in (
        ".*does not have many workers.*",
        "This DataLoader will create .* worker processes.*",
        ".*smaller than the logging interval.*",
        r".isinstance\(treespec, LeafSpec\).*",
        ".*GPU available but not used.*",
        ".*`LightningModule.forward`.*",
        "Detected call of `lr_scheduler.step.*",  # fp16 leaves out the first steps until its scale fits
    ):
        warnings.filterwarnings("ignore", message=text)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not first_process():
        logging.getLogger().setLevel(logging.WARNING)
