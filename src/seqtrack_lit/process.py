"""This process and the system it runs on: whom it ends with, what it does with freed memory, how much it has used."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # on 64 bits
_STATUS = Path("/proc/self/status")


def end_with_parent() -> None:
    """In a process made by multiprocessing: exit when its parent is gone, killed with -9 included, or by SIGTERM.

    The sentinel of multiprocessing is a pipe that only the parent can close, on every system. Without this a process
    that is blocked in a read or a long computation would go on as an orphan.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has the parent's, which cleans up and raises
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent,), name="end-with-parent", daemon=True).start()


def _wait(parent: "multiprocessing.process.BaseProcess") -> None:
    parent.join()
    os._exit(1)  # not sys.exit: that would end this thread only


def keep_freed_memory() -> None:
    """Let this process reuse the memory of freed tensors instead of returning it to the system after each.

    glibc maps large blocks one by one and unmaps them when freed: a training step of a tiny model faults in 6,000 pages
    anew, which is 6 % of its time. The process keeps the most it ever used until it ends. Without glibc: nothing.
    """
    with suppress(AttributeError, OSError, TypeError):  # no such function; CDLL(None) fails on Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Give the memory of what was freed back to the system now; glibc keeps it where something lies above it."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory(device: torch.device) -> float:
    """Largest memory in GB since it was reset: allocated on the GPU, or resident in this process (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if _STATUS.is_file():
        found = next((line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")), None)
        if found is not None:
            return int(found.split()[1]) * 1024 / 1e9
    if sys.platform == "win32":
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def reset_peak_memory(device: torch.device) -> None:
    """From now on the largest memory counts anew, where the system can do that (GPUs; Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _STATUS.is_file():
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to what is resident now
