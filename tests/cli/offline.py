"""Offline files of Weights & Biases, read back by the program behind its command `wandb leet inspect --json FILE`."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.util import get_core_path


@dataclass
class OfflineRun:
    """One `run-<id>.wandb`; a run that was continued has several, of one id.

    Args:
        path: of the file.
        run: what it says of the run: run_id, display_name, run_group, job_type, tags, project.
        config: the settings as last updated.
        history: what was logged, one dictionary a call.
        summary: of the run, as last updated.
        step_metric: name or glob of a metric -> the metric it is drawn over.
        alerts: title and text of each.
        artifacts: name, type, aliases, metadata of each, tables included.
        kept: files handed over for keeping, relative to `files`.
        console: what was printed.
        exit_code: None where the run never ended.
    """

    path: Path
    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step_metric: dict[str, str] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    console: str = ""
    exit_code: int | None = None

    @property
    def files(self) -> Path:
        """The folder that paths of pictures, tables and clips are relative to."""
        return self.path.parent / "files"

    def of(self, key: str) -> list[Any]:
        """All values of a key, in order."""
        return [row[key] for row in self.history if key in row]


def offline_files(folder: Path) -> list[Path]:
    """The offline files in and below a folder, oldest first."""
    return sorted(folder.rglob("offline-run-*/run-*.wandb"), key=lambda path: path.parent.name)


def read_offline(path: Path) -> OfflineRun:
    """Everything of interest in an offline file; `runs.compare.offline_records` takes a second for each."""
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", path, path.parent]
    found = OfflineRun(path)
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        record = json.loads(line)
        _add(found, record["type"], record.get(record["type"]) or {})
    return found


def _add(found: OfflineRun, kind: str, content: dict[str, Any]) -> None:
    """A record to where it belongs."""
    if kind == "run":
        found.run = content
        _put(found.config, content.get("config", {}).get("update", {}))
    elif kind == "config":
        _put(found.config, content.get("update", {}))
    elif kind == "summary":
        _put(found.summary, content.get("update", {}))
    elif kind == "history":
        found.history.append(_put({}, content.get("item", {})))
    elif kind == "metric":
        found.step_metric[content.get("name") or content["glob_name"]] = content.get("step_metric", "")
    elif kind == "alert":
        found.alerts.append(content)
    elif kind == "artifact":
        found.artifacts.append(content)
    elif kind == "files":
        found.kept += [item["path"] for item in content["files"]]
    elif kind == "output_raw":
        found.console += content.get("line", "")
    elif kind == "exit":
        found.exit_code = content.get("exit_code", 0)


def _put(tree: dict[str, Any], items: Mapping[str, Any]) -> dict[str, Any]:
    """Set items by their path, which has dots, in a tree of dictionaries; gives it back."""
    for key, value in items.items():
        *path, last = key.split(".")
        place = tree
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return tree
