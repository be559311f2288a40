"""Jobs of a sweep side by side on this machine (`hydra/launcher=local`).

Each job is `python -m seqtrack_lit.cli.train` with its own CUDA_VISIBLE_DEVICES, so that a job that is killed ends no
other one. SIGINT and SIGTERM are passed on to the running jobs, which save and stop.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from seqtrack_lit.checks import printable
from seqtrack_lit.cli.hydra.overrides import OF_A_SWEEP, constant_keys, going_on_in, key_of
from seqtrack_lit.runs.folder import read_metadata, write_metadata

_LAUNCHER = "SEQTRACK_LAUNCHER"  # as training/callbacks/stop.py, which imports torch
_PAUSE = 0.2  # seconds between two looks at the running jobs


class StoppedSweepError(Exception):
    """The sweep was asked to stop; its running jobs have saved."""


class FailedJobError(Exception):
    """A job of a sweep failed and has been reported; the others go on."""


@dataclass(frozen=True)
class Job:
    """A job of a sweep: its number, folder, command line and configuration."""

    number: int
    folder: Path
    overrides: list[str]
    config: DictConfig

    @property
    def log(self) -> Path:
        """The file with everything it prints."""
        return self.folder / f"{self.config.hydra.job.name}.log"


def devices_of(wanted: Any, *, gpu: bool) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of the jobs that run at a time (`"0"`; `"0,1"`: two GPUs a job); None: as it is.

    Args:
        wanted: auto, a number of jobs, or a list of devices.
        gpu: whether GPUs may be used where there are some.

    Raises:
        ValueError: `wanted` is none of these, or more than there are GPUs.
    """
    if isinstance(wanted, list) and wanted and all(isinstance(item, (int, str)) for item in wanted):
        return [str(item) for item in wanted]
    if wanted != "auto" and not (type(wanted) is int and wanted > 0):
        raise ValueError(
            f"hydra.launcher.devices must be auto, a number > 0 or a list of devices as [0,1], got {wanted}"
        )
    found = gpus() if gpu else []
    if not found:
        return [None] * (max(1, (os.cpu_count() or 1) // 2) if wanted == "auto" else wanted)
    if wanted != "auto" and wanted > len(found):
        raise ValueError(f"hydra.launcher.devices={wanted}, but this machine shows {len(found)} GPU(s); or trainer=cpu")
    return [*found] if wanted == "auto" else [*found[:wanted]]


def gpus() -> list[str]:
    """The CUDA devices that are visible."""
    import torch  # the devices are not touched

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(i) for i in range(count)] if visible is None else visible.split(",")[:count]


def launch(
    devices: Any, context: HydraContext, config: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Run the jobs of a sweep of seqtrack-train; the launcher's side of Hydra.

    Args:
        devices: as in `devices_of`.
        context: Hydra's, to compose the configuration of a job.
        config: of the sweep.
        overrides: of each job.
        first: number of the first job.

    Raises:
        StoppedSweepError: the sweep was asked to stop.
        ValueError: the command has no jobs of this kind, or wrong devices.
    """
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    if config.hydra.job.name != "train":
        raise ValueError("hydra/launcher=local runs jobs of seqtrack-train only: leave it out")
    wanted = OmegaConf.to_container(devices) if OmegaConf.is_config(devices) else devices
    usable = devices_of(wanted, gpu=config.trainer.accelerator != "cpu")
    jobs = []
    for number, items in enumerate(overrides, first):
        own = context.config_loader.load_sweep_config(config, list(items))
        with open_dict(own):
            own.hydra.job.id = own.hydra.job.num = number
        folder = Path(str(own.hydra.sweep.dir), str(own.hydra.sweep.subdir)).absolute()
        jobs.append(Job(number, folder, [str(item) for item in own.hydra.overrides.task], own))
    constant = constant_keys(list(config.hydra.overrides.task))
    reasons = run_jobs(jobs, usable, constant)
    returns = []
    for job, reason in zip(jobs, reasons, strict=True):  # what Hydra's sweepers read: the best val/auc, or the error
        done = JobReturn(overrides=job.overrides, cfg=job.config, hydra_cfg=job.config, working_dir=str(job.folder))
        done.status = JobStatus.COMPLETED if reason is None else JobStatus.FAILED
        failed = FailedJobError(f"job {job.number} in {job.folder}")
        done.return_value = read_metadata(job.folder).get("best") if reason is None else failed
        returns.append(done)
    return returns


def run_jobs(jobs: Sequence[Job], devices: Sequence[str | None], constant: Container[str] = ()) -> list[str | None]:
    """Run jobs, one at a time on each device; why each failed, None where it did not.

    The first SIGINT or SIGTERM makes the running jobs save and stop; a second one interrupts them at once.

    Args:
        jobs: in the order of their start.
        devices: CUDA_VISIBLE_DEVICES of the jobs that run at a time; None: as it is.
        constant: keys that all jobs share, for the line about a failed one.

    Raises:
        StoppedSweepError: a signal came.
    """
    waiting, free = list(jobs), list(devices)
    running: list[tuple[Job, str | None, subprocess.Popen[bytes]]] = []
    reasons: dict[int, str | None] = {}
    signals: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) == 1:
            print("stopping: the running jobs save; again stops at once", file=sys.stderr, flush=True)
            return
        for _, _, process in running:
            process.terminate()
        raise KeyboardInterrupt

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while (waiting or running) and not signals:
            while waiting and free and not signals:
                job, device = waiting.pop(0), free.pop(0)
                running.append((job, device, _start(job, device)))
            time.sleep(_PAUSE)
            for one in [one for one in running if one[2].poll() is not None and not signals]:
                running.remove(one)
                free.insert(0, one[1])
                reasons[one[0].number] = _finish(one[0], one[2].returncode, constant)
    finally:
        for _, _, process in running:
            process.terminate()
        for _, _, process in running:
            process.wait()
        for number, handler in former.items():
            signal.signal(number, handler)
    if signals:
        raise StoppedSweepError
    return [reasons[job.number] for job in jobs]


def _start(job: Job, device: str | None) -> "subprocess.Popen[bytes]":
    """Begin a job; what it prints goes to its log."""
    own = [item for item in job.overrides if key_of(item) not in OF_A_SWEEP]
    own += ["overwrite=true"] if job.config.overwrite else []
    job.folder.mkdir(parents=True, exist_ok=True)
    write_metadata(job.folder, {"group": job.folder.parent.name})
    command = [sys.executable, "-m", "seqtrack_lit.cli.train", *own, *going_on_in(job.folder)]
    command += ["hydra.job_logging.root.handlers=[file]"]  # what is printed arrives in the same file
    env = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}  # set by `run`
    env |= {_LAUNCHER: str(os.getpid())} | ({} if device is None else {"CUDA_VISIBLE_DEVICES": device})
    where = "" if device is None else f" on GPU {device}"
    print(f"begins   {job.folder.name}{where}, its log: {job.log}", flush=True)
    with job.log.open("ab") as screen:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=screen, stderr=subprocess.STDOUT, env=env)


def _finish(job: Job, code: int, constant: Container[str]) -> str | None:
    """Report a job that has ended; why it failed, None where it did not."""
    lines = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
    if code == 0:
        what = "already finished" if lines and "already finished" in lines[-1] else "done    "
        print(f"{what} {job.folder.name}, best val/auc {read_metadata(job.folder).get('best')}", flush=True)
        return None
    reason = lines[-1].removeprefix("seqtrack-train: ") if lines else f"exit code {code}"
    if code < 0:
        killed = code == -getattr(signal, "SIGKILL", 9)
        reason = f"ended by {signal.Signals(-code).name}" + (", perhaps out of memory" if killed else "")
    line = failed_line(job.number, job.overrides, constant, reason, job.log)
    print(f"seqtrack-train: {printable(line)}", file=sys.stderr, flush=True)
    return reason


def failed_line(number: int, overrides: Sequence[str], constant: Container[str], reason: str, path: Path) -> str:
    """The line about a failed job, which its own overrides name."""
    own = [item for item in overrides if key_of(item) not in constant] or overrides  # a single job has none of its own
    return f"job {number} ({', '.join(own) or 'no overrides'}) failed: {reason}; its log: {path}"
