"""Processes that end with the one that started them, however that one ends."""

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """In a process made by multiprocessing: exit when its parent is gone, killed with -9 included, or by SIGTERM.

    The sentinel of multiprocessing is a pipe that only the parent can close, on every system. Without this a process
    that is blocked in a read or a long computation would go on as an orphan.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has the parent's, which cleans up and raises
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent,), name="end-with-parent", daemon=True).start()


def _wait(parent: "multiprocessing.process.BaseProcess") -> None:
    parent.join()
    os._exit(1)  # not sys.exit: that would end this thread only
