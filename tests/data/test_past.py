"""Past boxes of training samples: what is drawn, and that they tell of the present what a tracker's boxes tell."""

from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float64
from torch import Tensor

from seqtrack_lit.crops import Crop
from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule
from seqtrack_lit.data.samples.past import Past, PastErrors, onto
from seqtrack_lit.data.samples.sampling import FrameSampling, TrainingSamples
from seqtrack_lit.data.synthetic.videos import GeneratedVideos
from seqtrack_lit.models.description import build_model
from seqtrack_lit.models.seqtrack import Prediction, SeqTrack
from seqtrack_lit.tokens import BoxTokenizer
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker

TINY = CropSettings(48, 32, 3.0, 2.0, "S")
TOKENIZER = BoxTokenizer(bins=1000, rounding="nearest")


def test_errors_are_a_walk_at_the_scale_of_a_tracker() -> None:
    rng, walk = np.random.default_rng(0), PastErrors(strides=1, shared=0, start=0)
    drawn = np.stack([walk.draw(4, rng).errors for _ in range(6000)])
    # the same spread at all times: 4 % of the size for the centre, 3 % for the size
    np.testing.assert_allclose(drawn.std(0), np.tile([0.04, 0.04, 0.03, 0.03], (4, 1)), rtol=0.05)
    # frames one and three apart: .95 and .95^3 = .857
    for apart, expected in ((1, 0.95), (3, 0.857)):
        found = [np.corrcoef(drawn[:, 0, column], drawn[:, apart, column])[0, 1] for column in range(4)]
        np.testing.assert_allclose(found, [expected] * 4, atol=0.02)
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1]) < 0.05


def test_strides_starts_and_wide_errors_have_their_shares() -> None:
    rng = np.random.default_rng(0)
    drawn = [PastErrors().draw(4, rng) for _ in range(6000)]
    started = [past for past in drawn if len(set(past.back)) < 4 or not past.errors[0].any()]
    assert len(started) / 6000 == pytest.approx(0.1, abs=0.02)
    assert np.mean([past.shared for past in drawn]) == pytest.approx(0.3, abs=0.02)
    assert not any(past.shared for past in started)
    steady = [past.back for past in drawn if past.errors[0].any()]
    for stride in (1, 2, 3):
        share = np.mean([back == [4 * stride, 3 * stride, 2 * stride, stride] for back in steady])
        assert share == pytest.approx(1 / 3, abs=0.03)
    # a tracker's first four frames: the first box four times, three times ... and those that stand for it are exact
    repeats = {tuple(past.back): np.flatnonzero(past.errors.any(1)).tolist() for past in started if past.back[-1] == 1}
    assert repeats == {(1, 1, 1, 1): [], (2, 2, 2, 1): [3], (3, 3, 2, 1): [2, 3], (4, 3, 2, 1): [1, 2, 3]}


def test_still_images_move_at_a_constant_velocity() -> None:
    rng, exact = np.random.default_rng(0), PastErrors(center=0, size=0, start=0)
    velocities = []
    for _ in range(3000):
        past = exact.draw(3, rng, still=True)
        velocity = -past.errors[-1] / past.back[-1]
        np.testing.assert_allclose(past.errors, -np.outer(past.back, velocity), atol=1e-12)
        velocities.append(velocity)
    np.testing.assert_allclose(np.std(velocities, 0), [0.06, 0.06, 0.02, 0.02], rtol=0.06)
    assert not exact.draw(3, rng).errors.any()


def test_boxes_with_errors_and_with_the_shared_one() -> None:
    # of 20 x 5 px the size is 10: the centre goes 1 px right and 2 px up; twice as wide
    past = Past([2, 1], np.array([[0.1, -0.2, np.log(2), 0], [0, 0, 0, 0]]), shared=False)
    true = np.array([[0.0, 0, 20, 5], [40, 0, 20, 5]])
    first, last = past.boxes(true)
    np.testing.assert_allclose(first, [-9, -2, 40, 5])  # centre 10, 2.5 -> 11, .5
    assert last.tolist() == [40, 0, 20, 5]
    # the window stands 10 px right and 5 px below the last box and is half as wide and twice as high: 60, 7.5
    moved = onto(np.stack([first, last]), np.array([55.0, 2.5, 10, 10]))
    np.testing.assert_allclose(moved, [[11, 0.5, 20, 10], [55, 2.5, 10, 10]])  # centre 11, .5 -> 21, 5.5


Table = Float64[np.ndarray, "rows columns"]


