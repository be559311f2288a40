"""Experiment services: Weights & Biases, TensorBoard. Only this module imports them."""

import inspect
import os
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any, Literal, NotRequired, TypedDict, Unpack

import numpy as np
import wandb

from seqtrack_lit.checks import flag
from seqtrack_lit.crops import Image
from seqtrack_lit.runs.compare import offline_records
from seqtrack_lit.runs.folder import METRICS, is_own, read_metadata, read_rows, read_settings
from seqtrack_lit.training.callbacks.metrics import RunLogger

Mode = Literal["online", "offline", "disabled"]
Known = Mapping[int, Collection[str]]  # by step, the names of numbers
ID = "wandb_id.txt"
SILENCE = 3600.0  # seconds without a number before an alert


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


class RunFacts(TypedDict):
    """What a service is told of a run: its name, that of its sweep, the settings, the step of the checkpoint it goes on
    from, which numbers of later steps were recorded before it was interrupted, and whether it was killed then.
    """

    name: str
    group: str | None
    config: Mapping[str, Any]
    step: int
    known: NotRequired[Known]
    killed: NotRequired[bool]


class Service:
    """A service a run reports to; used by the first process only."""

    def open(self, folder: Path, **run: Unpack[RunFacts]) -> RunLogger:
        """Begin the run of this folder, or continue it."""
        raise NotImplementedError

    def close(self, exit_code: int, outcome: Mapping[str, Any], *, error: str = "") -> None:
        """The run ended, 0 well, else not, and came to this; `error` is why it failed."""
        raise NotImplementedError


