"""seqtrack-train in processes of its own: killed, resumed, several processes, a sweep of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from seqtrack_lit.runs.folder import read_rows

pytestmark = pytest.mark.slow
TINY = [
    "model=seqtrack_tiny", "model.encoder.width=32", "model.encoder.depth=1", "model.decoder.width=32",
    "model.decoder.ffn=32", "model.decoder.dropout=0.1", "data=quickstart", "data.train.generated.open.count=4",
    "data.validation.open.count=4", "data.validation.pairs=4", "data.validation.tracks=2",
    "data.validation.track_frames=4", "optimizer=muon", "debug=fast", "train.samples=160", "train.epoch_samples=80",
    "callbacks.pictures=2", "callbacks.checkpoint_steps=3", "train.ema_decay=0.9",
]  # fmt: skip
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
LIMIT = 600  # seconds; a process takes half a minute to import everything on a busy machine


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    settings = [] if arguments[0].startswith("resume=") else TINY  # a resumed run brings its own
    command = [sys.executable, "-m", "seqtrack_lit.cli.train", *settings, *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: Any = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
    return subprocess.Popen(command, cwd=folder, env=env, **pipes)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        screen, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, screen


def last(folder: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    return saved


def numbers(folder: Path) -> list[dict[str, str]]:
    rows = read_rows(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in rows]


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def wait_for_step(folder: Path, step: int) -> None:
    for _ in range(LIMIT * 20):
        path = folder / "metrics.csv"
        if path.exists() and any(int(row["step"]) >= step for row in read_rows(path)):
            return
        time.sleep(0.05)
    raise TimeoutError


def wait_for_checkpoint(folder: Path) -> None:
    """Until one is being written."""
    for _ in range(LIMIT * 1000):
        if (folder / "checkpoints/part.ckpt").exists():
            return
        time.sleep(0.001)
    raise TimeoutError


@pytest.mark.timeout(6 * LIMIT)
@pytest.mark.parametrize(
    "settings",
    [["data.workers=0"], ["data.workers=2", "ablation=temporal", "train.precision=bf16", "train.device_batch=4"]],
    ids=["plain", "workers, past boxes, bf16, accumulation"],
)
def test_killed_at_once_and_resumed(tmp_path: Path, settings: list[str]) -> None:
    """kill -9 in the middle and while a checkpoint is written, two interrupts: the rest is bitwise the same."""
    assert finish(start(tmp_path, *settings, "trainer=cpu", "hydra.run.dir=whole"))[0] == 0
    process = start(tmp_path, *settings, "trainer=cpu", "hydra.run.dir=parts")
    wait_for_step(tmp_path / "parts", 5)
    os.killpg(process.pid, signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    assert json.loads((tmp_path / "parts/run.json").read_text())["status"] == "running"

    process = start(tmp_path, "resume=parts", "callbacks.checkpoint_steps=1")
    wait_for_step(tmp_path / "parts", 8)
    wait_for_checkpoint(tmp_path / "parts")
    os.killpg(process.pid, signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL

    process = start(tmp_path, "resume=parts")
    wait_for_step(tmp_path / "parts", 12)
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
    code, screen = finish(process)
    assert code == 130, screen
    assert json.loads((tmp_path / "parts/run.json").read_text())["status"] == "stopped"

    code, screen = finish(start(tmp_path, "resume=parts"))
    assert code == 0, screen
    assert "going on from" in screen
    whole, parts = last(tmp_path / "whole"), last(tmp_path / "parts")
    for part in ("state_dict", "ema"):
        assert all(torch.equal(value, parts[part][name]) for name, value in whole[part].items())
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "parts")


@pytest.mark.timeout(3 * LIMIT)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_from_outside(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """The signal reaches the loader's workers too, as Ctrl-C does."""
    process = start(tmp_path, "data.workers=2", "trainer=cpu", "hydra.run.dir=run")
    wait_for_step(tmp_path / "run", 4)
    os.killpg(process.pid, number)
    found, screen = finish(process)
    assert found == code, screen
    assert "saved; go on with resume=" in screen
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "stopped"
    assert last(tmp_path / "run")["global_step"] >= 4


