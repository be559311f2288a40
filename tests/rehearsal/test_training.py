"""Training on the four sets as in earnest: every row, stopped and resumed, damaged frames, wrong commands."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.rehearsal.commands import Command, printed
from tests.rehearsal.conftest import PART, SHORT, TINY, Run, shortened
from tests.rehearsal.conftest import ROWS as PAGE
from tests.rehearsal.sets import TRAIN

from seqtrack_lit.cli.hydra.overrides import with_implied
from seqtrack_lit.runs.folder import read_rows
from seqtrack_lit.runs.migrate import migrate_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PAPER = ["data=paper", "train.precision=fp32", *TINY, *SHORT, *PART]
ROWS = {  # what a row is beside the baseline
    "baseline": {},
    "bidirectional": {"bidirectional": True},
    "separate": {"joint": False, "memory": "both"},
    "whcxcy": {"order": "whcxcy"},
    "xyxy": {"order": "xyxy"},
    "memory_both": {"memory": "both"},
    "memory_mean": {"memory": "mean"},
    "likelihood_update": {"templates": 2, "update": "likelihood"},
    "temporal": {"past": 4},
}


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def config(folder: Path) -> dict[str, Any]:
    """The settings of a run, those that conf/ leaves to their constructors among them."""
    return migrate_settings(yaml.safe_load((folder / "config.yaml").read_text()))


def weights(path: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(path, weights_only=True)["state_dict"]
    return saved


def one_line(screen: str, *words: str) -> bool:
    """Whether an error is one line that says all of these."""
    return "Traceback" not in screen and any(all(word in line for word in words) for line in screen.splitlines())


def test_every_row_trains_on_the_four_sets(trained: dict[str, Path]) -> None:
    assert set(ROWS) <= set(trained)
    for row, folder in trained.items():
        known = facts(folder)
        assert known["status"] == "finished", row
        assert {name: part["videos"] for name, part in known["data"].items()} == TRAIN
        lines = read_rows(folder / "metrics.csv")
        scores = [float(line[key]) for line in lines for key in ("val/auc", "val/ao") if line.get(key)]
        assert len(scores) in (2, 4)  # auc and ao of each validation that tracks; the last one does
        assert all(0 <= score <= 100 for score in scores)
        assert all(math.isfinite(float(line["train/loss"])) for line in lines if line.get("train/loss"))
        assert {path.name for path in (folder / "checkpoints").glob("*.ckpt")} >= {"best.ckpt", "last.ckpt"}


def test_every_row_is_what_its_name_says(trained: dict[str, Path]) -> None:
    for row, changes in ROWS.items():
        kept = config(trained[row])
        found = {
            **kept["tokenizer"], "memory": kept["model"]["memory"], "update": kept["tracker"]["update"],
            **{key: kept["model"]["decoder"][key] for key in ("bidirectional", "past")},
            **{key: kept["model"]["encoder"][key] for key in ("joint", "templates")},
        }  # fmt: skip
        expected = {
            "bidirectional": False, "joint": True, "order": "cxcywh", "memory": "search", "templates": 1,
            "update": "none", "past": 0, **changes,
        }  # fmt: skip
        assert {key: found[key] for key in expected} == expected, row
        assert kept["tracker"]["window"] is True


def test_a_run_says_its_precision(trained: dict[str, Path], run: Run) -> None:
    """A property of the processor decides, no stopwatch: the same words whenever it is asked."""
    said = set()
    for _ in range(2):
        done = run(
            "seqtrack-train", "data=paper", "dry_run=true", "train.precision=auto", *TINY, *SHORT[:3], *SHORT[4:], *PART
        )
        assert done.code == 0, done.screen
        said.add(next(line for line in done.screen.splitlines() if line.startswith("precision ")))
    assert len(said) == 1


def test_a_dry_run_validates_and_keeps_nothing(run: Run, place: Path) -> None:
    before = {path.name for path in (place / "runs").iterdir()}
    done = run("seqtrack-train", *PAPER, "dry_run=true", "name=dry")
    assert done.code == 0, done.screen
    assert "validation: a batch of pairs and 1 video of 100 frames" in done.screen
    assert {path.name for path in (place / "runs").iterdir()} == before


def test_stopped_and_resumed_is_bitwise_the_same(trained: dict[str, Path], run: Run, place: Path) -> None:
    """By SIGTERM in the first epoch, then by the folder alone; compared with the sweep's row."""
    line = [
        word for word in shortened(printed(PAGE)[0]) if word != "-m" and not word.startswith(("ablation=", "name="))
    ]
    line += ["ablation=temporal", "hydra.run.dir=runs/stopped"]
    metrics = place / "runs/stopped/metrics.csv"
    stopped = Command(line, place).stop_when(lambda: metrics.exists() and len(read_rows(metrics)) > 0)
    assert stopped.code == 128 + 15, stopped.screen
    assert facts(place / "runs/stopped")["status"] == "stopped"
    resumed = run("seqtrack-train", "resume=runs/stopped")
    assert resumed.code == 0, resumed.screen
    assert "going on from last.ckpt" in resumed.screen
    whole, again = (weights(path / "checkpoints/last.ckpt") for path in (trained["temporal"], place / "runs/stopped"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_what_was_trained_before_a_failing_validation_is_kept(run: Run, place: Path) -> None:
    data = place / "damaged"
    shutil.copytree(place / "data", data, copy_function=lambda source, target: Path(target).hardlink_to(source))
    frame = data / "got10k/val/GOT-10k_Val_000001/00000050.jpg"
    whole = frame.read_bytes()
    frame.unlink()
    frame.write_bytes(whole[:50])
    failed = run("seqtrack-train", *PAPER, "hydra.run.dir=runs/damaged", f"paths.data={data}")
    assert failed.code != 0
    assert "00000050.jpg" in failed.screen
    assert list((place / "runs/damaged/checkpoints").glob("last.ckpt")), "an epoch is lost"
    frame.unlink()
    frame.write_bytes(whole)
    mended = run("seqtrack-train", "resume=runs/damaged")
    assert mended.code == 0, mended.screen
    assert [line for line in read_rows(place / "runs/damaged/metrics.csv") if line.get("val/auc")]


def test_an_inference_option_beside_an_ablation_counts(run: Run) -> None:
    shown = run("seqtrack-train", "ablation=xyxy", "inference=no_window", "--cfg", "job")
    assert shown.code == 0
    tracker = yaml.safe_load(shown.screen)["tracker"]
    assert (tracker["window"], tracker["name"]) == (False, "xyxy")
    swept = run("seqtrack-train", "-m", "ablation=baseline", "inference=paper,no_window", "name=twice", *PAPER)
    assert swept.code == 2
    assert one_line(swept.screen, "inference", "seqtrack-evaluate")


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("+trainer.max_epochs=3", "train.samples"),
        ("+trainer.precision=16", "train.precision"),
        ("+trainer.accumulate_grad_batches=2", "train.device_batch"),
        ("+trainer.gradient_clip_val=1", "optimizer."),
    ],
)
def test_keys_of_the_trainer_that_are_the_project_s(run: Run, key: str, instead: str) -> None:
    done = run("seqtrack-train", *PAPER, "dry_run=true", key)
    assert done.code == 2, done.screen
    assert one_line(done.screen, key.removeprefix("+").partition("=")[0], instead)


