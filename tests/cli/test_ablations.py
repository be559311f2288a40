"""The rows of the paper's ablations: each is what it says on every base, learns and tracks; and their sweeps."""

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seqtrack_lit.cli import train
from seqtrack_lit.cli.hydra.overrides import options_of, with_implied
from seqtrack_lit.cli.hydra.runtime import config_folder
from seqtrack_lit.data.datamodule import TrackingData
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.files import flatten
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.runs.migrate import migrate_settings
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import run_tracker
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.module import SeqTrackModule
from seqtrack_lit.training.optim import AdamWSettings

CONF = config_folder()
BASES = {"b256": ["model=seqtrack_b256", "model.encoder.pretrained=false"], "tiny": ["experiment=quickstart"]}
SMALL = [
    "experiment=quickstart", "model.encoder.width=16", "model.encoder.depth=1", "model.decoder.width=16",
    "model.decoder.ffn=16", "data.train.generated.open.count=2", "data.validation.open.count=1",
    "data.validation.pairs=2", "data.validation.tracks=1", "train.global_batch=4", "train.samples=8",
    "train.epoch_samples=4",
]  # fmt: skip

# What each row changes beside tracker.name.
ROWS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "bidirectional": {"model.decoder.bidirectional": True},
    "separate": {"model.memory": "both", "model.encoder.joint": False},
    "whcxcy": {"tokenizer.order": "whcxcy"},
    "xyxy": {"tokenizer.order": "xyxy"},
    "memory_both": {"model.memory": "both"},
    "memory_mean": {"model.memory": "mean"},
    "likelihood_update": {"model.encoder.templates": 2, "tracker.update": "likelihood"},
    "temporal": {"model.decoder.past": 4},
    # beyond the paper
    "cached": {"model.encoder._target_": "seqtrack_lit.models.cached_encoder.CachedEncoder"},
    "independent": {"model.decoder.parallel": "independent"},
    "refined": {"model.decoder.parallel": "refined"},
}
SWEEPS = {
    "tab4_ablations": {"ablation": list(ROWS)[:8], "seed": ["0", "1", "2"]},
    "tab5_temporal": {"ablation": ["baseline", "temporal"], "seed": ["0", "1", "2"]},
    "faster": {"ablation": ["baseline", "cached", "independent", "refined"], "seed": ["0", "1", "2"]},
    "fig6_bins": {
        "ablation": ["baseline"], "tokenizer.bins": ["16", "32", "64", "128", "256", "512"], "seed": ["0", "1", "2"],
    },
}  # fmt: skip


@cache
def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", with_implied(overrides), return_hydra_config=True)


def settings(*overrides: str) -> dict[str, Any]:
    """What a training is made of, flat, interpolations resolved except those of the rows' own keys."""
    config = composed(*overrides)
    parts = ("tokenizer", "model", "tracker", "data", "train", "optimizer")
    plain = {part: OmegaConf.to_container(config[part], resolve=part in ("tokenizer", "tracker")) for part in parts}
    return flatten(migrate_settings(plain))


def small(row: str) -> tuple[SeqTrack, TrackingData, dict[str, Any]]:
    config = composed(*SMALL, f"ablation={row}")
    numbers = {"batch": 4, "epoch_samples": 4, "total_samples": 8, "seed": 0}
    torch.manual_seed(0)
    tracker: dict[str, Any] = OmegaConf.to_container(config.tracker, resolve=True)  # type: ignore[assignment]
    return instantiate(config.model, _convert_="all"), instantiate(config.data, _convert_="all", **numbers), tracker


def test_all_rows_are_listed() -> None:
    assert sorted(ROWS) == options_of(CONF, "ablation")


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("base", BASES)
def test_a_row_changes_what_it_says_and_nothing_else(base: str, row: str) -> None:
    first, other = (settings(*BASES[base], f"ablation={name}") for name in ("baseline", row))
    assert first.keys() == other.keys()
    changed = {key: other[key] for key in first if other[key] != first[key]}
    assert changed == {**ROWS[row], **({} if row == "baseline" else {"tracker.name": row})}


@pytest.mark.parametrize("base", BASES)
def test_the_baseline(base: str) -> None:
    config = composed(*BASES[base], "ablation=baseline")
    assert (config.model.encoder.templates, config.data.frame_sampling.templates, config.data.frame_sampling.past) == (
        1,
        1,
        0,
    )
    tracker = OmegaConf.to_container(config.tracker, resolve=False)
    assert tracker == {
        "name": "baseline", "window": True, "update": "none", "update_interval": 25, "update_threshold": 0.015,
        "search_factor": "${data.crops.search_factor}", "template_factor": "${data.crops.template_factor}",
    }  # fmt: skip


