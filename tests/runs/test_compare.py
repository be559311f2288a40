"""Runs side by side: which are repetitions, what differs in and around them; broken folders named, never a crash."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.browser import needs_browser, opened
from tests.reports.test_run import Page

from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.reports import plots
from seqtrack_lit.reports.comparison import scores_of, summary, write_comparison
from seqtrack_lit.runs.compare import Comparison, environments, read_runs, warnings

FACTS: dict[str, Any] = {
    "status": "finished",
    "precision": "bf16",
    "parameters": 1426243,
    "device": "cpu",
    "length": {"total": 960},
    "data": {"lasot": {"videos": 1120, "share": 1.0, "hash": "abcd"}},
    "environment": {
        "revision": {"commit": "0123456789abcdef0123456789abcdef01234567", "changed": False},
        "versions": {"torch": "2.15.0"},
        "command": ["seqtrack-train"],
    },
    "seconds": 133.5,
    "best": 50.0,
}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a run of two validations: the last AUC, settings beside the common ones, facts over the common ones."""

    def write(name: str, auc: float = 50, settings: str = "", seed: int = 0, **facts: object) -> Path:
        folder = tmp_path / "sweep" / name
        folder.mkdir(parents=True)
        config = f"name: {json.dumps(name)}\nseed: {seed}\ndata: {{seed: {seed}, workers: 0}}\n{settings}\n"
        (folder / "config.yaml").write_text(config)
        (folder / "run.json").write_text(json.dumps({**FACTS, **facts}))
        rows = ["step,samples,train/loss,time/samples_per_second,val/loss,val/auc", "10,480,3,100,,", "10,480,,,3.5,40"]
        (folder / "metrics.csv").write_text("\n".join([*rows, "20,960,2,200,,", f"20,960,,,3,{auc}"]) + "\n")
        return folder

    return write


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots without content: drawing takes most of a page's time."""
    monkeypatch.setattr(plots, "render", lambda figure, suffix: b"")


def groups(found: Comparison) -> dict[str, list[str]]:
    return {group.label: [one.name for one in group.members] for group in found.groups}


