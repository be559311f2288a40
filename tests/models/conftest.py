import pytest
import torch

from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tokens import BoxTokenizer

BINS = 20


@pytest.fixture
def build():
    """SeqTrack of a few thousand parameters, all of them random, so that no two inputs look alike."""

    def make(*, order="cxcywh", encoder=None, decoder=None, random=True, bins=BINS, **model) -> SeqTrack:
        torch.manual_seed(0)
        tokenizer = BoxTokenizer(bins=bins, order=order)
        geometry = {"search_size": 32, "template_size": 16, "templates": 2, "patch": 8}
        net = SeqTrack(
            tokenizer=tokenizer,
            encoder=ViTEncoder(**geometry | {"width": 24, "depth": 2, "heads": 2} | (encoder or {})),
            decoder=Decoder(tokenizer=tokenizer, **{"width": 16, "heads": 4, "ffn": 24} | (decoder or {})),
            **model,
        )
        if random:
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        return net.eval()

    return make


@pytest.fixture
def inputs():
    """Random normalised templates and search crops that fit a model, and its past boxes."""

    def make(net: SeqTrack, batch: int = 2, seed: int = 1):
        generator = torch.Generator().manual_seed(seed)
        templates = torch.randn(batch, net.templates, 3, net.template_size, net.template_size, generator=generator)
        search = torch.randn(batch, 3, net.search_size, net.search_size, generator=generator)
        past = torch.randint(net.tokenizer.bins, (batch, net.past, 4), generator=generator) if net.past else None
        return templates, search, past

    return make