# An explicit inference option wins over the one that the ablation names; what it does not say is the paper's.
PAPER = {"window": True, "update": "likelihood", "update_interval": 25, "update_threshold": 0.015}
INFERENCE = {
    (): PAPER,
    ("ablation=xyxy",): {**PAPER, "update": "none"},
    ("ablation=xyxy", "inference=no_window"): {**PAPER, "window": False},
    ("ablation=xyxy", "inference=paper"): PAPER,
    ("ablation=likelihood_update",): PAPER,
    ("ablation=likelihood_update", "inference=naive_update"): {**PAPER, "update": "naive"},
    ("ablation=likelihood_update", "inference=no_update"): {**PAPER, "update": "none"},
    ("experiment=tab4_ablations", "ablation=likelihood_update"): {
        **PAPER, "update_interval": 10, "update_threshold": 0.12,
    },
}  # fmt: skip


@pytest.mark.parametrize("choices", INFERENCE, ids=" ".join)
def test_ablation_and_inference_do_not_undo_each_other(choices: tuple[str, ...]) -> None:
    tracker = OmegaConf.to_container(composed(*choices).tracker, resolve=True)
    assert {key: tracker[key] for key in PAPER} == INFERENCE[choices]  # type: ignore[call-overload,index]


CONTRADICTIONS = {
    "-m ablation=baseline inference=paper,no_window": "inference changes how a checkpoint tracks, not its training",
    "-m tracker.update_interval=10,25": "tracker.update_interval changes how a checkpoint tracks",
    "inference=no_window tracker.window=true": "inference=no_window means tracker.window=false, but",
    "inference=naive_update tracker.update=none": "inference=naive_update means tracker.update=naive, but",
}


@pytest.mark.parametrize("arguments", CONTRADICTIONS)
def test_contradictions(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seqtrack-train", "experiment=quickstart", *arguments.split()])
    with pytest.raises(SystemExit) as stop:
        train.main()
    line = capsys.readouterr().err
    assert (stop.value.code, line.count("\n")) == (2, 1)
    assert CONTRADICTIONS[arguments] in line


@pytest.mark.parametrize("row", ROWS)
def test_full_size(row: str) -> None:
    config = composed(*BASES["b256"], f"ablation={row}")
    with torch.device("meta"):
        net = instantiate(config.model, _convert_="all")
    changes = ROWS[row]
    assert net.templates == changes.get("model.encoder.templates", 1)
    assert net.encoder.joint is changes.get("model.encoder.joint", True)
    assert net.decoder.bidirectional is bool({"model.decoder.bidirectional", "model.decoder.parallel"} & changes.keys())
    assert net.past == config.data.frame_sampling.past == changes.get("model.decoder.past", 0)
    assert net.tokenizer.order == net.decoder.tokenizer.order == changes.get("tokenizer.order", "cxcywh")
    memory = {"search": 256, "both": 512, "mean": 1}[changes.get("model.memory", "search")]
    assert net.memory_position.shape == (1, memory, 256)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_learns_and_tracks(row: str) -> None:
    net, data, tracker = small(row)
    batch = next(iter(data.train_dataloader()))
    assert batch.templates.shape[1] == net.templates
    assert batch.past.shape == (4, net.past, 4)
    module = SeqTrackModule(
        net, optim=AdamWSettings(lr=1e-2), length=TrainingLength(8, 4, 4), soft_bins=1.5, dense_weight=3.0
    )
    optimizer = module.optim.build(net, 4)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        losses.append(module.losses(net, batch)["loss"])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]

    whole = data.val_sequences()[0]
    video = Video(whole.name, [whole.frames[t] for t in range(5)], whole.boxes[:5], whole.visible[:5])
    tracker["update_interval"] = 2
    track = run_tracker(SeqTrackTracker(net, **{**tracker, "update_threshold": 0.0}), video)
    assert np.isfinite(track.boxes).all()
    assert np.flatnonzero(track.updated).tolist() == ([2, 4] if "update" in row else [])
    never = run_tracker(SeqTrackTracker(net, **{**tracker, "update_threshold": 1.0}), video)
    assert not never.updated.any()
    naive = run_tracker(SeqTrackTracker(net, **{**tracker, "update": "naive"}), video)
    assert np.flatnonzero(naive.updated).tolist() == ([2, 4] if net.templates == 2 else [])


