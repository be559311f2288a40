"""Files of others: each refusal is one line with file, field and reason; files of ours: whole or not at all."""

import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Gt, Le
from typing_extensions import TypedDict

from seqtrack_lit import files
from seqtrack_lit.checks import path_part, printable
from seqtrack_lit.files import (
    flatten,
    inside,
    natural_order,
    read_bytes,
    read_json,
    read_yaml,
    remove_leftovers,
    typed,
    write_atomic,
)

GOOD = [
    "static",
    "SeqTrack-B256 (ours)",
    "видео 1",
    "日本語",
    "a.b",
    ".hidden",
    "é" * 100,
    "console",
    "narrow\u202fblank",
]
BAD = {
    "": "empty",
    ".": "one name",
    "..": "one name",
    "a/b": "one name",
    "..\\up": "one name",
    "C:x": "one name",
    "a\x00b": "printable",
    "\x1b[31mred": "printable",
    "a\nb": "printable",
    "a\u202eb": "printable",  # turns the direction of writing
    "\ud800": "printable",
    "dot.": "end with",
    "blank ": "end with",
    "CON": "device",
    "nul.txt": "device",
    "Com1 .csv": "device",
    "a" * 201: "200 bytes",
    "é" * 101: "200 bytes",
}


@pytest.mark.parametrize("name", GOOD)
def test_names_that_can_name_a_file(name: str, tmp_path: Path) -> None:
    assert path_part("list.txt, line 1", name) == name
    (tmp_path / name).write_text("there")
    assert inside(tmp_path, name, "media.json: file").read_text() == "there"


@pytest.mark.parametrize("name", [*BAD, 5, None, True, ["x"]])
def test_names_that_cannot(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^scores.json: tracker is .*cannot name a file or folder") as error:
        path_part("scores.json: tracker", name)
    assert BAD.get(name, "text") in str(error.value) if not isinstance(name, list) else True
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 250


def test_printable_leaves_nothing_that_steers_a_terminal() -> None:
    assert printable("é\u3000ok") == "é\u3000ok"
    assert printable("\x1b]0;t\x07\r\x9b2J") == r"\x1b]0;t\x07\r\x9b2J"


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../out.txt", "sub/../../out.txt", "", "link.txt", "linked/in.txt", "sub", "pipe", 3]
)
def test_files_named_in_a_file_lie_beside_it(tmp_path: Path, name: Any) -> None:
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "out.txt").write_text("secret")
    (folder / "sub" / "in.txt").write_text("shown")
    (folder / "link.txt").symlink_to(tmp_path / "out.txt")
    (folder / "linked").symlink_to(folder / "sub")
    os.mkfifo(folder / "pipe")
    assert inside(folder, "sub/in.txt", "x").read_text() == "shown"
    with pytest.raises(ValueError, match=r"^media.json: clips.0.file"):
        inside(folder, name, "media.json: clips.0.file")
    with pytest.raises(FileNotFoundError, match=r"^media.json: clips.0.file: there is no .*gone.mp4"):
        inside(folder, "gone.mp4", "media.json: clips.0.file")


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    assert read_bytes(tmp_path / "large", largest=11) == b"x" * 11
    with pytest.raises(ValueError, match="large is larger than"):
        read_bytes(tmp_path / "large", largest=10)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="no regular file"):
            read_bytes(path)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "large" / "below")
    with pytest.raises(ValueError, match="cannot be read"):
        read_bytes(tmp_path / ("n" * 300))


class Settings(TypedDict, total=False):
    search_factor: Annotated[float, Gt(1), Le(10)]
    update: str


