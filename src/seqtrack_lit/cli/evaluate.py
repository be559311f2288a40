"""seqtrack-evaluate: track the videos of a benchmark and score the results.

    seqtrack-evaluate run=runs/quickstart 'baseline=[static,kcf,csrt]'
    seqtrack-evaluate checkpoint=SEQTRACK_ep0500.pth.tar benchmark=lasot paths.data=/data workers=4
    seqtrack-evaluate checkpoint=FILE benchmark=folder benchmark.root=MY_VIDEOS benchmark.name=mine
    seqtrack-evaluate checkpoint=small benchmark=got10k_val     the tracker that comes with the package
    seqtrack-evaluate checkpoint=small 'baseline=[csrt,nano]' baseline_files=NANOTRACK benchmark=got10k_val
    seqtrack-evaluate checkpoint=FILE benchmark=vot2020    baseline, realtime, unsupervised; EAO without the VOT toolkit
    seqtrack-evaluate -m checkpoint=FILE 'benchmark=glob(*)'
    seqtrack-evaluate -m checkpoint=FILE inference=likelihood_update,naive_update,no_window

Scores of a run with logger=wandb also go to its run there, beside the paper's (docs/wandb.md).
Result files, scores.json and media/ go to <out>/<tracker>/<benchmark>/; with inference=... to
<out>/<tracker>_<inference>/<benchmark>/. A run that was stopped goes on with the
same command; finished videos are not tracked again.
"""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from seqtrack_lit.checks import path_part, printable, whole
from seqtrack_lit.cli.checkpoints import (
    BASELINES,
    baselines_of,
    batch_of,
    calibration_of,
    checkpoint_of,
    devices_of,
    digest,
    load_for_long,
    load_on,
    name_by_inference,
    tracker_options,
)
from seqtrack_lit.cli.hydra.overrides import key_of
from seqtrack_lit.cli.hydra.runtime import existing, inference_of, instantiate, run
from seqtrack_lit.cli.vot_benchmark import run_vot, vot_settings

if TYPE_CHECKING:
    from seqtrack_lit.evaluation.scores import Scores
    from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
    from seqtrack_lit.tracking.tracker import Videos
    from seqtrack_lit.tracking.workers import MakeTracker


def body(config: DictConfig) -> None:
    """Track with the checkpoint and the baselines that are asked for; print one table."""
    baselines, checkpoint, inference = baselines_of(config.baseline), checkpoint_of(config), inference_of(config)
    _check(config, checkpoint, baselines)
    import cv2
    from rich.console import Console

    from seqtrack_lit.evaluation.metrics import convention_of
    from seqtrack_lit.evaluation.tables import compare
    from seqtrack_lit.tracking.baselines import baseline_files, make_baseline

    cv2.setNumThreads(0)  # frames are small; the network's threads have the processor
    vot = config.get("vot") is not None
    makes = {method: partial(make_baseline, method, files=config.baseline_files) for method in baselines}
    for make in makes.values():
        make()  # files that are missing or broken cost no tracking
    if not vot:
        convention_of(config.convention)
    benchmark = Benchmark(config)
    scores: list[Scores] = []
    unfinished: list[str] = []
    if checkpoint is not None:
        devices = devices_of(config.device)
        config.workers = config.workers or len(devices)
        options = tracker_options(config)
        load = partial(load_on, str(checkpoint), options)
        tracker = load("cpu" if config.workers > 1 else devices[0])
        if inference is not None:
            name_by_inference(inference, tracker, options)
        _no_baseline(tracker.name)
        identity: dict[str, object] = {
            "weights": digest(checkpoint),
            "tracker": tracker.settings,
            "official_config": digest(config.official_config),
        }
        if differing := _differing(tracker, options):
            print(printable(f"{tracker.name} on {benchmark.name}: {differing}"))
        track: MakeTracker = load if config.workers > 1 else lambda device: tracker
        if config.long_term:
            track = partial(load_for_long, str(checkpoint), options)
            tracker.name, identity["long_term"] = f"{tracker.name}_long_term", calibration_of(checkpoint)
        unfinished += benchmark.run(tracker.name, track, identity, devices, scores)
        if config.media and scores and not vot:
            benchmark.show(tracker, scores[0])
    config.workers = config.workers or 1
    for method, make in makes.items():
        files = baseline_files(method, config.baseline_files)
        identity = {"baseline": method, **{part: digest(path) for part, path in files.items()}}
        unfinished += benchmark.run(method, make, identity, ["cpu"], scores)
    with nullcontext() if checkpoint is None else _in_run(config, checkpoint, tracker, scores):
        for convention in dict.fromkeys(one.convention for one in scores):  # VOT's experiments are one each
            same = [one for one in scores if one.convention == convention]
            Console().print(compare(same, paper_rows="seqtrack").rich())
    if unfinished:
        _leave_unfinished(unfinished)


