"""seqtrack-vot: SeqTrack in the VOT toolkit, as a program that the toolkit starts.

    seqtrack-vot init=WORKSPACE checkpoint=FILE            writes trackers.ini, stack.yaml, config.yaml, and ends
    seqtrack-vot init=WORKSPACE checkpoint=FILE report=mask
    cd WORKSPACE; vot evaluate SeqTrack; vot analysis SeqTrack --name out; vot pack SeqTrack

Without init= it is the program itself: it waits for the toolkit on standard input. The toolkit lives best in an
environment of its own (vot-toolkit==0.7.4 attributee==0.1.9); this one needs vot-trax==4.0.2. Without the toolkit
`seqtrack-evaluate benchmark=vot2020` does the same.
"""

import re
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from seqtrack_lit.checks import one_of, printable
from seqtrack_lit.cli.checkpoints import checkpoint_of, devices_of, load_on, tracker_options
from seqtrack_lit.cli.hydra.overrides import key_of, quoted
from seqtrack_lit.cli.hydra.runtime import existing, run
from seqtrack_lit.cli.vot_benchmark import eao_lengths
from seqtrack_lit.masks import check_masks, make_refiner

if TYPE_CHECKING:
    from seqtrack_lit.tracking.trax_server import Report

# The toolkit's vot2020/shortterm without its download; experiments and analyses are unchanged.
STACK = """\
title: VOT-ST2020 challenge
{dataset}url: http://www.votchallenge.net/vot2020/
experiments:
  baseline:
    type: multistart
    analyses: &analyses
      - {{type: multistart_eao_score, name: eaoscore, low: {low}, high: {high}}}
      - {{type: multistart_eao_curve, name: eaocurve, high: {high}}}
      - {{type: multistart_average_ar, name: ar}}
  realtime:
    type: multistart
    realtime: {{grace: 3}}
    analyses: *analyses
  unsupervised:
    type: unsupervised
    repetitions: 1
    analyses:
      - {{type: average_accuracy, name: accuracy, burnin: 1}}
"""
DATASET = "dataset: https://data.votchallenge.net/vot2020/shortterm/description.json\n"
TIMEOUT = 600  # seconds that the toolkit waits for an answer; the first one comes after the network is loaded


def body(config: DictConfig) -> None:
    """Write a workspace, or serve."""
    one_of("", ("box", "mask"), report=config.report)
    checkpoint = checkpoint_of(config)
    if checkpoint is None:
        raise ValueError("no checkpoint: give checkpoint=FILE or run=FOLDER; checkpoint=small comes with the package")
    if config.official_config is not None:
        existing(config.official_config, "official_config")
    check_masks(config.masks, config.mask_checkpoint)
    if config.masks is not None and config.report != "mask":
        raise ValueError(f"masks={config.masks} makes masks: add report=mask")
    if config.init is not None:
        for line in write_workspace(config, checkpoint, Path(config.init).expanduser()):
            print(printable(line))
        return
    import cv2

    from seqtrack_lit.tracking.trax_server import import_trax, serve

    import_trax()
    cv2.setNumThreads(0)
    report: Report = config.report
    device = devices_of(config.device)[0]
    refiner = None if config.masks is None else make_refiner(config.masks, config.mask_checkpoint, device=device)
    serve(load_on(str(checkpoint), tracker_options(config), device), report, refiner)


def write_workspace(config: DictConfig, checkpoint: Path, folder: Path) -> list[str]:
    """Write the files of a workspace; files that are there stay. Returns what to tell.

    Args:
        config: of this command.
        checkpoint: the tracker's.
        folder: the workspace; sequences/ in it is used where it exists, else config.sequences, else the toolkit
            downloads.

    Raises:
        FileExistsError: a file of the workspace is there with other content.
    """
    from seqtrack_lit.files import write_atomic

    given = folder / "sequences"
    if config.sequences is not None and not given.is_dir():
        given = Path(str(config.sequences)).expanduser()
    sequences = given.absolute() if given.is_dir() else Path("sequences")
    if (sequences / "sequences").is_dir():
        sequences = sequences / "sequences"
    download = "" if sequences.is_dir() or (folder / sequences).is_dir() else DATASET
    low, high = eao_lengths("", config.eao_lengths)
    files = {
        "stack.yaml": STACK.format(dataset=download, low=low, high=high),
        "config.yaml": f"registry: [./trackers.ini]\nstack: ./stack.yaml\nsequences: {_yaml(sequences)}\n",
        "trackers.ini": _tracker(config, checkpoint),
    }
    for name, text in files.items():
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise FileExistsError(f"{path} is there with other content; delete it, or give another init=")
    for name, text in files.items():
        write_atomic(folder / name, text)
    name, place = identifier(config), shlex.quote(str(folder))
    return [
        f"Workspace: {folder} (sequences: {sequences if not download else 'the toolkit downloads them'})",
        f"Next, where the toolkit is installed: cd {place} && vot evaluate {name} && vot analysis {name} --name out",
    ]


def identifier(config: DictConfig) -> str:
    """The tracker's name in the toolkit: letters, digits, - and _."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", str(config.tracker.name or "SeqTrack"))


def _tracker(config: DictConfig, checkpoint: Path) -> str:
    """trackers.ini: this program with the settings of this command line, paths absolute."""
    replaced = {
        "checkpoint", "run", "eval_checkpoint", "official_config", "mask_checkpoint", "init", "sequences",
        "eao_lengths",
    }  # fmt: skip
    kept = [item for item in HydraConfig.get().overrides.task if key_of(item) not in replaced]
    kept.append(f"checkpoint={quoted(checkpoint.absolute())}")
    for key in ("official_config", "mask_checkpoint"):
        if config[key] is not None:
            path = Path(config[key]).expanduser()
            kept.append(f"{key}={quoted(path.absolute()) if path.exists() else config[key]}")
    command = shlex.join([sys.executable, "-m", "seqtrack_lit.cli.vot", *kept]).replace("%", "%%")
    return (
        f"[{identifier(config)}]\nlabel = {identifier(config)}\nprotocol = trax\ncommand = {command}\n"
        f"timeout = {TIMEOUT}\n"
    )


def _yaml(path: Path) -> str:
    """A path as a value of YAML; in quotes where signs in it would mean something."""
    text = str(path)
    return text if re.fullmatch(r"[\w./+-]+", text) else "'" + text.replace("'", "''") + "'"


main = partial(run, "vot", body)

if __name__ == "__main__":
    main()
