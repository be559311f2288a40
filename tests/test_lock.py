"""requirements.lock holds what pyproject.toml asks for, with hashes, from no particular place."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
TEXT = (REPO / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", TEXT, flags=re.M))


def wanted(name: str) -> list[Requirement]:
    """The requirements of an extra, with those of the extras in it."""
    extras = PROJECT["optional-dependencies"]
    found = [Requirement(text) for text in (PROJECT["dependencies"] if not name else extras[name])]
    deeper = [extra for one in found if one.name == PROJECT["name"] for extra in sorted(one.extras)]
    return [one for one in found if one.name != PROJECT["name"]] + [one for extra in deeper for one in wanted(extra)]


@pytest.mark.parametrize("one", [*wanted(""), *wanted("dev")], ids=str)
def test_locked_versions_lie_within_the_bounds(one: Requirement) -> None:
    assert LOCKED[canonicalize_name(one.name)] in one.specifier


def test_every_version_has_its_hashes_and_no_place() -> None:
    parts = re.split(r"^(?=[a-z0-9])", TEXT, flags=re.M)[1:]
    assert len(parts) > len(PROJECT["dependencies"])
    assert all("--hash=sha256:" in part for part in parts)
    assert "://" not in TEXT
    assert not re.search(r"--(index|extra|find|trusted)", TEXT)


def test_locking_begins_with_a_venv(tmp_path: Path) -> None:
    """In a fresh checkout, `make lock` needs uv, which only the installation brings."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(REPO / name, tmp_path)
    done = subprocess.run(["make", "-n", "lock"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert 0 <= done.stdout.find("-m venv .venv") < done.stdout.find("uv pip compile")


def test_malicious_releases_are_out_of_bounds() -> None:
    lightning = next(one for one in wanted("") if one.name == "lightning")
    assert not any(version in lightning.specifier for version in ("2.6.2", "2.6.3"))
