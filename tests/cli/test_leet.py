"""What a person without an account sees of a run: `wandb leet`, in a terminal of its own."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import wandb
from tests.cli.offline import offline_files

from seqtrack_lit.cli.loggers import WandbService


def watched(path: Path, home: Path, wanted: set[str], keys: bytes = b"", seconds: float = 60.0) -> str:
    """What leet draws until all the wanted words were there: text without the codes of colours and places."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "WANDB_MODE": "offline", "WANDB_CONFIG_DIR": str(home)}
    command = [sys.executable, "-m", "wandb", "leet", "run", str(path)]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    text, end, pressed = "", time.monotonic() + seconds, False
    try:
        while time.monotonic() < end and not all(word in text for word in wanted):
            if select.select([ours], [], [], 0.2)[0]:
                raw = os.read(ours, 65536).decode(errors="replace")
                text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b\][^\x07\x1b]*(\x07|\x1b\\\\)", "", raw)
                if "\x1b[c" in raw:  # it asks what terminal this is
                    os.write(ours, b"\x1b[?62c")
            elif keys and not pressed and "Metrics" in text:
                os.write(ours, keys)
                pressed = True
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its child draws
        process.wait()
        os.close(ours)
    return text


@pytest.mark.slow
def test_numbers_pictures_and_summary_are_shown(tmp_path: Path) -> None:
    service = WandbService(mode="offline")
    logger = service.open(tmp_path, name="shown", group=None, config={"seed": 3}, step=0)
    for step in (1, 2, 3):
        logger.numbers({"train/loss": 1 / step, "val/auc": 10.0 * step, "test/lasot/AUC": 61.5}, step)
    logger.image("val/attention", np.full((40, 60, 3), 90, np.uint8), 3)
    logger.histogram("val/confidences", [0.1, 0.2, 0.9], 3)
    logger.summary({"best": 30.0})
    service.close(0, {"status": "finished"})
    wandb.teardown()
    wanted = {"train/loss", "val/auc", "test/lasot/AUC", "val/attention", "best", "finished", "shown"}
    text = watched(offline_files(tmp_path)[0].parent, tmp_path / "home", wanted, keys=b"3")
    assert {word for word in wanted if word not in text} == set()
