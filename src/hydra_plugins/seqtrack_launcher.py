"""`hydra/launcher=local`: the jobs of a sweep side by side on this machine, one a device.

Hydra finds launchers in this namespace package only, and imports all of it in every command: the work is elsewhere.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class DeviceLauncher(Launcher):
    """Starts each job as a process of its own, as many at a time as there are devices.

    Args:
        devices: auto (all GPUs; without, one job per two CPU cores), a number of jobs, or a list of CUDA devices.
    """

    def __init__(self, devices: Any = "auto") -> None:
        self.devices = devices

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the configuration of the sweep."""
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; the results are in their order."""
        from seqtrack_lit.cli.launch.launcher import launch

        return launch(self.devices, self.hydra_context, self.config, job_overrides, initial_job_idx)