def test_folders_of_jobs_lie_in_the_sweep(run: Run, place: Path) -> None:
    """Also where a group's name or a value has a slash."""
    choices = ["data/validation=got10k,generated", f"paths.data={place}/data,data"]
    done = run("seqtrack-train", "-m", *choices, "name=slashes", *PAPER)
    assert done.code == 0, done.screen
    assert sum(path.parent.parent == place / "runs/slashes" for path in place.glob("runs/slashes/**/run.json")) == 4
    compared = run("seqtrack-report", "runs=[runs/slashes]")
    assert compared.code == 0, compared.screen


def test_two_processes_and_one_validation_pair(run: Run, place: Path) -> None:
    two = ["trainer=ddp", "trainer.devices=2", "hydra.run.dir=runs/two_processes"]
    done = run("seqtrack-train", *two, *PAPER, "data.validation.pairs=1")
    assert done.code == 0, done.screen
    assert facts(place / "runs/two_processes")["status"] == "finished"


WRONG = {
    "model=seqtrack_l256 model/encoder=mae_b16": ("model/encoder",),
    "model=seqtrack_b384 model/encoder=dinov2_b14": ("14",),
    "ablation=separate model/encoder=dinov2_b14": ("joint",),
    "model=seqtrack_tiny trainer.accelerator=mps": ("mps", "trainer=cpu"),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_cannot_be_is_refused_in_one_line(run: Run, line: str) -> None:
    small = [item for item in SHORT if not item.startswith("trainer.")]
    done = run("seqtrack-train", "data=paper", *line.split(), *small, *PART, "name=wrong")
    assert done.code == 2, done.screen
    assert one_line(done.screen, *WRONG[line])


def test_temporal_samples_of_all_sets_stand_on_the_last_past_box(place: Path) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    root = str(Path(__file__).parents[2] / "conf")
    with initialize_config_dir(root, version_base="1.3"):
        overrides = ["ablation=temporal", "data=paper", f"paths.data={place}/data", *TINY, *SHORT, *PART]
        composed = compose("train", with_implied(overrides))
    module = instantiate(composed.data, batch=4, epoch_samples=80, total_samples=80, seed=0, _convert_="all")
    drawn = [module.samples()[0, index][0] for index in range(80)]
    pairs = [batch for loader in module.val_dataloader() for batch in loader]
    assert {int(sample.dataset) for sample in drawn} == set(range(4))
    for past in (*(sample.past for sample in drawn), *(row for batch in pairs for row in batch.past)):
        assert past[-1, :2].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
