"""Batches of samples in an order that can be taken up anywhere.

Which samples make a batch depends on the epoch and the batch's number alone, so a run on one device and a run on four
see the same samples in each step, and a resumed run goes on with the very next batch.
"""

import atexit
import logging
import os
import signal
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from seqtrack_lit.data.samples.batch import Batch, Sample, collate
from seqtrack_lit.data.samples.sampling import SamplingError

log = logging.getLogger(__name__)

Samples = Dataset[tuple[Sample, list[str]]]  # by (epoch, index); with why earlier attempts at a sample failed
REPORTED = 20  # failures that are kept and printed
TOLERATED = 20  # replaced samples that never stop a run, whatever their share


class BatchOrder(Sampler[list[tuple[int, int]]]):
    """The (epoch, index) of the samples in each batch of one process.

    Batch j of all processes together is one run of consecutive samples, of which each takes its part; with
    accumulation, the batches of a step are consecutive too.

    Args:
        batches: batches of an epoch.
        batch: samples in each.
        rank, world_size: number of this process, and of processes.
    """

    def __init__(self, batches: int, batch: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.batches, self.batch, self.rank, self.world_size = batches, batch, rank, world_size
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls it before an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for number in range(self.start, self.batches):
            first = (number * self.world_size + self.rank) * self.batch
            yield [(self.epoch, index) for index in range(first, first + self.batch)]


def default_workers(devices: int, *, gpu: bool) -> int:
    """Processes that prepare batches for each of the devices of this machine.

    A GPU gets its share of the cores this process may use but one, at most 16. A CPU that trains computes with all of
    its cores: one process for every two of them, at most 4, prepares ahead.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // devices
    return max(1, min(16, share - 1)) if gpu else min(4, share // 2)


class TrainLoader:
    """Batches of training samples; with a state, so that a run resumes in the middle of an epoch.

    It counts what it has handed out, not what its workers have prepared. Lightning stores `state_dict` with a
    checkpoint and calls `sampler.set_epoch` before each epoch.

    Args:
        samples: where samples come from.
        order: which of them, in which batch.
        workers: processes that prepare batches; 0: this one.
        prefetch: batches that each of them prepares ahead.
        start_method: how they are started (fork, forkserver, spawn); None: Python's default.
        max_skipped: share of samples that may have to be replaced before the run stops.

    Raises:
        SamplingError: while iterating, when too many samples could not be made; lists the files.
    """

    def __init__(
        self,
        samples: Samples,
        order: BatchOrder,
        *,
        workers: int = 0,
        prefetch: int = 2,
        start_method: str | None = None,
        max_skipped: float = 0.01,
    ) -> None:
        self.sampler, self.max_skipped = order, max_skipped
        self._loader: DataLoader[tuple[Sample, list[str]]] = DataLoader(
            samples,
            batch_sampler=order,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            collate_fn=_collate,
            worker_init_fn=_one_thread if workers else None,
            # its own generator: the loader's seeds for workers are not taken from the global random state
            generator=torch.Generator().manual_seed(0),
            multiprocessing_context=start_method if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
        self._epoch, self._given, self._resumed = 0, 0, False
        self.drawn, self.skipped = 0, 0
        self.failures: list[str] = []
        if workers:
            # Workers do not obey SIGTERM, with which Python ends them at its exit, and then joins them without end.
            atexit.register(_close, weakref.ref(self))

    def close(self) -> None:
        """Stop the workers; another iteration would start new ones."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()
            self._iterator = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        # a generator: the epoch is looked up when the first batch is asked for, after set_epoch
        epoch = self.sampler.epoch
        self._given = self._given if self._resumed and self._epoch == epoch else 0
        self._epoch, self._resumed = epoch, False
        self.sampler.start = self._given
        for batch, failures in self._loader:
            self._given += 1
            self._watch(len(batch.box), failures)
            yield batch

    @property
    def _iterator(self) -> Any:
        """The name under which Lightning finds and stops workers when a run ends or fails (combined_loader.py).

        Left to the garbage collector, each worker would be waited for in vain for five seconds.
        """
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, value: Any) -> None:
        self._loader._iterator = value

    def state_dict(self) -> dict[str, int]:
        """Plain numbers: epoch, batches handed out in it, samples drawn and skipped in the whole run."""
        return {"epoch": self._epoch, "batches": self._given, "drawn": self.drawn, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on behind the last batch that was handed out."""
        self._epoch, self._given, self._resumed = state["epoch"], state["batches"], True
        self.drawn, self.skipped = state["drawn"], state["skipped"]
        self.sampler.set_epoch(self._epoch)

    def _watch(self, drawn: int, failures: list[str]) -> None:
        """Count and report samples that were replaced; stop when they are many."""
        self.drawn, self.skipped = self.drawn + drawn, self.skipped + len(failures)
        for failure in failures[: max(REPORTED - len(self.failures), 0)]:
            log.warning("a training sample was replaced: %s", failure)
            self.failures.append(failure)
        if self.skipped > max(TOLERATED, self.max_skipped * self.drawn):
            raise SamplingError(
                f"{self.skipped} of {self.drawn} training samples could not be made and were replaced, more than "
                f"data.max_skipped = {self.max_skipped:g}; seqtrack-data checks whole data sets. The first were:\n"
                + "\n".join(self.failures)
            )


class PairLoader:
    """The same few batches every time, made once; each process has its part of them.

    With fewer pairs than processes some have a pair that another one has, too: Lightning does not validate in a process
    without a batch, and the others would wait for its numbers.

    Args:
        samples: where samples come from, of epoch 0.
        pairs: how many samples, over all processes.
        batch: samples in a batch, at most.
        rank, world_size: number of this process, and of processes.
    """

    def __init__(self, samples: Samples, *, pairs: int, batch: int, rank: int = 0, world_size: int = 1) -> None:
        self.samples, mine = samples, range(rank, pairs, world_size) or range(rank % pairs, rank % pairs + 1)
        self._parts = [mine[first : first + batch] for first in range(0, len(mine), batch)]
        self._batches: list[Batch] = []

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Batch]:
        for number, part in enumerate(self._parts):
            if number == len(self._batches):
                self._batches.append(collate([self.samples[0, index][0] for index in part]))
            yield self._batches[number]


def _close(reference: "weakref.ref[TrainLoader]") -> None:
    loader = reference()
    if loader is not None:
        loader.close()


def _collate(items: list[tuple[Sample, list[str]]]) -> tuple[Batch, list[str]]:
    """A batch, and why samples of it had to be replaced."""
    return collate([sample for sample, _ in items]), [failure for _, failures in items for failure in failures]


def _one_thread(worker: int) -> None:
    """Workers are the parallelism; more threads in each would fight over the cores.

    Signals that ask training to stop reach the whole process group; the training process decides when to stop.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
