"""Every YAML composes; every command printed in README, docs and experiments composes too."""

import fnmatch
import itertools
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from omegaconf import OmegaConf

from seqtrack_lit.cli.hydra.overrides import options_of, quote_paths, with_implied
from seqtrack_lit.cli.hydra.runtime import config_folder

CONF = config_folder()
REPO = CONF.parent
ROOTS = sorted(path.stem for path in CONF.glob("*.yaml"))


def composed(root: str, overrides: list[str]):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(root, with_implied(overrides) if root == "train" else overrides)


def groups_of(root: str) -> list[str]:
    entries = OmegaConf.to_container(OmegaConf.load(CONF / f"{root}.yaml"))["defaults"]
    names = [
        next(iter(entry)).removeprefix("optional ").removeprefix("override ")
        for entry in entries
        if isinstance(entry, dict)
    ]
    return [name for name in names if not name.startswith("hydra/")]


def every_option() -> dict[str, str]:
    """group=option -> the first root that knows the group; composing takes a third of a second."""
    found = {}
    for root in sorted(ROOTS, key=lambda name: name != "train"):
        for group in [*groups_of(root), *(["model/encoder", "model/decoder"] if root == "train" else [])]:
            for option in options_of(CONF, group):
                found.setdefault(f"{group}={option}", root)
    return found


@pytest.mark.parametrize("root", ROOTS)
def test_roots_compose(root):
    assert composed(root, [])


@pytest.mark.parametrize(("choice", "root"), list(every_option().items()))
def test_every_option_composes_and_resolves(choice, root):
    assert OmegaConf.to_container(composed(root, [choice]), resolve=True)


def test_every_file_is_reachable():
    files = {f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml")}
    assert files - set(every_option()) == set()


def commands(path: Path):
    """The command lines of the fenced sh blocks of a page."""
    for block in re.findall(r"```sh\n(.*?)```", path.read_text(), flags=re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def printed():
    pages = [REPO / "README.md", *sorted(REPO.glob("docs/**/*.md")), *sorted(REPO.glob("experiments/**/*.md"))]
    for page in pages:
        for words in commands(page):
            yield pytest.param(words, id=f"{page.relative_to(REPO)}: {' '.join(words)}")


def single_runs(root: str, overrides: list[str]) -> list[list[str]]:
    """A sweep's jobs; globs by the options of their group."""
    jobs = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if not override.is_sweep_override():
            jobs.append([override.input_line])
        elif isinstance(override.value(), Glob):
            assert isinstance(override, Override)
            include = override.value().include
            names = [
                n for n in options_of(CONF, override.get_key_element()) if any(fnmatch.fnmatch(n, i) for i in include)
            ]
            assert names, override.input_line
            jobs.append([f"{override.get_key_element()}={name}" for name in names])
        else:
            jobs.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
    return [list(job) for job in itertools.product(*jobs)]


@pytest.mark.parametrize("words", list(printed()))
def test_printed_commands(words):
    program, arguments = words[0], words[1:]
    if program == "python" and arguments[:1] == ["-m"] and arguments[1].startswith("seqtrack_lit.cli."):
        program, arguments = f"seqtrack-{arguments[1].rsplit('.', 1)[1]}", arguments[2:]
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), flags=re.M)
        assert set(arguments) <= set(targets)
    elif program.startswith("seqtrack-"):
        root = {"seqtrack-data": "datasets"}.get(program, program.removeprefix("seqtrack-"))
        assert root in ROOTS
        overrides = quote_paths([a for a in arguments if not a.startswith("-")])
        for job in single_runs(root, overrides):
            assert composed(root, job)
