"""Processes that end with the one that started them, however that one ends."""

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """In a process made by multiprocessing: end at once when its parent is gone, killed with -9 included, or says so.

    A pipe that only the parent can close tells (the sentinel of multiprocessing, on every system). Without this a
    process that waits for work, or is deep in a long computation, would live on for nobody.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has the parent's, which cleans up and raises
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent,), name="end-with-parent", daemon=True).start()


def _wait(parent: "multiprocessing.process.BaseProcess") -> None:
    parent.join()
    os._exit(1)  # not sys.exit: this is not the main thread, which may never look
