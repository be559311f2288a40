"""Before a sweep begins: which of its jobs are done, which were begun, which are missing."""

import itertools
import logging
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from seqtrack_lit.cli.record import read_facts

log = logging.getLogger(__name__)
_MEANING = {"finished": "finished, is skipped", None: "missing, is run"}


class SweepPlan(Callback):
    """Prints one line a job. Sweepers that choose their jobs on the way (Optuna) have no plan to print."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the plan."""
        if not str(config.hydra.sweeper._target_).endswith("BasicSweeper"):
            return
        params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
        try:
            jobs = [_folder_name(job, config) for job in _jobs([*params, *config.hydra.overrides.task])]
        except HydraException:
            return  # the same mistake stops the sweep itself, with its message
        folder = Path(str(config.hydra.sweep.dir))
        lines = [f"sweep    {folder}, {len(jobs)} jobs"]
        for name in jobs:
            status = read_facts(folder / name).get("status")
            lines.append(f"         {name}: {_MEANING.get(status, f'{status}, goes on')}")
        print("\n".join(lines), flush=True)


def _jobs(overrides: list[str]) -> list[list[str]]:
    loader = GlobalHydra.instance().config_loader()  # expands glob(*)
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
    if any(item.is_sweep_override() and not item.is_discrete_sweep() for item in parsed):
        return []
    return list(itertools.chain.from_iterable(BasicSweeper.split_arguments(parsed, None)))


def _folder_name(job: list[str], config: DictConfig) -> str:
    naming = config.hydra.job.config.override_dirname
    parsed = OverridesParser.create().parse_overrides(job)
    return get_overrides_dirname(parsed, list(naming.exclude_keys), naming.item_sep, naming.kv_sep)
