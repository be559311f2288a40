"""What tiny trainings with logger=wandb leave in the offline files of Weights & Biases, and the dashboard of it."""

import csv
import json
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch import Callback
from omegaconf import OmegaConf
from tests.cli.offline import OfflineRun, offline_files, read_offline
from tests.cli.tiny import TINY, Stop, call
from tests.data.fixtures import make_lasot

from seqtrack_lit.cli import dashboard, evaluate, train
from seqtrack_lit.cli.hydra.runtime import config_folder
from seqtrack_lit.cli.loggers import wandb_of
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.files import flatten
from seqtrack_lit.runs.compare import offline_values
from seqtrack_lit.runs.folder import read_metadata, read_rows

ENDS = {"stopped": [143, 0], "again": [143, 0], "sweep/good": [0], "sweep/bad": [1], "sweep/other": [0]}
FRAMES = 5


class Fail(Callback):
    """A bug in the third step."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            raise RuntimeError("broken on purpose")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that is stopped and continued, one that goes on from an earlier checkpoint as if it had been killed, then
    three jobs of a sweep that start from it, the second with a bug; all in one process.
    """
    folder = tmp_path_factory.mktemp("wandb")
    module = ModuleType("endings")
    vars(module).update(good=Callback, other=Callback, bad=Fail, stop=Stop)

    with pytest.MonkeyPatch.context() as patch:
        go = partial(call, patch, train)
        patch.chdir(folder)
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        patch.setitem(sys.modules, "endings", module)
        torch.set_num_threads(1)
        tiny = [*TINY, "logger=wandb", f"data.validation.track_frames={FRAMES}", "data.validation.tracks=2"]
        keep = ["logger.checkpoints=true"]
        tags = ["logger.tags=[a,b]", "logger.project=mine"]
        assert go(*tiny, *tags, "hydra.run.dir=stopped", "+callbacks.extra.x._target_=endings.stop") == 143
        assert go("resume=stopped", "+callbacks.extra.x._target_=endings.good") == 0
        extra = "+callbacks.extra.x._target_=endings"
        assert go(*tiny, *keep, "hydra.run.dir=again", f"{extra}.stop") == 143
        last = folder / "again/checkpoints/last.ckpt"
        last.write_bytes(last.read_bytes()[:1000])  # the one before is of step 4
        facts = (folder / "again/run.json").read_text()
        (folder / "again/run.json").write_text(facts.replace('"status": "stopped"', '"status": "running"'))
        assert go("resume=again", f"{extra}.good") == 0
        jobs = [
            "-m",
            *keep,
            f"init_from={folder}/again/checkpoints/best.ckpt",
            "+callbacks.extra.x._target_=endings.good,endings.bad,endings.other",
        ]
        naming = ["hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}"]
        assert go(*tiny, *jobs, *naming) == 1
        make_lasot(folder / "LaSOT")
        lasot = ["benchmark=lasot", "benchmark.root=LaSOT", "complete=false"]
        assert call(patch, evaluate, "run=sweep/0", *lasot, "baseline=static", "media=false") == 0
    for number, name in enumerate(("good", "bad", "other")):
        (folder / "sweep" / str(number)).rename(folder / "sweep" / name)
    yield folder
    wandb.teardown()


@pytest.fixture(scope="module")
def logged(folder: Path) -> dict[str, list[OfflineRun]]:
    """The files of each training, in the order they were written; that of an evaluation comes behind them."""
    return {name: [read_offline(path) for path in offline_files(folder / name)[: len(ENDS[name])]] for name in ENDS}


def test_every_run_has_its_own_end(folder: Path, logged: Mapping[str, list[OfflineRun]]) -> None:
    """Nothing is merged: one file a run, a further one of the same id where it was continued."""
    assert {name: [one.exit_code for one in parts] for name, parts in logged.items()} == ENDS
    status = {name: [one.summary["status"] for one in parts] for name, parts in logged.items()}
    assert status == {
        "stopped": ["stopped", "finished"], "again": ["stopped", "finished"], "sweep/good": ["finished"],
        "sweep/bad": ["failed"], "sweep/other": ["finished"],
    }  # fmt: skip
    ids = {name: {one.run["run_id"] for one in parts} for name, parts in logged.items()}
    assert ids == {name: {(folder / name / "wandb_id.txt").read_text()} for name in ENDS}
    assert len(set.union(*ids.values())) == 5
    for name, parts in logged.items():
        facts = json.loads((folder / name / "run.json").read_text())
        assert {key: parts[-1].summary[key] for key in ("status", "best", "seconds")}.items() <= facts.items()


