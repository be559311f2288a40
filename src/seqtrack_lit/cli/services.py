"""Experiment services: Weights & Biases, TensorBoard. Only this module imports them."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import wandb

from seqtrack_lit.crops import Image
from seqtrack_lit.training.recording import Sink

Mode = Literal["online", "offline", "disabled"]


@runtime_checkable
class Service(Protocol):
    """A service a run reports to; used by the first process only."""

    def open(self, folder: Path, *, name: str, group: str | None, config: Mapping[str, Any]) -> Sink:
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

    def open(self, folder: Path, *, name: str, group: str | None, config: Mapping[str, Any]) -> Sink:
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
        return WandbSink(self._run)

    def close(self, exit_code: int) -> None:
        """Finish, so that a failed run does not look finished."""
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            self._run = None


class WandbSink:
    """Everything over our own step, as in metrics.csv: a continued offline run counts from 0 by itself."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers."""
        self._run.log({**values, "step": step})

    def image(self, name: str, image: Image, step: int) -> None:
        """Send a picture."""
        self._run.log({name: wandb.Image(image), "step": step})

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Send a table."""
        columns = list(rows[0]) if rows else []
        table = wandb.Table(columns=columns, data=[list(row.values()) for row in rows])
        self._run.log({name: table, "step": step})


class TensorBoardService:
    """TensorBoard event files in `<folder>/tensorboard`."""

    def open(self, folder: Path, *, name: str, group: str | None, config: Mapping[str, Any]) -> Sink:
        """Open the event file."""
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ModuleNotFoundError as error:
            raise ValueError("logger=tensorboard needs a package: pip install tensorboard") from error
        self._writer = SummaryWriter(folder / "tensorboard")
        return TensorBoardSink(self._writer)

    def close(self, exit_code: int) -> None:
        """Write what is left."""
        self._writer.close()


class TensorBoardSink:
    """Numbers and pictures; TensorBoard has no tables."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, name: str, image: Image, step: int) -> None:
        """Write a picture."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Nothing."""
