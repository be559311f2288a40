"""What comes after a training: evaluation in every way, reports, files for the servers, profile; and B256 whole."""

import hashlib
import json
import re
import zipfile
from pathlib import Path

import pytest
from tests.rehearsal.commands import ROOT
from tests.rehearsal.conftest import PART, Run
from tests.rehearsal.sets import GOT10K, LASOT, TRACKINGNET

from seqtrack_lit.runs.folder import read_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
INFERENCE = sorted(path.stem for path in (ROOT / "conf/inference").glob("*.yaml"))
PLAIN = ["media=false", "device=cpu", "complete=false"]


def settings(folder: Path) -> tuple[str, bool]:
    """How the results in a folder were tracked: update rule, window."""
    tracker = json.loads((folder / "identity.json").read_text())["tracker"]
    return tracker["update"], tracker["window"]


def test_every_inference_option_in_one_sweep(trained: dict[str, Path], run: Run) -> None:
    row = trained["likelihood_update"]
    line = ["-m", f"run={row}", "benchmark=got10k_test", f"inference={','.join(INFERENCE)}", *PLAIN]
    done = run("seqtrack-evaluate", *line)
    assert done.code == 0, done.screen
    found = [settings(path) for path in sorted(row.glob("results/*/got10k_test"))]
    # one folder each; the checkpoint's own is likelihood_update
    assert len(found) == len(set(INFERENCE) - {"default"}), found
    assert set(found) == {("likelihood", True), ("naive", True), ("none", True), ("likelihood", False)}
    again = run("seqtrack-evaluate", *line)
    assert again.code == 0, again.screen
    assert f"{len(GOT10K['test'])} were there" in again.screen


def test_the_generated_benchmark_leaves_updates_on(trained: dict[str, Path], run: Run) -> None:
    few = ["benchmark.count=1", "+benchmark.length=27", "tracker.update=naive", "tracker.name=often"]
    done = run("seqtrack-evaluate", f"run={trained['likelihood_update']}", *few, "media=false", "device=cpu")
    assert done.code == 0, done.screen
    kept = json.loads((trained["likelihood_update"] / "results/often/generated/identity.json").read_text())
    assert kept["tracker"]["update_interval"] == 25  # the checkpoint's


def test_the_last_checkpoint_can_be_evaluated(trained: dict[str, Path], run: Run) -> None:
    """The paper evaluates the last epoch, not the best of many noisy values."""
    few = ["benchmark.count=1", "+benchmark.length=5", "media=false", "device=cpu"]
    for which in ("last", "best"):
        named = f"tracker.name={which}"
        done = run("seqtrack-evaluate", f"run={trained['xyxy']}", f"eval_checkpoint={which}", named, *few)
        assert done.code == 0, done.screen
        kept = json.loads((trained["xyxy"] / f"results/{which}/generated/identity.json").read_text())
        path = trained["xyxy"] / f"checkpoints/{which}.ckpt"
        assert kept["weights"] == hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def test_results_scores_pages_and_zips(trained: dict[str, Path], run: Run, place: Path) -> None:
    row = trained["temporal"]
    sets = {"lasot": 1, "trackingnet": 1, "got10k_test": 2, "got10k_val": 2}
    for name in sets:
        done = run(
            "seqtrack-evaluate", f"run={row}", f"benchmark={name}", *[*PLAIN, f"media={name == 'lasot'}".lower()]
        )
        assert done.code == 0, done.screen
    results = row / "results/temporal"
    frames = {**LASOT, **TRACKINGNET["TEST"], **GOT10K["test"], **GOT10K["val"]}
    for name, count in sets.items():
        files = [path for path in (results / name).glob("*.txt") if path.stem in frames]
        assert {path.stem: len(path.read_text().splitlines()) for path in files} == {
            path.stem: frames[path.stem] for path in files
        }
        assert len(files) == count
    table = run("seqtrack-report", f"results=[{results}]", "benchmark=lasot", "complete=false", "format=csv")
    assert table.code == 0, table.screen
    assert re.search(r"temporal\W+\d", table.screen)
    for server, name in (("got10k", "got10k_test"), ("trackingnet", "trackingnet")):
        line = [f"submit={server}", f"benchmark={name}", "complete=false"]
        made = run("seqtrack-report", *line, f"results=[{results}]", f"zip={server}.zip")
        assert made.code == 0, made.screen
        with zipfile.ZipFile(place / f"{server}.zip") as archive:
            assert archive.testzip() is None
        checked = run("seqtrack-report", *line, f"check={server}.zip")
        assert checked.code == 0, checked.screen
    assert run("seqtrack-report", f"run={row}").code == 0
    assert (row / "report/index.html").is_file()
    compared = run("seqtrack-report", "runs=[runs/tab4]", "page=compared")
    assert compared.code == 0, compared.screen
    assert (place / "compared/index.html").is_file()


def test_profile_of_what_was_trained(trained: dict[str, Path], run: Run) -> None:
    best = trained["likelihood_update"] / "checkpoints/best.ckpt"
    done = run("seqtrack-profile", f"checkpoint={best}", "device=cpu", "frames=2", "image_size=[64,48]")
    assert done.code == 0, done.screen


def test_the_paper_s_models_start_from_mae(run: Run) -> None:
    """Without network and file, one line says which file to give and what to type for random weights."""
    for model in ("seqtrack_b256", "seqtrack_b384", "seqtrack_l256", "seqtrack_l384"):
        done = run("seqtrack-train", f"model={model}", "data=paper", "train.samples=1", "name=mae", *ONE, *PART)
        assert done.code == 2, done.screen
        lines = [line for line in done.screen.splitlines() if "pretrained=false" in line]
        assert lines, done.screen
        assert "Traceback" not in done.screen
        assert "mae" in lines[0].lower()


ONE = [
    "train.epoch_samples=1", "train.global_batch=1", "train.precision=fp32", "data.workers=0", "trainer=cpu",
    "data.validation.pairs=1", "data.validation.tracks=1", "data.validation.track_frames=4", "callbacks.pictures=1",
    "callbacks.clips=0", "callbacks.log_every=1",
]  # fmt: skip


def test_b256_whole_takes_a_step_validates_and_tracks(run: Run, place: Path) -> None:
    start = ["model=seqtrack_b256", "model.encoder.pretrained=false", "hydra.run.dir=runs/b256"]
    done = run("seqtrack-train", *start, "data=paper", "train.samples=1", *ONE, *PART)
    assert done.code == 0, done.screen
    facts = json.loads((place / "runs/b256/run.json").read_text())
    assert (facts["status"], facts["parameters"]) == ("finished", 90596002)
    assert facts["start"] == "random weights"
    (scores,) = (line for line in read_rows(place / "runs/b256/metrics.csv") if line.get("val/auc"))
    assert 0 <= float(scores["val/auc"]) <= 100
    assert "random weights" in done.screen  # the summary says what it started from