def test_group_name_and_tags(logged: Mapping[str, list[OfflineRun]]) -> None:
    for part in logged["stopped"]:
        assert (part.run.get("run_group"), part.run["display_name"], part.run["project"]) == (None, "debug", "mine")
        assert part.run["tags"] == ["a", "b"]
    names = [logged[name][0].run["display_name"] for name in ("sweep/good", "sweep/bad", "sweep/other")]
    assert names == ["sweep/0", "sweep/1", "sweep/2"]
    assert {part.run["run_group"] for name in ENDS for part in logged[name] if name.startswith("sweep/")} == {"sweep"}
    assert {part.run["job_type"] for parts in logged.values() for part in parts} == {"train"}


@pytest.mark.parametrize("name", ENDS)
def test_the_whole_configuration_and_what_follows(
    folder: Path, logged: Mapping[str, list[OfflineRun]], name: str
) -> None:
    config = OmegaConf.to_container(OmegaConf.load(folder / name / "config.yaml"))
    facts = json.loads((folder / name / "run.json").read_text())
    for part in logged[name]:
        later = {key: config[key] for key in ("resume", "callbacks")}  # other ones when it went on
        assert flatten(config).items() <= flatten({**part.config, **later}).items()  # and what conf/ leaves unsaid
        derived = part.config["derived"]
        assert derived.items() <= facts.items()
        assert derived.keys() == {"start", "precision", "parameters", "device", "length", "learning_rates", "data"}
        assert derived["length"]["steps"] == 8


@pytest.mark.parametrize("name", ["stopped", "again", "sweep/good", "sweep/other"])
def test_numbers_are_those_of_metrics_csv(folder: Path, logged: Mapping[str, list[OfflineRun]], name: str) -> None:
    """Every number of metrics.csv over our own step, also behind the stop, and no number besides."""
    found: dict[int, dict[str, float]] = {}
    sent: list[tuple[int, str]] = []
    for part in logged[name]:
        assert part.step_metric["*"] == "step"
        for row in part.history:
            numbers = {key: value for key, value in row.items() if isinstance(value, (int, float)) and key[0] != "_"}
            found.setdefault(row["step"], {}).update(numbers)
            sent += [(row["step"], key) for key in row if "/" in key]
    assert len(sent) == len(set(sent))  # nothing twice
    rows = read_rows(folder / name / "metrics.csv")
    wanted = {int(row["step"]): {key: float(value) for key, value in row.items() if value} for row in rows}
    if name == "again":  # step 5 was done twice, and takes another time
        for row in (found[5], wanted[5]):
            for key in [key for key in row if key.startswith(("time/", "memory/"))]:
                del row[key]
    assert found.pop(0) == {"step": 0}  # the picture of training samples
    assert found == wanted
    assert sorted(found) == list(range(1, 9))
    assert found[8]["samples"] == 64


@pytest.mark.parametrize("name", ["stopped", "again"])
def test_steps_go_on(logged: Mapping[str, list[OfflineRun]], name: str) -> None:
    """Also where step 5 is done again, because the checkpoint was of step 4."""
    first, second = (sorted({row["step"] for row in part.history}) for part in logged[name])
    assert (first, second) == ([0, 1, 2, 3, 4, 5], [6, 7, 8])


def test_alerts(folder: Path, logged: Mapping[str, list[OfflineRun]]) -> None:
    alerts = {
        name: [(one["title"], one["text"]) for part in parts for one in part.alerts] for name, parts in logged.items()
    }
    assert alerts == {
        "stopped": [],
        "again": [("training was killed", f"it goes on from {folder}/again/checkpoints/previous.ckpt")],
        "sweep/good": [],
        "sweep/bad": [("training failed", "broken on purpose")],
        "sweep/other": [],
    }


