"""One table of several trackers, in every form, with the paper's rows beside."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.tables import Table, attribute_table, compare, paper, paper_values, repetitions

VALUES = {"AUC": 60.04, "PNorm": 70.0, "P": 65.0, "OP50": 68.0, "OP75": 50.0}


def scores(tracker: str, benchmark: str = "lasot", convention: str = "seqtrack", **more: object) -> Scores:
    fields = {"sequences": 280, "values": VALUES} | more
    return Scores(convention=convention, tracker=tracker, benchmark=benchmark, **fields)


# The four rows of the paper's own trackers: every number of Tab. 2 and 3 of theirs, typed again.
PRINTED = {
    ("SeqTrack-L384", "lasot"): [72.5, 81.5, 79.3],
    ("SeqTrack-L256", "lasot_ext"): [50.5, 61.5, 57.2],
    ("SeqTrack-B384", "trackingnet"): [83.9, 88.8, 83.6],
    ("SeqTrack-B256", "got10k_test"): [74.7, 84.7, 71.8],
    ("SeqTrack-B256", "lasot"): [69.9, 79.7, 76.3],
    ("SeqTrack-B256", "tnl2k"): [54.9],
    ("SeqTrack-L256", "nfs"): [66.9],
    ("SeqTrack-L384", "uav123"): [68.5],
    ("STARK", "lasot"): [67.1, 77.0, None],
    ("ATOM", "got10k_test"): [55.6, 63.4, 40.2],
    ("SiamFC", "uav123"): [46.8],
}


@pytest.mark.parametrize(("tracker", "benchmark"), PRINTED)
def test_the_papers_numbers(tracker: str, benchmark: str):
    assert list(paper_values(benchmark)[tracker].values()) == PRINTED[tracker, benchmark]


def test_the_papers_tables_are_whole():
    tables = paper()["tables"]
    assert {name: (len(t["rows"]), len(t["columns"])) for name, t in tables.items()} == {
        "Tab. 2": (32, 12),
        "Tab. 3": (15, 3),
        "Fig. 5": (8, 1),
    }
    assert all(len(row) == 1 + len(t["columns"]) for t in tables.values() for row in t["rows"])


def test_ours_sorted_then_the_papers():
    better = scores("better", values=VALUES | {"AUC": 61.0})
    table = compare([scores("ours"), better], paper_rows="seqtrack")
    assert table.columns == ("tracker", "AUC", "PNorm", "P", "OP50", "OP75")
    assert [row[0] for row in table.rows[:3]] == ["better", "ours", "SeqTrack-L384 (paper)"]
    assert table.rows[2] == ("SeqTrack-L384 (paper)", 72.5, 81.5, 79.3, None, None)
    assert len(table.rows) == 2 + 4
    assert len(compare([better]).rows) == 1 + 32
    assert len(compare([better], paper_rows="none").rows) == 1
    assert table.notes[0] == "lasot: AUC, PNorm, P, OP50, OP75 by convention seqtrack, 280 sequences"
    assert "CVPR 2023" in table.notes[1]


def test_parts_of_a_benchmark_and_short_results_are_told():
    notes = compare([scores("a", sequences=3, short=2), scores("b", sequences=2)], paper_rows="none").notes
    assert notes == (
        "lasot: AUC, PNorm, P, OP50, OP75 by convention seqtrack, 3 sequences of 280, so not the benchmark's scores; "
        "b only 2",
        "lasot: 2 results of a are shorter than their videos",
    )


def test_speed_is_the_last_column_of_a_single_benchmark():
    fast = scores("fast", fps=55.5)
    table = compare([fast, scores("unknown")], paper_rows="seqtrack")
    assert [row[-1] for row in table.rows[:3]] == [55.5, None, None]
    assert table.columns[-1] == "frames/s"
    assert "frames/s" not in compare([fast, scores("fast", "uav123", fps=50.0)]).columns


def test_several_benchmarks_and_conventions():
    table = compare(
        [scores("ours", "uav123"), scores("ours"), scores("ours", convention="pysot"), scores("other", sequences=3)]
    )
    assert table.columns[1] == "lasot AUC (seqtrack)"
    assert table.columns[6] == "lasot AUC (pysot)"
    assert table.columns[-5] == "uav123 AUC"
    by_name = {row[0]: row[1:] for row in table.rows}
    assert by_name["other"][5:] == (None,) * 10
    assert by_name["SeqTrack-B256 (paper)"][:11] == (69.9, 79.7, 76.3, None, None, None, None, None, None, None, 69.2)
    assert "lasot: AUC, PNorm, P, OP50, OP75 by convention seqtrack, 280 sequences; other only 3" in table.notes


def test_the_papers_numbers_stand_beside_their_own_convention_only():
    assert [row[0] for row in compare([scores("ours", convention="pysot")]).rows] == ["ours"]
    assert len(compare([scores("ours", "trackingnet", "trackingnet")]).rows) > 20
    assert [row[0] for row in compare([scores("ours", "generated")]).rows] == ["ours"]


def test_two_results_under_one_name():
    with pytest.raises(ValueError, match="two results of tracker 'ours' on lasot"):
        compare([scores("ours"), scores("ours")])
    with pytest.raises(ValueError, match="no scores"):
        compare([])


def test_repetitions_are_averaged_where_asked_for():
    seeds = [scores("ours", values={"AUC": value, "P": 65.0}, fps=50.0) for value in (60.0, 61.0, 63.0)]
    table = compare([*seeds, scores("better", values={"AUC": 62.0, "P": 66.0})], paper_rows="none", average=True)
    # mean 184 / 3, squared distances 16/9 + 1/9 + 25/9 = 14/3, over two: 7/3
    assert table.rows == (("better", 62.0, 66.0), ("ours", "61.3 ± 1.5", "65.0 ± 0.0"))
    assert table.columns == ("tracker", "AUC", "P")
    assert table.notes[0] == "mean ± standard deviation of 1 or 3 runs"
    assert r"61.3 $\pm$ 1.5" in table.latex()


def test_every_repetition_in_a_small_file():
    heavy = {"per_sequence": {"v": VALUES}, "curves": {"success": [1.0] * 21}}
    seeds = [scores("ours", values={"AUC": value}, **heavy) for value in (60.0, 61.0, 63.0)]
    text = repetitions([*seeds, scores("other", values={"AUC": 62.0}), scores("ours", "uav123", values={"AUC": 5.0})])
    ours = {"AUC": {"runs": [60.0, 61.0, 63.0], "mean": 61.3, "std": 1.5}}
    assert json.loads(text)["results"] == [
        {"benchmark": "lasot", "convention": "seqtrack", "sequences": 280,
         "trackers": {"ours": ours, "other": {"AUC": {"runs": [62.0], "mean": 62.0, "std": None}}}},
        {"benchmark": "uav123", "convention": "seqtrack", "sequences": 280,
         "trackers": {"ours": {"AUC": {"runs": [5.0], "mean": 5.0, "std": None}}}},
    ]  # fmt: skip
    assert "success" not in text


def test_attributes():
    of = {"IV": {"AUC": 50.0, "sequences": 47}, "SV": {"AUC": 55.0, "sequences": 273}}
    table = attribute_table([scores("ours", per_attribute=of), scores("other", per_attribute={"IV": {"AUC": 40.0}})])
    assert table.columns == ("attribute", "videos", "ours", "other")
    assert table.rows == (("IV", 47, 50.0, 40.0), ("SV", 273, 55.0, None), ("all", 280, 60.04, 60.04))
    with pytest.raises(ValueError, match="no attributes"):
        attribute_table([scores("ours")])
    with pytest.raises(ValueError, match="one benchmark"):
        attribute_table([scores("ours", per_attribute=of), scores("ours", "tnl2k", per_attribute=of)])


TABLE = Table("A & B", ("tracker", "AUC_x"), (("a|b_c", 60.04), ("long name", None), ("n", 3)), ("a note",))


def test_markdown():
    assert TABLE.markdown() == (
        "A & B\n\n"
        "| tracker   | AUC_x |\n|-----------|------:|\n"
        "| a\\|b_c    |  60.0 |\n| long name |     - |\n| n         |     3 |\n\na note\n"
    )


def test_latex():
    text = TABLE.latex()
    assert r"\begin{tabular}{lr}" in text
    assert r"tracker & AUC\_x \\" in text
    assert r"a\textbar{}b\_c & 60.0 \\" in text
    assert text.startswith("% A & B\n% a note\n")
    assert Table("t", ("a",), ((r"50% \ {x}",),)).latex().count(r"50\% \textbackslash{} \{x\}") == 1
    assert r"a\_b\textasciitilde{}\textasciicircum{}" in Table("t", ("a",), (("a_b~^",),)).latex()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no LaTeX is installed here (apt install texlive-latex-base)"
)
def test_latex_compiles(tmp_path: Path) -> None:
    """Names as trackers and people have them: brackets and stars behind a line's end, signs, two lines."""
    names = ["[ours]", "*star", "a<b>c|d", "± 1", '"quoted"', "a_b~^{x}\\$#&%", "two\nlines", "naïve"]
    table = Table("50% & more\nsecond line", ("tracker", *names), tuple((name, *names) for name in names), ("a\nnote",))
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + table.latex() + "\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout


def test_csv_and_json():
    assert list(csv.reader(io.StringIO(TABLE.csv()))) == [
        ["tracker", "AUC_x"],
        ["a|b_c", "60.0"],
        ["long name", ""],
        ["n", "3"],
    ]
    content = json.loads(TABLE.json())
    assert content["rows"][0] == {"tracker": "a|b_c", "AUC_x": 60.0}
    assert content["rows"][1] == {"tracker": "long name", "AUC_x": None}


def test_terminal():
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=80).print(TABLE.rich())
    assert "60.0" in out.getvalue()
    assert "a note" in out.getvalue()
