"""Slots of a machine: who gets which device, and when it is free again. A shell script stands for the training."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqtrack_lit.cli.launch import launcher as slots

TRAINING = """#!/bin/sh
folder=${3#folder=}
echo $$ > $folder/pid
echo "begin $CUDA_VISIBLE_DEVICES $HYDRA_FULL_ERROR" >> $folder/../events
trap 'echo saved; exit 143' TERM
i=0; while [ $i -lt ${LENGTH:-3} ]; do sleep 0.1; i=$((i+1)); done
echo "end $CUDA_VISIBLE_DEVICES" >> $folder/../events
echo "seqtrack-train: the reason"
exit ${CODE:-0}
"""
WORKER = """
import os, sys
from pathlib import Path
from seqtrack_lit.cli.launch import launcher as slots
os.environ[slots._LEADER] = str(os.getppid())
slots.sys.executable, folder = sys.argv[1], Path(sys.argv[2])
slots.train_apart(folder, [f"folder={folder}"], sys.argv[3:], folder.parent)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Start a worker with one job on one of these slots."""
    script = tmp_path / "training"
    script.write_text(TRAINING)
    script.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # slots of this test only
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def start(name: str, *names: str, **env: str) -> subprocess.Popen[str]:
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", WORKER, str(script), str(tmp_path / name), *names]
        return subprocess.Popen(command, env={**os.environ, **env}, text=True, stderr=subprocess.PIPE)

    return start


def wait_for(ready: Callable[[], object]) -> None:
    for _ in range(6000):
        if ready():
            return
        time.sleep(0.02)
    raise TimeoutError


def free(*names: str) -> str | None:
    found = slots.take(names)
    for file in found[1] if found else []:
        file.close()
    return found[0] if found else None


@pytest.mark.parametrize(
    ("wanted", "gpus", "expected"),
    [
        ("auto", ["0", "1"], ["0", "1"]),
        ("auto", ["GPU-5a", "7"], ["GPU-5a", "7"]),
        (1, ["0", "1"], ["0"]),
        (3, [], ["cpu0", "cpu1", "cpu2"]),
        ([0, 1], [], ["0", "1"]),
        (["0,1", "2,3"], ["0"], ["0,1", "2,3"]),
    ],
)
def test_names(wanted: Any, gpus: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "gpus", lambda: gpus)
    assert slots.slots_of(wanted, gpu=True) == expected
    assert all(name.startswith("cpu") or isinstance(wanted, list) for name in slots.slots_of(wanted, gpu=False))


@pytest.mark.parametrize(
    ("wanted", "text"),
    [("abc", "auto, a number"), (0, "auto, a number"), ([], "a list"), ([[1]], "a list"), (3, "shows 2 GPU")],
)
def test_wrong_slots(wanted: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "gpus", lambda: ["0", "1"])
    with pytest.raises(ValueError, match=text):
        slots.slots_of(wanted, gpu=True)


@pytest.mark.parametrize(("visible", "expected"), [(None, ["0", "1"]), ("3,GPU-5a,9", ["3", "GPU-5a"])])
def test_visible_devices(visible: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slots.slots_of("auto", gpu=True) == expected


def test_four_jobs_on_two_devices(worker: Callable[..., Any], tmp_path: Path) -> None:
    """Never two on one device; a freed one is used again."""
    jobs = [worker(f"job{i}", "4", "7", HYDRA_FULL_ERROR="1") for i in range(4)]
    assert [job.wait() for job in jobs] == [0] * 4
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


@pytest.mark.parametrize("kind", ["writable", "a link", "a file"])
def test_a_folder_of_slots_that_others_made(worker: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    folder = tmp_path / f"seqtrack-slots-{os.getuid()}"
    if kind == "a link":
        (tmp_path / "theirs").mkdir()
        folder.symlink_to(tmp_path / "theirs")
    elif kind == "writable":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        folder.touch()
    with pytest.raises((ValueError, FileExistsError), match="seqtrack-slots"):
        slots.take(["4"])


def test_devices_in_common(worker: Callable[..., Any]) -> None:
    found = slots.take(["0,1"])
    assert found is not None
    assert (free("1"), free("0,2"), free("2")) == (None, None, "2")
    for file in found[1]:
        file.close()
    assert free("1") == "1"


def test_slot_of_a_killed_job(worker: Callable[..., Any], tmp_path: Path) -> None:
    job = worker("job", "4", LENGTH="1000")
    wait_for((tmp_path / "job/pid").exists)
    wait_for((tmp_path / "job/pid").read_text)
    assert free("4") is None
    os.kill(int((tmp_path / "job/pid").read_text()), signal.SIGKILL)
    _, screen = job.communicate()
    assert "ValueError: ended by SIGKILL, perhaps out of memory" in screen
    wait_for(lambda: free("4"))  # the script's present `sleep 0.1` holds it that long


def test_slot_of_a_killed_worker(worker: Callable[..., Any], tmp_path: Path) -> None:
    """Its training still runs on the device, so the slot is taken until that ends as well."""
    job = worker("job", "4", LENGTH="1000")
    wait_for((tmp_path / "job/pid").exists)
    wait_for((tmp_path / "job/pid").read_text)
    job.kill()
    job.communicate()
    assert free("4") is None
    os.kill(int((tmp_path / "job/pid").read_text()), signal.SIGKILL)
    wait_for(lambda: free("4"))


def test_what_a_failed_job_said(worker: Callable[..., Any]) -> None:
    _, screen = worker("job", "4", CODE="2").communicate()
    assert "ValueError: the reason" in screen


def test_a_stopped_sweep(worker: Callable[..., Any], tmp_path: Path) -> None:
    """The running job saves, a waiting one does not begin; Ctrl-C alone, which reaches all, changes nothing."""
    running = worker("running", "4", LENGTH="1000")
    wait_for((tmp_path / "running/pid").exists)
    waiting = worker("waiting", "4")
    running.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert running.poll() is None
    (tmp_path / ".stop").touch()
    assert all("StoppedSweepError" in job.communicate()[1] for job in (running, waiting))
    assert "saved" in (tmp_path / "running/train.log").read_text()
    assert not (tmp_path / "waiting/pid").exists()
