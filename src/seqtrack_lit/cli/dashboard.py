"""seqtrack-dashboard: a view of a Weights & Biases project, for the runs with logger=wandb in it.

    make dashboard                             saved online with a key; without, a JSON to look at
    seqtrack-dashboard project=mine entity=team
    seqtrack-dashboard 'swept=[tokenizer.bins,optimizer.lr,seed]'
    seqtrack-dashboard sweep=search            no dashboard: runs/sweep_search.yaml, the experiment for `wandb sweep`

Runs are grouped by sweep and in it by the name of the tracker, which names the row of an ablation: seeds become a
mean with its spread. The dashboard is saved as a new view of the project; views that are there stay as they are.
Needs wandb-workspaces (`pip install 'seqtrack-lit[dashboard]'`).
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from seqtrack_lit.checks import path_part
from seqtrack_lit.cli.hydra.runtime import run
from seqtrack_lit.files import write_atomic

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

_LEGEND = """**Pictures**: templates above, search image below; green is the target, red the box that was found.

**Clips**: tracked box in yellow with its confidence, ground truth in white."""

# Panels by section: kind, title, keys. A key with .* is a pattern; {} stands for each benchmark.
SECTIONS: dict[str, list[tuple[str, ...]]] = {
    "Sweep": [
        ("swept", "what was swept, and the best validation"),
        ("bars", "best val/auc by tracker", "best"),
        ("differences",),
    ],
    "Validation": [
        ("line", "tracked held-out videos: AUC, %", "val/auc"),
        ("line", "tracked held-out videos: AO, %", "val/ao"),
        ("line", "pair IoU with its own and another template, %", "val/pair_iou", "val/pair_iou_other"),
        ("curve", "val/success: % of frames", "val/success_table", "overlap"),
        ("curve", "val/precision: % of frames", "val/precision_table", "pixels"),
        ("line", "confidence: mean probability of the tokens", "val/confidence"),
        ("table", "", "val/videos"),
    ],
    "Benchmarks": [
        ("number", "parameters", "parameters"),
        ("number", "multiply-accumulates a frame, G", "macs_g"),
        ("line", "AUC, %", "test/.*/AUC"),
        ("line", "precision, %", "test/.*/P"),
        ("line", "normalised precision, %", "test/.*/PNorm"),
        ("line", "frames a second", "test/.*/fps"),
        ("table", "", "test/{}/scores"),
        ("pictures", "by attribute", "test/{}/radar"),
    ],
    "Pictures": [
        ("pictures", "tracked held-out videos", "val/clips"),
        ("sheets", "boxes found in held-out pairs", "val/pairs"),
        ("sheets", "attention behind each token", "val/attention"),
        ("pictures", "confidences", "val/confidences"),
        ("sheets", "training samples", "train/samples"),
        ("text", _LEGEND),
    ],
    "Training": [
        ("line", "loss", "train/loss", "val/loss"),
        ("line", "loss by token", "train/loss_.*"),
        ("log line", "norm of the gradient", "train/gradient_norm"),
        ("line", "learning rates", "train/lr_.*"),
        ("line", "loss by data set", "data/loss_.*"),
        ("line", "share of the samples by data set, %", "data/share_.*"),
    ],
    "Machine": [
        ("line", "samples per second", "time/samples_per_second"),
        ("line", "seconds a step: waiting for data, computing", "time/data", "time/step"),
        ("line", "peak memory, GB", "memory/peak_gb"),
    ],
}


def body(config: DictConfig) -> None:
    """Save the dashboard online, or write its specification where there is no key; or write a sweep file."""
    if config.sweep is not None:
        path = Path(config.paths.runs).expanduser() / f"sweep_{path_part('sweep', str(config.sweep))}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, yaml.safe_dump(sweep_of(str(config.sweep)), sort_keys=False, width=120))
        print(f"Written: {path}; wandb sweep --project {config.project} {path} registers it and says how to run it")
        return
    try:
        import wandb_workspaces  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError("the dashboard needs a package: pip install wandb-workspaces") from error
    import wandb

    from seqtrack_lit.cli.loggers import mode_of

    try:
        connected = mode_of(None) == "online"
        entity = config.entity or (wandb.Api().default_entity if connected else "")
        workspace = build(
            config.project, entity, name=config.name, swept=list(config.swept), benchmarks=list(config.benchmarks)
        )
        if connected:
            print(f"Saved: {workspace.save().url}")
            return
    except wandb.Error as error:
        raise ValueError(f"Weights & Biases: {error}; WANDB_MODE=offline writes the specification only") from error
    out = Path(config.out).expanduser()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(workspace._spec, indent=1) + "\n")
    print(f"No key of Weights & Biases (or WANDB_MODE=offline), nothing saved online: the specification is {out}")


def build(project: str, entity: str, *, name: str, swept: Sequence[str], benchmarks: Sequence[str]) -> "Workspace":
    """The dashboard, without asking any server.

    Args:
        project: of the runs.
        entity: whose project.
        name: of the dashboard.
        swept: keys of the configuration that a sweep changes; axes of the parallel coordinates.
        benchmarks: whose tables and radars are shown.
    """
    import wandb_workspaces.workspaces as ws

    sections = []
    for title, panels in SECTIONS.items():
        made = [one for kind, *texts in panels for one in _panels(kind, *texts, swept=swept, benchmarks=benchmarks)]
        sections.append(ws.Section(name=title, panels=made, is_open=True))
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="samples"),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric("Group"), ws.Config("tracker.name")],
            order=[ws.Ordering(ws.Summary("best"), ascending=False)],
            pinned_columns=["summary:best", "summary:val/auc", "summary:val/ao", "summary:status"],
        ),
    )


def _panels(kind: str, title: str = "", *keys: str, swept: Sequence[str], benchmarks: Sequence[str]) -> list[Any]:
    """One panel; of tables, one for each key."""
    import wandb_workspaces.reports.v2 as wr

    keys = tuple(key.format(one) for key in keys for one in (benchmarks if "{}" in key else [""]))
    match kind:
        case "line" | "log line":
            named = {"metric_regex": keys[0]} if ".*" in keys[0] else {"y": list(keys)}
            return [wr.LinePlot(title=title, x="samples", log_y=kind == "log line" or None, **{"y": [], **named})]
        case "curve":
            query = {"summaryTable": {"tableKey": keys[0]}}
            fields, strings = {"x": keys[1], "y": "percent"}, {"title": title}
            chart = wr.CustomChart(query=query, chart_name="wandb/line/v0", chart_fields=fields, chart_strings=strings)
            return [chart]
        case "pictures" | "sheets":
            return [wr.MediaBrowser(title=title, media_keys=list(keys), num_columns=2 if kind == "pictures" else 1)]
        case "swept":
            axes = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in swept]
            best = wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric("best"), display_name="best val/auc")
            return [wr.ParallelCoordinatesPlot(title=title, columns=[*axes, best])]
        case "table":
            return [wr.WeavePanelSummaryTable(table_name=key) for key in keys]
        case "bars":
            return [wr.BarPlot(title=title, metrics=list(keys), groupby=wr.Config("tracker.name"))]
        case "number":
            return [wr.ScalarChart(title=title, metric=keys[0])]
        case "text":
            return [wr.MarkdownPanel(markdown=title)]
    return [wr.RunComparer(diff_only="split")]


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


main = partial(run, "dashboard", body)

if __name__ == "__main__":
    main()
