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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from seqtrack_lit.checks import path_part
from seqtrack_lit.cli.hydra.runtime import run

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

_LEGEND = """**Pictures**: templates above, search image below; green is the target, red the box that was found.

**Clips**: tracked box in yellow with its confidence, ground truth in white."""


def body(config: DictConfig) -> None:
    """Save the dashboard online, or write its specification where there is no key; or write a sweep file."""
    if config.sweep is not None:
        from seqtrack_lit.cli.wandb_sweep import write_sweep

        path = Path(config.paths.runs).expanduser() / f"sweep_{path_part('sweep', str(config.sweep))}.yaml"
        write_sweep(str(config.sweep), path)
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
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    def line(title: str, *names: str, regex: str | None = None, log: bool = False) -> wr.LinePlot:
        return wr.LinePlot(title=title, x="samples", y=list(names), metric_regex=regex, log_y=log or None)

    def curve(name: str, along: str) -> wr.CustomChart:
        return wr.CustomChart(
            query={"summaryTable": {"tableKey": f"{name}_table"}},
            chart_name="wandb/line/v0",
            chart_fields={"x": along, "y": "percent"},
            chart_strings={"title": f"{name}: % of frames"},
        )

    axes = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in swept]
    axes.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric("best"), display_name="best val/auc"))
    sections = {
        "Sweep": [
            wr.ParallelCoordinatesPlot(title="what was swept, and the best validation", columns=axes),
            wr.BarPlot(title="best val/auc by tracker", metrics=["best"], groupby=wr.Config("tracker.name")),
            wr.RunComparer(diff_only="split"),
        ],
        "Validation": [
            line("tracked held-out videos: AUC, %", "val/auc"),
            line("tracked held-out videos: AO, %", "val/ao"),
            line("pair IoU with its own and another template, %", "val/pair_iou", "val/pair_iou_other"),
            curve("val/success", "overlap"),
            curve("val/precision", "pixels"),
            line("confidence: mean probability of the tokens", "val/confidence"),
            wr.WeavePanelSummaryTable(table_name="val/videos"),
        ],
        "Benchmarks": [
            wr.ScalarChart(title="parameters", metric="parameters"),
            wr.ScalarChart(title="multiply-accumulates a frame, G", metric="macs_g"),
            line("AUC, %", regex="test/.*/AUC"),
            line("precision, %", regex="test/.*/P"),
            line("normalised precision, %", regex="test/.*/PNorm"),
            line("frames a second", regex="test/.*/fps"),
            *[wr.WeavePanelSummaryTable(table_name=f"test/{one}/scores") for one in benchmarks],
            wr.MediaBrowser(
                title="by attribute", media_keys=[f"test/{one}/radar" for one in benchmarks], num_columns=2
            ),
        ],
        "Pictures": [
            wr.MediaBrowser(title="tracked held-out videos", media_keys=["val/clips"], num_columns=2),
            wr.MediaBrowser(title="boxes found in held-out pairs", media_keys=["val/pairs"], num_columns=1),
            wr.MediaBrowser(title="attention behind each token", media_keys=["val/attention"], num_columns=1),
            wr.MediaBrowser(title="confidences", media_keys=["val/confidences"], num_columns=2),
            wr.MediaBrowser(title="training samples", media_keys=["train/samples"], num_columns=1),
            wr.MarkdownPanel(markdown=_LEGEND),
        ],
        "Training": [
            line("loss", "train/loss", "val/loss"),
            line("loss by token", regex="train/loss_.*"),
            line("norm of the gradient", "train/gradient_norm", log=True),
            line("learning rates", regex="train/lr_.*"),
            line("loss by data set", regex="data/loss_.*"),
            line("share of the samples by data set, %", regex="data/share_.*"),
        ],
        "Machine": [
            line("samples per second", "time/samples_per_second"),
            line("seconds a step: waiting for data, computing", "time/data", "time/step"),
            line("peak memory, GB", "memory/peak_gb"),
        ],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=title, panels=panels, is_open=True) for title, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis="samples"),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric("Group"), ws.Config("tracker.name")],
            order=[ws.Ordering(ws.Summary("best"), ascending=False)],
            pinned_columns=["summary:best", "summary:val/auc", "summary:val/ao", "summary:status"],
        ),
    )


def main() -> None:
    """Entry point."""
    run("dashboard", body)


if __name__ == "__main__":
    main()
