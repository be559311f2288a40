"""A bidirectional decoder beside a causal one, on the same encoder: all four tokens at once (paper Tab. 4 #2).

For looking at what the two can know, not for scores: a tuning of seconds on generated videos. A comparison of
trainings is experiments/tab4_ablations.
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule
from seqtrack_lit.data.samples.batch import Batch
from seqtrack_lit.data.samples.sampling import Videos, draw_samples
from seqtrack_lit.models.decoder import Decoder, DecoderLayer
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.training.losses import token_loss


def bidirectional_sibling(
    tracker: SeqTrackTracker, videos: Videos, *, pairs: int = 192, steps: int = 80, batch: int = 32, seed: int = 0
) -> SeqTrackTracker:
    """A tracker with a bidirectional decoder on the same encoder, begun with this one's decoder layers and tuned.

    The four queries and their positions are new; the encoder stays as it is.

    Args:
        tracker: with a causal decoder, without past boxes.
        videos: to draw pairs of frames from.
        pairs: how many.
        steps: of the tuning.
        batch: pairs of a step.
        seed: of the new weights, the pairs and their order.
    """
    model = tracker.model
    sides = (model.search_size, model.template_size, tracker.search_factor, tracker.template_factor)
    samples = draw_samples(
        videos,
        count=pairs,
        templates=model.templates,
        augmentation=Augmentation(grayscale=0.0),
        jitter=JitterSchedule(1.5, 0.2),
        crops=CropSettings(*sides, normaliser="S"),
        seed=seed,
    )
    with torch.no_grad():
        parts = [_features(model, samples, slice(i, i + batch)) for i in range(0, pairs, batch)]
    torch.manual_seed(seed)
    made = _bidirectional(model)
    _tune(made, torch.cat(parts), samples.box, steps=steps, batch=batch, seed=seed)
    settings: dict[str, Any] = {**tracker.settings, "name": "bidirectional"}
    return SeqTrackTracker(made, **settings)


def _features(model: SeqTrack, samples: Batch, part: slice) -> Tensor:
    templates, search = normalise(samples.templates[part]), normalise(samples.search[part])
    return model.features(templates, search, samples.template_boxes[part])


def _bidirectional(model: SeqTrack) -> SeqTrack:
    """A copy with a bidirectional decoder that begins with the same layers and head."""
    own = model.decoder
    layer = cast(DecoderLayer, own.layers[0])
    decoder = Decoder(
        tokenizer=own.tokenizer,
        width=own.width,
        depth=len(own.layers),
        heads=own.heads,
        ffn=cast(nn.Linear, layer.ffn[0]).out_features,
        dropout=0.0,
        pre_norm=layer.pre_norm,
        bidirectional=True,
    )
    for name in ("layers", "norm", "head", "embedding_norm"):
        getattr(decoder, name).load_state_dict(getattr(own, name).state_dict())
    made = copy.copy(model)
    made._modules = {**model._modules, "decoder": decoder}
    return made


def _tune(model: SeqTrack, features: Tensor, boxes: Tensor, *, steps: int, batch: int, seed: int) -> None:
    """Minimise the cross-entropy on known features."""
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=1e-3, weight_decay=1e-4)
    rng = torch.Generator().manual_seed(seed)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, 2 * (1 - step / steps))
        chosen = torch.randperm(len(boxes), generator=rng)[:batch]
        inputs, _ = model.tokenizer.teacher(boxes[chosen])
        logits = model.logits(features[chosen], inputs).tokens
        loss = token_loss(logits, boxes[chosen], model.tokenizer, soft_bins=2.0).total
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 1.0)
        optimizer.step()
    model.eval()