class Benchmark:
    """The videos, and where results on them go."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.videos: Videos = instantiate(config.benchmark)
        name = config.benchmark.get("name") or HydraConfig.get().runtime.choices["benchmark"]
        self.name = path_part("benchmark.name", str(name))

    def run(
        self,
        tracker: str,
        make: "MakeTracker",
        identity: dict[str, object],
        devices: list[str],
        scores: "list[Scores]",
    ) -> list[str]:
        """Track, score, save; gives back what failed, and appends the scores."""
        from seqtrack_lit.evaluation.scores import ground_truth, score_folder
        from seqtrack_lit.tracking.benchmark import check_identity, run_benchmark

        vot = self.config.get("vot")
        tracker = tracker if vot is None or vot.masks is None else f"{tracker}_{vot.masks}"
        folder, identity = self.folder(tracker), {**identity, "videos": _fingerprint(self.videos)}
        if vot is not None:
            found, failed = run_vot(self.config, self.videos, self.name, tracker, folder, make, identity, devices)  # type: ignore[arg-type]
            scores += found
            return failed
        check_identity(folder, identity, replace=self.config.replace)
        batch = batch_of(self.config.batch, devices)
        summary = run_benchmark(make, self.videos, folder, workers=self.config.workers, devices=devices, batch=batch)
        done = f"{tracker} on {self.name}: {summary.text('videos')}; results in {folder}"
        print(printable(done), flush=True)
        if summary.failed:
            return [f"{tracker} on {self.name}, {name}: {reason}" for name, reason in summary.failed.items()]
        videos = [self.videos[i] for i in range(len(self.videos))]
        if all(len(video.boxes) < len(video) for video in videos):
            print(f"{self.name} publishes first boxes only: seqtrack-report submit=... makes the file for its server.")
            return []
        truths = [ground_truth(v.name, v.boxes, v.visible, v.meta, benchmark=self.name) for v in videos]
        names = {"convention": self.config.convention, "tracker": tracker, "benchmark": self.name}
        scores.append(score_folder(folder, truths, **names))
        scores[-1].save(folder / "scores.json")
        return []

    def folder(self, tracker: str) -> Path:
        """Where a tracker's results on these videos are.

        Raises:
            ValueError: the tracker's name, which a checkpoint may bring, cannot name a folder, or a link is there.
        """
        whose = Path(self.config.out).expanduser() / path_part("tracker.name", tracker)
        for place in (whose, whose / self.name):
            if place.is_symlink():  # results and media/ there are deleted with replace=true
                raise ValueError(f"{place} is a link, and results are not written through links; give another out=")
        return whose / self.name

    def show(self, tracker: "SeqTrackTracker", scores: "Scores") -> None:
        """Write media/: clips and maps of attention."""
        from seqtrack_lit.reports.media import write_media

        value = next(iter(scores.values))
        by_name = {name: values[value] for name, values in scores.per_sequence.items()}
        places = {self.videos[i].name: i for i in range(len(self.videos))}
        listed = write_media(self.folder(tracker.name), tracker, lambda name: self.videos[places[name]], by_name, value)
        print(printable(f"Clips and attention: {listed.parent}"), flush=True)


def _in_run(
    config: DictConfig, checkpoint: Path, tracker: "SeqTrackTracker", scores: "list[Scores]"
) -> AbstractContextManager[None]:
    """The W&B run that the checkpoint is of takes its scores, and what is printed meanwhile."""
    run = Path(config.run).expanduser()
    if not (run / "wandb_id.txt").is_file():  # wandb takes seconds to import
        return nullcontext()
    from seqtrack_lit.cli.wandb_scores import scores_in_run

    return scores_in_run(run, checkpoint, tracker.model, scores)


def _check(config: DictConfig, checkpoint: Path | None, baselines: list[str]) -> None:
    """What can be refused before torch is imported."""
    if checkpoint is None and not baselines:
        raise ValueError(
            f"nothing to evaluate: give checkpoint=FILE, run=FOLDER or baseline={'|'.join(BASELINES)}, or several"
        )
    if config.official_config is not None:
        existing(config.official_config, "official_config")
    if config.benchmark.get("root") is not None:
        ours = Path(str(config.benchmark.root)).is_relative_to(str(config.paths.data))
        remedy = "paths.data= names the folder of all data sets, docs/datasets.md how each lies in it"
        existing(config.benchmark.root, "benchmark.root", *([remedy] if ours else []))
    whole("", 1, **({} if config.workers is None else {"workers": config.workers}))
    if config.batch != "auto":
        whole("", 1, 1000, batch=config.batch)
    if config.get("vot") is not None:
        vot_settings(config)
    if config.tracker.name is not None:
        _no_baseline(path_part("tracker.name", str(config.tracker.name)))


def _no_baseline(name: str) -> None:
    """Results of a checkpoint are not taken for a baseline's, also where a file system knows no capitals.

    Raises:
        ValueError: the tracker is called like a baseline.
    """
    if name.lower() in BASELINES:
        raise ValueError(f"the checkpoint's tracker is called {name}, as a baseline is; give another tracker.name=")


def _differing(tracker: "SeqTrackTracker", options: dict[str, Any]) -> str:
    """Settings that differ from the checkpoint's though nobody gave them on the command line."""
    given = {key_of(item) for item in HydraConfig.get().overrides.task}
    fixed = tracker.model.templates == 1 or tracker.settings["update"] == "none"  # no template is ever renewed
    used = {
        key: tracker.settings[key]
        for key in options.keys() & tracker.stored.keys() & tracker.settings.keys()
        if f"tracker.{key}" not in given and not (fixed and key.startswith("update_"))
    }
    parts = [
        f"{key} is {value} here, {tracker.stored[key]} in the checkpoint (tracker.{key}={tracker.stored[key]} keeps it)"
        for key, value in sorted(used.items())
        if value != tracker.stored[key]
    ]
    return "; ".join(parts)


def _fingerprint(videos: "Videos") -> str:
    """Names, lengths and boxes: the same videos give the same text."""
    known = getattr(videos, "hash", "")
    if known:
        return str(known)
    content = hashlib.sha256()
    for index in range(len(videos)):
        video = videos[index]
        content.update(f"{video.name}\n{len(video)}\n".encode())
        content.update(video.boxes.tobytes())
    return content.hexdigest()[:16]


def _leave_unfinished(unfinished: list[str]) -> None:
    """Exit code 1; in a sweep the other jobs go on."""
    text = f"{len(unfinished)} videos could not be tracked; mend them and give the same command again"
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise RuntimeError("\n".join([text, *unfinished]))
    print("\n".join(["", f"seqtrack-evaluate: {text}:", *map(printable, unfinished)]), flush=True)
    raise SystemExit(1)


main = partial(run, "evaluate", body)

if __name__ == "__main__":
    main()
