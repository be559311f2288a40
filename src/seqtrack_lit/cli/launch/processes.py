"""The processes of a run: who started this one, the processes that Lightning starts, the lock of a run's folder.

Lightning starts the processes of `strategy=ddp` by running the command line again. In a sweep that would run the whole
sweep again in every process. So the further processes read the configuration that Hydra has just written for this job.
torchrun and srun start processes themselves: those share a folder, and each knows how many they are.

No torch is imported where the process is alone.
"""

import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from seqtrack_lit.cli.hydra.overrides import quoted

_START = "SEQTRACK_START"  # read by conf/train.yaml: the last part of the folder's name
_STORE_SECONDS = 300
_PATIENCE = 20  # seconds until a folder in use is refused
_COMMAND = "_hydra_subprocess_cmd"
_LEFT_BEHIND = (
    "LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS",
)  # fmt: skip


def started_outside() -> int:
    """How many processes were started for this run by torchrun or by a Slurm job step; 1: this one is alone."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    # a batch script without srun has no step and is one process
    return int(os.environ.get("SLURM_NTASKS", "1")) if _in_slurm() and "SLURM_STEP_ID" in os.environ else 1


def _in_slurm() -> bool:
    """As Lightning detects Slurm; it then starts no processes itself."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def slurm_job() -> str | None:
    """The number of the Slurm job this process belongs to; None outside, and in a shell of one."""
    return os.environ.get("SLURM_JOB_ID") if _in_slurm() else None


def agree_on_start() -> None:
    """Name the run's folder the same in all processes, and otherwise than any other Slurm job's.

    By the number of the Slurm job for a job step (and of the step, but for the first: a requeued job counts anew); by
    the first process's clock otherwise, with the job's number behind it.
    """
    job = slurm_job()
    if "TORCHELASTIC_RUN_ID" not in os.environ and started_outside() > 1:
        step = os.environ["SLURM_STEP_ID"]
        os.environ[_START] = f"slurm_{job}" if step == "0" else f"step_{step}_slurm_{job}"
        return
    now = time.strftime("%Y-%m-%d_%H-%M-%S") + (f"_slurm_{job}" if job else "")
    if started_outside() == 1:
        if job:
            os.environ[_START] = now
        return
    from datetime import timedelta

    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(*where, is_master=False, timeout=timedelta(seconds=_STORE_SECONDS))  # torchrun's own
    key = f"seqtrack_start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if os.environ["RANK"] == "0":
        store.set(key, now)
    os.environ[_START] = store.get(key).decode()


def check_processes(trained: int) -> None:
    """Refuse to let processes train apart that were started together.

    Args:
        trained: processes the trainer is configured for.

    Raises:
        ValueError: these are not as many as were started; says what to configure.
    """
    started = started_outside()
    if started == trained:
        return
    if started == 1:
        if _in_slurm() and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise ValueError(
                f"the trainer is configured for {trained} processes, but in a Slurm job Lightning starts none: call "
                "srun with one task a device (docs/scaling.md), or unset SLURM_NTASKS"
            )
        return
    here = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or started)
    raise ValueError(
        f"{started} processes were started (by torchrun or srun), but the trainer is configured for {trained}: add "
        f"trainer=ddp trainer.devices={here} trainer.num_nodes={started // here}"
    )


def job_command(local_rank: int) -> tuple[Sequence[str], str]:
    """Command line and working folder of a further process of the present job."""
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    command = [
        sys.executable, "-m", f"seqtrack_lit.cli.{settings.job.name}",
        "--config-path", str(folder / ".hydra"), "--config-name", "config",
        f"hydra.run.dir={quoted(folder)}", "hydra.output_subdir=null", "hydra.mode=RUN", "hydra.job.chdir=False",
        f"hydra.job.name=process_{local_rank}", "resume=auto", "overwrite=false",
    ]  # fmt: skip
    return command, os.getcwd()  # noqa: PTH109 - Lightning wants a string


def first_process() -> bool:
    """Whether this is the process that writes files and prints."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0)) == 0


@contextmanager
def only_here(folder: Path) -> Iterator[None]:
    """While inside, no other process trains in this folder.

    Raises:
        ValueError: one does, also after some patience: it may be stopping just now.
    """
    if not first_process():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":  # its open files are locked anyway
        yield
        return
    import fcntl

    with (folder / ".lock").open("a+") as file:
        for _ in range(_PATIENCE):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process only, not of its loaders
                break
            except BlockingIOError:
                time.sleep(1)
            except OSError:
                break  # this file system has no locks
        else:
            file.seek(0)
            raise ValueError(f"{folder}: {file.read()} trains here; wait for it or stop it, or use another name=...")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextmanager
def processes() -> Iterator[None]:
    """While inside, Lightning starts processes by `job_command`; afterwards no trace of them is left."""
    import torch
    from lightning.fabric.strategies.launchers import subprocess_script as fabric
    from lightning.pytorch.strategies.launchers import subprocess_script as pytorch

    before = {name: os.environ.get(name) for name in _LEFT_BEHIND}
    former = getattr(fabric, _COMMAND)
    for module in (fabric, pytorch):
        setattr(module, _COMMAND, job_command)
    try:
        yield
    finally:
        for module in (fabric, pytorch):
            setattr(module, _COMMAND, former)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
