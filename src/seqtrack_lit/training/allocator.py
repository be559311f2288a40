"""How the C library hands out memory while a CPU trains."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # on 64 bits


def keep_freed_memory() -> None:
    """Let this process reuse the memory of freed tensors instead of returning it to the system after each.

    glibc maps large blocks one by one and unmaps them when freed: a training step of a tiny model faults in 6,000 pages
    anew, which is 6 % of its time. The process keeps the most it ever used until it ends. Without glibc: nothing.
    """
    with suppress(AttributeError, OSError, TypeError):  # no such function; CDLL(None) fails on Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