def test_the_best_value_is_in_the_summary_while_the_run_goes_on(folder: Path) -> None:
    """And in run.json: both without the last words of the run."""
    path = offline_files(folder / "sweep/good")[0]
    run = read_offline(path)
    best = max(float(row["val/auc"]) for row in read_rows(folder / "sweep/good/metrics.csv") if row["val/auc"])
    assert run.summary["best"] == pytest.approx(best, abs=0.051)
    killed = path.with_name("cut.wandb")
    killed.write_bytes(path.read_bytes()[: path.read_bytes().index(b'"finished"') - 200])
    summary, first = read_offline(killed).summary, read_rows(folder / "sweep/good/metrics.csv")[3]["val/auc"]
    assert "status" not in summary
    assert summary["best"] in (round(float(first), 1), run.summary["best"])


def test_the_best_values_of_several_runs(folder: Path, tmp_path: Path) -> None:
    for name in ("good", "other"):
        path = offline_files(folder / "sweep" / name)[0]
        shutil.copytree(path.parent, tmp_path / path.parent.name)
    ends = [read_metadata(folder / "sweep" / name)["best"] for name in ("good", "other")]
    assert offline_values(tmp_path) == {"debug": ends}


def test_checkpoints_are_artifacts_that_name_what_they_started_from(
    folder: Path, logged: Mapping[str, list[OfflineRun]]
) -> None:
    models = {
        name: [one for part in parts for one in part.artifacts if one["type"] == "model"]
        for name, parts in logged.items()
    }
    assert models["stopped"] == []
    former = f"checkpoint-{(folder / 'again/wandb_id.txt').read_text()}"
    assert {one["name"] for one in models["again"]} == {former}
    (good,) = models["sweep/good"]
    assert good["name"] == f"checkpoint-{(folder / 'sweep/good/wandb_id.txt').read_text()}"
    assert set(good["aliases"]) == {"latest", "best"}
    assert [Path(item["path"]).name for item in good["manifest"]["contents"]] == ["best.ckpt"]
    facts = json.loads(good["metadata"])
    assert (facts["from"], facts["status"], facts["start"].split()[0]) == (former, "finished", "weights")
    assert facts["data"].keys() == {"generated"}


def test_confidences_and_attention(folder: Path, logged: Mapping[str, list[OfflineRun]]) -> None:
    part = logged["sweep/good"][0]
    for step, value in zip((4, 8), part.of("val/confidences"), strict=True):
        assert (value["_type"], sum(value["values"])) == ("histogram", 2 * (FRAMES - 1))
        with (folder / f"sweep/good/pictures/val_confidences_{step:07d}.csv").open(newline="") as file:
            assert [int(row["count"]) for row in csv.DictReader(file)] == value["values"]
    for step, value in zip((4, 8), part.of("val/attention"), strict=True):
        sent = cv2.imread(str(part.files / value["path"]))
        assert np.array_equal(sent, cv2.imread(str(folder / f"sweep/good/pictures/val_attention_{step:07d}.png")))
    assert sorted({row["step"] for row in logged["sweep/bad"][0].history}) == [0, 1, 2]


def test_pictures(folder: Path, logged: Mapping[str, list[OfflineRun]]) -> None:
    part = logged["sweep/good"][0]
    for key, steps in {"train/samples": [0], "val/pairs": [4, 8]}.items():
        assert [row["step"] for row in part.history if key in row] == steps
        for step, value in zip(steps, part.of(key), strict=True):
            assert value["_type"] == "image-file"
            sent = cv2.imread(str(part.files / value["path"]))
            ours = cv2.imread(str(folder / f"sweep/good/pictures/{key.replace('/', '_')}_{step:07d}.png"))
            assert sent.shape == (200, 208, 3)  # two samples, template above search
            assert np.array_equal(sent, ours)
            assert value["path"] in part.kept


