"""Runs whose processes torchrun or Slurm started: one folder, one run, the same gradient."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from seqtrack_lit.cli.launch.processes import agree_on_start, check_processes, slurm_job, started_outside
from seqtrack_lit.cli.train import _newest
from seqtrack_lit.runs.folder import read_rows

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2"}
LAUNCHED = {
    "alone": ({}, 1),
    "Lightning's own processes": ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 1),
    "torchrun": (TORCHRUN, 4),
    "torchrun inside a Slurm job": ({**TORCHRUN, **SLURM, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2"}, 4),
    "a job step": ({**SLURM, "SLURM_STEP_ID": "0"}, 4),
    "a batch script without srun": (SLURM, 1),
    "an interactive job": ({**SLURM, "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "interactive"}, 1),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """None of the variables that launchers set."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "SEQTRACK_")) or name in TORCHRUN:
            monkeypatch.delenv(name)
    monkeypatch.setenv("SEQTRACK_START", "")  # so that it is taken away afterwards
    monkeypatch.delenv("SEQTRACK_START")
    return monkeypatch


@pytest.mark.parametrize("name", LAUNCHED)
def test_who_started_us(environment: pytest.MonkeyPatch, name: str) -> None:
    variables, processes = LAUNCHED[name]
    for variable, value in variables.items():
        environment.setenv(variable, value)
    assert started_outside() == processes
    check_processes(processes)
    if processes > 1:
        advice = r"4 processes were started .* for 1: add trainer=ddp trainer.devices=2 trainer.num_nodes=2"
        with pytest.raises(ValueError, match=advice):
            check_processes(1)
    elif name == "a batch script without srun":
        with pytest.raises(ValueError, match="for 2 processes, but in a Slurm job Lightning starts none"):
            check_processes(2)
    else:
        check_processes(2)


def test_a_job_step_names_the_folder_by_its_number(environment: pytest.MonkeyPatch) -> None:
    agree_on_start()
    assert "SEQTRACK_START" not in os.environ
    for variable, value in {**SLURM, "SLURM_STEP_ID": "0"}.items():
        environment.setenv(variable, value)
    agree_on_start()
    assert os.environ["SEQTRACK_START"] == "slurm_4711"
    environment.setenv("SLURM_STEP_ID", "2")
    agree_on_start()
    assert os.environ["SEQTRACK_START"] == "step_2_slurm_4711"


def test_a_slurm_job_without_steps_shares_no_second_with_another(environment: pytest.MonkeyPatch) -> None:
    for variable, value in {**SLURM, "SLURM_NTASKS": "1"}.items():
        environment.setenv(variable, value)
    agree_on_start()
    assert os.environ["SEQTRACK_START"].endswith("_slurm_4711")
    assert slurm_job() == "4711"
    environment.setenv("SLURM_JOB_NAME", "interactive")
    assert slurm_job() is None


