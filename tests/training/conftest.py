"""A model of a few thousand parameters, and recipes for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

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
