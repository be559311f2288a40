"""Shared by all tests: runtime type and shape checks, quiet services, one thread."""

import atexit
import gc
import logging
import os
import random
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator

os.environ.update(
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    HF_HUB_OFFLINE="1",
    NO_ALBUMENTATIONS_UPDATE="1",
    MPLBACKEND="Agg",
    XDG_CONFIG_HOME=tempfile.mkdtemp(prefix="seqtrack_tests_"),  # where seqtrack-train keeps its key
    OMP_NUM_THREADS="1",  # threads that wait for each other on a busy machine take twenty times as long
)

import pytest
import torch
from beartype import BeartypeConf, beartype
from beartype._check.code import codemain
from hypothesis import settings
from jaxtyping import install_import_hook

atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)

# Annotations and jaxtyping shapes are checked on every call; an int passes for a float, as in mypy. Which item of a
# list is checked is drawn, and not from Python's own generator, whose state belongs to the tests.
codemain.getrandbits = random.Random().getrandbits
_checker = types.ModuleType("seqtrack_typechecker")
_checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[_checker.__name__] = _checker
install_import_hook("seqtrack_lit", f"{_checker.__name__}.check")

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("untimed")

pytest_plugins = ["tests.data.fixtures"]  # make_dataset("lasot"): tiny data sets in every layout


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage walks through it again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`-m gpu` on a machine without one says so instead of failing."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True, scope="module")
def browser() -> Iterator[None]:
    """Chromium serves the tests of a module."""
    yield
    if "tests.browser" in sys.modules:
        sys.modules["tests.browser"].close()


@pytest.fixture(autouse=True, scope="module")
def log_handlers() -> Iterator[None]:
    """Commands that ran in this process leave log files open, whose folders are gone in the next module."""
    before = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = before