# Names, settings and seeds of runs; then the groups, the columns and the settings that only some have.
SETTINGS: dict[str, tuple[list[tuple[str, str, int]], dict[str, list[str]], list[str], dict[str, str]]] = {
    "seeds of two settings": (
        [("lr-1__seed-0", "lr: 1", 0), ("lr-1__seed-1", "lr: 1", 1), ("lr-2__seed-0", "lr: 2", 0)],
        {"lr-1": ["lr-1__seed-0", "lr-1__seed-1"], "lr-2__seed-0": ["lr-2__seed-0"]},
        ["lr"],
        {},
    ),
    "nothing but seeds": ([("seed-0", "", 0), ("seed-1", "", 1)], {"sweep": ["seed-0", "seed-1"]}, [], {}),
    "names without the seed": ([("quick", "", 0), ("quick_1", "", 1)], {"quick": ["quick", "quick_1"]}, [], {}),
    "another seed inside is a setting": (
        [("a", "video: {seed: 7}", 0), ("b", "video: {seed: 8}", 0)],
        {"a": ["a"], "b": ["b"]},
        ["video.seed"],
        {},
    ),
    "where it is put and watched is none": (
        [("a", "paths: {runs: x}\nlogger: {service: null}\nslots: [0]", 0), ("b", "paths: {runs: y}\nlogger: {}", 0)],
        {"a": ["a", "b"]},
        [],
        {},
    ),
    "copies of a key are one column": (
        [(name, f"tokens: {{bins: {n}}}\nmodel: {{tokens: {{bins: {n}}}}}", 0) for name, n in (("a", 16), ("b", 8))],
        {"a": ["a"], "b": ["b"]},
        ["tokens.bins"],
        {},
    ),
    "an older run lacks a key": ([("a", "", 0), ("b", "limit: 3", 0)], {"a": ["a"], "b": ["b"]}, [], {"limit": "3"}),
    "nothing instead of a part": (
        [("a", "light: null", 0), ("b", "light: {low: 0.5}", 0)],
        {"a": ["a"], "b": ["b"]},
        [],
        {"light": "null", "light.low": "0.5"},
    ),
    "numbers in their order": (
        [("bins-128", "n: 128", 0), ("bins-16", "n: 16", 0)],
        {"bins-16": ["bins-16"], "bins-128": ["bins-128"]},
        ["n"],
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(case: str, make: Make):
    runs, wanted, changed, partial = SETTINGS[case]
    folders = [make(name, settings=settings, seed=seed) for name, settings, seed in runs]
    found = read_runs([folders[0].parent])
    assert groups(found) == wanted
    assert list(groups(found)) == list(wanted)
    assert list(found.changed) == changed
    assert found.partial == partial


def with_environment(**changes: object) -> dict[str, object]:
    return {"environment": {**FACTS["environment"], **changes}}


# Facts of the second run; then what is warned of, and the keys of the environment that differ.
ENVIRONMENTS: dict[str, tuple[dict[str, object], list[str], list[str]]] = {
    "the same": ({}, [], []),
    "another revision": (
        with_environment(revision={"commit": "fedcba9876543210", "changed": False}),
        [r"not of one revision of the code: 0123456789 \(1 run\), fedcba9876 \(1 run\)"],
        ["revision.commit"],
    ),
    "changed files": (
        with_environment(revision={"commit": "0123456789abcdef0123456789abcdef01234567", "changed": True}),
        ["1 of 2 runs began with files that differ from their revision"],
        ["revision.changed"],
    ),
    "no revision": (with_environment(revision=None), [r"0123456789 \(1 run\), not recorded \(1 run\)"], []),
    "no environment": ({"environment": None}, ["not recorded"], []),
    "other data": (
        {"data": {"lasot": {"videos": 1120, "share": 1.0, "hash": "ffff"}}},
        [r"different data under the name lasot: index abcd \(1 run\), ffff \(1 run\)"],
        ["data.lasot.hash"],
    ),
    "another data set": ({"data": {"coco": {"videos": 9, "hash": "ffff"}}}, [], []),
    "another version, device, precision": (
        {**with_environment(versions={"torch": "2.9.0"}), "device": "H100", "precision": "fp32"},
        [],
        ["device", "precision", "versions.torch"],
    ),
    "data of another kind": ({"data": [1]}, [], []),
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
@pytest.mark.usefixtures("undrawn")
def test_environment(case: str, make: Make):
    facts, wanted, keys = ENVIRONMENTS[case]
    found = read_runs([make("a"), make("b", seed=1, **facts)])
    sentences = warnings(found.members)
    assert len(sentences) == len(wanted)
    for sentence, pattern in zip(sentences, wanted, strict=True):
        assert re.search(pattern, sentence)
    assert sorted(environments(found.members)[1]) == keys
    text = write_comparison(found).read_text()
    assert text.count("class=alert") == len(wanted)


def test_copies_are_no_seeds(make: Make):
    found = read_runs([make("a"), make("a copied"), make("b", seed=1), make("c", settings="tokenizer: {bins: 16}")])
    assert [len(group.members) for group in found.groups] == [3, 1]
    assert warnings(found.members) == [
        "Of one seed and the same settings, so copies or repeated, no further seeds: a, a copied."
    ]


@needs_browser
@pytest.mark.usefixtures("undrawn")
def test_many_settings_on_paper(make: Make):
    """Each configuration's settings are lines of text, none is cut or one letter wide."""
    for number in range(3):
        make(
            f"run{number}", settings="tokenizer: {" + ", ".join(f"key{key}: {key + number}" for key in range(30)) + "}"
        )
    page = write_comparison(read_runs([make("last").parent]))
    with opened(page) as shown:
        first = shown.locator("table.settings td[data-key]").first
        for width in (390, 1200):  # of a phone, too
            shown.set_viewport_size({"width": width, "height": 800})
            assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        label = "(node) => getComputedStyle(node, '::before').content"
        assert first.evaluate(label) == "none"
        shown.emulate_media(media="print")
        shown.set_viewport_size({"width": 700, "height": 900})
        assert first.evaluate(label) == '"tokenizer.key0="'
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        height = "(node) => node.clientHeight / Number.parseFloat(getComputedStyle(node).lineHeight)"
        assert all(cell.evaluate(height) < 2 for cell in shown.locator("table.settings td[data-key]").all()[:30])


BROKEN = {
    "metrics.csv": ("step,val/auc\n1,high\n", "metrics.csv, line 2: val/auc is 'high', not a number"),
    "run.json": ("{", "run.json: Invalid JSON: EOF"),
    "config.yaml": ("a: [", "config.yaml, line 1: no plain YAML"),
    "results/x/y/scores.json": ("[]", "results/x/y/scores.json: Input should be an object"),
}
OTHER_KINDS = {
    "environment": ("a machine", "run.json: environment: Input should be a valid dictionary, got 'a machine'"),
    "length": (3, "run.json: length: Input should be a valid dictionary, got 3"),
    "parameters": ("many", "run.json: parameters: Input should be a valid number, got 'many'"),
    "seconds": (1e300, "run.json: seconds: Input should be less than or equal to"),
    "status": ({"a": 1}, "run.json: status: Input should be a valid string, got an object of 1"),
}
BROKEN_BYTES = {
    "metrics.csv": b"step,val/auc\n1,\xff\n",
    "run.json": b"\xff",
    "config.yaml": b"\xff\x00",
}


@pytest.mark.parametrize("file", BROKEN)
def test_broken_runs_are_named(file: str, make: Make):
    content, reason = BROKEN[file]
    folder = make("broken")
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(content)
    with pytest.raises(FileNotFoundError, match=r"no run to compare in .*broken: "):
        read_runs([folder])
    found = read_runs([make("whole").parent])
    assert groups(found) == {"whole": ["whole"]}
    [(name, why)] = found.problems
    assert name == "broken"
    assert reason in why
    assert "\n" not in why


@pytest.mark.parametrize("field", OTHER_KINDS)
def test_fields_of_another_kind_are_named(field: str, make: Make):
    value, reason = OTHER_KINDS[field]
    make("broken", **{field: value})
    [(name, why)] = read_runs([make("whole").parent]).problems
    assert name == "broken"
    assert why.startswith(reason)


@pytest.mark.parametrize("file", BROKEN_BYTES)
def test_bytes_that_are_no_text(file: str, make: Make):
    (make("broken") / file).write_bytes(BROKEN_BYTES[file])
    [(name, _)] = read_runs([make("whole").parent]).problems
    assert name == "broken"


def test_foreign_and_unfinished_folders(make: Make, tmp_path: Path):
    sweep = make("done").parent
    (sweep / "notes").mkdir()
    (sweep / "begun").mkdir()
    (sweep / "begun" / "config.yaml").write_text("seed: 0\n")
    (sweep / "comparison").mkdir()
    (sweep / ".hydra").mkdir()
    make("deep/inside", settings="lr: 2")
    found = read_runs([sweep, sweep, sweep / "done"])
    assert list(groups(found)) == ["deep/inside", "done"]
    assert {name: why.split(":")[0] for name, why in found.problems} == {
        "notes": "no run in it",
        "begun": "nothing but a config.yaml",
    }
    with pytest.raises(FileNotFoundError, match="runs= takes folders that seqtrack-train wrote"):
        read_runs([sweep / "notes"])


@pytest.mark.usefixtures("undrawn")
def test_means_are_of_finished_runs(make: Make):
    for seed, (auc, status) in enumerate([(50, "finished"), (53, "finished"), (44, "stopped"), (45, "running")]):
        make(f"x__seed-{seed}", auc, seed=seed, status=status, length={"total": 1920})
    found = read_runs([make("y", 60, "lr: 3").parent])
    rows = {row[0]: row[1:3] for row in summary(found).rows}
    # mean 103 / 2, squared distances 2.25 + 2.25 over one: 4.5
    assert rows == {"x": ("n = 2 of 4", "51.5 ± 2.1"), "y": ("finished", "60.0")}
    text = write_comparison(found).read_text()
    assert "stopped, 50%" in text
    assert text.count("<td>seed ") == 4
    assert "<td class=best>60.0</td>" in text


def score(run: Path, tracker: str, value: float) -> None:
    one = Scores("seqtrack", tracker, "generated", 40, {"AUC": value})
    one.save(run / "results" / tracker / "generated" / "scores.json")


def test_results_beside_runs_are_no_runs(make: Make):
    sweep = make("a").parent
    score(sweep.parent, "official", 50.0)
    (sweep.parent / "results" / "official" / "generated" / "run.json").write_text('{"tracker": {}}')  # evaluation's
    assert [one.name for one in read_runs([sweep.parent]).members] == ["sweep/a"]
    shutil.rmtree(sweep)
    assert [one.name for one in read_runs([sweep.parent]).members] == [sweep.parent.name]  # scores alone


@pytest.mark.usefixtures("undrawn")
def test_scores_are_averaged_by_configuration_not_by_name(make: Make):
    for name, settings, seed, value in (
        ("a__seed-0", "lr: 1", 0, 50.0),
        ("a__seed-1", "lr: 1", 1, 53.0),
        ("b", "lr: 2", 0, 60.0),
    ):
        folder = make(name, settings=f"{settings}\ntracker: {{name: same}}", seed=seed)
        score(folder, "same", value)
        score(folder, "static", 20.0)
    score(folder, "no_window", 58.0)
    score(make("c", settings="lr: 3\ntracker: {name: same}"), "no_window", 10.0)
    found = read_runs([folder.parent])
    table = scores_of(found)
    assert table is not None
    assert table.rows == (
        ("b", 60.0),
        ("b: no_window", 58.0),
        ("a", "51.5 ± 2.1"),
        ("static", 20.0),
        ("c: no_window", 10.0),
    )
    assert "<td class=best>60.0</td>" in write_comparison(found).read_text()


@pytest.mark.usefixtures("undrawn")
def test_hostile_names_and_links(make: Make, tmp_path: Path):
    name = "<script>alert(1)</script> & 'x' [red] a:b"
    folder = make(name, settings="model: <img src=x onerror=y>", status="<i>")
    (folder / "report").mkdir()
    (folder / "report" / "index.html").write_text("x")
    os.rename(make("bytes", settings="model: 2"), os.fsencode(folder.parent) + b"/caf\xe9")  # noqa: PTH104
    found = read_runs([folder.parent])
    page = write_comparison(found, tmp_path / "else" / "page")
    text = page.read_text()
    parsed = Page(text)
    assert text.count("<script") == 1  # the one that sorts tables
    assert "<img src=x" not in text
    assert "<i>" not in text
    assert "caf\ufffd" in text
    links = [link for link in parsed.references if not link.startswith("data:image/svg+xml;base64,")]
    assert [(page.parent / unquote(link)).resolve() for link in links] == [(folder / "report" / "index.html").resolve()]
    assert ":" not in links[0]


def test_one_run(make: Make):
    """Drawn for real; the page needs no file beside it."""
    page = write_comparison(read_runs([make("alone", status="failed")]))
    text = page.read_text()
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    assert "1 run of 1 configuration" in text
    assert "Nothing: the runs differ in the seed at most" in text
    assert "No scores were found" in text
    assert Page(text).heads == ["Runs", "What differs in the settings", "Learning", "Scores", "Environment"]
    assert text.count("data:image/svg+xml;base64,PD94") == 2 * 3  # <?xml; losses and AUC, light and dark


@pytest.mark.usefixtures("undrawn")
def test_parts_of_older_runs_are_missing(make: Make):
    old = make("old")
    (old / "run.json").unlink()
    (old / "config.yaml").unlink()
    (old / "metrics.csv").write_text("step,val/auc\n10,41\n")
    new = make("new")
    (new / "metrics.csv").unlink()
    found = read_runs([old.parent])
    assert groups(found) == {"new": ["new"], "old": ["old"]}
    assert [row[:3] for row in summary(found).rows] == [("new", "finished", "50.0"), ("old", "no run.json", "41.0")]
    write_comparison(found)


def test_many_lines_can_be_told_apart():
    assert len({plots.run_style(number) for number in range(24)}) == 24
