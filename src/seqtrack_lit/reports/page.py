"""What report pages share: a folder made anew, `index.html` from a Jinja2 template, plots and tables of scores.

Templates (`templates/`) escape every value; this and its callers only prepare data.
"""

import base64
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.tables import SPEED, Table
from seqtrack_lit.files import read_bytes, remove_leftovers, write_atomic
from seqtrack_lit.reports import plots

LARGEST = 500_000_000  # bytes of a clip; one of a thousand frames has about 10 MB
_KINDS = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}


class Cell(NamedTuple):
    """A cell of a table, and whether it is shown in bold."""

    text: str
    best: bool = False


class ScoresRow(NamedTuple):
    """A row of a table of scores; the tracker of the page is highlighted."""

    highlighted: bool
    cells: Sequence[Cell]


class ScoresTable(NamedTuple):
    """A table of scores for a template."""

    heads: Sequence[str]
    rows: Sequence[ScoresRow]
    notes: Sequence[str]


class Plot(NamedTuple):
    """Addresses of a plot for light and for dark ground, its name and its caption."""

    light: str
    dark: str
    name: str
    caption: str


class Media:
    """Pictures and clips of a page: inside it, so that it is one file, or linked, in its folder media/.

    Args:
        folder: of the page.
        linked: whether they lie beside the page.
    """

    def __init__(self, folder: Path, *, linked: bool) -> None:
        self.folder, self.linked = folder / "media", linked

    def add(self, name: str, content: bytes) -> str:
        """Take a file by its content; returns its address in the page."""
        if self.linked:
            write_atomic(self.folder / name, content)
            return f"media/{quote(name)}"
        return f"data:{_KINDS[Path(name).suffix]};base64,{base64.b64encode(content).decode()}"

    def copy(self, name: str, source: Path, *, largest: int = LARGEST) -> str:
        """Take a clip or a picture that lies elsewhere, of so many bytes at most; returns its address in the page.

        Raises:
            ValueError: it is larger than such files are.
        """
        if source.stat().st_size > largest:
            raise ValueError(
                f"{source} is larger than {largest / 1e6:g} MB; that is no part of a report, make it again"
            )
        if not self.linked:
            return self.add(name, read_bytes(source, largest=largest))
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.folder / name)
        return f"media/{quote(name)}"


def fresh_folder(folder: Path, *, inside_run: bool = False) -> None:
    """Make the folder of a page anew: it holds nothing that cannot be made again.

    Args:
        folder: of the page.
        inside_run: it lies in a run's folder, not where the user named it: it may not be a link either.

    Raises:
        ValueError: it holds something that is no page of ours, or links, through which other files would change.
    """
    index = folder / "index.html"
    for one in (index, folder / "media", folder / "plots", *([folder] if inside_run else [])):
        if one.is_symlink():
            raise ValueError(f"{one} is a link, and a page is not written through links; delete it or give page=")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give page= the name of a folder")
    present = {one.name for one in folder.iterdir() if not one.name.startswith(".")} if folder.exists() else set()
    if present and (not index.is_file() or present - {"index.html", "media", "plots"}):
        raise ValueError(f"{folder} is not empty and holds no report, or more than one; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    # first, so that a page that is interrupted can be made again
    index.write_text("<!doctype html>\n<title>Not finished</title>\n<p>This page was interrupted; make it again.\n")
    remove_leftovers(folder)
    for name in ("media", "plots"):
        shutil.rmtree(folder / name, ignore_errors=True)


def write_document(folder: Path, template: str, **data: object) -> Path:
    """Write `index.html` from a template and its data; returns its path."""
    path = folder / "index.html"
    write_atomic(path, _templates().get_template(template).render(data))
    return path


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("seqtrack_lit.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def scores_table(table: Table, highlighted: Collection[str] = ()) -> ScoresTable:
    """A table of scores for a template; the best of each column is bold, and the rows of some trackers stand out.

    Where it holds no others, none does.
    """
    best = [
        max((value for value in map(_leading, column) if value is not None), default=None) if head != SPEED else None
        for head, column in zip(table.columns, zip(*table.rows, strict=True), strict=True)
    ]
    rows, others = [], {row[0] for row in table.rows} - set(highlighted)
    for row in table.rows:
        texts = ["-" if cell is None else f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row]
        tops = [top is not None and _leading(cell) == top for cell, top in zip(row, best, strict=True)]
        rows.append(
            ScoresRow(bool(others) and row[0] in highlighted, [Cell(*pair) for pair in zip(texts, tops, strict=True)])
        )
    return ScoresTable(table.columns, rows, table.notes)


def _leading(cell: str | float | int | None) -> float | None:
    """A score, or the mean in `mean ± deviation`."""
    averaged = re.fullmatch(r"([-.\d]+) ± [.\d]+", cell) if isinstance(cell, str) else None
    return float(averaged[1]) if averaged else cell if isinstance(cell, float) else None


def draw_scores(scores: Sequence[Scores], media: Media, most: int | None = None) -> list[Plot]:
    """Curves of trackers on one benchmark, at most so many, and their scores by attribute, as far as all have them."""
    kinds = [kind for kind in plots.KINDS if all(kind in one.curves for one in scores)][:most]
    drawn: dict[str, Callable[..., Figure]] = {kind: partial(plots.curve_plot, scores, kind) for kind in kinds}
    if all(len(one.per_attribute) >= 3 for one in scores):
        drawn["attributes"] = partial(plots.attribute_radar, scores)
    return [draw_plot(draw, f"{scores[0].benchmark}-{kind}", media=media) for kind, draw in drawn.items()]


def draw_plot(draw: Callable[..., Figure], name: str, caption: str = "", *, media: Media) -> Plot:
    """Draw a plot for light and for dark ground.

    Args:
        draw: called with `theme=`.
        name: of the files, and the text in its place where there is no caption.
        caption: the text below it.
        media: of the page.
    """
    file = name.replace("/", "_")
    light, dark = (
        media.add(f"{file}{end}.svg", plots.render(draw(theme=theme), ".svg"))
        for end, theme in (("", plots.LIGHT), ("-dark", plots.DARK))
    )
    return Plot(light, dark, name, caption)
