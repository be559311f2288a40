"""seqtrack-data: check a data set, look at it, measure how fast training samples come, pack it.

    seqtrack-data check=lasot paths.data=/data          every annotation and every image
    seqtrack-data check=lasot_train fast=true           annotations only: seconds
    seqtrack-data check=tnl2k every=50 complete=false   a part of the sequences, every 50th frame
    seqtrack-data show=folder root=MY_VIDEOS            pictures of sequences and of training samples
    seqtrack-data bench=got10k_train                    samples/s; time by stage; loaders with 0 and 2 workers
    seqtrack-data pack=lasot_train                      what training sees of it, in a few large files
    seqtrack-data pack=coco "train=[model=seqtrack_b384]"    the same for larger crops
    seqtrack-data pool=data/pictures                    real pictures for data=pictures, out of Debian and npm packages

Names: coco, lasot_train, got10k_train, trackingnet_train, folder, generated, and every benchmark (lasot, lasot_ext,
trackingnet, got10k_val, got10k_test, tnl2k, nfs, nfs_official, nfs240, uav123, otb100, vot2020).
Exit code of a check: 0 nothing found, 1 problems found, 2 a mistake in the command. docs/datasets.md shows layouts.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from seqtrack_lit.checks import printable, whole
from seqtrack_lit.cli.hydra.overrides import options_of, with_implied
from seqtrack_lit.cli.hydra.runtime import config_folder, instantiate, run

if TYPE_CHECKING:
    from seqtrack_lit.data.samples.sampling import Videos
    from seqtrack_lit.data.tools.check import Step

JOBS = ("check", "show", "bench", "pack")
# Training sets: the option of data/ that has them, and their name in it.
TRAINING = {
    "coco": ("paper", "coco"), "lasot_train": ("paper", "lasot"), "got10k_train": ("got10k", "got10k"),
    "trackingnet_train": ("paper", "trackingnet"), "folder": ("folder", "folder"),
    "generated": ("generated", "generated"),
}  # fmt: skip


def body(config: DictConfig) -> None:
    """Do the one thing that is asked for."""
    asked = [job for job in (*JOBS, "pool") if config[job] is not None]
    if len(asked) != 1:
        raise ValueError(
            f"give one of check=NAME, show=NAME, bench=NAME, pack=NAME, pool=DIR; names: {', '.join(names(config))}"
        )
    if asked == ["pool"]:
        build_pool(config)
        return
    job = asked[0]
    name = str(config[job])
    node = dataset_node(config, name)
    {"check": check_dataset, "show": show_dataset, "bench": bench_dataset, "pack": pack_dataset}[job](
        config, name, node
    )


def names(config: DictConfig) -> list[str]:
    """All data sets there are."""
    return [*TRAINING, *(name for name in options_of(config_folder(), "benchmark") if name not in TRAINING)]


def training_config(config: DictConfig, name: str) -> DictConfig:
    """The configuration of seqtrack-train with this set, or with the paper's sets where it is a benchmark."""
    option, _ = TRAINING.get(name, ("paper", ""))
    train = compose("train", [f"data={option}", *with_implied(map(str, config.train))])
    train.paths, train.seed = config.paths, config.seed
    return train


def dataset_node(config: DictConfig, name: str) -> DictConfig:
    """How to open a data set, with the root of the command line.

    Raises:
        ValueError: no such data set.
    """
    if name not in names(config):
        raise ValueError(f"{name}: no such data set; names: {', '.join(names(config))}")
    if name in TRAINING:
        train = training_config(config, name)
        if name == "folder":
            train.folder.annotations = config.annotations
        node = train.data.train[TRAINING[name][1]].open
        node = node.open if name == "folder" else node  # the part for training, of all
        plain: Any = OmegaConf.to_container(node, resolve=True)
        node = OmegaConf.create({key: value for key, value in plain.items() if key != "_partial_"})
    else:
        overrides = [*HydraConfig.get().overrides.task, f"+benchmark={name}"]
        node = compose("datasets", overrides).benchmark
    if "complete" in node:
        node.complete = config.complete
    if config.root is not None:
        node = OmegaConf.merge(node, {"root": config.root})
    assert isinstance(node, DictConfig)
    return node


def training_sets(data: str | Path) -> "tuple[dict[str, Videos], dict[str, str]]":
    """The training sets of `conf/data/train` that are on this machine, by name; and why the others are not.

    Args:
        data: folder the data sets lie in, `paths.data` of the commands.
    """
    found: dict[str, Videos] = {}
    missing: dict[str, str] = {}
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for option in ("generated", "paper"):  # between them every published set
            overrides = [f"data/train={option}", f"paths.data={Path(data).expanduser().absolute()}"]
            for name, node in compose("train", overrides).data.train.items():
                try:
                    if "complete" in node.open:
                        node.open.complete = False
                    found[str(name)] = instantiate(node).open()
                except (FileNotFoundError, ValueError) as error:
                    missing[str(name)] = " ".join(str(error).split())[:120]
    return found, missing


def sample_settings(config: DictConfig, name: str) -> Any:
    """How seqtrack-train makes samples of this set."""
    from seqtrack_lit.data.tools.speed import SampleSettings

    train = training_config(config, name)
    parts = ("crops", "frame_sampling", "augmentation", "jitter")
    return SampleSettings(**{part: instantiate(train.data[part]) for part in parts}, seed=config.seed)


