"""Experiment services: Weights & Biases, TensorBoard. Only this module imports them."""

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import wandb

from seqtrack_lit.crops import Image
from seqtrack_lit.training.callbacks.metrics import RunLogger

Mode = Literal["online", "offline", "disabled"]


def mode_of(wanted: Mode | None) -> Any:
    """How to report to Weights & Biases: as wanted, else $WANDB_MODE, else online with a key and offline without.

    Raises:
        ValueError: there is no home folder, where Weights & Biases keeps its settings.
        wandb.Error: the key is refused, or the server cannot be reached.
    """
    try:
        Path.home()
    except RuntimeError:
        raise ValueError("Weights & Biases needs a home folder for its settings: set HOME to a folder") from None
    return wanted or os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")


@runtime_checkable
class Service(Protocol):
    """A service a run reports to; used by the first process only."""

    def open(self, folder: Path, *, name: str, group: str | None, config: Mapping[str, Any], step: int) -> RunLogger:
        """Begin the run of this folder, or continue it after this step; gives back what takes all that it tells."""
        ...

    def close(self, exit_code: int, outcome: Mapping[str, Any]) -> None:
        """The run ended, 0 well, else not, and came to this."""
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

    def open(self, folder: Path, *, name: str, group: str | None, config: Mapping[str, Any], step: int) -> RunLogger:
        """Begin or continue the run of this folder.

        Raises:
            ValueError: Weights & Biases refuses the settings or the key, or cannot be reached.
        """
        path = folder / "wandb_id.txt"
        if not path.exists():
            path.write_text(secrets.token_hex(4))
        number = path.read_text(errors="replace").strip()
        if not re.fullmatch("[0-9a-zA-Z_-]{1,64}", number):  # it becomes part of a folder's name
            raise ValueError(f"{path} holds no id of a run of Weights & Biases; delete it and the run gets a new one")
        try:
            mode = mode_of(self.mode)
            self._run = wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group or group,
                job_type=self.job_type,
                tags=self.tags,
                name=name,
                id=number,
                resume="allow" if mode == "online" else None,  # offline, the same id alone continues a run
                reinit="create_new",  # a run left open by others in this process is not ours
                dir=folder,
                mode=mode,
                config=dict(config),
            )
        except (wandb.Error, ValueError) as error:
            refused = isinstance(error, wandb.errors.CommError)  # key or network, not a setting
            remedy = "; logger.service.mode=offline needs neither a key nor a network" if refused else ""
            raise ValueError(f"logger=wandb: {error}{remedy}") from error
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        return WandbSink(self._run)

    def close(self, exit_code: int, outcome: Mapping[str, Any]) -> None:
        """Finish, so that a failed run does not look finished; the outcome goes to the summary."""
        if self._run is not None:
            self._run.summary.update(dict(outcome))
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
        self._run.log({name: _table(rows), "step": step})

    def curve(self, name: str, rows: Sequence[Mapping[str, float]], step: int) -> None:
        """Send a chart; its points are the table `<name>_table`."""
        along, up = rows[0]
        self._run.log({name: wandb.plot.line(_table(rows), along, up, title=name), "step": step})

    def clips(self, name: str, files: Mapping[str, Path], step: int) -> None:
        """Send videos; they are copied."""
        self._run.log({name: [wandb.Video(file, caption=caption) for caption, file in files.items()], "step": step})


def _table(rows: Sequence[Mapping[str, object]]) -> Any:
    return wandb.Table(columns=list(rows[0]) if rows else [], data=[list(row.values()) for row in rows])


class TensorBoardService:
    """TensorBoard event files in `<folder>/tensorboard`."""

    def open(self, folder: Path, *, name: str, group: str | None, config: Mapping[str, Any], step: int) -> RunLogger:
        """Open an event file; what an interrupted run wrote after this step is taken back."""
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ModuleNotFoundError as error:
            raise ValueError("logger=tensorboard needs a package: pip install tensorboard") from error
        self._writer = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
        return TensorBoardSink(self._writer)

    def close(self, exit_code: int, outcome: Mapping[str, Any]) -> None:
        """Write what is left."""
        self._writer.close()


class TensorBoardSink:
    """Numbers and pictures; TensorBoard takes no tables, curves and video files: they are in `pictures/`."""

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

    def curve(self, name: str, rows: Sequence[Mapping[str, float]], step: int) -> None:
        """Nothing."""

    def clips(self, name: str, files: Mapping[str, Path], step: int) -> None:
        """Nothing."""
