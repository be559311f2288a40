"""How time and memory grow with a data set, a benchmark's results and a folder of runs.

    python experiments/tab1_profile/growth.py sequences|results|runs COUNT

Seconds of CPU time and MiB of peak memory beyond what the process had before: to index COUNT sequences of 3 frames
(folders of images), to score COUNT result files of 30 frames, to read COUNT runs for a comparison.
"""

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.evaluation.scores import ground_truth, score_folder
from seqtrack_lit.runs.compare import read_runs

RUN = Path(__file__).parents[2] / "tests" / "golden" / "run"


def sequences(root: Path, count: int) -> Callable[[], object]:
    """Sequences as folders of images, which nothing opens."""
    for number in range(count):
        place = root / f"{number:05d}"
        place.mkdir()
        for t in range(3):
            (place / f"{t:08d}.jpg").write_bytes(b"x")
        (place / "groundtruth.txt").write_text("1,2,30,40\n" * 3)
    return lambda: folder(root)


def results(root: Path, count: int) -> Callable[[], object]:
    """Result files whose boxes are the true ones."""
    boxes = np.abs(np.random.default_rng(0).normal(50, 5, (30, 4))).round(4)
    np.savetxt(root / "boxes", boxes, fmt="%.4f", delimiter=",")
    size, seen = {"resolution": (320, 240)}, np.ones(30, bool)
    truths = [ground_truth(f"{number:05d}", boxes, seen, size, benchmark="growth") for number in range(count)]
    for truth in truths:
        shutil.copyfile(root / "boxes", root / f"{truth.name}.txt")
    return lambda: score_folder(root, truths)


def runs(root: Path, count: int) -> Callable[[], object]:
    """Copies of one short run."""
    for number in range(count):
        shutil.copytree(RUN, root / f"{number:04d}")
    return lambda: read_runs([root])


def main() -> None:
    """Make, measure, print."""
    kind, count = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as place:
        work = {"sequences": sequences, "results": results, "runs": runs}[kind](Path(place), count)
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        work()
        seconds = time.process_time() - begin
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{count} {kind}: {seconds:.2f} s, {more:.1f} MiB")


if __name__ == "__main__":
    main()
