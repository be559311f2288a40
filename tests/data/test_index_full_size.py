"""The index of the whole training mix, made from simulated annotation files: built, opened, shared; times are printed.

8335 GOT-10k, 1120 LaSOT and 30,132 TrackingNet videos, 860,000 COCO boxes: 18 million rows, 1 GB of annotation.
`python -m pytest tests/data/test_index_full_size.py -m slow -s` prints what docs/datasets.md quotes.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from seqtrack_lit.data.sets import training as readers
from seqtrack_lit.data.sets.layout import table
from seqtrack_lit.data.video.index import SequenceIndex

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
Box = tuple[float, float, float, float]


def box(video: int, frame: int, shift: float = 0.0) -> Box:
    """Where the target of a video is in a frame; with a shift of 0.1 no longer in whole pixels."""
    x, y, w, h = video % 977 + frame % 300, video % 577 + frame % 200, 20 + (video + frame) % 90, 30 + frame % 70
    return (round(x + shift, 1), round(y + shift, 1), round(w + shift, 1), round(h + shift, 1))


def text(video: int, count: int, form: str, shift: float = 0.0) -> str:
    return "".join(form % box(video, frame, shift) for frame in range(count))


def got10k(root: Path) -> None:
    forbidden = {row["name"] for row in table("got10k_vot_forbidden")}
    names = [name for name in (f"GOT-10k_Train_{k:06d}" for k in range(1, 9336)) if name not in forbidden]
    root.mkdir(parents=True)
    (root / "list.txt").write_text("\n".join(names))
    for video, name in enumerate(names):
        place, count = root / name, 100 + video % 100
        place.mkdir()
        (place / "groundtruth.txt").write_text(text(video, count, "%.4f,%.4f,%.4f,%.4f\n", 0.1))
        (place / "absence.label").write_text("0\n" * count)
        (place / "cover.label").write_text("8\n" * count)
        (place / "meta_info.ini").write_text(f"[METAINFO]\nobject_class: c{video % 480}\nresolution: (1920, 1080)\n")


def lasot(root: Path) -> None:
    for video, row in enumerate(row for row in table("lasot") if row["split"] == "train"):
        place, count = root / readers.lasot_folder(row["name"]), int(row["frames"])
        place.mkdir(parents=True)
        (place / "groundtruth.txt").write_text(text(video, count, "%d,%d,%d,%d\n"))
        flags = ",".join(["0"] * count)
        (place / "full_occlusion.txt").write_text(flags)
        (place / "out_of_view.txt").write_text(flags)


def trackingnet(root: Path) -> None:
    for part in range(12):
        (root / f"TRAIN_{part}" / "anno").mkdir(parents=True)
        for k in range(2511):
            video = part * 2511 + k
            rows = text(video, 400 + video % 140, "%.1f,%.1f,%.1f,%.1f\n", 0.1)
            (root / f"TRAIN_{part}" / "anno" / f"v{video:05d}_0.txt").write_text(rows)


def coco(root: Path) -> None:
    (root / "annotations").mkdir(parents=True)
    (root / "images" / "train2017").mkdir(parents=True)
    polygon = [[float(k) + 0.25 for k in range(40)]]
    with (root / "annotations" / "instances_train2017.json").open("w") as file:
        images = [{"id": 5 * k, "file_name": f"{5 * k:012d}.jpg", "width": 640, "height": 480} for k in range(118_287)]
        classes = [{"id": k, "name": f"class {k}"} for k in range(1, 91)]
        file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(classes)}, "annotations": [')
        for k in range(860_000):
            item = {"id": k, "image_id": 5 * (k % 118_287), "category_id": 1 + k % 90, "iscrowd": 0}
            comma = "," if k else ""
            file.write(comma + json.dumps({**item, "bbox": box(k, 0), "segmentation": polygon}))
        file.write("]}")


@pytest.fixture(scope="module", autouse=True)
def _no_runtime_types() -> Iterator[None]:
    """Shapes are not checked at run time here, or that would be what is measured."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def openers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[], SequenceIndex]]:
    root = tmp_path_factory.mktemp("full")
    got10k(root / "got10k" / "train")
    lasot(root / "lasot")
    trackingnet(root / "trackingnet")
    coco(root / "coco")
    return {
        read.__name__: partial(read, root / read.__name__, cache=root / ".index")
        for read in (readers.coco, readers.lasot, readers.got10k, readers.trackingnet)
    }


