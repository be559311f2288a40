"""The sweep file of Weights & Biases for an experiment: the search space that Hydra's sweeper has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from seqtrack_lit.files import write_atomic


def write_sweep(experiment: str, path: Path) -> None:
    """Write the file that `wandb sweep` takes.

    Raises:
        ValueError: there is no such experiment, or it sweeps nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, yaml.safe_dump(sweep_of(experiment), sort_keys=False, width=120))


def sweep_of(experiment: str) -> dict[str, Any]:
    """The sweep of an experiment as Weights & Biases wants it: Bayes where Hydra searches, else the grid.

    Raises:
        ValueError: there is no such experiment, or it sweeps nothing.
    """
    try:
        config = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    except HydraException as error:
        raise ValueError(f"sweep={experiment}: {' '.join(str(error).split())[:300]}") from None
    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    parameters = {key: _parameter(key, value) for key, value in (sweeper.get("params") or {}).items()}
    if not parameters:
        raise ValueError(
            f"sweep={experiment}: this experiment has no hydra.sweeper.params, so there is nothing to sweep"
        )
    searched = any("values" not in parameter for parameter in parameters.values())
    command = [
        "seqtrack-train", f"experiment={experiment}", "hydra.mode=RUN", "logger=wandb",
        f"hydra.run.dir={config.hydra.sweep.dir}/${{oc.env:WANDB_RUN_ID}}", "${args_no_hyphens}",
    ]  # fmt: skip
    return {
        "name": str(config.name),
        "method": "bayes" if searched else "grid",
        "metric": {"name": "best", "goal": str(sweeper.get("direction") or "maximize")},
        **({"run_cap": sweeper["n_trials"]} if searched else {}),
        "parameters": parameters,
        "command": command,
    }


def _parameter(key: str, text: object) -> Mapping[str, Any]:
    """A parameter from Hydra's words for it: choice, range, interval, commas."""
    space = OverridesParser.create().parse_override(f"{key}={text}").value()
    if isinstance(space, IntervalSweep):
        bounds: dict[str, Any] = {"min": space.start, "max": space.end}
        whole = all(isinstance(bound, int) for bound in bounds.values())
        names = ("q_log_uniform_values", "int_uniform") if whole else ("log_uniform_values", "uniform")
        return {"distribution": names[0] if "log" in space.tags else names[1], **bounds}
    if isinstance(space, ChoiceSweep):
        return {"values": [getattr(item, "text", item) for item in space.list]}
    if isinstance(space, RangeSweep):
        return {"values": list(space.range())}
    return {"values": [space]}
