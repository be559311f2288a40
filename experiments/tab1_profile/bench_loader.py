"""How long training samples take to make, ours beside the official code, on one thread.

    python experiments/tab1_profile/bench_loader.py [--official FOLDER] [--samples 60] [--out FILE.jsonl]

A sample: two templates and a search crop of 256 px out of three JPEGs of 1280 x 720 at quality 90, with the paper's
augmentation. The pictures are frames of generated videos, made once in a temporary folder. FOLDER is SeqTrack/ of the
official repository; its own reader, transforms and crops run on the same frames and boxes. "packed" reads the same
samples from a pack (seqtrack-data pack=folder). Times are CPU time of this process; the implementations take turns
sample by sample, so that other programs slow all of them alike.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch

from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule, brightness
from seqtrack_lit.data.samples.sampling import FrameSampling, TrainingSamples, Videos
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.synthetic.videos import GeneratedVideos
from seqtrack_lit.data.tools.pack import Packing, pack
from seqtrack_lit.data.video.packed import open_pack

SIZE, FACTOR, TEMPLATES = 256, 4.0, 2


def write_videos(root: Path, videos: int = 6, length: int = 24) -> None:
    """Generated videos as folders of JPEGs."""
    made = GeneratedVideos(videos, width=1280, height=720, length=length, target=(80, 260))
    for number in range(videos):
        path = root / f"{number:04d}"
        path.mkdir(parents=True)
        for t, image in enumerate(made[number].frames):
            cv2.imwrite(str(path / f"{t:08d}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        np.savetxt(path / "groundtruth.txt", made.boxes(number), fmt="%.3f", delimiter=",")


def settings(**crops: Any) -> CropSettings:
    """The paper's crops."""
    return CropSettings(SIZE, SIZE, FACTOR, FACTOR, padding="official", **crops)


def ours(videos: Videos, samples: int, **crops: Any) -> TrainingSamples:
    """Our samples of these videos."""
    return FrameSampling(templates=TEMPLATES).samples(
        {"videos": videos},
        [1.0],
        seed=0,
        crops=settings(**crops),
        augmentation=Augmentation(crop_flip=0.5, flip_offset=1.0, photometric=brightness()),
        jitter=JitterSchedule(),
        epoch_samples=samples,
        total_samples=samples,
    )


def official(repository: Path, samples: TrainingSamples) -> Callable[[int], float]:
    """The official reader and transforms on the frames of our sample `index`."""
    sys.path.insert(0, str(repository))
    for name in ("jpeg4py", "torch._six"):  # imported, not used: training reads by OpenCV; of an older torch
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torch._six"].string_classes = str  # type: ignore[attr-defined]
    import lib.train.data.transforms as tfm
    from lib.train.data import opencv_loader, processing
    from lib.utils import TensorDict

    process = processing.SeqTrackProcessing(
        search_area_factor={"template": FACTOR, "search": FACTOR},
        output_sz={"template": SIZE, "search": SIZE},
        center_jitter_factor={"template": 0, "search": 3.5},
        scale_jitter_factor={"template": 0, "search": 0.5},
        mode="sequence",
        transform=tfm.Transform(
            tfm.ToTensorAndJitter(0.2),
            tfm.RandomHorizontalFlip_Norm(probability=0.5),
            tfm.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ),
        joint_transform=tfm.Transform(tfm.ToGrayscale(probability=0.05), tfm.RandomHorizontalFlip(probability=0.5)),
    )

    def make(index: int) -> float:
        plan = samples._plan(0, index, 0, np.random.default_rng((0, 0, index, 0)))
        frames, boxes = samples.videos[0].frames(plan.video), torch.from_numpy(plan.boxes).float()
        begin = time.process_time()
        images = [opencv_loader(frames.path(t)) for t in plan.frames]
        found = [boxes[t].clone() for t in plan.frames]
        masks = [torch.zeros(images[0].shape[:2])] * len(images)
        data = {"images": images, "anno": found, "masks": masks}
        split = {f"template_{name}": value[:-1] for name, value in data.items()}
        split |= {f"search_{name}": value[-1:] for name, value in data.items()}
        process(TensorDict(split))
        return time.process_time() - begin

    return make


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="folder SeqTrack/ of the official repository")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder_name:
        root = Path(folder_name) / "videos"
        write_videos(root)
        begin = time.process_time()
        made = pack(folder(root), root.with_name("pack"), Packing(settings(), JitterSchedule()), reader={}, workers=0)
        size = {"ms to pack a frame": round(1000 * (time.process_time() - begin) / made.frames, 1)}
        size["kB a frame"] = round(made.bytes / made.frames / 1000, 1)
        videos, packed = folder(root), open_pack(root.with_name("pack"))
        kinds = {
            "ours": ours(videos, arguments.samples),
            "ours, decode=fast": ours(videos, arguments.samples, decode="fast"),
            "ours, packed": ours(packed, arguments.samples),
        }
        exact = kinds["ours"]
        makers: dict[str, Callable[[int], float]] = {name: timed(samples) for name, samples in kinds.items()}
        if arguments.official:
            makers["official"] = official(arguments.official, exact)
        times: dict[str, list[float]] = {name: [] for name in makers}
        for index in range(-3, arguments.samples):  # three to warm up
            for name, make in makers.items():
                seconds = make(abs(index))
                times[name] += [1000 * seconds] if index >= 0 else []
        off = {name: levels(exact, samples) for name, samples in kinds.items() if samples is not exact}
    measured = list(rows(times, arguments.official is not None, off))
    measured[-1 - bool(arguments.official)] |= size
    for row in measured:
        print(json.dumps(row))
    if arguments.out:
        with arguments.out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in measured)


def timed(samples: TrainingSamples) -> Callable[[int], float]:
    """Seconds of CPU time for sample `index`."""

    def make(index: int) -> float:
        begin = time.process_time()
        samples[0, index]
        return time.process_time() - begin

    return make


def levels(exact: TrainingSamples, other: TrainingSamples) -> float:
    """By how many grey levels search crops differ, in the mean."""
    return statistics.mean(
        float((exact[0, i][0].search.float() - other[0, i][0].search).abs().mean()) for i in range(20)
    )


def rows(times: dict[str, list[float]], beside: bool, off: dict[str, float]) -> Iterator[dict[str, Any]]:
    """A row for each implementation: milliseconds of a sample, and how many times as long the official code took."""
    facts = {"opencv": cv2.__version__, "simplejpeg": simplejpeg.__version__, "date": time.strftime("%Y-%m-%d")}
    for name, values in times.items():
        low, median, high = np.percentile(values, [10, 50, 90]).round(2).tolist()
        row: dict[str, Any] = {"row": name, "ms": median, "p10": low, "p90": high, "samples": len(values), **facts}
        if beside:
            row["official / this"] = round(statistics.median(np.divide(times["official"], values)), 2)
        if name in off:
            row["grey levels off"] = round(off[name], 2)
        yield row


if __name__ == "__main__":
    main()
