"""Memory of freed tensors is used again. In processes of their own: the setting holds for a whole process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from seqtrack_lit.training.allocator import keep_freed_memory
if {keep}:
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        several = [np.full(1_200_000, 1.0, np.float32) for _ in range(10)]  # 4.8 MB each: 1172 pages
        del several
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has this setting")
def test_freed_memory_is_used_again() -> None:
    without, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True).stdout)
        for keep in (False, True)
    )
    assert kept < 1000 < without
