"""Processes of one run that torchrun or srun started: they share a folder, and each knows how many they are.

No torch is imported where the process is alone.
"""

import os
import time

_START = "SEQTRACK_START"  # read by conf/train.yaml: the last part of the folder's name
_STORE_SECONDS = 300


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
