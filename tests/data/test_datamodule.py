"""Order of the batches over processes, workers and resumed runs; validation; what the data module refuses."""

import subprocess
import sys
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from tests.data.videos import ShadeVideos

from seqtrack_lit.cli.hydra.overrides import with_implied
from seqtrack_lit.data.datamodule import TrackingData, Validation, part_by_name
from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, Jitter, JitterSchedule, brightness
from seqtrack_lit.data.samples.batch import Batch
from seqtrack_lit.data.samples.loader import BatchOrder, PairLoader, TrainLoader
from seqtrack_lit.data.samples.sampling import FrameSampling, SamplingError, TrainingSamples, Videos, WeightedDataset
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.synthetic.sampling import SceneSampling
from seqtrack_lit.data.synthetic.videos import GeneratedVideos

VALIDATION = partial(GeneratedVideos, 12, stream="validation")


def shades(**options: Any) -> Videos:
    return ShadeVideos([40, 30], **options)


def missing() -> Videos:
    raise FileNotFoundError("lasot: no folder /data/lasot")


def data(**options: Any) -> TrackingData:
    values: dict[str, Any] = {
        "train": {"pool": WeightedDataset(partial(GeneratedVideos, 8, kept_frames=6))},
        "validation": Validation(VALIDATION, pairs=6, batch=4, narrow_jitter=Jitter(1.3, 0.2), tracks=3),
        "crops": CropSettings(48, 32, 3.0, 2.0, "S"),
        "frame_sampling": SceneSampling(1, min_length=6, distinct=True, any_object=0.5, distractor_pairs=0.5),
        "augmentation": Augmentation(photometric=brightness()),
        "jitter": JitterSchedule(2.6, 0.5),
        "batch": 4, "epoch_samples": 24, "total_samples": 96, "workers": 0, **options,
    }  # fmt: skip
    return TrackingData(**values)


def samples(videos: Videos | None = None) -> TrainingSamples:
    return TrainingSamples(
        {"shades": videos or shades()}, [1.0], seed=0, crops=CropSettings(16, 16), frame_sampling=FrameSampling(1),
        augmentation=Augmentation(photometric=brightness()), jitter=JitterSchedule(), epoch_samples=24,
        total_samples=96,
    )  # fmt: skip


def equal(a: list[Batch], b: list[Batch]) -> bool:
    same = [torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)]
    return all(same)


def test_one_and_four_processes_see_the_same_samples_in_each_step() -> None:
    # global batch 8: one process with 8, four with 2, two with 2 that accumulate two batches
    one = list(BatchOrder(3, 8))
    four = list(zip(*(BatchOrder(3, 2, rank=rank, world_size=4) for rank in range(4)), strict=True))
    two = list(zip(*(BatchOrder(6, 2, rank=rank, world_size=2) for rank in range(2)), strict=True))
    assert one == [[(0, first + i) for i in range(8)] for first in (0, 8, 16)]
    assert [[*chain(*step)] for step in four] == one
    assert [[*chain(*two[2 * step], *two[2 * step + 1])] for step in range(3)] == one


def test_processes_of_the_data_module_share_each_batch() -> None:
    class Rank:
        def __init__(self, rank: int, world: int) -> None:
            self.global_rank, self.world_size = rank, world

    whole = list(data(batch=8).train_dataloader())
    parts = []
    for rank in range(4):
        module = data(batch=2)
        module.trainer = Rank(rank, 4)  # type: ignore[assignment]
        parts.append(list(module.train_dataloader()))
        assert len(list(module.val_dataloader()[0])) == 1  # six pairs: two, two, one and one
    together = [Batch(*(torch.cat(field) for field in zip(*step, strict=True))) for step in zip(*parts, strict=True)]
    assert equal(together, whole)


def test_workers_change_nothing() -> None:
    alone = list(data().train_dataloader())
    loader = data(workers=2).train_dataloader()
    assert equal(list(loader), alone)
    assert equal(list(loader), alone)  # the same epoch again
    loader.sampler.set_epoch(1)  # reaches workers that live on
    second = list(loader)
    assert [batch.key[0, 0].item() for batch in second] == [1] * 6
    assert not torch.equal(second[0].search, alone[0].search)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_can_be_started_afresh(method: str) -> None:
    loader = data(workers=2, start_method=method).train_dataloader()
    assert equal(list(loader), list(data().train_dataloader()))


