"""Jobs of a sweep side by side: who gets which device, what is passed on, what a failed or killed job leaves.

A shell script stands for the training.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqtrack_lit.cli.launch import launcher

TRAINING = """#!/bin/sh
for word in "$@"; do case $word in hydra.run.dir=*) folder=$(echo ${word#hydra.run.dir=} | tr -d "'");; esac; done
echo $$ > $folder/pid
echo "begin $CUDA_VISIBLE_DEVICES $HYDRA_FULL_ERROR" >> $folder/../events
trap 'echo saved; exit 143' TERM
i=0; while [ $i -lt ${LENGTH:-3} ]; do sleep 0.1; i=$((i+1)); done
echo "end $CUDA_VISIBLE_DEVICES" >> $folder/../events
echo "seqtrack-train: the reason"
exit ${CODE:-0}
"""
SWEEP = """
import sys
from pathlib import Path
from omegaconf import OmegaConf
from seqtrack_lit.cli.launch import launcher
launcher.sys.executable, folder, devices = sys.argv[1], Path(sys.argv[2]), sys.argv[3].split()
config = OmegaConf.create({"overwrite": False, "hydra": {"job": {"name": "train"}}})
jobs = [launcher.Job(i, folder / f"seed-{i}", [f"seed={i}"], config) for i in range(int(sys.argv[4]))]
try:
    print(launcher.run_jobs(jobs, devices))
except launcher.StoppedSweepError:
    print("stopped")
"""


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.Popen[str]]:
    """Start a sweep of some jobs on some devices."""
    script = tmp_path / "training"
    script.write_text(TRAINING)
    script.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def start(devices: str, jobs: int, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SWEEP, str(script), str(tmp_path), devices, str(jobs)]
        pipes: Any = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env={**os.environ, **env}, start_new_session=True, **pipes)

    return start


def process_of(folder: Path) -> int:
    """The process number of a job, once it has begun."""
    for _ in range(6000):
        if (folder / "pid").exists() and (text := (folder / "pid").read_text()).strip():
            return int(text)
        time.sleep(0.02)
    raise TimeoutError


@pytest.mark.parametrize(
    ("wanted", "gpus", "expected"),
    [
        ("auto", ["0", "1"], ["0", "1"]),
        ("auto", ["GPU-5a", "7"], ["GPU-5a", "7"]),
        (1, ["0", "1"], ["0"]),
        (3, [], [None, None, None]),
        ([0, 1], [], ["0", "1"]),
        (["0,1", "2,3"], ["0"], ["0,1", "2,3"]),
    ],
)
def test_devices(wanted: Any, gpus: list[str], expected: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "gpus", lambda: gpus)
    assert launcher.devices_of(wanted, gpu=True) == expected
    assert all(device is None or isinstance(wanted, list) for device in launcher.devices_of(wanted, gpu=False))


@pytest.mark.parametrize(
    ("wanted", "text"),
    [("abc", "auto, a number"), (0, "auto, a number"), ([], "a list"), ([[1]], "a list"), (3, "shows 2 GPU")],
)
def test_wrong_devices(wanted: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "gpus", lambda: ["0", "1"])
    with pytest.raises(ValueError, match=text):
        launcher.devices_of(wanted, gpu=True)


@pytest.mark.parametrize(("visible", "expected"), [(None, ["0", "1"]), ("3,GPU-5a,9", ["3", "GPU-5a"])])
def test_visible_devices(visible: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert launcher.devices_of("auto", gpu=True) == expected


def test_four_jobs_on_two_devices(sweep: Callable[..., Any], tmp_path: Path) -> None:
    """Never two on one device; a freed one is used again; results in the order of the jobs."""
    process = sweep("4 7", 4, HYDRA_FULL_ERROR="1")
    screen, errors = process.communicate()
    assert screen.splitlines()[-1] == str([None] * 4), errors
    running: list[str] = []
    events = [line.split() for line in (tmp_path / "events").read_text().splitlines()]
    assert len(events) == 8
    for kind, *rest in events:
        assert len(rest) == 1  # no HYDRA_FULL_ERROR
        if kind == "begin":
            assert rest[0] not in running
            running.append(rest[0])
        else:
            running.remove(rest[0])
    assert {device for _, device in events} == {"4", "7"}


def test_a_failed_and_a_killed_job(sweep: Callable[..., Any], tmp_path: Path) -> None:
    """Each is reported by its own overrides; the others run."""
    process = sweep("4 7", 3, CODE="2", LENGTH="20")
    os.kill(process_of(tmp_path / "seed-1"), signal.SIGKILL)
    screen, errors = process.communicate()
    killed = "ended by SIGKILL, perhaps out of memory"
    assert screen.splitlines()[-1] == str(["the reason", killed, "the reason"])
    lines = [f"job {i} (seed={i}) failed: {why}; its log: {tmp_path}/seed-{i}/train.log"
             for i, why in enumerate(("the reason", killed, "the reason"))]  # fmt: skip
    assert sorted(errors.splitlines()) == [f"seqtrack-train: {line}" for line in lines]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep(sweep: Callable[..., Any], tmp_path: Path, number: signal.Signals) -> None:
    """The running job saves, and no other one begins."""
    process = sweep("4", 2, LENGTH="1000")
    process_of(tmp_path / "seed-0")
    process.send_signal(number)
    screen, errors = process.communicate()
    assert screen.splitlines()[-1] == "stopped"
    assert errors == "stopping: the running jobs save; again stops at once\n"
    assert "saved" in (tmp_path / "seed-0/train.log").read_text()
    assert not (tmp_path / "seed-1").exists()