def trained(errors: PastErrors, count: int = 1000) -> tuple[Table, Table]:
    """Past boxes as the model reads them, and where the target is, of training samples."""
    samples = TrainingSamples(
        {"generated": GeneratedVideos(60)}, [1.0], seed=0, crops=TINY,
        frame_sampling=FrameSampling(1, past=4, past_errors=errors),
        augmentation=Augmentation(grayscale=0), jitter=JitterSchedule(2.6, 0.5),
        epoch_samples=count, total_samples=count,
    )  # fmt: skip
    past, box = [], []
    for index in range(count):
        plan = samples._plan(0, index, 0, np.random.default_rng(index))
        crop = TINY.search(plan.around)
        past.append(TOKENIZER.encode(TINY.to_crop(crop, samples._past(plan))))
        box.append(TINY.to_crop(crop, plan.boxes[plan.frames[-1]][None])[0])
    return TOKENIZER.decode(torch.stack(past)).flatten(1).double().numpy(), torch.stack(box).double().numpy()


def network() -> SeqTrack:
    """A random model that reads four past boxes."""
    encoder = {"search_size": 48, "template_size": 32, "templates": 1, "patch": 16, "width": 16, "depth": 1, "heads": 1}
    decoder = {"width": 16, "depth": 1, "heads": 1, "ffn": 16, "past": 4}
    where = "seqtrack_lit.models"
    return build_model(
        {"bins": TOKENIZER.bins, "rounding": TOKENIZER.rounding},
        {
            "encoder": {"_target_": f"{where}.encoder.ViTEncoder", **encoder},
            "decoder": {"_target_": f"{where}.decoder.Decoder", **decoder},
        },
    )


def tracked(monkeypatch: pytest.MonkeyPatch) -> tuple[Table, Table]:
    """The same of a tracker that follows videos no training has seen, with errors as small as a trained model's."""
    model, videos, rng, rows = network(), GeneratedVideos(30, stream="test"), np.random.default_rng(0), []
    tracker = SeqTrackTracker(model, search_factor=3.0, template_factor=2.0, window=False)
    error, truth, picture = np.zeros(4), np.zeros(4), np.zeros((144, 192, 3), np.uint8)

    def generate(network: SeqTrack, features: Tensor, *, past: Tensor, **options: Any) -> Prediction:
        nonlocal error
        crop = Crop.around(tracker.box, factor=3.0, size=48)
        error = 0.95 * error + np.sqrt(1 - 0.95**2) * rng.normal(size=4) * [0.04, 0.04, 0.03, 0.03]
        rows.append((TOKENIZER.decode(past).flatten(), TINY.to_crop(crop, truth[None])[0]))
        found = TINY.to_crop(crop, Past([1], error[None], shared=False).boxes(truth[None]))
        return Prediction(TOKENIZER.encode(found), found, torch.ones(1, 4), None, None)

    monkeypatch.setattr(SeqTrack, "generate_from", generate)  # trackers may use a copy of the model
    for number in range(len(videos)):
        boxes, error = videos.boxes(number), np.zeros(4)
        tracker.init(picture, boxes[0])
        for truth in boxes[1:]:  # noqa: B007 - `generate` reads it
            tracker.update(picture)
    past, box = (torch.stack(column).double().numpy() for column in zip(*rows, strict=True))
    return past, box


def fit(past: Table, box: Table) -> Table:
    """The linear map from past boxes to the present one."""
    return np.asarray(np.linalg.lstsq(np.c_[past, np.ones(len(past))], box, rcond=None)[0])


def explained(coefficients: Table, past: Table, box: Table) -> Float64[np.ndarray, "4"]:
    """Share of the variance of cx, cy, w, h."""
    rest = box - np.c_[past, np.ones(len(past))] @ coefficients
    return np.asarray(1 - rest.var(0) / box.var(0))


@pytest.mark.slow
def test_the_past_is_worth_as_much_in_training_as_in_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    past, box = tracked(monkeypatch)
    own = explained(fit(past, box), past, box)[:2]
    assert (own > 0.35).all()
    # samples at the stride of a tracker and without wide errors: the same share, and the same map
    narrow = trained(PastErrors(strides=1, shared=0))
    learnt = fit(*narrow)
    np.testing.assert_allclose(explained(learnt, *narrow)[:2], own, atol=0.2)
    np.testing.assert_allclose(explained(learnt, past, box)[:2], own, atol=0.05)
    # and what all training samples teach lowers the error of the centre against staying put
    everything = fit(*trained(PastErrors(), 2500))
    assert (explained(everything, past, box)[:2] > 0.15).all()
    found = np.c_[past, np.ones(len(past))] @ everything
    error, still = (np.linalg.norm((guess - box)[:, :2], axis=1).mean() for guess in (found, np.full((1, 4), 0.5)))
    assert error < 0.9 * still


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"center": -1.0}, "data.frame_sampling.past_errors.center"),
        ({"correlation": 1.5}, "data.frame_sampling.past_errors.correlation"),
        ({"strides": 0}, "data.frame_sampling.past_errors.strides must be a whole number >= 1"),
        ({"shared": 0.9, "start": 0.2}, r"shared \+ start must be at most 1, got 0.9 \+ 0.2"),
    ],
)
def test_wrong_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PastErrors(**options)
