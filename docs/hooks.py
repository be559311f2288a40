"""What the site shows beside docs/: the experiments, and the card of the tracker that ships."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

REPO = Path(__file__).parents[1]
CARD = "src/seqtrack_lit/weights/MODEL_CARD.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages; links that leave the site become plain text."""
    pages = {CARD: "model_card.md"}
    for path in sorted(REPO.glob("experiments/*/*.md")):
        name = path.parent.name if path.name == "README.md" else f"{path.parent.name}_{path.stem}"
        pages[str(path.relative_to(REPO))] = f"experiments/{name}.md"
    for source, target in pages.items():
        text = (REPO / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=_relinked(text, source, target, pages)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Pages of docs/ that point at an experiment's README point at its page."""
    return re.sub(r"\]\((?:\.\./)+experiments/(\w+)/README\.md\)", r"](experiments/\1.md)", markdown)


def _relinked(text: str, source: str, target: str, pages: dict[str, str]) -> str:
    def link(match: re.Match[str]) -> str:
        words, place = match.groups()
        if "://" in place or place.startswith("#"):
            return match[0]
        wanted = (REPO / source).parent.joinpath(place).resolve()
        found = pages.get(str(wanted.relative_to(REPO)))
        if found is None:
            return words
        up = "../" * (len(PurePosixPath(target).parts) - 1)
        return f"[{words}]({up}{found})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", link, text)
