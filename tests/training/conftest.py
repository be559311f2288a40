"""A model of a few thousand parameters, and pictures of squares it can learn."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule

from seqtrack_lit.data.samples.batch import Batch
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tokens import BoxTokenizer


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_net() -> Callable[..., SeqTrack]:
    """A tiny network, the same one every time; keywords go to its parts."""

    def make(
        *, bins: int = 16, order: Any = "cxcywh", dense: bool = False, dropout: float = 0.0, **decoder: Any
    ) -> SeqTrack:
        torch.manual_seed(0)
        tokenizer = BoxTokenizer(bins=bins, order=order)
        encoder = ViTEncoder(search_size=16, template_size=8, templates=1, patch=4, width=16, depth=1, heads=2)
        head = Decoder(tokenizer=tokenizer, width=16, depth=1, heads=2, ffn=32, dropout=dropout, **decoder)
        return SeqTrack(tokenizer=tokenizer, encoder=encoder, decoder=head, dense_head=dense)

    return make


class Squares(torch.utils.data.Dataset[Batch]):
    """Batches of dark pictures with a bright square each, a pure function of (epoch, position)."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        generator = torch.Generator().manual_seed(1000 * key[0] + key[1])
        wh = torch.rand(self.size, 2, generator=generator) * 0.3 + 0.3
        center = 0.35 + 0.3 * torch.rand(self.size, 2, generator=generator)
        box = torch.cat([center, wh], dim=1)
        grid = (torch.arange(16) + 0.5) / 16
        inside = (grid - center[..., None]).abs() < wh[..., None] / 2  # B 2 16: x, y
        search = (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None].repeat(1, 3, 1, 1).to(torch.uint8) * 200
        return Batch(
            templates=torch.full((self.size, 1, 3, 8, 8), 200, dtype=torch.uint8),
            search=search,
            box=box,
            template_boxes=torch.tensor([[[0.5, 0.5, 0.5, 0.5]]]).repeat(self.size, 1, 1),
            past=torch.zeros(self.size, 0, 4),
            key=torch.tensor([[*key, 0]]).repeat(self.size, 1),
            dataset=torch.zeros(self.size, dtype=torch.int64),
        )


class CountingLoader:
    """Counts the batches it gave, as the loader of the data module does; Lightning tells its "sampler" the epoch."""

    def __init__(self, batches: int, size: int, workers: int) -> None:
        self.batches, self.size, self.workers = batches, size, workers
        self.epoch, self.given, self.resumed = 0, 0, False
        self.sampler = self

    def __len__(self) -> int:
        return self.batches

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.resumed = epoch, False

    def __iter__(self) -> Iterator[Batch]:
        self.given, self.resumed = (self.given if self.resumed else 0), False
        keys = [(self.epoch, i) for i in range(self.given, self.batches)]
        loader = torch.utils.data.DataLoader(
            Squares(self.size), batch_size=None, sampler=keys, num_workers=self.workers,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        for batch in loader:
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.given, self.resumed = state["epoch"], state["given"], True


class SquaresData(LightningDataModule):
    """What training needs of a data module."""

    def __init__(self, *, batches: int = 6, size: int = 4, workers: int = 0) -> None:
        super().__init__()
        self.settings = batches, size, workers

    def train_dataloader(self) -> CountingLoader:
        return CountingLoader(*self.settings)

    def val_dataloader(self) -> torch.utils.data.DataLoader[Batch]:
        return torch.utils.data.DataLoader(Squares(6), batch_size=None, sampler=[(10_000, 0), (10_000, 1)])


@pytest.fixture
def squares() -> type[SquaresData]:
    return SquaresData


def video(name: str) -> Video:
    """Eight frames of a bright square that moves right by two pixels a frame."""
    frames = []
    for t in range(8):
        frame = np.zeros((40, 60, 3), np.uint8)
        frame[12:26, 10 + 2 * t : 26 + 2 * t] = 200
        frames.append(frame)
    boxes = np.array([[10.0 + 2 * t, 12, 16, 14] for t in range(8)])
    return Video(name, frames, boxes, np.ones(8, bool))


@pytest.fixture
def videos() -> list[Video]:
    return [video("one"), video("two")]
