"""What report pages are made of: a folder made anew, one HTML document, sections, tables, figures."""

import base64
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from matplotlib.figure import Figure

from seqtrack_lit.evaluation.results import remove_leftovers, write_atomic
from seqtrack_lit.evaluation.table import Cell, Table
from seqtrack_lit.evaluation.tables import SPEED
from seqtrack_lit.reports import plots


def fresh_folder(folder: Path, *, theirs: bool = False) -> None:
    """Make the folder of a page anew: it holds nothing that cannot be made again.

    Args:
        folder: of the page.
        theirs: it lies where a run says, not where the user said: it may not be a link either.

    Raises:
        ValueError: it holds something that is no page of ours, or links, through which other files would change.
    """
    index = folder / "index.html"
    for one in (index, folder / "media", folder / "plots", *([folder] if theirs else [])):
        if one.is_symlink():
            raise ValueError(f"{one} is a link, and a page is not written through links; delete it or give page=")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give page= the name of a folder")
    there = {one.name for one in folder.iterdir() if not one.name.startswith(".")} if folder.exists() else set()
    if there and (not index.is_file() or there - {"index.html", "media", "plots"}):
        raise ValueError(f"{folder} is not empty and holds no report, or more than one; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    # first, so that a page that is interrupted can be made again
    index.write_text("<!doctype html>\n<title>Not finished</title>\n<p>This page was interrupted; make it again.\n")
    remove_leftovers(folder)
    for name in ("media", "plots"):
        shutil.rmtree(folder / name, ignore_errors=True)


def write_document(folder: Path, title: str, body: Iterable[str], *, style: str = "") -> Path:
    """Write `index.html`; gives back its path. `body` is HTML, `style` CSS after the common one."""
    css = files(__package__).joinpath("page.css").read_text()
    write_atomic(
        folder / "index.html",
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}{style}</style>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</html>\n",
    )
    return folder / "index.html"


def section(title: str, content: str) -> str:
    """A card with a head."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def missing(what: str, how: str) -> str:
    """Says that something is not there, and what would make it."""
    return f"<p class=missing>{escape(what)} {escape(how)}</p>"


def details(title: str, content: str) -> str:
    """HTML that is folded away until asked for."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def rows_table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table from cells that are HTML already; each row with its class (or nothing)."""
    lines = [
        f"<tr{f' class={kind}' if kind else ''}>"
        + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for kind, cells in rows
    ]
    head = "".join(head if head.startswith("<th") else f"<th>{head}</th>" for head in heads)
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(lines)}</table></div>"


def scores_table(table: Table, ours: set[str]) -> str:
    """A table of scores; the best of each column is bold."""
    best = [
        max((value for value in map(_leading, column) if value is not None), default=None) if head != SPEED else None
        for head, column in zip(table.columns, zip(*table.rows, strict=True), strict=True)
    ]
    rows = []
    for row in table.rows:
        texts = [escape("-" if c is None else f"{c:.1f}" if isinstance(c, float) else str(c)) for c in row]
        tops = [top is not None and _leading(cell) == top for cell, top in zip(row, best, strict=True)]
        cells = [f"<td class=best>{text}</td>" if top else text for text, top in zip(texts, tops, strict=True)]
        rows.append(("ours" if row[0] in ours else "", cells))
    notes = "".join(f"<p class=quiet>{escape(note)}</p>" for note in table.notes)
    return rows_table([escape(column) for column in table.columns], rows) + notes


def _leading(cell: Cell) -> float | None:
    """A score, or the mean in `mean ± deviation`."""
    averaged = re.fullmatch(r"([-.\d]+) ± [.\d]+", cell) if isinstance(cell, str) else None
    return float(averaged[1]) if averaged else cell if isinstance(cell, float) else None


def figure(draw: Callable[..., Figure], name: str, caption: str = "", *, folder: Path | None = None) -> str:
    """A figure in a light and a dark form; the browser takes the one that fits.

    Args:
        draw: called with `theme=`.
        name: of the files, and what is read out where there is no caption.
        caption: HTML below it.
        folder: of the page, the pictures go to its plots/; None: they become part of the page itself.
    """
    sources = []
    for suffix, theme in (("", plots.LIGHT), ("-dark", plots.DARK)):
        drawn = draw(theme=theme)
        if folder is None:
            sources.append(f"data:image/svg+xml;base64,{base64.b64encode(plots.render(drawn, '.svg')).decode()}")
        else:
            plots.save(drawn, folder / "plots" / f"{name}{suffix}.svg")
            sources.append(f"plots/{quote(name)}{suffix}.svg")
    dark = f'<source srcset="{sources[1]}" media="(prefers-color-scheme: dark)">'
    image = f'<picture>{dark}<img src="{sources[0]}" alt="{escape(caption or name)}" loading="lazy"></picture>'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
