"""The state of random generators, kept in checkpoints for exact resume."""

import logging
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class RandomState(Callback):
    """Keeps the random generators of every process in the checkpoint; sets them before the first batch after it."""

    def __init__(self) -> None:
        self._stored: list[dict[str, Any]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """States of all processes, in the order of their ranks; plain containers and tensors."""
        mine = _random_state()
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return {"ranks": [mine]}
        ranks: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, mine)
        return {"ranks": ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states; they are set when training goes on."""
        self._stored = state_dict["ranks"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Set the states once, after everything else that may draw numbers."""
        stored, self._stored = self._stored, None
        if stored is None:
            return
        if len(stored) == trainer.world_size:
            _set_random_state(stored[trainer.global_rank])
        elif trainer.is_global_zero:
            log.warning(
                "the checkpoint was written by %d processes and is continued by %d: random numbers differ from an "
                "uninterrupted run", len(stored), trainer.world_size,
            )  # fmt: skip


def _random_state() -> dict[str, Any]:
    # this project passes generators around; libraries may still draw from the global ones
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    name, keys, *rest = numpy_state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