@dataclass(frozen=True)
class Numbers:
    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}  # noqa: RUF012
    values: dict[str, float]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"values": {"AUC": "x"}}', "values.AUC: Input should be a valid number, got 'x'"),
        ('{"values": {"AUC": NaN}}', "values.AUC: Input should be a finite number, got nan"),
        ('{"values": {"AUC": 1e999}}', "values.AUC: Input should be a finite number, got inf"),
        ('{"values": {"AUC": true}}', "values.AUC: Input should be a valid number, got True"),
        ('{"values": []}', "values: Input should be an object, got a list of 0"),
        ("{}", "values: Field required"),
        ('{"values": {}, "a\\u001b": 1}', r"a\x1b: Unexpected keyword argument, got 1"),
        ("[" * 100_000, "Invalid JSON: recursion limit exceeded"),
        ("", "Invalid JSON: EOF while parsing a value"),
    ],
)
def test_fields_of_a_json_have_their_type(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text('{"values": {"AUC": 69.9, "whole": 1}}')
    assert read_json(path, Numbers, "score again") == Numbers({"AUC": 69.9, "whole": 1.0})
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_json(path, Numbers, "score again")
    assert str(error.value).startswith(f"{path}: {message}")
    assert str(error.value).endswith("; score again")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "environment": {"versions": [1, {"torch": NaN}]}}', "environment.versions.1.torch: .* got nan"),
        ('{"length": {"steps": -Infinity}}', "length.steps: .* got -inf"),
        ('{"else": 1e999}', "else: .* got inf"),
        ('{"else\\u001b": NaN}', r"else\\x1b: .* got nan"),
    ],
)
def test_a_json_holds_finite_numbers_where_its_type_says_nothing(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"run\.json: {message}; train again$"):
        read_json(path, dict[str, object], "train again")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"search_factor": 1e9},
            "FILE, tracker: search_factor: Input should be less than or equal to 10, got 1000000000.0",
        ),
        ({"search_factor": "4"}, "FILE, tracker: search_factor: Input should be a valid number, got '4'"),
        ({"search_factor": float("nan")}, "FILE, tracker: search_factor: Input should be a finite number, got nan"),
        (
            {"update": 10**6000},
            "FILE, tracker: update: Input should be a valid string, got a number of thousands of digits",
        ),
        ("x", "FILE, tracker: Input should be a valid dictionary, got 'x'"),
    ],
)
def test_fields_of_plain_data_have_their_type(value: Any, message: str) -> None:
    assert typed({"search_factor": 4}, Settings, "FILE, tracker") == {"search_factor": 4}
    with pytest.raises(ValueError) as error:
        typed(value, Settings, "FILE, tracker")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x\n", "line 2: no plain YAML: an alias"),
        ("a: " + "[" * 3000, "no plain YAML"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: no plain YAML: could not determine a constructor"),
        ("a: b: c", "line 1: no plain YAML"),
        ("a: 2024-99-99", "no plain YAML"),
        ("a: " + "9" * 6000, "no plain YAML"),
        ("\x00", "no plain YAML"),
    ],
)
def test_yaml_of_plain_values_only(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {depth: 4, drop: 1e-3}\n")
    assert read_yaml(path) == {"model": {"depth": 4, "drop": "1e-3"}}
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_yaml(path)
    assert str(error.value).startswith(str(path))


def fail(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["mkdir", "write_bytes", "fsync", "replace"])
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    write_atomic(tmp_path / "bird.txt", "before")
    monkeypatch.setattr(files.os if call == "fsync" else Path, call, fail)
    with pytest.raises(
        OSError, match=r"could not write .*bird\.txt: No space left.*what is finished is skipped"
    ) as error:
        write_atomic(tmp_path / "bird.txt", "after")
    assert error.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_really_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full fails every write with "no space left": the error of a real write, not one of ours."""
    write_atomic(tmp_path / "bird.txt", "before")
    (tmp_path / ".x.part").symlink_to("/dev/full")
    part = str(tmp_path / ".x.part")
    monkeypatch.setattr(files.tempfile, "mkstemp", lambda **_: (os.open(part, os.O_WRONLY), part))
    with pytest.raises(OSError, match="could not write") as error:
        write_atomic(tmp_path / "bird.txt", b"after")
    assert error.value.errno == errno.ENOSPC
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_unfinished_files_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "media").mkdir()
    here = files._HERE
    gone = [tmp_path / f"{here}{ended.pid}-abc.part", tmp_path / "media" / f"{here}{ended.pid}-x.part"]
    stay = [tmp_path / f"{here}{os.getpid()}-abc.part", tmp_path / f".elsewhere-{ended.pid}-abc.part"]
    stay += [tmp_path / "bird.txt", tmp_path / f"{here}notes.part"]
    for path in (*gone, *stay):
        path.write_text("1,2,")
    remove_leftovers(tmp_path, tmp_path / "media", tmp_path / "none")
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in stay)


def test_flat_names_and_natural_order() -> None:
    tree = {"model": {"memory": "search", "encoder": {"depth": 4}}, "extra": {}, "swept": [1, {"a": 2}]}
    assert flatten(tree) == {"model.memory": "search", "model.encoder.depth": 4, "swept": [1, {"a": 2}]}
    assert flatten(None, "data") == {"data": None}
    names = ["bins-128", "bins-16", "10", "9", "frame009", "frame9", "a"]
    assert sorted(names, key=natural_order) == ["9", "10", "a", "bins-16", "bins-128", "frame009", "frame9"]