@pytest.mark.timeout(2 * LIMIT)
def test_an_interrupt_in_the_first_seconds_is_no_traceback(tmp_path: Path) -> None:
    """While libraries are imported, while the sweep is planned, while its first job is built."""
    for seconds in (0.3, 1.5, 4.0, 8.0):
        process = start(tmp_path, "trainer=cpu", "-m", "seed=0,1", "name=sweep")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        code, screen = finish(process)
        assert code in (130, -signal.SIGINT), (seconds, code, screen)
        assert "interrupted" in screen or "stopped by SIGINT" in screen
        assert "Traceback" not in screen


@pytest.mark.timeout(2 * LIMIT)
@pytest.mark.parametrize("pairs", [1, 3])
def test_one_process_has_fewer_validation_pairs(tmp_path: Path, pairs: int) -> None:
    """One pair for both, or two and one: nobody waits for numbers that another one does not have."""
    code, screen = finish(start(tmp_path, *TWO, f"data.validation.pairs={pairs}", "hydra.run.dir=out"))
    assert code == 0, screen
    row = read_rows(tmp_path / "out/metrics.csv")[-1]
    assert row["val/pair_iou"]
    assert bool(row.get("val/reliance")) == (pairs == 3)
    assert row["val/auc"]


@pytest.mark.timeout(4 * LIMIT)
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """Same samples, same step: weights agree up to the order of sums; a stopped pair goes on exactly."""
    one = ["trainer=cpu", "model.decoder.dropout=0.0", "hydra.run.dir=one"]
    assert finish(start(tmp_path, *one))[0] == 0
    code, screen = finish(start(tmp_path, *TWO, "model.decoder.dropout=0.0", "hydra.run.dir=two"))
    assert code == 0, screen
    assert "sync_dist" not in screen
    assert "2 device(s) x 4 x 1 accumulated" in screen
    single, pair = last(tmp_path / "one"), last(tmp_path / "two")
    for name, value in single["state_dict"].items():
        assert torch.allclose(value, pair["state_dict"][name], atol=2e-2), name
    assert len(read_rows(tmp_path / "two/metrics.csv")) == 20
    process = start(tmp_path, *TWO, "model.decoder.dropout=0.0", "hydra.run.dir=parts")
    wait_for_step(tmp_path / "parts", 5)
    os.kill(process.pid, signal.SIGTERM)  # the first process only: both must stop
    code, screen = finish(process)
    assert code == 143, screen
    code, screen = finish(start(tmp_path, "resume=parts"))
    assert code == 0, screen
    parts = last(tmp_path / "parts")
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in pair["state_dict"].items())
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "two")  # means over both processes
    means = [
        [float(row["train/loss"]) for row in read_rows(tmp_path / name / "metrics.csv")] for name in ("one", "two")
    ]
    assert means[1] == pytest.approx(means[0], rel=1e-3)


@pytest.mark.timeout(3 * LIMIT)
@pytest.mark.parametrize(
    "launcher", [[], ["hydra/launcher=local", "hydra.launcher.devices=['0,1','2,3']"]], ids=["basic", "local"]
)
def test_two_processes_inside_a_sweep(tmp_path: Path, launcher: list[str]) -> None:
    """One job is wrong: the other one is not touched, the log of the wrong one says why, exit code 1."""
    sweep = [*TWO, *launcher, "train.samples=80", "-m", "tokenizer.bins=1,32", "name=sweep"]
    code, screen = finish(start(tmp_path, *sweep))
    assert code == 1, screen
    folder = tmp_path / "runs/sweep/tokenizer.bins-32"
    assert last(folder)["state_dict"]["net.decoder.embedding.weight"].shape[0] == 32 + 2
    assert facts(folder)["status"] == "finished"
    assert "2 device(s) x 4 x 1 accumulated" in (folder / "train.log").read_text()
    path = folder.with_name("tokenizer.bins-1") / "train.log"
    assert "job 0 (tokenizer.bins=1) failed: tokenizer.bins must be" in screen
    assert f"its log: {path}" in screen
    assert "bins must be" in path.read_text()