def test_a_slurm_job_takes_no_other_job_s_run(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.chdir(tmp_path)
    theirs, mine = (tmp_path / "runs/seqtrack" / name for name in ("slurm_1", "2026-01-01_00-00-00_slurm_4711"))
    (theirs / "checkpoints").mkdir(parents=True)
    assert _newest(["resume=auto"]) == theirs.relative_to(tmp_path)
    for variable, value in {**SLURM, "SLURM_NTASKS": "1"}.items():
        environment.setenv(variable, value)
    agree_on_start()
    assert _newest(["resume=auto"]) is None
    assert "resume=runs/seqtrack/slurm_1 goes on with the newest" in capsys.readouterr().out
    (mine / "checkpoints").mkdir(parents=True)  # before it was requeued
    assert _newest(["resume=auto"]) == mine.relative_to(tmp_path)


TINY = [
    "model=seqtrack_tiny", "model.encoder.width=32", "model.encoder.depth=1", "model.decoder.width=32",
    "model.decoder.ffn=32", "data=quickstart", "data.train.generated.open.count=4", "data.validation.open.count=4",
    "data.validation.pairs=4", "data.validation.tracks=2", "data.validation.track_frames=4", "optimizer=muon",
    "debug=fast", "train.samples=160", "train.epoch_samples=80", "callbacks.pictures=0", "trainer.accelerator=cpu",
]  # fmt: skip
# What the runs of these tests do besides training.
CALLBACKS = '''
import os, torch
from lightning.pytorch import Callback


class KeepGradients(Callback):
    """Before clipping; the first two steps."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.is_global_zero and trainer.global_step < 2:
            torch.save({name: p.grad for name, p in module.named_parameters() if p.grad is not None},
                       f"{os.environ['KEEP']}_{trainer.global_step}.pt")


class SpoilOne(Callback):
    """The loss of process 1 is no number from the third step on."""

    def on_train_start(self, trainer, module):
        losses = module.losses

        def spoiled(net, batch):
            answer = losses(net, batch)
            bad = trainer.global_rank == 1 and trainer.global_step >= 2 and net.training
            return {**answer, "loss": answer["loss"] * (float("nan") if bad else 1.0)}

        module.losses = spoiled
'''
LIMIT = 600


def start(folder: Path, launcher: list[str], *arguments: str, **variables: str) -> subprocess.Popen[str]:
    (folder / "helpers.py").write_text(CALLBACKS)
    path = os.pathsep.join([str(folder), *sys.path[:1], os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **variables}
    command = [sys.executable, *launcher, "-m", "seqtrack_lit.cli.train", *TINY, *arguments]
    pipes: Any = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
    return subprocess.Popen(command, cwd=folder, env=env, **pipes)


def finish(*processes: subprocess.Popen[str]) -> list[tuple[int, str]]:
    answers = []
    try:
        for process in processes:
            screen, _ = process.communicate(timeout=LIMIT)
            answers.append((process.returncode, screen))
    except subprocess.TimeoutExpired:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
        raise
    return answers


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@pytest.mark.slow
@pytest.mark.timeout(4 * LIMIT)
def test_a_step_is_the_same_however_it_is_shared(tmp_path: Path) -> None:
    """A batch of 8 at once; 2 accumulated batches of 4; 2 nodes, begun apart, with 4 each: one gradient, one folder."""
    common = ["+callbacks.extra.keep._target_=helpers.KeepGradients", "train.samples=16", "train.epoch_samples=16"]
    alone = [*common, "trainer.devices=1"]
    first = start(tmp_path, [], *alone, "name=one", KEEP="one")
    second = start(tmp_path, [], *alone, "train.device_batch=4", "name=parts", KEEP="parts")
    for code, screen in finish(first, second):
        assert code == 0, screen
    where = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
    where += [f"--master-port={free_port()}"]
    shared = [*common, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2"]
    nodes = []
    for rank in (0, 1):
        nodes.append(start(tmp_path, [*where, f"--node-rank={rank}"], *shared, "name=nodes", KEEP="nodes"))
        time.sleep(2)
    for code, screen in finish(*nodes):
        assert code == 0, screen
    (folder,) = (tmp_path / "runs/nodes").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    assert json.loads((folder / "run.json").read_text())["length"]["devices"] == 2
    for step in (0, 1):
        one, parts, both = (
            torch.load(tmp_path / f"{n}_{step}.pt", weights_only=True) for n in ("one", "parts", "nodes")
        )
        size = max(float(gradient.abs().max()) for gradient in one.values())
        for name, gradient in one.items():
            # Muon rounds to bfloat16 inside: after a step the weights differ a little
            close = 1e-6 * size if step == 0 else 2e-2 * size
            assert torch.allclose(gradient, parts[name], rtol=1e-4, atol=close), (step, name)
            assert torch.allclose(gradient, both[name], rtol=1e-4, atol=close), (step, name)


@pytest.mark.slow
@pytest.mark.timeout(3 * LIMIT)
def test_torchrun_and_a_loss_that_is_no_number_in_one_process(tmp_path: Path) -> None:
    """All processes leave the step out and stop together; each keeps its batch."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
    spoil = "+callbacks.extra.spoil._target_=helpers.SpoilOne"
    ((code, screen),) = finish(
        start(tmp_path, torchrun, spoil, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    )
    assert code != 0
    assert "not finite in 3 steps in a row, last in step 4; its batch is in" in screen
    (folder,) = (tmp_path / "runs/debug").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    losses = [torch.load(folder / f"nonfinite_batch_rank{rank}.pt", weights_only=True)["loss"] for rank in (0, 1)]
    assert bool(losses[0].isfinite())
    assert bool(losses[1].isnan())


def slurm_tasks(folder: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    """What srun --ntasks-per-node=2 starts on one node."""
    shared = {**SLURM, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0",
              "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NODELIST": "127.0.0.1", "MASTER_PORT": free_port()}  # fmt: skip
    settings = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "name=job", *arguments]
    ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in (0, 1)]
    return [start(folder, [], *settings, **shared, **rank) for rank in ranks]


@pytest.mark.slow
@pytest.mark.timeout(4 * LIMIT)
def test_a_slurm_job_is_stopped_and_requeued(tmp_path: Path) -> None:
    """A stop of the second task stops both after a checkpoint; the same job number finds its folder again."""
    tasks = slurm_tasks(tmp_path, "resume=auto")
    folder = tmp_path / "runs/job/slurm_4711"
    for _ in range(LIMIT * 10):
        if (folder / "metrics.csv").exists() and len(read_rows(folder / "metrics.csv")) >= 4:
            break
        time.sleep(0.1)
    os.kill(tasks[1].pid, signal.SIGTERM)
    for code, screen in finish(*tasks):
        assert code == 143, screen
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    answers = finish(*slurm_tasks(tmp_path, "resume=auto"))
    for code, screen in answers:
        assert code == 0, screen
    assert "going on from" in answers[0][1]
    assert len(read_rows(folder / "metrics.csv")) == 20
    assert len(list((tmp_path / "runs/job").iterdir())) == 1
