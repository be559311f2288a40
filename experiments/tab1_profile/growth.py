"""How time and memory grow with a data set, a benchmark's results and a folder of runs.

    python experiments/tab1_profile/growth.py sequences|results|runs|frames|megabytes|targets COUNT

Seconds of CPU time and MiB of peak memory beyond what the process had before: to index COUNT sequences of 3 frames
(folders of images), to score COUNT result files of 30 frames, to read COUNT runs for a comparison, to open a video of
COUNT frames (H.264) or of COUNT megabytes (uncompressed) and read 20 frames from all over it, to track COUNT targets
through 10 frames by the tracker that ships.
"""

import argparse
import copy
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import numpy as np

from seqtrack_lit import load_tracker
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.evaluation.scores import ground_truth, score_folder
from seqtrack_lit.runs.compare import read_runs
from seqtrack_lit.tracking.corrected import follow

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


def write_video(path: Path, count: int, codec: str, size: tuple[int, int], pix_fmt: str) -> None:
    """A video of `count` frames that differ."""
    image, options = np.zeros((size[1], size[0], 3), np.uint8), {"preset": "ultrafast", "threads": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        for t in range(count):
            image[:] = t % 251
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())


def opened(path: Path, *video: object) -> Callable[[], object]:
    """A video, made by another process."""
    with ProcessPoolExecutor(1) as process:
        process.submit(write_video, path, *video).result()

    def read() -> None:
        frames = VideoFrames(path)
        for index in np.linspace(0, len(frames) - 1, 20).astype(int).tolist():
            assert abs(int(frames[index][0, 0, 0]) - index % 251) < 3

    return read


def frames(root: Path, count: int) -> Callable[[], object]:
    """A video of so many frames of 64 x 48."""
    return opened(root / "video.mp4", count, "libx264", (64, 48), "yuv420p")


def megabytes(root: Path, count: int) -> Callable[[], object]:
    """A video of that size: frames of 320 x 240, 230 kB each."""
    return opened(root / "video.mov", count * 1_000_000 // 230_400, "rawvideo", (320, 240), "rgb24")


def targets(root: Path, count: int) -> Callable[[], object]:
    """Targets all over a video of noise."""
    rng, tracker = np.random.default_rng(0), load_tracker()
    images = [rng.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(10)]
    boxes = np.concatenate([rng.uniform(0, [560, 400], (count, 2)), np.full((count, 2), 60.0)], 1)
    for _ in follow([copy.copy(tracker)], enumerate(images), [{0: boxes[0]}]):
        pass  # whatever is made once

    def track() -> None:
        for _ in follow([copy.copy(tracker) for _ in boxes], enumerate(images), [{0: box} for box in boxes]):
            pass

    return track


KINDS = {one.__name__: one for one in (sequences, results, runs, frames, megabytes, targets)}


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("count", type=int)
    kind, count = vars(parser.parse_args()).values()
    with tempfile.TemporaryDirectory() as place:
        work = KINDS[kind](Path(place), count)
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        work()
        seconds = time.process_time() - begin
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{count} {kind}: {seconds:.2f} s, {more:.1f} MiB")


if __name__ == "__main__":
    main()