def test_the_loader_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    list(data().train_dataloader())
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_behind_the_last_batch_it_gave(workers: int) -> None:
    full = TrainLoader(samples(), BatchOrder(6, 4))
    full.sampler.set_epoch(2)
    expected = list(full)
    broken = TrainLoader(samples(), BatchOrder(6, 4), workers=workers)
    broken.sampler.set_epoch(2)
    started = iter(broken)
    first = [next(started) for _ in range(2)]  # workers have prepared more by now
    state = broken.state_dict()
    assert state == {"epoch": 2, "batches": 2, "drawn": 8, "skipped": 0}
    resumed = TrainLoader(samples(), BatchOrder(6, 4), workers=workers)
    resumed.load_state_dict(state)
    assert len(resumed) == 6  # of the epoch, not of the rest
    assert equal([*first, *resumed], expected)
    assert resumed.state_dict()["batches"] == 6
    resumed.sampler.set_epoch(3)
    assert [int(batch.key[0, 1]) for batch in resumed] == [0, 4, 8, 12, 16, 20]


class Keys(LightningModule):
    """Records which samples it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(4, 1), list[tuple[int, int]]()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen += [(int(key[0]), int(key[1])) for key in batch.key]
        return self.layer(batch.box).mean()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(place: Path, workers: int, resume: Path | None = None, *, at_epoch_end: bool = False) -> list[tuple[int, int]]:
    """Keys of the samples a run of three epochs of six steps saw."""
    module = Keys()
    when: dict[str, Any] = {"save_on_train_epoch_end": True} if at_epoch_end else {"every_n_train_steps": 2}
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, use_distributed_sampler=False,
        callbacks=[ModelCheckpoint(place, filename="{step}", save_top_k=-1, auto_insert_metric_name=False, **when)],
    )  # fmt: skip
    train = {"shades": WeightedDataset(shades)}
    trainer.fit(
        module, data(train=train, frame_sampling=FrameSampling(1), workers=workers), ckpt_path=resume, weights_only=True
    )
    return module.seen


@pytest.mark.filterwarnings("ignore:.*exists and is not empty.*")
@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_resumes_in_the_middle_and_at_the_end_of_an_epoch(tmp_path: Path, workers: int) -> None:
    everything = [(epoch, index) for epoch in range(3) for index in range(24)]
    assert fit(tmp_path, workers) == everything
    for step in (2, 8, 12):  # 12 is the end of the second epoch
        assert fit(tmp_path, workers, tmp_path / f"{step}.ckpt") == everything[4 * step :]
    ends = tmp_path / "ends"
    fit(ends, workers, at_epoch_end=True)
    assert fit(ends, workers, ends / "6.ckpt", at_epoch_end=True) == everything[24:]


def test_replaced_samples_are_counted_and_many_of_them_stop_the_run() -> None:
    few = TrainLoader(samples(shades(broken=[3, 4, 5])), BatchOrder(6, 4), max_skipped=0.5)
    failures = sum(int(batch.key[:, 2].sum()) for batch in few)
    assert few.skipped == failures == len(few.failures) > 0
    assert few.drawn == 24
    assert few.failures[0].startswith("shades, shades-")
    assert few.failures[0].endswith(".jpg cannot be read")
    # half of the videos cannot be read: after 20 failures the share decides
    many = TrainLoader(samples(shades(bad_videos=[1])), BatchOrder(100, 4), max_skipped=0.1)
    with pytest.raises(
        SamplingError, match=r"(?s)2\d of \d+ training samples could not.*max_skipped = 0\.1.*shades-1/"
    ):
        list(many)


def test_validation_pairs_are_fixed() -> None:
    module = data()
    wide, narrow = module.val_dataloader()
    first = [*wide, *narrow]
    assert [len(batch.box) for batch in first] == [4, 2, 4, 2]
    assert equal([*wide, *narrow], first)
    assert equal([batch for loader in data(seed=7).val_dataloader() for batch in loader], first)
    centers = [torch.cat([batch.box for batch in loader])[:, :2] - 0.5 for loader in (wide, narrow)]
    assert centers[0].abs().mean() > 1.5 * centers[1].abs().mean()
    assert len(data(validation=Validation(VALIDATION)).val_dataloader()) == 1
    assert isinstance(wide, PairLoader)


def test_validation_videos_are_spread_over_the_held_out_set() -> None:
    videos = data().val_sequences()
    assert [video.name for video in videos] == [f"generated-validation-0-0000{i}" for i in (0, 4, 8)]
    assert [len(video) for video in videos] == [60] * 3
    short = data(validation=Validation(VALIDATION, tracks=2, track_frames=10)).val_sequences()
    assert [(len(v), v.boxes.shape, v.visible.shape) for v in short] == [(10, (10, 4), (10,))] * 2
    assert np.array_equal(short[0].frames[9], videos[0].frames[9])
    with pytest.raises(IndexError):
        short[0].frames[10]


def test_own_videos_are_divided_by_name(make_dataset: Any) -> None:
    root = make_dataset("folder").root
    both = {part: part_by_name(partial(folder, root), part=part, share=0.4).names for part in ("train", "validation")}
    whole = folder(root).names
    assert sorted(both["train"] + both["validation"]) == sorted(whole)
    assert 0 < len(both["validation"]) < len(whole)
    assert len(part_by_name(partial(folder, root), part="validation", share=1e-9)) == 1
    assert len(part_by_name(partial(folder, root), part="train", share=1 - 1e-9)) == 1
    with pytest.raises(ValueError, match="part must be train or validation"):
        part_by_name(partial(folder, root), part="train", share=1.5)


def test_the_summary_is_plain() -> None:
    module = data(
        train={"a": WeightedDataset(shades, 3), "off": WeightedDataset(missing, 0), "b": WeightedDataset(shades, 1)},
        frame_sampling=FrameSampling(1),
    )
    assert module.summary() == {
        "a": {"videos": 2, "share": 0.75, "hash": ""},
        "b": {"videos": 2, "share": 0.25, "hash": ""},
    }
    assert module.skipped == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "data.batch must be a whole number >= 1, got 0"),
        ({"workers": -1}, "data.workers"),
        ({"max_skipped": 2.0}, "data.max_skipped"),
        ({"train": {"a": WeightedDataset(shades, 0)}}, "data.train needs a data set with a weight > 0, got a"),
        ({"train": {}}, "got none"),
    ],
)
def test_wrong_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data(**options)


def test_data_sets_are_opened_late_and_errors_say_which() -> None:
    module = data(train={"lasot": WeightedDataset(missing)})
    with pytest.raises(FileNotFoundError, match=r"data\.train\.lasot: lasot: no folder /data/lasot"):
        module.setup()
    with pytest.raises(ValueError, match=r"epoch_samples = 24 is less than one batch of 32 on 1"):
        data(batch=32).train_dataloader()
    for name, value in (("pairs", 0), ("tracks", -1), ("track_frames", 1)):
        with pytest.raises(ValueError, match=f"data.validation.{name}"):
            Validation(VALIDATION, **{name: value})


REAL = ["data.train.lasot.open.complete=false", "data.train.trackingnet.open.parts=[0,3]"]


@pytest.mark.parametrize(
    ("name", "needs", "overrides"),
    [
        ("generated", [], ["data.train.generated.open.count=3", "data.train.generated.open.width=96",
                           "data.train.generated.open.height=96"]),
        ("quickstart", [], ["data.train.generated.open.count=3", "model=seqtrack_tiny"]),
        ("paper", ["coco", "lasot", "got10k", "trackingnet"], REAL),
        ("official", ["coco", "lasot", "got10k", "trackingnet"], REAL),
        ("got10k", ["got10k"], []),
        ("folder", ["folder"], ["data.train.folder.open.share=0.4", "data.frame_sampling.min_length=2",
                                "model.encoder.templates=1"]),
    ],
)  # fmt: skip
def test_configurations(name: str, needs: list[str], overrides: list[str], make_dataset: Any, tmp_path: Path) -> None:
    for need in needs:
        make_dataset(need)
    settings = ["data.workers=0", "data.validation.pairs=2"]
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base="1.3"):
        config = compose("train", with_implied([f"data={name}", f"paths.data={tmp_path}/data", *overrides, *settings]))
    module: TrackingData = instantiate(config.data, batch=2, epoch_samples=4, total_samples=8, seed=0, _convert_="all")
    templates, search = config.model.encoder.template_size, config.model.encoder.search_size
    batch = next(iter(module.train_dataloader()))
    assert batch.templates.shape == (2, config.model.encoder.templates, 3, templates, templates)
    assert batch.search.shape == (2, 3, search, search)
    assert sum(part["share"] for part in module.summary().values()) == pytest.approx(1)
    wide, narrow = module.val_dataloader()
    assert len(next(iter(wide)).box) == len(next(iter(narrow)).box) == 2
    assert module.val_sequences()[0].visible[0]


@pytest.mark.slow
def test_python_ends_although_a_loader_is_in_the_middle_of_an_epoch() -> None:
    program = (
        "from tests.data.test_datamodule import *\n"
        "loader = TrainLoader(samples(), BatchOrder(6, 4), workers=2)\n"
        "batches = iter(loader)\n"
        "next(batches)\n"
        "print('one', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600
    )
    assert done.stdout.strip() == "one"
    assert done.returncode == 0, done.stderr
