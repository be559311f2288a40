"""The training sets of `conf/data/train` that are on this machine, opened as a training opens them."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from seqtrack_lit.cli.hydra.runtime import config_folder, instantiate
from seqtrack_lit.data.samples.sampling import Videos, WeightedDataset

_OPTIONS = ("generated", "paper")  # of data/train: between them every published set


def training_sets(data: str | Path) -> tuple[dict[str, Videos], dict[str, str]]:
    """Data sets by name: those that are there, and why the others are not.

    Args:
        data: folder the data sets lie in, `paths.data` of the commands.
    """
    found: dict[str, Videos] = {}
    missing: dict[str, str] = {}
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for option in _OPTIONS:
            overrides = [f"data/train={option}", f"paths.data={Path(data).expanduser().absolute()}"]
            for name, node in compose("train", overrides).data.train.items():
                try:
                    if "complete" in node.open:
                        node.open.complete = False
                    source: Any = instantiate(node)
                    assert isinstance(source, WeightedDataset)
                    found[str(name)] = source.open()
                except (FileNotFoundError, ValueError) as error:
                    missing[str(name)] = " ".join(str(error).split())[:120]
    return found, missing
