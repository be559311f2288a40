"""Processes that work for a command end with it, even when it is killed with -9; freed memory is used again."""

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A worker that never comes back to its pipe or queue, and shows that it lives by writing to a file of its own.
SCRIPT = """
import os, sys, time
from functools import partial
from pathlib import Path
import numpy as np
from seqtrack_lit.data.tools import check
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.tracking import baselines, benchmark

def work(*_):
    while True:
        with Path(sys.argv[2], str(os.getpid())).open("a") as file:
            file.write(".")
        time.sleep(0.05)

class Busy(baselines.StaticBox):
    update = work

def make(device):
    return Busy()

if __name__ == "__main__":
    if sys.argv[1] == "evaluate":
        frames, boxes = [np.zeros((20, 20, 3), np.uint8)] * 3, np.array([[2.0, 2, 9, 9]] * 3)
        videos = [Video(str(i), frames, boxes, np.ones(3, bool)) for i in range(2)]
        benchmark.run_benchmark(make, videos, Path(sys.argv[2], "out"), workers=2, show=False)
    else:
        check._one_video = work
        from seqtrack_lit.data.sets.folder import folder
        check.check("folder", partial(folder, sys.argv[3]), workers=2)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("command", ["evaluate", "check"])
def test_workers_end_with_a_killed_parent(command: str, tmp_path: Path, make_dataset) -> None:
    root = make_dataset("folder").root
    (tmp_path / "script.py").write_text(SCRIPT)
    beats = tmp_path / "beats"
    beats.mkdir()
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py"), command, str(beats), str(root)])

    def signs() -> list[int]:
        return [path.stat().st_size for path in beats.iterdir() if path.is_file()]

    end = time.monotonic() + 120
    while len(signs()) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(signs()) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)
    last = signs()
    time.sleep(1)  # twenty more signs of life of each, if it lived
    assert signs() == last


FAULTS = """
import resource
import numpy as np
from seqtrack_lit.process import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        several = [np.full(1_200_000, 1.0, np.float32) for _ in range(10)]  # 4.8 MB each: 1172 pages
        del several
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has this setting")
def test_freed_memory_is_used_again() -> None:
    """In a process of its own: the setting holds for a whole process."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    without, kept = map(int, done.stdout.split())
    assert kept < 1000 < without
