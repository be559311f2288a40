"""The campaign of kills: every command is killed at random moments and given again until it is done.

    python -m tests.campaign.kills [--seed 0] [--series 10] [--only evaluate]

A series: a fresh folder; the command is started and killed (SIGKILL, SIGTERM and SIGINT in turn) at a random moment
twice, then given again and left alone. What it left must be what an undisturbed command leaves: "lost" otherwise. A
traceback, an exit code that says nothing, a process that lives on or a file without an owner is "wrong". The commands
run in forks of this process, which has imported everything, so a kill falls into their work and not into imports.
"""

import argparse
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import torch
from tests.campaign.harness import VERDICTS
from tests.campaign.pages import a_run
from tests.campaign.weights import ours
from tests.data import fixtures

from seqtrack_lit.runs.folder import read_rows

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LIMIT = 300  # seconds for a command to end
ENDED = {signal.SIGTERM: (143,), signal.SIGINT: (130,)}


@dataclass(frozen=True)
class Command:
    """What is killed.

    Args:
        name: as the table in docs/reliability.md calls it.
        module: of `seqtrack_lit.cli`.
        arguments: its command line.
        prepare: fills the folder it runs in.
        left: what must be the same whether it was killed or not, by name.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    prepare: Callable[[Path], object]
    left: Callable[[Path], dict[str, Any]]


class Ended(NamedTuple):
    """How a command ended: exit code or minus the signal, what it said, and how long it took."""

    code: int
    screen: str
    seconds: float


def start(command: Command, folder: Path) -> int:
    """The command in a fork of this process, in a session of its own; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        for number in SIGNALS[1:]:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        screen = os.open(folder.parent / "screen", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(screen, 1)
        os.dup2(screen, 2)
        sys.argv = [f"seqtrack-{command.module}", *command.arguments]
        importlib.import_module(f"seqtrack_lit.cli.{command.module}").main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:  # as Python itself does at the end of a program
        sys.excepthook(type(error), error, error.__traceback__)
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(command: Command, folder: Path, number: int | None = None, after: float = 0.0) -> Ended:
    """Start it, kill it after so many seconds, wait until it and all its processes are gone.

    Raises:
        TimeoutError: it or one of its processes lives on.
    """
    began = time.monotonic()
    child = start(command, folder)
    status = _wait(child, after) if number is not None else None
    if status is None and number is not None:
        os.kill(child, number)
    status = _wait(child, LIMIT) if status is None else status
    if status is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise TimeoutError(f"it did not end in {LIMIT} s")
    seconds = time.monotonic() - began
    for _ in range(300):  # workers notice that their parent is gone
        try:
            os.killpg(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.killpg(child, signal.SIGKILL)
        raise TimeoutError("one of its processes lives on")
    return Ended(os.waitstatus_to_exitcode(status), (folder.parent / "screen").read_text(errors="replace"), seconds)


def _wait(child: int, seconds: float) -> int | None:
    """The status, or None where it has not ended by then."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > end:
            return None
        time.sleep(0.005)


def series(command: Command, root: Path, rng: np.random.Generator, count: int) -> Iterator[tuple[str, str, str]]:
    """Kills of a command, two for each time it is completed: what was done, the verdict, the detail."""
    whole = run(command, _prepared(command, root))
    if whole.code:
        yield "undisturbed", "wrong", whole.screen[-2000:]
        return
    wanted, longest = command.left(root / "here"), whole.seconds
    names = _names(root / "here")
    for number in range(count):
        folder, labels, problem = _prepared(command, root), [], ""
        for step in range(2):
            sent = SIGNALS[(2 * number + step) % len(SIGNALS)]
            after = float(rng.uniform(0, longest))
            labels.append(f"{signal.Signals(sent).name} after {after:.2f} of {longest:.2f} s")
            try:
                problem = problem or _complaint(sent, run(command, folder, sent, after))
            except TimeoutError as error:
                problem = problem or str(error)
        done = run(command, folder)
        verdict, detail = "handled", ""
        if done.code or (found := command.left(folder)) != wanted:
            verdict, detail = "lost", done.screen[-1500:] if done.code else _difference(wanted, found)
        elif problem or (extra := _names(folder) - names):
            verdict, detail = "wrong", problem or f"left behind: {sorted(extra)[:5]}"
        for label in labels:
            yield label, verdict, f"{label}: {detail}"


def _complaint(sent: int, ended: Ended) -> str:
    """What is wrong with how it ended."""
    if "Traceback (most recent call last)" in ended.screen:
        return f"a traceback:\n{ended.screen[-1500:]}"
    if ended.code in (0, -sent) or ended.code in ENDED.get(sent, ()):  # 0: it had been done; -sent: before it began
        return ""
    return f"exit code {ended.code}:\n{ended.screen[-1500:]}"


def _prepared(command: Command, root: Path) -> Path:
    folder = root / "here"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command.prepare(folder)
    return folder


def _names(folder: Path) -> set[str]:
    """Every file; folders that are called as the moment of a start are the same."""
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return {re.sub(r"\d{4}-\d\d-\d\d[^/]*", "DATE", name) for name in files}


def _difference(wanted: dict[str, Any], found: dict[str, Any]) -> str:
    keys = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
    return f"differ: {sorted(keys)[:10]}"


def _contents(folder: Path, *patterns: str) -> dict[str, Any]:
    """Files by name and digest."""
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def _tracked(folder: Path) -> dict[str, Any]:
    """Results and scores without what a clock says."""
    found = _contents(folder, "out/*/*/*.txt")
    found = {name: value for name, value in found.items() if not name.endswith("_time.txt")}
    for path in folder.glob("out/*/*/scores.json"):
        scores = json.loads(path.read_text())["seqtrack"]
        found[str(path)] = {key: value for key, value in scores.items() if key != "fps"}
    found["media"] = sorted(str(path.relative_to(folder)) for path in folder.glob("out/*/*/media/*"))
    return found


def _trained(folder: Path) -> dict[str, Any]:
    """Weights, optimizer and every number of the metrics that no clock says."""
    run_folder = max((folder / "runs" / "killed").iterdir())
    saved = torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)
    tensors = {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in saved["state_dict"].items()}
    rows = read_rows(run_folder / "metrics.csv")
    numbers = [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in rows]
    status = json.loads((run_folder / "run.json").read_text())["status"]
    return {**tensors, "step": saved["global_step"], "metrics": numbers, "status": status}


def _followed(folder: Path) -> dict[str, Any]:
    """Boxes, and that the video is whole."""
    rows = [line.split(",")[:6] for line in (folder / "out" / "clip_tracked.csv").read_text().splitlines()]
    with av.open(str(folder / "out" / "clip_tracked.mp4")) as container:
        frames = sum(1 for _ in container.decode(video=0))
    return {
        "rows": rows,
        "frames": frames,
        "finished": json.loads((folder / "out" / "clip_tracked.json").read_text())["finished"],
    }


def _clip(folder: Path) -> None:
    boxes = fixtures.boxes_for(40)
    fixtures.write_video(folder / "clip.mp4", [fixtures.image(i, boxes[i]) for i in range(40)])


def _server(folder: Path) -> None:
    names = [f"GOT-10k_Test_{i:06d}" for i in range(1, 4)]
    for name in names:
        place = folder / "data" / "got10k" / "test" / name
        for i in range(1, 4):
            fixtures.write_image(place / f"{i:08d}.jpg", np.zeros((20, 30, 3), np.uint8))
        (place / "groundtruth.txt").write_text("1.0000,2.0000,10.0000,12.0000\n")
        results = folder / "results" / "ours" / "got10k_test"
        results.mkdir(parents=True, exist_ok=True)
        (results / f"{name}.txt").write_text("1,2,10,12\n" * 3)
        (results / f"{name}_time.txt").write_text("0.02\n" * 3)
    (folder / "data" / "got10k" / "test" / "list.txt").write_text("\n".join(names) + "\n")


VIDEOS = ("benchmark.count=4", "+benchmark.length=25", "out=out", "device=cpu")
TINY = (
    "model=seqtrack_tiny", "model.encoder.width=32", "model.encoder.depth=1", "model.decoder.width=32",
    "model.decoder.ffn=32", "model.decoder.dropout=0.1", "data=quickstart", "data.train.generated.open.count=4",
    "data.validation.open.count=4", "data.validation.pairs=4", "data.validation.tracks=2",
    "data.validation.track_frames=4", "optimizer=muon", "debug=fast", "train.samples=160", "train.epoch_samples=80",
    "callbacks.pictures=2", "callbacks.checkpoint_steps=3", "train.ema_decay=0.9", "name=killed", "paths.runs=runs",
    "resume=auto", "trainer.accelerator=cpu",
)  # fmt: skip
SERVER = ("submit=got10k", "benchmark=got10k_test", "paths.data=data", "complete=false")
COMMANDS = (
    Command("seqtrack-train", "train", TINY, lambda folder: None, _trained),
    Command(
        "seqtrack-evaluate, baselines", "evaluate", ("baseline=[static,kcf]", *VIDEOS), lambda folder: None, _tracked
    ),
    Command(
        "seqtrack-evaluate, a checkpoint",
        "evaluate",
        ("checkpoint=best.ckpt", "benchmark.count=3", "+benchmark.length=8", "out=out", "device=cpu"),
        ours,
        _tracked,
    ),
    Command(
        "seqtrack-evaluate, processes",
        "evaluate",
        ("baseline=kcf", "workers=2", *VIDEOS),
        lambda folder: None,
        _tracked,
    ),
    Command(
        "seqtrack-track",
        "track",
        ("source=clip.mp4", "box=[10,8,14,12]", "baseline=kcf", "out=out"),
        _clip,
        _followed,
    ),
    Command(
        "seqtrack-report, a page",
        "report",
        ("run=run",),
        lambda folder: a_run(folder / "run"),
        lambda folder: _contents(folder, "run/report/**/*.*"),
    ),
    Command(
        "seqtrack-report, a table",
        "report",
        ("scores=[run]", "save=tables", "paper=none"),
        lambda folder: a_run(folder / "run"),
        lambda folder: _contents(folder, "tables/**/*.*"),
    ),
    Command(
        "seqtrack-report, a zip",
        "report",
        (
            "submit=got10k",
            "benchmark=got10k_test",
            "paths.data=data",
            "complete=false",
            "results=[results]",
            "zip=a.zip",
        ),
        _server,
        lambda folder: _contents(folder, "a.zip"),
    ),
    Command(
        "seqtrack-data, a check",
        "data",
        ("check=folder", "root=videos", "paths.data=data", "out=out", "workers=2"),
        lambda folder: fixtures.make_folder(folder / "videos", names=("cat", "dog"), count=12),
        lambda folder: {},
    ),
    Command(
        "seqtrack-data, pictures",
        "data",
        ("show=folder", "root=videos", "paths.data=data", "out=out", "samples=4"),
        lambda folder: fixtures.make_folder(folder / "videos", names=("cat", "dog"), count=12),
        lambda folder: _contents(folder, "out/**/*.png", "out/**/*.jpg"),
    ),
)


def warm() -> None:
    """Import what the commands import, once, with one thread each."""
    for name in ("train", "evaluate", "track", "report", "data"):
        importlib.import_module(f"seqtrack_lit.cli.{name}")
    parts = ("tracking.benchmark", "reports.media", "reports.run", "data.tools.check", "pictures")
    for name in ("cli.run_training", *parts):
        importlib.import_module(f"seqtrack_lit.{name}")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def main() -> None:
    """Kill everything, or one command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--series", type=int, default=5, help="completions of each command, two kills each")
    parser.add_argument("--only", default="", help="part of the name of a command")
    chosen = parser.parse_args()
    warm()
    total = Counter[str]()
    print("| command | kills | handled | lost | wrong |\n|---|--:|--:|--:|--:|", flush=True)
    for place, command in enumerate(COMMANDS):
        if chosen.only not in command.name:
            continue
        counts = Counter[str]()
        rng = np.random.default_rng([chosen.seed, place])
        with tempfile.TemporaryDirectory() as folder:
            for _, verdict, detail in series(command, Path(folder), rng, chosen.series):
                counts[verdict] += 1
                if verdict != "handled":
                    print(f"{command.name}, {detail}", file=sys.stderr, flush=True)
        total += counts
        print(_row(command.name, counts), flush=True)
    print(_row("**all**", total))


def _row(name: str, counts: Counter[str]) -> str:
    return f"| {name} | {sum(counts.values())} | {' | '.join(str(counts[verdict]) for verdict in VERDICTS[1:])} |"


if __name__ == "__main__":
    main()