def check_dataset(config: DictConfig, name: str, node: DictConfig) -> None:
    """Print what was found; leave with 1 where there are problems."""
    if "root" not in node:
        raise ValueError(f"check={name}: these videos are made when they are needed, there is nothing on disk to check")
    whole("", 1, every=config.every)
    from seqtrack_lit.data.sets.layout import COUNTS
    from seqtrack_lit.data.tools.check import check

    with progress("frames") as step:
        report = check(
            name,
            instantiate(node, _partial_=True),
            count=COUNTS.get(name, 0) if config.complete and node.get("parts") is None else 0,
            fast=config.fast,
            every=config.every,
            workers=config.workers,
            strict=name == "folder",
            step=step,
        )
    print("\n".join(map(printable, report.text().split("\n"))))
    path = _write(config, name, "check.json", json.dumps(report.as_dict(), indent=1) + "\n")
    if report.problems:
        print(f"{report.problems} problems; all findings in {path}")
        raise SystemExit(1)
    print(f"No problems ({'annotations only' if config.fast else 'images read'}); all findings in {path}")


def show_dataset(config: DictConfig, name: str, node: DictConfig) -> None:
    """Write sequences.png and samples.png."""
    from seqtrack_lit.data.samples.batch import collate
    from seqtrack_lit.files import write_atomic
    from seqtrack_lit.pictures import encoded, samples_sheet, videos_sheet

    whole("", 1, sequences=config.sequences, samples=config.samples)
    settings = sample_settings(config, name)
    videos: Videos = instantiate(node)
    folder = Path(config.out).expanduser() / name

    def save(file: str, picture: Any) -> None:
        write_atomic(folder / file, encoded(picture, ".png"))
        print(f"Written to {folder / file}")

    save("sequences.png", videos_sheet(videos, count=config.sequences))
    try:
        samples = settings.samples(videos, config.samples)
    except ValueError as error:
        print(f"No training samples: {error}")
        return
    batch = collate([samples[0, index][0] for index in range(config.samples)])
    save("samples.png", samples_sheet(batch, count=config.samples, side=160))


def bench_dataset(config: DictConfig, name: str, node: DictConfig) -> None:
    """Print and write bench.md and bench.json."""
    import platform
    from dataclasses import asdict

    import cv2

    from seqtrack_lit.data.tools.speed import measure

    cv2.setNumThreads(0)
    with progress("samples") as step:
        speed = measure(
            instantiate(node, _partial_=True),
            sample_settings(config, name),
            samples=config.bench_samples,
            batch=config.bench_batch,
            workers=list(config.bench_workers),
            step=step,
        )
    text = speed.markdown(f"Training samples of {name}")
    facts = {"name": name, "machine": platform.processor() or platform.machine(), **asdict(speed)}
    _write(config, name, "bench.json", json.dumps(facts, indent=1) + "\n")
    path = _write(config, name, "bench.md", text)
    print(f"{text}\nWritten to {path} and bench.json beside it")


def pack_dataset(config: DictConfig, name: str, node: DictConfig) -> None:
    """Write a pack, or go on with one."""
    if name not in TRAINING or "root" not in node:
        raise ValueError(f"pack={name}: expected a training set: {', '.join(TRAINING)} but generated")
    if config.workers is not None:
        whole("", 1, workers=config.workers)
    from seqtrack_lit.data.samples.packed import reader_of
    from seqtrack_lit.data.tools.pack import Packing, pack

    settings = sample_settings(config, name)
    opener = instantiate(node, _partial_=True)
    packs = Path(config.packs).expanduser()
    folder = packs / TRAINING[name][1]
    packing = Packing(settings.crops, settings.jitter, config.pack_quality)
    with progress("frames") as step:
        made = pack(opener(), folder, packing, reader=reader_of(opener), workers=config.workers, step=step)
    print(
        f"{made.frames:,} frames with a target in {folder}, {made.bytes / 1e9:.3g} GB; train on them with "
        f"data.packs={packs}"
    )
    if made.unreadable:
        print(f"{made.unreadable} of them could not be read: seqtrack-data check={name} names them")


def build_pool(config: DictConfig) -> None:
    """Collect pictures, and print how many there are of each kind."""
    import tempfile

    from seqtrack_lit.data.synthetic.pictures.collect.build import build

    out = Path(config.pool).expanduser()
    with progress("pictures") as step, tempfile.TemporaryDirectory() as folder:
        cache = Path(folder if config.packages is None else config.packages).expanduser()
        cache.mkdir(parents=True, exist_ok=True)
        built = build(out, cache, only_free=config.only_free, step=step)
    print(f"{built.text()}\nWritten to {out}; pool.csv names source and licence of every picture")


def _write(config: DictConfig, name: str, file: str, text: str) -> Path:
    from seqtrack_lit.files import write_atomic

    path = Path(config.out).expanduser() / name / file
    write_atomic(path, text)
    return path


@contextmanager
def progress(unit: str) -> "Iterator[Step]":
    """A bar on stderr; gives the function that moves it to (done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


main = partial(run, "data", body, root="datasets")

if __name__ == "__main__":
    main()
