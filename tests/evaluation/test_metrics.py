"""The torchmetrics form gives the scores of the plain functions, whoever tracked what, and how often."""

import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from seqtrack_lit.evaluation.metrics import CONVENTIONS
from seqtrack_lit.evaluation.ope import GroundTruth
from seqtrack_lit.evaluation.scores import score_sequences
from seqtrack_lit.training.callbacks.track_videos import TrackingScores


@pytest.fixture
def truths(made_truth) -> list[GroundTruth]:
    """Five sequences of uneven lengths."""
    return [made_truth("a" * (i + 1), 10 + 7 * i, resolution=(640, 480)) for i in range(5)]


@pytest.fixture
def results(truths, made_result) -> list[np.ndarray]:
    return [made_result(truth, noise=2.0 + i) for i, truth in enumerate(truths)]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_equals_the_functions_in_any_order_with_repeats(convention: str, truths, results):
    metric = TrackingScores(truths, convention)
    for index in (3, 1, 0, 4, 2, 3, 3):  # a sampler's padding repeats sequence 3
        metric.update(index, results[index])
    by_name = {truth.name: boxes for truth, boxes in zip(truths, results, strict=True)}
    expected = score_sequences(truths, by_name, convention=convention).values
    assert {name: value.item() for name, value in metric.compute().items()} == pytest.approx(expected, abs=1e-9)


def test_everything_of_the_functions_bit_by_bit(truths, results):
    for convention in ("seqtrack", "got10k_ao"):
        metric = TrackingScores(truths, convention)
        for index in (3, 1, 0, 4, 2):
            metric.update(index, results[index])
        by_name = {truth.name: boxes for truth, boxes in zip(truths, results, strict=True)}
        expected = score_sequences(truths, by_name, convention=convention)
        assert {name: value.item() for name, value in metric.compute().items()} == expected.values
        assert metric.scores == expected  # per sequence, curves


def test_scores_what_was_seen_and_nothing_after_a_reset(truths, results):
    metric = TrackingScores(truths)
    metric.update(2, results[2])
    expected = score_sequences(truths[2:3], {truths[2].name: results[2]}).values
    assert metric.compute()["AUC"].item() == pytest.approx(expected["AUC"], abs=1e-9)
    metric.reset()
    with pytest.raises(ValueError, match="nothing to score"), pytest.warns(UserWarning, match="before the ``update``"):
        metric.compute()


def test_survives_copying_and_leaves_checkpoints_alone(truths, results):
    metric = TrackingScores(truths)
    metric.update(0, results[0])
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute()["AUC"] == metric.compute()["AUC"]
    assert not metric.state_dict()


def _rank(rank: int, port: int, truths: list[GroundTruth], results: list[np.ndarray], out: str) -> None:
    """Rank 0 tracks sequences 0, 1, 2; rank 1 tracks 3, 4 and, as padding, 0 again."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        for convention in ("seqtrack", "got10k_ao"):
            metric = TrackingScores(truths, convention)
            for index in [(0, 1, 2), (3, 4, 0)][rank]:
                metric.update(index, results[index])
            scores = {name: value.item() for name, value in metric.compute().items()}
            torch.save(scores, Path(out) / f"{convention}_{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")  # fork, Python >= 3.12
def test_two_ranks_give_the_scores_of_one(tmp_path: Path, truths, results):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("fork")
    ranks = [context.Process(target=_rank, args=(rank, port, truths, results, str(tmp_path))) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0
    by_name = {truth.name: boxes for truth, boxes in zip(truths, results, strict=True)}
    for convention in ("seqtrack", "got10k_ao"):
        expected = score_sequences(truths, by_name, convention=convention).values
        for rank in (0, 1):
            assert torch.load(tmp_path / f"{convention}_{rank}.pt") == pytest.approx(expected, abs=1e-9)
