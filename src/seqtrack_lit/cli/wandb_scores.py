"""Benchmark scores of seqtrack-evaluate in the W&B run that the checkpoint is of.

Under test/<benchmark>/: AUC, P, PNorm ... and frames/s as numbers over the checkpoint's step, `scores` as a table with
the baselines and the paper's rows; where the videos have attributes, `attributes` as a table and `radar` as a picture
(Fig. 4). Of other settings of tracking (inference=...) under test/<benchmark>/<tracker>/. In the summary: parameters,
and macs_g as the paper counts them.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from seqtrack_lit.cli.loggers import WandbLogger, wandb_of
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.tables import Table, attribute_table, compare
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.profile import count_macs, count_parameters
from seqtrack_lit.reports.plots import attribute_radar, render
from seqtrack_lit.runs.folder import read_metadata, read_settings
from seqtrack_lit.runs.read import BASELINES
from seqtrack_lit.training.callbacks.checkpoint import steps_of


@contextmanager
def scores_in_run(folder: Path, checkpoint: Path, model: SeqTrack, scores: Sequence[Scores]) -> Iterator[None]:
    """Send scores, and what is printed meanwhile, to the W&B run of this folder if the checkpoint is its own.

    Args:
        folder: of the run.
        checkpoint: what was evaluated.
        model: read from it.
        scores: its own and those of baselines.

    Raises:
        ValueError: Weights & Biases refuses the key, or cannot be reached.
    """
    service = wandb_of(folder)
    if service is None or not scores or checkpoint.resolve().parent != (folder / "checkpoints").resolve():
        yield
        return
    settings, group = read_settings(folder), read_metadata(folder).get("group")
    name = settings.get("name", folder.name) if group is None else f"{group}/{folder.name}"
    step = steps_of(checkpoint)
    logger = service.open(folder, name=str(name), group=group, config={}, step=step)
    try:
        logger.summary({"parameters": count_parameters(model)["total"], "macs_g": count_macs(model).paper / 1e9})
        for benchmark, convention in dict.fromkeys((one.benchmark, one.convention) for one in scores):
            same = [one for one in scores if (one.benchmark, one.convention) == (benchmark, convention)]
            _send(logger, same, (settings.get("tracker") or {}).get("name"), step)
        yield
    finally:
        service.close(0, {})


def _send(logger: WandbLogger, scores: Sequence[Scores], tracker: str | None, step: int) -> None:
    """Scores on one benchmark by one convention."""
    own = next((one for one in scores if one.tracker not in BASELINES), None)
    if own is None:
        return
    place = f"test/{own.benchmark}" if own.tracker == tracker else f"test/{own.benchmark}/{own.tracker}"
    if own.convention.startswith("vot_"):
        place += f"/{own.convention.removeprefix('vot_')}"
    speed = {} if own.fps is None else {f"{place}/fps": own.fps}
    logger.numbers({**{f"{place}/{name}": value for name, value in own.values.items()}, **speed}, step)
    logger.table(f"{place}/scores", _rows(compare(scores)), step)
    if own.per_attribute:
        own_first = [own, *(one for one in scores if one is not own)]
        logger.table(f"{place}/attributes", _rows(attribute_table(own_first)), step)
    if len(set(own.per_attribute).intersection(*(one.per_attribute for one in scores))) > 2:
        drawn = Picture.open(io.BytesIO(render(attribute_radar(scores), ".png"))).convert("RGB")
        logger.image(f"{place}/radar", np.asarray(drawn), step)


def _rows(table: Table) -> list[dict[str, str | float | int | None]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]
