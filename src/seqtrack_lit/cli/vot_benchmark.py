"""seqtrack-evaluate on VOT2020: its experiments one after the other, their scores, the paper's rows beside."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from seqtrack_lit.checks import number, printable, shown, whole
from seqtrack_lit.cli.checkpoints import batch_of, digest
from seqtrack_lit.masks import check_masks, make_refiner

if TYPE_CHECKING:
    from seqtrack_lit.data.video.index import SequenceIndex
    from seqtrack_lit.data.video.regions import VotAnnotation
    from seqtrack_lit.evaluation.scores import Scores
    from seqtrack_lit.tracking.workers import MakeTracker

CONVENTION = "vot_baseline"  # as the benchmark's configuration has it
EXPERIMENTS = ("baseline", "realtime", "unsupervised")


def vot_settings(config: DictConfig) -> dict[str, Any]:
    """The block `vot` of the configuration, checked.

    Raises:
        ValueError: an unknown experiment, or a value out of range.
    """
    if config.convention != CONVENTION or config.get("conventions"):
        raise ValueError("convention: VOT2020 has its own measures (EAO, A, R); leave the convention out")
    settings = dict(OmegaConf.to_container(config.vot, resolve=True))  # type: ignore[arg-type]
    kinds = settings["experiments"] if isinstance(settings["experiments"], list) else [settings["experiments"]]
    if not kinds:
        raise ValueError(f"vot.experiments is empty; allowed: {', '.join(EXPERIMENTS)}, or a list")
    for kind in kinds:
        if kind not in EXPERIMENTS:
            raise ValueError(f"vot.experiments: no experiment {kind!r}; allowed: {', '.join(EXPERIMENTS)}, or a list")
    eao_lengths("vot", settings["eao_lengths"])
    whole("vot", 0, grace=settings["grace"])
    number("vot", high=3600.0, above=True, seconds_per_frame=settings["seconds_per_frame"])
    check_masks(settings["masks"], settings["mask_checkpoint"], "vot")
    return {**settings, "experiments": list(dict.fromkeys(kinds))}


def eao_lengths(group: str, given: object) -> tuple[int, int]:
    """The first and the last length of EAO in frames, checked; `group` is that of the key."""
    lengths = OmegaConf.to_container(given) if isinstance(given, ListConfig) else given
    key = f"{group}.eao_lengths" if group else "eao_lengths"
    if not (isinstance(lengths, list) and len(lengths) == 2):
        raise ValueError(f"{key} must be two numbers of frames, [115,755] in VOT2020, got {shown(lengths)}")
    whole(group, 1, 100_000, **{"eao_lengths[0]": lengths[0]})
    whole(group, lengths[0] + 1, 100_000, **{"eao_lengths[1]": lengths[1]})
    return lengths[0], lengths[1]


def run_vot(
    config: DictConfig,
    index: "SequenceIndex",
    name: str,
    tracker: str,
    folder: Path,
    make: "MakeTracker",
    identity: dict[str, object],
    devices: list[str],
) -> "tuple[list[Scores], list[str]]":
    """Track all runs that have no trajectory yet, and score; gives scores and what failed.

    Args:
        config: of seqtrack-evaluate.
        index: the sequences.
        name: of the benchmark.
        tracker: name of the tracker.
        folder: `<out>/<tracker>/<benchmark>`.
        make: makes the tracker on a device.
        identity: what the results depend on.
        devices: given to the processes in turn.
    """
    from seqtrack_lit.tracking.benchmark import check_identity, run_benchmark
    from seqtrack_lit.tracking.multistart import Experiment, Realtime, Trajectories

    settings = vot_settings(config)
    refiner = None
    if settings["masks"] is not None:
        refiner = partial(make_refiner, settings["masks"], settings["mask_checkpoint"], device=devices[0])
        refiner()  # a wrong file is told now
        weights = settings["mask_checkpoint"] or ""  # a file, or the name of a model
        told = digest(weights) if Path(weights).expanduser().is_file() else weights
        identity = {**identity, "masks": settings["masks"], "mask_weights": told}
    experiments = []
    for kind in settings["experiments"]:
        realtime = Realtime(settings["seconds_per_frame"], settings["grace"]) if kind == "realtime" else None
        clock = {} if realtime is None else {"seconds_per_frame": realtime.seconds, "grace": realtime.grace}
        experiment = Experiment(kind, index, realtime)
        check_identity(folder / kind, {**identity, **clock}, replace=config.replace, files="*/*")
        experiments.append(experiment)
    failed = []
    for experiment in experiments:
        place = folder / experiment.kind
        store, batch = Trajectories(place, experiment, refiner), batch_of(config.batch, devices)
        summary = run_benchmark(make, experiment, store, workers=config.workers, devices=devices, batch=batch)
        text = f"{tracker} on {name}, {experiment.kind}: {summary.text('runs')}"
        if experiment.realtime is not None:
            simulated = experiment.realtime
            text += f"; simulated: {1000 * simulated.seconds:g} ms a frame, grace {simulated.grace}"
        print(printable(f"{text}; trajectories in {place}"), flush=True)
        failed += [f"{tracker} on {name}, {experiment.kind}, {run}: {why}" for run, why in summary.failed.items()]
    return ([], failed) if failed else (score_vot(config, index, name, tracker, folder), [])


def annotations(index: "SequenceIndex") -> "list[VotAnnotation]":
    """Regions, anchors and tags of all sequences; regions are text until they are asked for."""
    from seqtrack_lit.data.sets.vot import annotation

    return [annotation(index.root, name) for name in index.names]


def score_vot(config: DictConfig, index: "SequenceIndex", name: str, tracker: str, folder: Path) -> "list[Scores]":
    """Scores of the experiments asked for, of any tracker's trajectories; those without a folder are left out.

    scores.json is written into the tracker's folder, analysis.json with all digits into each experiment's.

    Raises:
        FileNotFoundError: a trajectory is missing, or there is none at all.
    """
    from seqtrack_lit.data.sets.vot import annotation
    from seqtrack_lit.evaluation.vot_scores import score_experiment

    settings = vot_settings(config)
    low, high = settings["eao_lengths"]
    kinds = [kind for kind in settings["experiments"] if (folder / kind).is_dir()]
    if not kinds:
        raise FileNotFoundError(f"{folder} has none of {', '.join(settings['experiments'])}: track them first")
    scores = []
    for kind in kinds:
        known = (annotation(index.root, sequence) for sequence in index.names)
        scores.append(score_experiment(folder / kind, kind, known, tracker=tracker, benchmark=name, low=low, high=high))
        scores[-1].save(folder / "scores.json")
    return scores
