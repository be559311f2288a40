"""Jobs of a sweep side by side (`launcher=local`): each in a process of its own, on devices of its own.

joblib hands the jobs to as many workers as there are slots. A worker takes a free slot and trains by
`seqtrack-train` in a further process, so that a job that is killed takes no other with it. A slot is a
locked file: the kernel frees it when the last process that holds it is gone, whatever ended it, and another sweep on
this machine sees it as well.
"""

import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

log = logging.getLogger(__name__)
_PLACE = "cpu"  # slots without a GPU are called cpu0, cpu1, ...
_LEADER = "SEQTRACK_SWEEP"  # process number of the sweep itself; with a single slot it is its own worker
_PAUSE = 0.3  # seconds between two looks at a job or at the slots


class StoppedSweepError(Exception):
    """The sweep was asked to stop; its running jobs have saved."""


def slots_of(wanted: Any, *, gpu: bool) -> list[str]:
    """The slots of this machine: CUDA devices (`"0"`; `"0,1"`: two for one job), or places on the CPU (`"cpu0"`).

    Args:
        wanted: auto, a number of slots, or a list of devices.
        gpu: whether GPUs may be used where there are some.

    Raises:
        ValueError: `wanted` is none of these, or more than there are GPUs.
    """
    if sys.platform == "win32":
        raise ValueError("launcher=local needs the file locks of Linux or macOS; leave it out: one job after the other")
    if isinstance(wanted, list) and wanted and all(isinstance(item, (int, str)) for item in wanted):
        return [str(item) for item in wanted]
    if wanted != "auto" and not (isinstance(wanted, int) and wanted > 0):
        raise ValueError(f"slots must be auto, a number > 0 or a list of devices as [0,1], got {wanted}")
    devices = gpus() if gpu else []
    if not devices:
        from joblib import cpu_count

        count = max(1, cpu_count() // 2) if wanted == "auto" else wanted
        return [f"{_PLACE}{i}" for i in range(count)]
    if wanted == "auto":
        return devices
    if wanted > len(devices):
        raise ValueError(f"slots={wanted}, but this machine shows {len(devices)} GPU(s); one job a GPU, or trainer=cpu")
    return devices[:wanted]


def gpus() -> list[str]:
    """The CUDA devices that are visible."""
    import torch  # the devices are not touched

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(i) for i in range(count)] if visible is None else visible.split(",")[:count]


def lock(path: Path) -> IO[bytes] | None:
    """Lock a file for this process and those that inherit it, as long as any of them lives; None: it is taken."""
    import fcntl  # Windows has none

    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def take(slots: Sequence[str]) -> tuple[str, list[IO[bytes]]] | None:
    """The first free slot and its locked files; None: all are taken."""
    folder = _own_folder()
    for slot in slots:
        held: list[IO[bytes]] = []
        for device in sorted(slot.split(",")):
            file = lock(folder / device.replace("/", "_"))
            if file is None:
                break
            held.append(file)
        else:
            return slot, held
        for file in held:
            file.close()
    return None


def _own_folder() -> Path:
    """Where this user's slots are locked.

    Raises:
        ValueError: somebody else made it, or can write to it: he would decide who trains on what.
    """
    folder = Path(tempfile.gettempdir()) / f"seqtrack-slots-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ValueError(
            f"{folder} is not a folder that you alone can write to; have it removed, or set TMPDIR to a place of yours"
        )
    return folder


def train_apart(folder: Path, overrides: Sequence[str], slots: Sequence[str], sweep: Path) -> None:
    """Train a run on a free slot; everything it says goes to its train.log.

    Args:
        folder: the run's folder.
        overrides: its command line.
        slots: names of the slots.
        sweep: folder of the sweep.

    Raises:
        StoppedSweepError: the sweep was asked to stop.
        ValueError: the training failed; the last line of what it said.
    """
    leader = int(os.environ[_LEADER])
    if os.getpid() != leader:  # a worker: Ctrl-C reaches every process of a terminal, and the leader decides
        signal.signal(signal.SIGINT, _pass)

    def ending() -> bool:
        return stop_flag(sweep).exists() or leader not in (os.getpid(), os.getppid())

    with _claimed(slots, ending) as (slot, held):
        path = folder / "train.log"
        log.info("begins   %s on %s, its log: %s", folder.name, slot, path)
        command = [sys.executable, "-m", "seqtrack_lit.cli.train", *overrides]
        command += ["hydra.job_logging.root.handlers=[file]"]  # what is printed arrives in the same file
        env = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}  # set by `run`
        env |= {} if slot.startswith(_PLACE) else {"CUDA_VISIBLE_DEVICES": slot}
        with path.open("ab") as screen:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                env=env,
                pass_fds=[file.fileno() for file in held],
            )
            asked = False
            while process.poll() is None:
                if not asked and ending():
                    asked = True
                    process.terminate()  # it saves and stops
                time.sleep(_PAUSE)
    if process.returncode == 0:
        return
    if asked or ending():
        raise StoppedSweepError
    raise ValueError(_reason(process.returncode, path))


@contextmanager
def _claimed(slots: Sequence[str], ending: Callable[[], bool]) -> Iterator[tuple[str, list[IO[bytes]]]]:
    while True:
        if ending():
            raise StoppedSweepError
        if (found := take(slots)) is not None:
            break
        time.sleep(_PAUSE)
    try:
        yield found
    finally:
        for file in found[1]:
            file.close()


def _reason(code: int, path: Path) -> str:
    if code < 0:
        return f"ended by {signal.Signals(-code).name}" + (", perhaps out of memory" if code == -signal.SIGKILL else "")
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("seqtrack-train: ") if lines else f"exit code {code}"


def stop_flag(sweep: Path) -> Path:
    """The file that is there once this sweep was asked to stop."""
    return sweep / ".stop"


def _pass(number: int, frame: FrameType | None) -> None:
    """Nothing; SIG_IGN would be inherited by the training."""


def stop_jobs_on_signals(sweep: Path) -> None:
    """From now on, the first SIGINT or SIGTERM makes the running jobs of this sweep save and stop, and starts no more.

    A second one ends everything at once.
    """
    os.environ[_LEADER] = str(os.getpid())
    sweep.mkdir(parents=True, exist_ok=True)
    stop_flag(sweep).unlink(missing_ok=True)

    def stop(number: int, frame: FrameType | None) -> None:
        if stop_flag(sweep).exists():
            raise KeyboardInterrupt
        stop_flag(sweep).touch()
        print("stopping: the running jobs save; again stops at once", file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
