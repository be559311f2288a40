"""Reads back what Weights & Biases keeps of an offline run; the package has no reader of its own files."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Logged:
    """One `run-<id>.wandb`.

    Args:
        files: the folder that paths of pictures, tables and clips are relative to.
        run: the record of the run: run_id, display_name, run_group, job_type, tags, project.
        config: the configuration as last updated.
        history: what was logged, one dictionary a call.
        summary: of the run, as last updated.
        step_metric: name or glob of a metric -> the metric it is drawn over.
        kept: files handed over for keeping.
        exit_code: None where the run never ended.
    """

    files: Path
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step_metric: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    exit_code: int | None = None

    def of(self, key: str) -> list[Any]:
        """All values of a key, in order."""
        return [row[key] for row in self.history if key in row]


def read(path: Path) -> Logged:
    """Everything of interest in the file."""
    logged = Logged(path.parent / "files")
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            logged.run = record.run
            _put(logged.config, record.run.config.update)
        elif kind == "config":
            _put(logged.config, record.config.update)
        elif kind == "history":
            logged.history.append(_put({}, record.history.item))
        elif kind == "summary":
            _put(logged.summary, record.summary.update)
        elif kind == "metric":
            logged.step_metric[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "files":
            logged.kept += [item.path for item in record.files.files]
        elif kind == "exit":
            logged.exit_code = record.exit.exit_code
    return logged


def records(path: Path) -> Iterator[Any]:
    """The protobuf records: a LevelDB log (blocks of 32 KiB, records in parts) behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:  # too short for the head of a part
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])  # behind a check sum
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def _put(tree: dict[str, Any], items: Any) -> dict[str, Any]:
    """Sets items by their path in a tree of dictionaries, and gives it back."""
    for item in items:
        *path, last = item.nested_key or [item.key]
        place = tree
        for name in path:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)
    return tree
