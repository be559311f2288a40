import pytest
import torch

from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.profile import count_macs, count_parameters, time_tracker
from seqtrack_lit.tokens import BoxTokenizer
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker


def model(size, tokenizer=BoxTokenizer(), **encoder):  # noqa: B008 - frozen
    return SeqTrack(
        tokenizer=tokenizer,
        encoder=ViTEncoder(search_size=size, template_size=size, **encoder),
        decoder=Decoder(tokenizer=tokenizer),
    )


LARGE = {"width": 1024, "depth": 24, "heads": 16}


@pytest.mark.parametrize(
    ("size", "encoder", "paper", "everything"),
    [  # G multiply-accumulates: paper Tab. 1 as closely as its convention is known, and everything but LayerNorm
        (256, {}, 65.86, 76.7),
        (384, {}, 148.19, 203.1),
        (256, LARGE, 232.82, 261.7),
        (384, LARGE, 523.85, 670.3),
    ],
)
def test_macs_of_the_four_models(size, encoder, paper, everything):
    with torch.device("meta"):
        macs = count_macs(model(size, **encoder))
    assert macs.paper / 1e9 == pytest.approx(paper, rel=1e-4)
    assert macs.everything / 1e9 == pytest.approx(everything, rel=1e-3)


def test_macs_do_not_depend_on_precision_or_mode():
    small = model(32, BoxTokenizer(16), patch=16, width=32, depth=1, heads=2)
    expected = count_macs(small)
    assert expected.everything > 0
    assert count_macs(small.bfloat16().train()) == expected


def test_parameters_by_part():
    with torch.device("meta"):
        parts = count_parameters(model(256))
    # method: encoder 86,039,808; decoder with word head 3,133,696 + 1,160,098; linear 196,864; positions 65,536
    assert parts == {
        "encoder": 86_039_808,
        "decoder": 3_133_696 + 1_160_098,
        "linear": 196_864,
        "memory_position": 65_536,
        "total": 90_596_002,
    }


def test_times_are_measured_for_every_stage():
    tokenizer = BoxTokenizer(16)
    small = model(32, tokenizer, patch=16, width=32, depth=1, heads=2)
    result = time_tracker(SeqTrackTracker(small), frames=3, image_size=(64, 48))
    assert list(result.stages) == ["crop", "to device", "encoder", "decoder", "whole frame"]
    assert result.fps == pytest.approx(1000 / result.stages["whole frame"])
    assert result.stages["whole frame"] > 0
