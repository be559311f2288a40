"""Generation as a CUDA graph gives what generation without one gives."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder, normalise
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.models.timm_encoder import TimmEncoder
from seqtrack_lit.tokens import BoxTokenizer
from seqtrack_lit.tracking.cuda_graph import CapturedGeneration
from seqtrack_lit.tracking.seqtrack import load_seqtrack

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
pytestmark = pytest.mark.gpu


def net_of(kind: str) -> SeqTrack:
    torch.manual_seed(0)
    tokenizer = BoxTokenizer(bins=100)
    sizes = {"search_size": 64, "template_size": 64, "templates": 2}
    if kind == "timm":
        options = {"depth": 2, "embed_dim": 64, "num_heads": 2}
        encoder = TimmEncoder(name="vit_tiny_patch16_224", pretrained=False, options=options, **sizes)
    else:
        encoder = ViTEncoder(width=64, depth=2, heads=2, **sizes)
    decoder = Decoder(tokenizer=tokenizer, width=32, heads=2, ffn=64, past=2 if kind == "past" else 0)
    return SeqTrack(tokenizer=tokenizer, encoder=encoder, decoder=decoder).cuda().eval()


@pytest.mark.parametrize("kind", ["plain", "past", "timm"])
def test_equal_to_generation_without_a_graph(kind):
    net = net_of(kind)
    window = net.tokenizer.hann_window().cuda()
    captured = CapturedGeneration(net, hann_window=window)
    generator = torch.Generator().manual_seed(1)
    for size in (1, 3, 1, 3):  # batch sizes alternate, templates and crops are new each time
        templates = torch.randn(size, 2, 3, 64, 64, generator=generator).cuda()
        pixels = torch.randint(0, 256, (size, 3, 64, 64), generator=generator, dtype=torch.uint8)
        past = torch.randint(0, 100, (size, 2, 4), generator=generator).cuda() if kind == "past" else None
        with torch.inference_mode():
            expected = net.generate(templates, normalise(pixels.cuda()), hann_window=window, past=past)
        found = captured(net.prepare_templates(templates), pixels, past)
        assert torch.equal(found.tokens, expected.tokens)
        torch.testing.assert_close(found.likelihoods, expected.likelihoods, atol=1e-6, rtol=1e-5)
        assert torch.equal(found.boxes, expected.boxes)


def test_what_was_looked_at_stays():
    folder = GOLDEN / "s1"
    tracker = load_seqtrack(folder / "SEQTRACK_ep0007.pth.tar", official_config=folder / "cfg.yaml", device="cuda")
    with np.load(folder / "golden.npz") as arrays:
        frames, box = arrays["frames"], arrays["init_box"].astype(float)
    tracker.init(frames[0], box)
    _, first = tracker.predict(frames[1])
    kept = first.likelihoods.clone()
    tracker.update(frames[5])
    assert not torch.equal(tracker.predict(frames[5])[1].likelihoods, kept)
    assert torch.equal(first.likelihoods, kept)
