"""seqtrack-report: pages, tables and server files from what is on disk; no model, no GPU.

    seqtrack-report run=runs/quickstart                      the page of a run: <run>/report/index.html
    seqtrack-report runs=[runs/fig6_bins]                    what differs in runs, their curves and scores, one page:
                                                             <runs>/comparison/index.html; also runs=[runs/a,runs/b]
    seqtrack-report results=[FOLDERS] benchmark=lasot        score result files of any tracker, one table
    seqtrack-report results=[raw/seqtrack] benchmark=uav123 conventions=[seqtrack,pysot] save=tables
    seqtrack-report results=[FOLDERS] benchmark=lasot page=lasot_page      the same and every sequence, as one HTML file
    seqtrack-report scores=[runs/results] format=latex       one table of what has been scored already
    seqtrack-report scores=[runs/fig6_bins] average=true     mean and standard deviation over runs of the same name;
                                                             save=experiments/fig6_bins: table.md and scores.json
    seqtrack-report submit=got10k benchmark=got10k_test results=[runs/results/seqtrack]
    seqtrack-report submit=trackingnet benchmark=trackingnet check=FILE.zip
    seqtrack-report submit=vot2020 benchmark=vot2020 results=[runs/results/seqtrack]

Result files may be ours or anybody's: commas, tabs or blanks, integers or floats, names with uav_ or nfs_ in front,
one folder for a tracker or a tree with many. The ground truth is read from where the benchmark lies (docs/datasets.md).
"""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from seqtrack_lit.checks import path_part, printable
from seqtrack_lit.cli.hydra.runtime import existing, instantiate, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqtrack_lit.data.video.sequence import Video
    from seqtrack_lit.evaluation.scores import Scores
    from seqtrack_lit.evaluation.tables import Table

SERVERS = {"got10k": "got10k_test", "trackingnet": "trackingnet", "vot2020": "vot2020"}
FORMATS = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "json": ".json"}


def body(config: DictConfig) -> None:
    """Do what is asked for: a zip, a table, the page of a run or of several."""
    _check(config)
    if config.submit is not None:
        submit(config)
    elif config.results or config.scores:
        table(config)
    elif config.runs:
        compare_runs(config)
    else:
        from seqtrack_lit.reports.run import write_page

        folder = Path(config.run).expanduser()
        print(printable(f"Report: {write_page(folder, _page(config), linked=config.media == 'linked')}"))


def compare_runs(config: DictConfig) -> None:
    """Write the page that compares runs, and print what is most looked for."""
    from seqtrack_lit.reports.comparison import scores_of, summary, write_comparison
    from seqtrack_lit.runs.compare import read_runs, warnings

    found = read_runs([existing(folder, "runs") for folder in _list(config.runs)])
    page = write_comparison(found, _page(config))
    for part in (summary(found), scores_of(found)):
        if part is not None:
            _print(part)
    lines = [f"Not compared: {name}: {reason}" for name, reason in found.problems]
    lines += [f"Warning: {text}" for text in warnings(found.members)]
    for line in (*lines, f"Report: {page}"):
        print(printable(line))


def _page(config: DictConfig) -> Path | None:
    return None if config.page is None else Path(config.page).expanduser()


