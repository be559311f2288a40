"""Experiment services: Weights & Biases, TensorBoard. Only this module imports them."""

import os
import secrets
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import wandb
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from seqtrack_lit.crops import Image
from seqtrack_lit.training.recording import Sink

Mode = Literal["online", "offline", "disabled"]


@runtime_checkable
class Service(Protocol):
    """A service a run reports to; used by the first process only."""

    def open(
        self, folder: Path, *, name: str, group: str | None, config: Mapping[str, Any]
    ) -> tuple[Logger, list[Sink]]:
        """Begin or continue the run of this folder; gives back what takes numbers, pictures and tables."""
        ...

    def close(self, exit_code: int) -> None:
        """The run ended: 0 well, else not."""
        ...


class WandbService:
    """Weights & Biases. A resumed run keeps its id, which is written to `wandb_id.txt` before anything else.

    Args:
        project: name of the project there.
        entity: user or team; None: the default of the account.
        group: runs that belong together; None: the name of the sweep.
        job_type: kind of run.
        tags: labels.
        mode: None: $WANDB_MODE, else online with a key and offline without.
    """

    def __init__(
        self,
        *,
        project: str = "seqtrack",
        entity: str | None = None,
        group: str | None = None,
        job_type: str = "train",
        tags: Sequence[str] = (),
        mode: Mode | None = None,
    ) -> None:
        if mode not in (None, "online", "offline", "disabled"):
            raise ValueError(f"logger.service.mode must be online, offline, disabled or null, got {mode!r}")
        self.project, self.entity, self.group = project, entity, group
        self.job_type, self.tags, self.mode = job_type, list(tags), mode
        self._run: Any = None

    def open(
        self, folder: Path, *, name: str, group: str | None, config: Mapping[str, Any]
    ) -> tuple[Logger, list[Sink]]:
        """Begin or continue the run of this folder."""
        path = folder / "wandb_id.txt"
        if not path.exists():
            path.write_text(secrets.token_hex(4))
        mode: Any = self.mode or os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group or group,
            job_type=self.job_type,
            tags=self.tags,
            name=name,
            id=path.read_text().strip(),
            resume="allow",
            dir=folder,
            mode=mode,
            config=dict(config),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        return WandbMetrics(self._run), [WandbSink(self._run)]

    def close(self, exit_code: int) -> None:
        """Finish, so that a failed run does not look finished."""
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            self._run = None


class WandbMetrics(Logger):
    """Numbers over our own step, 1-based as in metrics.csv: a continued offline run counts from 0 by itself."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self._run = run

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "wandb"

    @property
    def version(self) -> str:
        """Id of the run."""
        return str(self._run.id)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration was given when the run began."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send numbers."""
        self._run.log({**metrics, "step": (step or 0) + 1})


class WandbSink:
    """Pictures and tables."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def image(self, name: str, image: Image, step: int) -> None:
        """Send a picture."""
        self._run.log({name: wandb.Image(image), "step": step})

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Send a table."""
        columns = list(rows[0]) if rows else []
        table = wandb.Table(columns=columns, data=[list(row.values()) for row in rows])
        self._run.log({name: table, "step": step})


class TensorBoardService:
    """TensorBoard event files in `<folder>/tensorboard`; numbers only."""

    def open(
        self, folder: Path, *, name: str, group: str | None, config: Mapping[str, Any]
    ) -> tuple[Logger, list[Sink]]:
        """Open the event file."""
        try:
            return TensorBoardLogger(folder, name="", version="tensorboard"), []
        except ModuleNotFoundError as error:
            raise ValueError("logger=tensorboard needs a package: pip install tensorboard") from error

    def close(self, exit_code: int) -> None:
        """Nothing to do."""