class WandbService(Service):
    """Weights & Biases. A resumed run keeps its id, which is written to `wandb_id.txt` before anything else.

    Args:
        project: name of the project there.
        entity: user or team; None: the default of the account.
        group: runs that belong together; None: the name of the sweep.
        job_type: kind of run.
        tags: labels.
        mode: None: $WANDB_MODE, else online with a key and offline without.
        checkpoints: at the end, send the checkpoint that evaluation takes as an artifact, with what it started from.
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
        checkpoints: bool = False,
    ) -> None:
        flag("logger", checkpoints=checkpoints)
        if mode not in (None, "online", "offline", "disabled"):
            raise ValueError(f"logger.mode must be online, offline, disabled or null, got {mode!r}")
        self.project, self.entity, self.group = project, entity, group
        self.job_type, self.tags, self.mode, self.checkpoints = job_type, list(tags), mode, checkpoints
        self._run: Any = None
        self._logger: WandbLogger | None = None

    def open(self, folder: Path, **run: Unpack[RunFacts]) -> "WandbLogger":
        """Begin or continue the run of this folder; see `Service`.

        Raises:
            ValueError: Weights & Biases refuses the settings or the key, or cannot be reached.
        """
        path = folder / ID
        if not path.exists():
            agent = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None  # of a sweep of theirs
            path.write_text(agent or secrets.token_hex(4))
        number = path.read_text(errors="replace").strip()
        if not re.fullmatch("[0-9a-zA-Z_-]{1,64}", number):  # it becomes part of a folder's name
            raise ValueError(f"{path} holds no id of a run of Weights & Biases; delete it and the run gets a new one")
        self._folder, self._config = folder, run["config"]
        try:
            mode = mode_of(self.mode)
            self._run = wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group or run["group"],
                job_type=self.job_type,
                tags=self.tags,
                name=run["name"],
                id=number,
                resume="allow" if mode == "online" else None,  # offline, the same id alone continues a run
                reinit="create_new",  # a run left open by others in this process is not ours
                dir=folder,
                mode=mode,
                config=dict(run["config"]),
            )
        except (wandb.Error, ValueError) as error:
            refused = isinstance(error, wandb.errors.CommError)  # key or network, not a setting
            remedy = "; logger.mode=offline needs neither a key nor a network" if refused else ""
            raise ValueError(f"logger=wandb: {error}{remedy}") from error
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        known = run.get("known", {})
        if run.get("killed") and self._run.offline:
            known = self._send_lost(known)
        self._logger = WandbLogger(self._run, known)
        return self._logger

    def _send_lost(self, known: Known) -> Known:
        """Numbers of metrics.csv that a killed process had not written to its offline file; of `known`, what it had."""
        sent: dict[int, set[str]] = {}
        for path in self._folder.glob(f"wandb/offline-run-*-{self._run.id}/run-*.wandb"):
            if path.parent != Path(self._run.dir).parent:
                for kind, content in offline_records(path):
                    if kind == "history":
                        sent.setdefault(content["item"].get("step", 0), set()).update(content["item"])
        for row in read_rows(self._folder / METRICS) if (self._folder / METRICS).is_file() else ():
            step = int(row["step"])
            lost = {name: float(text) for name, text in row.items() if text and name not in sent.get(step, {"step"})}
            if lost:
                self._run.log({**lost, "step": step})
        return {step: sent.get(step, set()).intersection(names) for step, names in known.items()}

    def close(self, exit_code: int, outcome: Mapping[str, Any], *, error: str = "") -> None:
        """Finish, so that a failed run does not look finished; the outcome goes to the summary."""
        if self._run is not None and self._logger is not None:
            self._logger.stop_watching()
            if error:
                self._logger.alert("training failed", error)
            self._run.summary.update(dict(outcome))
            if self.checkpoints:
                self._log_checkpoint(outcome)
            self._run.finish(exit_code=exit_code)
            self._run = None

    def _log_checkpoint(self, outcome: Mapping[str, Any]) -> None:
        """The checkpoint as an artifact that names the run it started from, as its input where there is a server."""
        which, derived = self._config.get("eval_checkpoint", "best"), self._config.get("derived", {})
        path = self._folder / "checkpoints" / f"{which}.ckpt"
        if not path.is_file():
            return
        start = Path(self._config.get("init_from") or "").parent.parent / ID
        former = (
            f"checkpoint-{start.read_text().strip()}" if self._config.get("init_from") and start.is_file() else None
        )
        if former is not None and not self._run.offline:
            self._run.use_artifact(f"{former}:latest")
        facts = {**outcome, **{key: derived.get(key) for key in ("start", "data")}, "from": former}
        artifact = wandb.Artifact(f"checkpoint-{self._run.id}", "model", metadata=facts)
        artifact.add_file(str(path))
        self._run.log_artifact(artifact, aliases=[which])


class WandbLogger(RunLogger):
    """Everything over our own step, as in metrics.csv: a continued offline run counts from 0 by itself.

    What was sent before an interruption is not sent again; an hour without any number gives an alert.

    Args:
        run: of wandb.
        known: numbers of later steps that were sent before.
    """

    def __init__(self, run: Any, known: Known) -> None:
        self._run, self._known = run, known
        self._watch: Timer | None = None

    def summary(self, values: Mapping[str, float]) -> None:
        """Send what the run came to so far."""
        self._run.summary.update(dict(values))

    def alert(self, title: str, text: str) -> None:
        """Send an alert: by mail or Slack, as the account has it."""
        self._run.alert(title, text, level="ERROR")

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers."""
        self.stop_watching()
        text = f"no number came for {SILENCE / 60:.0f} minutes after step {step}"
        self._watch = Timer(SILENCE, self.alert, ["training stands still", text])
        self._watch.daemon = True
        self._watch.start()
        if new := {name: value for name, value in values.items() if name not in self._known.get(step, ())}:
            self._run.log({**new, "step": step})

    def stop_watching(self) -> None:
        """Give no alert when numbers stay away."""
        if self._watch is not None:
            self._watch.cancel()

    def image(self, name: str, image: Image, step: int) -> None:
        """Send a picture."""
        self._send(name, lambda: wandb.Image(image), step)

    def table(self, name: str, rows: Sequence[Mapping[str, object]], step: int) -> None:
        """Send a table."""
        self._send(name, lambda: _table(rows), step)

    def curve(self, name: str, rows: Sequence[Mapping[str, float]], step: int) -> None:
        """Send a chart; its points are the table `<name>_table`."""
        along, up = rows[0]
        self._send(name, lambda: wandb.plot.line(_table(rows), along, up, title=name), step)

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Send a histogram."""
        self._send(name, lambda: wandb.Histogram(values, num_bins=20), step)

    def clips(self, name: str, files: Mapping[str, Path], step: int) -> None:
        """Send videos; they are copied."""
        self._send(name, lambda: [wandb.Video(file, caption=caption) for caption, file in files.items()], step)

    def _send(self, name: str, make: Callable[[], Any], step: int) -> None:
        kind = name.split("/")[0] + "/"
        if not any(number.startswith(kind) for number in self._known.get(step, ())):
            self._run.log({name: make(), "step": step})


def wandb_of(folder: Path) -> WandbService | None:
    """The service that a training in this folder reported to; None where there was none, or it is somebody else's."""
    service = read_settings(folder).get("logger") or {}
    ours = service.get("_target_") == f"{WandbService.__module__}.{WandbService.__name__}"
    if not (ours and (folder / ID).is_file() and is_own(read_metadata(folder))):
        return None
    allowed = inspect.signature(WandbService).parameters.keys() - {"checkpoints"}
    return WandbService(**{key: value for key, value in service.items() if key in allowed})


def _table(rows: Sequence[Mapping[str, object]]) -> Any:
    return wandb.Table(columns=list(rows[0]) if rows else [], data=[list(row.values()) for row in rows])


class TensorBoardService(Service):
    """TensorBoard event files in `<folder>/tensorboard`."""

    def open(self, folder: Path, **run: Unpack[RunFacts]) -> RunLogger:
        """Open an event file; what an interrupted run wrote after this step is taken back."""
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ModuleNotFoundError as error:
            raise ValueError("logger=tensorboard needs a package: pip install tensorboard") from error
        self._writer = SummaryWriter(folder / "tensorboard", purge_step=run["step"] + 1)
        return TensorBoardLogger(self._writer)

    def close(self, exit_code: int, outcome: Mapping[str, Any], *, error: str = "") -> None:
        """Write what is left."""
        self._writer.close()


class TensorBoardLogger(RunLogger):
    """Numbers, pictures, histograms; TensorBoard takes no tables, curves and video files: they are in `pictures/`."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """Write a histogram."""
        self._writer.add_histogram(name, np.asarray(values), step)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, name: str, image: Image, step: int) -> None:
        """Write a picture."""
        self._writer.add_image(name, image, step, dataformats="HWC")
