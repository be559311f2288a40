"""Several processes on one machine, also inside a sweep.

Lightning starts the processes of `strategy=ddp` by running the command line again. In a sweep that would run the
whole sweep again in every process. So the further processes read the configuration Hydra has just written for this
very job.
"""

import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.rank_zero import rank_zero_only

from seqtrack_lit.cli.hydra.overrides import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 20  # seconds
_COMMAND = "_hydra_subprocess_cmd"
_LEFT_BEHIND = (
    "LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS",
)  # fmt: skip


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
    """Whether this is the process that writes and speaks."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@contextmanager
def only_here(folder: Path) -> "Iterator[None]":
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
def processes() -> "Iterator[None]":
    """While inside, Lightning starts processes by `job_command`; afterwards no trace of them is left."""
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