def test_tables_and_curves(folder: Path, logged: Mapping[str, list[OfflineRun]]) -> None:
    part = logged["sweep/good"][0]
    names = {"val/videos": "val_videos", "val/success_table": "val_success", "val/precision_table": "val_precision"}
    for key, file in names.items():
        for step, value in zip((4, 8), part.of(key), strict=True):
            assert value["_type"] == "table-file"
            sent = json.loads((part.files / value["path"]).read_text())
            with (folder / f"sweep/good/pictures/{file}_{step:07d}.csv").open(newline="") as ours:
                rows = list(csv.reader(ours))
            assert [sent["columns"], *([str(cell) for cell in row] for row in sent["data"])] == rows
            assert (value["nrows"], value["path"] in part.kept) == (len(rows) - 1, True)
    videos = json.loads((part.files / part.of("val/videos")[-1]["path"]).read_text())
    scores = ["AUC", "PNorm", "P", "OP50", "OP75", "AO", "SR50", "SR75"]
    assert videos["columns"] == ["video", *scores, "confidence", "updates"]
    assert len(videos["data"]) == 2
    shown = part.config["_wandb"]["visualize"]["val/success"]["panel_config"]
    assert shown["fieldSettings"] == {"x": "overlap", "y": "percent", "stroke": None}


def test_clips(folder: Path, logged: Mapping[str, list[OfflineRun]]) -> None:
    """Video files that browsers play, with the first held-out videos and their scores as captions."""
    part = logged["sweep/good"][0]
    with (folder / "sweep/good/pictures/val_videos_0000008.csv").open(newline="") as file:
        scores = {row["video"]: row["AUC"] for row in csv.DictReader(file)}
    for step, value in zip((4, 8), part.of("val/clips"), strict=True):
        assert (value["_type"], value["count"]) == ("videos", 2)
        for number, clip in enumerate(value["videos"]):
            path = part.files / clip["path"]
            assert clip["path"] in part.kept
            assert path.read_bytes() == (folder / f"sweep/good/pictures/val_clips_{number}_{step:07d}.mp4").read_bytes()
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert len(frames) == FRAMES
    assert value["captions"] == [f"{name}, AUC {score}" for name, score in scores.items()]


def test_benchmark_scores_are_in_the_run(folder: Path) -> None:
    """In a further file of the same id, with the paper's rows; the table is in the console's lines, too."""
    _, part = (read_offline(path) for path in offline_files(folder / "sweep/good"))
    assert (part.run["run_id"], part.exit_code) == ((folder / "sweep/good/wandb_id.txt").read_text(), 0)
    assert (part.run["run_group"], part.run["display_name"]) == ("sweep", "sweep/0")
    scores = Scores.load(folder / "sweep/good/results/debug/lasot/scores.json")
    for name, value in scores.values.items():
        assert part.summary[f"test/lasot/{name}"] == pytest.approx(value, abs=0.051)
    assert [row["step"] for row in part.history if "test/lasot/AUC" in row] == [8]
    assert part.summary["test/lasot/fps"] > 0
    assert part.summary["parameters"] == json.loads((folder / "sweep/good/run.json").read_text())["parameters"]
    assert 0.0005 < part.summary["macs_g"] < 0.01
    table = json.loads((part.files / part.of("test/lasot/scores")[0]["path"]).read_text())
    assert table["columns"] == ["tracker", *scores.values, "frames/s"]
    rows = {row[0]: row[1:] for row in table["data"]}
    assert rows["SeqTrack-B256 (paper)"][:3] == [69.9, 79.7, 76.3]
    assert rows["debug"][0] == pytest.approx(scores.values["AUC"], abs=0.051)
    assert "static" in rows
    assert "SeqTrack-B256 (paper)" in part.console
    attributes = json.loads((part.files / part.of("test/lasot/attributes")[0]["path"]).read_text())
    assert attributes["columns"] == ["attribute", "videos", "debug", "static"]
    by_attribute = {**scores.per_attribute, "all": scores.values}
    expected = {name: pytest.approx(of["AUC"], abs=0.051) for name, of in by_attribute.items()}
    assert {row[0]: row[2] for row in attributes["data"]} == expected
    radar = cv2.imread(str(part.files / part.of("test/lasot/radar")[0]["path"]))
    assert min(radar.shape[:2]) > 500