@pytest.mark.timeout(4 * LIMIT)
@pytest.mark.parametrize(
    "launcher", [[], ["hydra/launcher=local", "hydra.launcher.devices=[0]"]], ids=["basic", "local"]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_interrupted_in_its_second_job_and_repeated(
    tmp_path: Path, launcher: list[str], number: signal.Signals
) -> None:
    """Three results in the end, the first one not trained twice, the second one continued."""
    sweep = ["trainer=cpu", *launcher, "train.samples=160", "-m", "name=sweep", "optimizer.clip=1.0,2.0,3.0"]
    first, second, third = (tmp_path / f"runs/sweep/optimizer.clip-{clip}" for clip in ("1.0", "2.0", "3.0"))
    process = start(tmp_path, *sweep)
    wait_for_step(second, 4)
    os.killpg(process.pid, number)
    code, screen = finish(process)
    assert code == (130 if number == signal.SIGINT else -number), screen
    assert facts(first)["status"] == "finished"
    assert facts(second)["status"] == ("stopped" if number == signal.SIGINT else "running")
    assert not (third / "checkpoints").exists()
    before = (first / "checkpoints/last.ckpt").stat().st_mtime_ns, (first / "metrics.csv").read_text()
    code, screen = finish(start(tmp_path, *sweep))
    assert code == 0, screen
    assert "optimizer.clip-1.0: finished, is skipped" in screen
    assert re.search("optimizer.clip-2.0: (stopped|running), goes on", screen)
    assert "optimizer.clip-3.0: missing, is run" in screen
    assert screen.count("already finished") == 1
    assert before == ((first / "checkpoints/last.ckpt").stat().st_mtime_ns, (first / "metrics.csv").read_text())
    assert [facts(folder)["status"] for folder in (first, second, third)] == ["finished"] * 3
    assert [facts(folder)["group"] for folder in (first, second, third)] == ["sweep"] * 3
    assert len(read_rows(second / "metrics.csv")) == 20
    assert "going on from last.ckpt" in (second / "train.log").read_text()


@pytest.mark.timeout(4 * LIMIT)
def test_a_sweep_by_submitit_that_is_told_its_time_is_up(tmp_path: Path) -> None:
    """Its local executor, as Slurm would: the signal makes the job save; put into the queue again, it goes on."""
    sweep = ["trainer=cpu", "data.workers=1", "hydra/launcher=submitit_local", "-m", "name=sweep", "seed=0,1"]
    process = start(tmp_path, *sweep)
    folder = tmp_path / "runs/sweep/seed-1"
    wait_for_step(folder, 4)
    os.kill(int((folder / ".lock").read_text().split()[1]), signal.SIGUSR2)
    code, screen = finish(process)
    assert code == 0, screen
    said = (folder / "train.log").read_text()
    assert "stopped by SIGUSR2" in said
    assert "going on from last.ckpt" in said
    assert [facts(folder.with_name(f"seed-{seed}"))["status"] for seed in (0, 1)] == ["finished"] * 2
    assert len(read_rows(folder / "metrics.csv")) == 20


@pytest.mark.timeout(2 * LIMIT)
def test_a_search(tmp_path: Path) -> None:
    """Optuna, two trials; repeated, they are not trained again and the answer is the same."""
    search = ["trainer=cpu", "train.samples=80", "experiment=search", "hydra.sweeper.n_trials=2"]
    code, screen = finish(start(tmp_path, *search, "name=search"))
    assert code == 0, screen
    found = (tmp_path / "runs/search/optimization_results.yaml").read_text()
    assert "best_value" in found
    jobs = list(tmp_path.glob("runs/search/*/run.json"))
    assert len(jobs) == 2
    assert f"best_value: {max(facts(job.parent)['best'] for job in jobs)}" in found
    code, screen = finish(start(tmp_path, *search, "name=search"))
    assert code == 0, screen
    assert screen.count("already finished") == 2
    assert (tmp_path / "runs/search/optimization_results.yaml").read_text() == found


@pytest.mark.timeout(4 * LIMIT)
def test_a_sweep_with_a_failing_job_then_repeated(tmp_path: Path) -> None:
    """The second of three jobs is wrong: the others run, exit code 1; mended, only what is missing runs."""
    sweep = ["trainer=cpu", "train.samples=80", "-m", "name=sweep"]
    code, screen = finish(start(tmp_path, *sweep, "optimizer.clip=1.0,-1.0,2.0"))
    assert code == 1, screen
    assert "job 1 (optimizer.clip=-1.0) failed: optimizer.clip must be a number > 0, got -1.0" in screen
    before = {path: path.stat().st_mtime for path in tmp_path.glob("runs/sweep/*/checkpoints/last.ckpt")}
    assert len(before) == 2
    code, screen = finish(start(tmp_path, *sweep, "optimizer.clip=1.0,3.0,2.0"))
    assert code == 0, screen
    assert screen.count("already finished") == 2
    assert all(path.stat().st_mtime == when for path, when in before.items())
    assert len(list(tmp_path.glob("runs/sweep/*/checkpoints/last.ckpt"))) == 3