def _print(whole: "Table") -> None:
    """To the terminal; into a file or a pipe without cutting anything off."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = console.measure(whole.rich(), options=console.options.update(width=10_000)).maximum
    console.print(whole.rich())


def table(config: DictConfig) -> None:
    """Score results, or collect scores; print one table, and write it where asked for."""
    from seqtrack_lit.evaluation.tables import compare, repetitions
    from seqtrack_lit.files import remove_leftovers, write_atomic

    scores = _scored(config) if config.results else []
    if config.results and config.page is not None:
        print(printable(f"Report: {_benchmark_page(config, scores)}"))
    scores += _collected([existing(folder, "scores") for folder in _list(config.scores)])
    whole = compare(scores, paper_rows=config.paper, average=config.average)
    if config.save is not None:
        folder = Path(config.save).expanduser()
        remove_leftovers(folder)
        if config.average:  # small enough to be kept with an experiment: the table, and every run's values
            write_atomic(folder / "table.md", whole.markdown())
            write_atomic(folder / "scores.json", repetitions(scores))
        else:
            _save(scores, whole, folder)
    if config.format == "terminal":
        _print(whole)
    else:
        print(getattr(whole, config.format)(), end="")


def _benchmark_page(config: DictConfig, scores: "list[Scores]") -> Path:
    """Write the page of trackers on a benchmark, by the first convention; returns its path."""
    from seqtrack_lit.reports.benchmark import write_benchmark

    name, videos = _benchmark(config)
    trackers = dict(_trackers(config, name, [video.name for video in videos]))
    same = [one for one in scores if one.convention == scores[0].convention]
    same.sort(key=lambda one: -next(iter(one.values.values())))
    ordered = {one.tracker: trackers[one.tracker] for one in same}
    return write_benchmark(ordered, videos, same, Path(config.page).expanduser(), linked=config.media == "linked")


def submit(config: DictConfig) -> None:
    """Make the zip for a server, or look at one; what is wrong is printed line by line.

    Raises:
        ValueError: something is wrong with it; no zip is written then.
    """
    from seqtrack_lit.cli.vot_benchmark import annotations
    from seqtrack_lit.evaluation import servers
    from seqtrack_lit.files import read_bytes, remove_leftovers, write_atomic

    server, (benchmark, videos) = config.submit, _benchmark(config)
    expected = {video.name: servers.Expected(len(video), video.boxes[0]) for video in videos}
    vot = annotations(instantiate(config.benchmark)) if server == "vot2020" else []
    if config.check is not None:
        target = existing(config.check, "check")
        content = read_bytes(target, largest=servers.LARGEST_VOT_ZIP if vot else servers.LARGEST)
    else:
        tracker, folder = _only_tracker(config, benchmark, list(expected))
        build = servers.build_submission
        content = servers.build_pack(tracker, folder, vot) if vot else build(server, folder, expected)
        target = Path(config.zip or f"{tracker.replace('/', '_')}_{server}.zip").expanduser()
    check = servers.check_submission
    problems = servers.check_pack(content, vot) if vot else check(server, content, expected)
    for problem in problems:
        print(problem)
    if problems:
        raise ValueError(
            f"{len(problems)} problems, printed above; {'see them' if config.check else 'no zip was written'}"
        )
    if config.check is None:
        remove_leftovers(target.parent)
        write_atomic(target, content)
    print(printable(f"{target}: {len(expected)} videos, in order; {len(content) / 1e6:.1f} MB"))


def _check(config: DictConfig) -> None:
    """What can be refused before anything is imported or read."""
    if not (config.submit or config.results or config.scores or config.runs or config.run):
        raise ValueError(
            "nothing to report: give run=FOLDER (the page of a run), runs=[FOLDERS] (the page that compares several), "
            "results=[FOLDERS] or scores=[FOLDERS] (a table), or submit=got10k|trackingnet|vot2020 (a zip)"
        )
    allowed = {"submit": (*SERVERS, None), "paper": ("all", "seqtrack", "none"), "format": ("terminal", *FORMATS)}
    allowed["media"] = ("inside", "linked")
    for key, values in allowed.items():
        if config[key] not in values:
            raise ValueError(f"{key}={config[key]}: allowed are {', '.join(str(value) for value in values if value)}")
    if config.page is not None and config.results and config.get("vot") is not None:
        raise ValueError(
            "page= shows every sequence's overlap in one pass, which VOT's restarts have not; leave it out"
        )
    if config.submit is None and (config.check is not None or config.zip is not None):
        raise ValueError("check= and zip= belong to submit=got10k|trackingnet|vot2020")
    if config.submit is not None:
        wanted = SERVERS[config.submit]
        if _benchmark_name(config) != wanted:
            raise ValueError(f"submit={config.submit} needs the videos of that server: add benchmark={wanted}")
        if not config.results and config.check is None:
            raise ValueError(f"submit={config.submit} needs results=[FOLDER], or check=FILE.zip to look at one")
    for folder in _list(config.results):
        existing(folder, "results")


def _list(value: Any) -> list[str]:
    """A list, or one value as a list of one."""
    return [] if value is None else [str(item) for item in value] if OmegaConf.is_list(value) else [str(value)]


def _benchmark_name(config: DictConfig) -> str:
    """As in seqtrack-evaluate: the folder own videos' results are in, else the name of the benchmark's file."""
    name = config.benchmark.get("name") or HydraConfig.get().runtime.choices["benchmark"]
    return path_part("benchmark.name", str(name))


def _benchmark(config: DictConfig) -> "tuple[str, list[Video]]":
    """Name and videos of the benchmark; nothing is opened."""
    index = instantiate(config.benchmark)
    return _benchmark_name(config), [index[i] for i in range(len(index))]


def _scored(config: DictConfig) -> "list[Scores]":
    """Scores of every tracker found, by every convention asked for."""
    from seqtrack_lit.evaluation.metrics import convention_of
    from seqtrack_lit.evaluation.scores import ground_truth, score_folder

    if config.get("vot") is not None:
        from seqtrack_lit.cli.vot_benchmark import score_vot

        index, name = instantiate(config.benchmark), _benchmark_name(config)
        found = _trackers(config, name, [])
        return [one for tracker, folder in found for one in score_vot(config, index, name, tracker, folder)]
    conventions = _list(config.conventions) or [str(config.convention)]
    for convention in conventions:
        convention_of(convention)
    benchmark, videos = _benchmark(config)
    whole = [video for video in videos if len(video.boxes) == len(video)]
    if not whole:
        server = next((server for server, name in SERVERS.items() if name == benchmark), None)
        how = f"its server scores: submit={server} makes the file for it" if server else "nothing can be scored"
        raise ValueError(f"{benchmark} publishes first boxes only; {how}")
    truths = [ground_truth(v.name, v.boxes, v.visible, v.meta, benchmark=benchmark) for v in whole]
    scores = []
    for tracker, folder in _trackers(config, benchmark, [truth.name for truth in truths]):
        names = {"tracker": tracker, "benchmark": benchmark}
        scores += [score_folder(folder, truths, convention=c, partial=config.partial, **names) for c in conventions]
    return scores


def _trackers(config: DictConfig, benchmark: str, names: list[str]) -> list[tuple[str, Path]]:
    """Trackers and their folders in all of results=; folders that are passed over are named on stderr."""
    from seqtrack_lit.evaluation.results import find_trackers

    trackers: list[tuple[str, Path]] = []
    if config.get("vot") is not None:
        from seqtrack_lit.evaluation.vot_results import find_vot_trackers

        roots = [Path(root).expanduser() for root in _list(config.results)]
        return [pair for root in roots for pair in find_vot_trackers(root).items()]
    for root in _list(config.results):
        found = find_trackers(Path(root).expanduser(), benchmark, names)
        trackers += found.trackers.items()
        if found.passed_over:
            text = (
                f"seqtrack-report: {root} has folders called {benchmark}, so these are passed over: "
                f"{', '.join(map(str, found.passed_over))}; give such a folder itself as results= to score it, too"
            )
            print(printable(text), file=sys.stderr)
    return trackers


def _collected(folders: list[Path]) -> "list[Scores]":
    """Everything in the scores.json files below the folders.

    Raises:
        FileNotFoundError: there are none.
    """
    from seqtrack_lit.evaluation.scores import Scores

    scores: list[Scores] = []
    for folder in folders:
        files = [folder] if folder.is_file() else sorted(folder.rglob("scores.json"))
        if not files:
            raise FileNotFoundError(
                f"no scores.json in {folder}: seqtrack-evaluate writes them, and results=... save=..."
            )
        scores += [one for file in files for one in Scores.load_all(file).values()]
    return scores


def _save(scores: "list[Scores]", whole: "Table", folder: Path) -> None:
    """The table in every format, scores by tracker and benchmark, and plots of each benchmark."""
    from seqtrack_lit.evaluation.tables import attribute_table
    from seqtrack_lit.files import write_atomic
    from seqtrack_lit.reports import plots
    from seqtrack_lit.reports.benchmark import sequences_table

    places = [
        folder / path_part("the name of a tracker", one.tracker.replace("/", "_")) / one.benchmark for one in scores
    ]
    for form, suffix in FORMATS.items():
        write_atomic(folder / f"table{suffix}", getattr(whole, form)())
    for one, place in zip(scores, places, strict=True):
        one.save(place / "scores.json")
    for benchmark, convention in dict.fromkeys((one.benchmark, one.convention) for one in scores):
        same = [one for one in scores if (one.benchmark, one.convention) == (benchmark, convention)]
        stem = f"{benchmark}_{convention}"
        drawn: dict[str, Figure] = {
            kind: plots.curve_plot(same, kind)
            for kind in (kind for kind in plots.KINDS if all(kind in one.curves for one in same))
        }
        tables = {"sequences": sequences_table(same)} if all(one.per_sequence for one in same) else {}
        if all(one.per_attribute for one in same):
            tables["attributes"] = attribute_table(same)
            if len(same[0].per_attribute) >= 3:
                drawn["attributes"] = plots.attribute_radar(same)
        for name, figure in drawn.items():
            for suffix in (".pdf", ".png"):
                plots.save(figure, folder / f"{stem}_{name}{suffix}")
        for name, one_table in tables.items():
            write_atomic(folder / f"{stem}_{name}.md", one_table.markdown())
            write_atomic(folder / f"{stem}_{name}.tex", one_table.latex())


def _only_tracker(config: DictConfig, benchmark: str, names: list[str]) -> tuple[str, Path]:
    """The one tracker whose results go to the server.

    Raises:
        ValueError: there are several.
    """
    found = _trackers(config, benchmark, names)
    if len(found) > 1:
        several = ", ".join(tracker for tracker, _ in found)
        raise ValueError(f"results= holds {len(found)} trackers ({several}); a zip is of one, give its folder")
    return found[0]


main = partial(run, "report", body)

if __name__ == "__main__":
    main()
