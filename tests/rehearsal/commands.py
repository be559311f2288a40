"""Runs the commands of the project as a terminal would, each in a process of its own, without importing torch anew.

A server process imports the libraries once and forks for each command (multiprocessing's forkserver).
"""

import importlib
import multiprocessing
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LIMIT = 900  # seconds
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["seqtrack_lit.cli.run_training", "seqtrack_lit.cli.evaluate", "albumentations", "timm"]
)


class Done(NamedTuple):
    """How a command ended: its exit code, and what it printed on both streams."""

    code: int
    screen: str


class Command:
    """A command that was started.

    Args:
        line: its words, the first is the name: ["seqtrack-train", "data=paper"].
        folder: where it is started.
    """

    def __init__(self, line: list[str], folder: Path) -> None:
        self.screen = folder / f"screen_{time.monotonic_ns()}.txt"
        self.process = _CONTEXT.Process(target=_enter, args=(line, str(folder), str(self.screen)))
        self.process.start()

    def stop_when(self, ready: Callable[[], bool]) -> Done:
        """Send SIGTERM as soon as something is there."""
        for _ in range(LIMIT * 20):
            if ready() or not self.process.is_alive():
                break
            time.sleep(0.05)
        if self.process.is_alive():
            os.kill(self.process.pid or 0, signal.SIGTERM)
        return self.end()

    def end(self) -> Done:
        """Wait for it."""
        self.process.join(LIMIT)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(self.screen.read_text())
        return Done(self.process.exitcode or 0, self.screen.read_text(encoding="utf-8"))


def _enter(line: list[str], folder: str, screen: str) -> None:
    """Become the command."""
    os.chdir(folder)
    out = os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = list(line)
    command = importlib.import_module(f"seqtrack_lit.cli.{line[0].removeprefix('seqtrack-')}")
    command.main()


def printed(page: str) -> list[list[str]]:
    """The project's commands in the code blocks of a page, with loops over words written out."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found: list[list[str]] = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        name, values = "nothing", [""]
        for line in block.replace("\\\n", " ").splitlines():
            if begins := re.fullmatch(r"for (\w+) in (.*); do", line):
                name, values = begins[1], begins[2].split()
            elif line == "done":
                name, values = "nothing", [""]
            elif line.strip().startswith("seqtrack-"):
                found += [shlex.split(line.replace(f"${name}", value), comments=True) for value in values]
    return found
