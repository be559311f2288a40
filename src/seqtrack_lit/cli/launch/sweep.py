"""Before a sweep begins: which of its jobs are done, which were begun, which are missing; where they will run."""

import itertools
import logging
import shutil
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from seqtrack_lit.cli.hydra.overrides import constant_keys, is_sweep, job_folder, key_of
from seqtrack_lit.cli.hydra.runtime import leave
from seqtrack_lit.cli.launch.launcher import gpus
from seqtrack_lit.runs.folder import read_metadata

log = logging.getLogger(__name__)
_MEANING = {"finished": "finished, is skipped", None: "missing, is run"}


class SweepPlan(Callback):
    """Prints one line a job. Sweepers that choose their jobs on the way (Optuna) have no plan to print."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse what would not do what was meant, then print the plan."""
        if config.get("dry_run") and not str(config.hydra.launcher._target_).endswith("BasicLauncher"):
            leave(_command(config), "dry_run=true prints on this screen and keeps nothing: give no launcher with it", 2)
        target = str(config.hydra.launcher._target_)
        if target.endswith(("JoblibLauncher", ".LocalLauncher")) and config.trainer.accelerator != "cpu" and gpus():
            launcher = config.hydra.runtime.choices["hydra/launcher"]
            text = f"hydra/launcher={launcher} begins all jobs on the first GPU: use hydra/launcher=local"
            leave(_command(config), text, 2)
        if target.endswith("SlurmLauncher") and shutil.which("sbatch") is None:
            text = "hydra/launcher=slurm: there is no sbatch here; call it where jobs are submitted"
            leave(_command(config), text, 2)
        swept = {str(key): value for key, value in (config.hydra.sweeper.params or {}).items()}
        given = [item for item in config.hydra.overrides.task if is_sweep(item)]
        for key in (*swept, *(key_of(item) for item in given)):
            if key == "inference" or (key.startswith("tracker.") and key != "tracker.name"):
                text = f"{key} changes how a checkpoint tracks, not its training, so all jobs would train the same"
                leave(_command(config), f"{text}: train once, then seqtrack-evaluate -m run=FOLDER inference=...", 2)
        if not str(config.hydra.sweeper._target_).endswith("BasicSweeper"):
            return
        for key in (key_of(item) for item in config.hydra.overrides.task):
            if key in swept:  # Hydra would run the job several times in one folder
                how = f"hydra.sweeper.params='{{{key}:...}}'" if "." in key else f"hydra.sweeper.params.{key}=..."
                leave(_command(config), f"the experiment sweeps {key}: choose by {how}", 2)
        params = [f"{key}={value}" for key, value in swept.items()]
        try:
            constant = constant_keys(config.hydra.overrides.task)
            jobs = [job_folder(job, constant) for job in _jobs([*params, *config.hydra.overrides.task])]
        except HydraException:
            return  # the same mistake stops the sweep itself, with its message
        folder = Path(str(config.hydra.sweep.dir))
        lines = [f"sweep    {folder}, {len(jobs)} jobs"]
        for name in jobs:
            try:
                status = read_metadata(folder / name).get("status")
            except ValueError as error:
                leave(_command(config), str(error), 2)
            meaning = _MEANING.get(status, f"{status}, goes on")
            lines.append(f"         {name}: {f'{status}, begins anew' if config.overwrite and status else meaning}")
        print("\n".join(lines), flush=True)


def _command(config: DictConfig) -> str:
    return f"seqtrack-{config.hydra.job.name}"


def _jobs(overrides: list[str]) -> list[list[str]]:
    loader = GlobalHydra.instance().config_loader()  # expands glob(*)
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
    if any(item.is_sweep_override() and not item.is_discrete_sweep() for item in parsed):
        return []
    return list(itertools.chain.from_iterable(BasicSweeper.split_arguments(parsed, None)))