@pytest.mark.parametrize(("row", "rounds"), [("baseline", 4), ("bidirectional", 1), ("temporal", 4), ("refined", 2)])
def test_rounds_of_the_decoder(row: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence takes a round of the decoder for each token; bidirectional decoding a single one, refined two."""
    net, data, _ = small(row)
    batch, step, calls = next(iter(data.train_dataloader())), net.decoder.decode_step, []

    def counted(tokens: Any, state: Any, **rest: Any) -> Any:
        calls.append(tokens.shape[1])
        return step(tokens, state, **rest)

    monkeypatch.setattr(net.decoder, "decode_step", counted)
    SeqTrackModule(net, optim=AdamWSettings(), length=TrainingLength(8, 4, 4)).predict(batch)
    # temporal: 4 boxes x 4 tokens and START
    first = {"baseline": 1, "bidirectional": 4, "temporal": 17, "refined": 4}[row]
    assert calls == [first, *([4] if row == "refined" else [1, 1, 1])][:rounds]


def test_separate_search_features_know_nothing_of_the_template() -> None:
    for row, known in (("separate", False), ("memory_both", True)):
        net, data, _ = small(row)
        batch = next(iter(data.train_dataloader()))
        templates, search = normalise(batch.templates), normalise(batch.search)
        before, after = net.encode(templates, search), net.encode(templates.flip(0), search)
        tokens = net.encoder.search_tokens
        assert torch.equal(before[:, :tokens], after[:, :tokens]) is not known
        assert not torch.equal(before[:, tokens:], after[:, tokens:])


def test_past_boxes_of_a_batch_reach_the_loss() -> None:
    net, data, _ = small("temporal")
    batch = next(iter(data.train_dataloader()))
    module = SeqTrackModule(net, optim=AdamWSettings(), length=TrainingLength(8, 4, 4))
    for place in range(4):
        other = batch._replace(past=batch.past.clone())
        other.past[:, place] = torch.tensor([0.2, 0.2, 0.1, 0.1])
        assert module.losses(net, batch)["loss_cx"] != module.losses(net, other)["loss_cx"], place


@pytest.mark.parametrize("path", sorted([*CONF.glob("ablation/*.yaml"), *CONF.glob("experiment/*.yaml")]), ids=str)
def test_files_begin_with_their_command(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# seqtrack-train ")
    assert lines[1].endswith(f"{path.parent.name}={path.stem}")
    assert composed(*lines[1].split()[2:])
    if path.parent.name == "ablation":
        number = r"Tab\. 4 #\d+: LaSOT AUC \d\d\.\d, GOT-10k AO \d\d\.\d\.|Tab\. 5: .* not given|Beyond the paper"
        assert re.search(number, path.read_text())


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps(name: str) -> None:
    config = composed(f"experiment={name}")
    assert str(config.hydra.mode) == "RunMode.MULTIRUN"
    assert {key: str(value).split(",") for key, value in config.hydra.sweeper.params.items()} == SWEEPS[name]
    assert config.train.samples % config.train.epoch_samples == 0
    assert config.train.precision in ("fp32", "bf16")  # the same for all jobs, chosen by no processor
    last = composed(f"experiment={name}", *(f"{key}={values[-1]}" for key, values in SWEEPS[name].items()))
    assert last.name == name
    assert last.tracker.name == {"fig6_bins": "bins_512"}.get(name, last.hydra.runtime.choices.ablation)


def test_a_sweep_starts_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["hydra.sweeper.params.ablation='xyxy,likelihood_update'", "hydra.sweeper.params.seed=1"]
    chosen = ["experiment=tab4_ablations", *rows, "trainer=cpu"]
    sizes = [item for item in SMALL if not item.startswith("experiment=")]
    quick = ["callbacks.pictures=0", "data.validation.track_frames=4"]
    monkeypatch.setattr(sys, "argv", ["seqtrack-train", *chosen, *sizes, *quick])
    train.main()
    runs = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("runs/tab4_ablations/*/run.json")}
    assert sorted(runs) == ["ablation-likelihood_update__seed-1", "ablation-xyxy__seed-1"]
    assert {run["status"] for run in runs.values()} == {"finished"}
    kept = OmegaConf.load(tmp_path / "runs/tab4_ablations/ablation-likelihood_update__seed-1/config.yaml")
    assert (kept.model.encoder.templates, kept.tracker.update_interval, kept.tracker.update_threshold) == (2, 10, 0.12)


@pytest.mark.slow
def test_all_rows_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["callbacks.pictures=0", "data.validation.track_frames=4", "trainer=cpu", "train.precision=fp32"]
    monkeypatch.setattr(sys, "argv", ["seqtrack-train", "-m", "ablation=glob(*)", *SMALL, *quick, "name=rows"])
    train.main()
    runs = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("runs/rows/*/run.json")}
    assert sorted(runs) == sorted(f"ablation-{row}" for row in ROWS)
    assert {run["status"] for run in runs.values()} == {"finished"}