class Rows(Dataset[float]):
    """Touches boxes and flags of a random video, as the sampler does."""

    def __init__(self, indexes: list[SequenceIndex]) -> None:
        self.indexes = indexes

    def __len__(self) -> int:
        return 40_000

    def __getitem__(self, item: int) -> float:
        rng = np.random.default_rng(item)
        index = self.indexes[int(rng.integers(len(self.indexes)))]
        video = int(rng.integers(len(index)))
        return float(index.boxes(video)[index.visible(video)].sum())


def megabytes(process: int | str) -> dict[str, float]:
    """Memory of a process: its own, and its share of what several processes map."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    own = kilobytes["Private_Dirty"] + kilobytes.get("Private_Hugetlb", 0)
    return {"own": own / 1024, "share": kilobytes["Pss"] / 1024}


def peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print wall and processor seconds; the first depend on what else the machine does."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    print(f"{what}: {time.perf_counter() - wall:.2f} s, processor {time.process_time() - processor:.2f} s")


def test_full_size_mix(openers: dict[str, Callable[[], SequenceIndex]]) -> None:
    print()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of what follows
    start = peak()
    built, opened = {}, {}
    for name, read in openers.items():
        with timed(f"{name} built"):
            built[name] = read()
        size = sum(file.stat().st_size for file in built[name].path.iterdir()) / 2**20
        print(f"    {len(built[name]):,} videos, {int(built[name].lengths.sum()):,} rows, files {size:.0f} MiB")
    print(f"peak memory while building: {peak():.0f} MiB, {peak() - start:.0f} of it for the index")
    assert peak() - start < 2500  # twice what it takes: COCO's JSON while it is parsed
    before = megabytes("self")
    with timed("all four opened"):
        for name, read in openers.items():
            with timed(f"{name} opened"):
                opened[name] = read()
    print(f"memory for that: {megabytes('self')['own'] - before['own']:.1f} MiB")
    assert {name: len(index) for name, index in opened.items()} == {
        "coco": 860_000, "lasot": 1120, "got10k": 8335, "trackingnet": 30_132,
    }  # fmt: skip
    assert sum(int(index.lengths.sum()) for index in opened.values()) > 18_000_000
    for name, index in opened.items():
        assert index.hash == built[name].hash
        for video in np.random.default_rng(0).integers(len(index), size=20).tolist():
            boxes = index.boxes(video)
            shift = 0.1 if name in ("got10k", "trackingnet") else 0.0
            np.testing.assert_array_equal(boxes[-1], box(video, len(boxes) - 1, shift))
            assert index.visible(video).all()
            assert index.visible_counts[video] == len(boxes) == index.lengths[video]


class Nothing(Rows):
    """The same without the index: what a worker costs anyway."""

    def __init__(self) -> None:
        super().__init__([])

    def __getitem__(self, item: int) -> float:
        return float(np.random.default_rng(item).random())


def loaded(rows: Rows, workers: int) -> tuple[float, list[float], float]:
    """Look-ups a second, each worker's own MiB, MiB of all processes together (what is shared counts once)."""
    batches = iter(DataLoader(rows, batch_size=64, num_workers=workers, shuffle=True, generator=torch.Generator()))
    start = time.perf_counter()
    for _ in range(300):
        next(batches)
    speed = 300 * 64 / (time.perf_counter() - start)
    children = [megabytes(process.pid) for process in getattr(batches, "_workers", [])]
    together = megabytes("self")["share"] + sum(child["share"] for child in children)
    return speed, [child["own"] for child in children], together


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2, 8])
def test_memory_of_workers(openers: dict[str, Callable[[], SequenceIndex]], workers: int) -> None:
    _, own_without, without = loaded(Nothing(), workers)
    speed, own, together = loaded(Rows([read() for read in openers.values()]), workers)
    mine, mine_without = max(own, default=0), max(own_without, default=0)
    print(
        f"\n{workers} workers: {speed:,.0f} look-ups/s; all processes {together:.0f} MiB, without the index "
        f"{without:.0f} MiB; a worker's own {mine:.0f} MiB, without {mine_without:.0f} MiB"
    )
    # An index copied into a worker would show as hundreds of MiB of its own memory.
    assert mine < mine_without + 60
