"""The documentation as a site: built strictly, with nothing that is fetched when it is looked at."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.rehearsal.commands import printed

REPO = Path(__file__).parents[1]
PAGES = sorted(str(path.relative_to(REPO)) for path in (REPO / "docs").glob("*.md"))


@pytest.mark.slow
def test_the_site(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    fetched = [
        address
        for text in pages.values()
        for address in re.findall(
            r"<(?:script|img|link|iframe|source)[^>]+(?:src|href)=[\"']?(https?://[^\"' >]+)", text
        )
    ]
    assert fetched == []
    assert "class OnnxTracker" in re.sub(r"<[^>]+>", "", pages["export.html"])  # the program is in the page
    assert "load_tracker" in pages["api.html"]
    assert "NanoTrackV2" in pages["small.html"]


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_keys_that_are_there(page: str) -> None:
    """Options of the commands on a page are keys or groups of conf/, so that a renamed one is noticed."""
    files = list((REPO / "conf").rglob("*.yaml"))
    groups = {str(path.relative_to(REPO / "conf")) for path in (REPO / "conf").rglob("*") if path.is_dir()}
    of_options = {key for path in files if "_global_" in path.read_text() for key in yaml.safe_load(path.read_text())}
    for command, *words in printed(page):
        name = command.removeprefix("seqtrack-").replace("data", "datasets")
        file = REPO / "conf" / f"{name}.yaml"
        known = {*yaml.safe_load(file.read_text()), *groups, *of_options}
        keys = {word.lstrip("+").partition("=")[0].partition(".")[0] for word in words if "=" in word}
        assert keys <= known, f"{page}: {command}"