def test_a_foreign_run_is_not_reported_to(folder: Path) -> None:
    """Its settings may name any project and any service."""
    assert wandb_of(folder / "sweep/good") is not None
    foreign = folder / "foreign"
    foreign.mkdir()
    for name in ("config.yaml", "wandb_id.txt"):
        (foreign / name).write_text((folder / "sweep/good" / name).read_text())
    facts = json.loads((folder / "sweep/good/run.json").read_text())
    (foreign / "run.json").write_text(json.dumps({**facts, "seal": "0" * 64}))
    assert wandb_of(foreign) is None


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # in the package's own modules, when first imported
        import wandb_workspaces.workspaces  # noqa: F401
    settings: Any = OmegaConf.load(config_folder() / "dashboard.yaml")
    built = dashboard.build("mine", "me", name="all", swept=list(settings.swept), benchmarks=["lasot"])
    return built._spec  # type: ignore[no-any-return]


def shown(spec: Any) -> Iterator[tuple[str, Any]]:
    """Every place of a specification that names something logged: (place, name)."""
    for key, value in spec.items() if isinstance(spec, dict) else enumerate(spec):
        if key in ("metrics", "mediaKeys"):
            yield from ((key, name) for name in value)
        elif key in ("accessor", "xAxis", "metricRegex", "groupBy"):
            yield key, value
        elif key == "args" and isinstance(value, list):
            yield from (("tableKey", item["value"]) for item in value if item["name"] == "tableKey")
        elif key == "key" and isinstance(value, dict) and value.get("nodeType") == "const":
            yield "tableKey", value["val"]
        elif key == "grouping" or (key == "key" and isinstance(value, dict) and "section" in value):
            yield from (("runs", item) for item in (value if key == "grouping" else [value]))
        if isinstance(value, (dict, list)):
            yield from shown(value)


def test_the_dashboard_shows_what_is_logged(folder: Path, spec: dict[str, Any]) -> None:
    """Every metric, table, picture, setting and summary it names is one of a real run."""
    parts = [read_offline(path) for path in offline_files(folder / "sweep/good")]
    part = parts[0]
    history = {key for one in parts for row in one.history for key in row} | {"data/loss_coco", "data/share_coco"}
    config, summary = set(settings(part.config)), {key for one in parts for key in one.summary}
    counts: dict[str, int] = {}
    for place, name in shown(spec["spec"]):
        counts[place] = counts.get(place, 0) + 1
        if place == "metricRegex":
            assert any(re.fullmatch(name, key) for key in history), name
        elif place == "accessor":
            section, _, key = name.partition(":")
            assert key in (config if section == "config" else summary), name
        elif place == "groupBy":
            assert name in config, name
        elif place == "runs":
            known = {"config": config, "summary": summary, "run": ["group", "displayName"]}
            assert name["name"] in known[name["section"]], name
        elif name != "_step":  # sections have it, switched off
            assert name in history | summary, name
    assert counts["metrics"] >= 12
    assert (counts["mediaKeys"], counts["tableKey"]) == (6, 4)
    assert counts["accessor"] == 7
    grouping = spec["spec"]["section"]["runSets"][0]["grouping"]
    assert [(key["section"], key["name"]) for key in grouping] == [("run", "group"), ("config", "tracker.value.name")]
    for column in spec["spec"]["section"]["runSets"][0]["runFeed"]["columnPinned"]:
        section, _, key = column.partition(":")
        assert section == "run" or key in part.summary


def settings(config: Mapping[str, Any]) -> Iterator[str]:
    """Names of all settings as the server has them: `value` behind the first part."""
    for first, tree in config.items():
        for rest in leaves(tree):
            yield ".".join([first, "value", *rest])


def leaves(tree: Any) -> Iterator[list[str]]:
    if not isinstance(tree, dict):
        yield []
        return
    for name, child in tree.items():
        yield from ([name, *rest] for rest in leaves(child))
