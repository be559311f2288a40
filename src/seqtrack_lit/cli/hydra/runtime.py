"""What all commands share: Hydra's entry, `--help`, errors in one line, exit codes.

A command is a module `seqtrack_lit.cli.<name>` whose docstring is its `--help` and that ends with

    main = partial(run, "<name>", body)      # conf/<name>.yaml is its configuration

`body(config)` imports torch itself, so a wrong key or a missing file stops before that. Exit codes: 0 done,
1 a bug (with traceback) or a sweep with failed jobs, 2 a mistake in what was asked (one line), 130 interrupted,
143 asked to end (SIGTERM). HYDRA_FULL_ERROR=1 shows every traceback.
"""

import errno
import gc
import inspect
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqtrack_lit.checks import printable
from seqtrack_lit.cli.hydra.overrides import (
    check_added,
    constant_keys,
    explain,
    job_folder,
    key_of,
    options_first,
    options_of,
    quote_paths,
    with_implied,
)
from seqtrack_lit.cli.launch.launcher import FailedJobError, StoppedSweepError, failed_line
from seqtrack_lit.files import there, why_not_there

OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)  # conf/train.yaml

Body = Callable[[DictConfig], Any]
# What a user can cause and mend; anything else is a bug and keeps its traceback.
USER_ERRORS = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
_LONGEST = 2000  # letters of a message
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # disk full, quota used up, read-only
NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)  # a name that no file can have, a circle of links
ENDED = "ended by SIGTERM; what was written is whole, and the same command goes on or begins anew"
_DEEPEST = 50  # brackets within brackets in a value


def run(name: str, body: Body, *, root: str | None = None) -> None:
    """Run `body` with the configuration `conf/<root>.yaml` (the command's name unless given) and the overrides.

    Leaves through `SystemExit` on every mistake, with the exit codes above; returns on success.
    """
    command, arguments = f"seqtrack-{name}", sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a console that does not know a letter spells it out
    try:
        if {"-h", "--help"} & set(arguments):
            print(_help(command, root or name, inspect.getmodule(body)), flush=True)
            return
        _run(name, root or name, body, command, arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # who read what is printed has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def _run(name: str, config_name: str, body: Body, command: str, arguments: list[str]) -> None:
    """What follows once the screen is ready."""
    everything = os.environ.get("HYDRA_FULL_ERROR") == "1"
    folder = config_folder()
    if any(item.startswith("--experimental-rerun") for item in arguments):
        leave(command, "--experimental-rerun reads a pickle, which can run code; resume=FOLDER goes on with a run", 2)
    if deep := next((item for item in arguments if _depth(item) > _DEEPEST), ""):
        leave(command, f"{deep.partition('=')[0]}: more than {_DEEPEST} brackets within each other", 2)
    names = {item.partition("=")[0] for item in arguments if item.startswith("-")}
    if names & {"-m", "--multirun"} and names & {"-c", "--cfg"}:
        leave(command, "--cfg shows one configuration: leave out -m, and give each key one value", 2)
    # Lightning starts further processes from sys.argv, so the quoted form must be there too.
    quoted = quote_paths(options_first(arguments), _never_null(folder / f"{config_name}.yaml"))
    try:
        check_added(quoted, folder=folder, config_name=config_name)
    except ValueError as error:
        leave(command, str(error), 2)
    quoted = with_implied(quoted) if config_name == "train" else quoted
    sys.argv = [sys.argv[0], *quoted]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise; it would print and exit with 1 otherwise
    task = partial(_job, body, command, everything, constant_keys(quoted))
    task.__module__ = f"seqtrack_lit.cli.{name}"  # names the job
    try:
        with _ending_on_request(command), _failures_reported_once(), _composed_once(folder, quoted):
            hydra.main(version_base="1.3", config_path=str(folder), config_name=config_name)(task)()
    except _EndedError:
        leave(command, ENDED, 143)
    except KeyboardInterrupt:
        leave(command, "interrupted", 130)
    except StoppedSweepError:
        leave(command, "stopped; the same command goes on", 130)
    except FailedJobError as error:
        leave(command, f"some jobs of the sweep failed, the first was {error}", 1)
    except (HydraException, OmegaConfBaseException) as error:
        if everything:
            raise
        text = explain(error, folder=folder, config_name=config_name, arguments=sys.argv[1:])
        leave(command, text, 2)
    except OSError as error:
        if everything or _ran(error):
            raise
        leave(command, f"cannot make the folder for results: {one_line(error)}; give another out= or paths.runs=", 2)
    except ValueError as error:  # options of Hydra's own that do not go together
        if everything or _ran(error):
            raise
        leave(command, one_line(error), 2)
    finally:
        if not everything:
            os.environ.pop("HYDRA_FULL_ERROR", None)


def _depth(text: str) -> int:
    """How many brackets are open at most; Hydra's parser calls itself for each."""
    depth = most = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        most = max(most, depth)
    return most


class _EndedError(KeyboardInterrupt):
    """SIGTERM: cleaned up after like Ctrl-C, so no half-written file and no process is left."""


@contextmanager
def _ending_on_request(command: str) -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does; training and sweeps, which save first, put their own in its place.

    While a library is being imported, both end the process at once: an exception inside of a library's start aborts
    it or is lost, and nothing is being written then.
    """

    def end(number: int, frame: FrameType | None) -> None:
        terminated = number == signal.SIGTERM
        if _importing(frame):
            print(f"{command}: {ENDED if terminated else 'interrupted'}", file=sys.stderr, flush=True)
            os._exit(128 + number)
        raise _EndedError if terminated else KeyboardInterrupt

    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    former = {}
    with suppress(ValueError):  # not the main thread
        former = {
            number: signal.signal(number, end) for number, was in usual.items() if signal.getsignal(number) == was
        }
    try:
        yield
    finally:
        for number, handler in former.items():
            if signal.getsignal(number) == end:
                signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _never_null(path: Path) -> list[str]:
    """Keys of a root whose values are texts from the start."""
    root: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    return [str(key) for key, value in root.items() if isinstance(value, str)]


def _ran(error: BaseException) -> bool:
    """Whether the body had begun; before it, Hydra makes the folder for the results."""
    return any(frame.f_code.co_name == _job.__name__ for frame, _ in traceback.walk_tb(error.__traceback__))


@contextmanager
def _failures_reported_once() -> Iterator[None]:
    """While inside, Hydra does not print all overrides of a failed job that has been reported."""
    former: Any = vars(JobReturn)["return_value"]

    def value(job: JobReturn) -> Any:
        if isinstance(job._return_value, FailedJobError):
            raise job._return_value
        return former.fget(job)

    setattr(JobReturn, "return_value", property(value, former.fset))  # noqa: B010
    try:
        yield
    finally:
        setattr(JobReturn, "return_value", former)  # noqa: B010


@contextmanager
def _composed_once(folder: Path, arguments: list[str]) -> Iterator[None]:
    """While inside, Hydra does not compose a configuration just to see whether it makes a sweep of the command.

    Only experiments do, unless a file outside of their folder sets the mode or leads to one of them.
    """
    former, keys = Hydra.get_mode, {key_of(item) for item in arguments}
    asked = any(re.match(r"experiment|hydra\.(mode|searchpath)|--?c", key) for key in keys)
    others = (path for path in folder.rglob("*.yaml") if path.is_file() and path.parent != folder / "experiment")
    sweep = re.compile(rb"MULTIRUN|\bmode:\s*2|experiment/|/experiment\b")
    if not asked and not any(sweep.search(path.read_bytes()) for path in others):
        setattr(Hydra, "get_mode", lambda *_, **__: None)  # noqa: B010
    try:
        yield
    finally:
        setattr(Hydra, "get_mode", former)  # noqa: B010


def _job(body: Body, command: str, everything: bool, constant: list[str], config: DictConfig) -> Any:
    """One run: check what can be checked without torch, run the body, report in one line what a user can mend."""
    settings = HydraConfig.get()
    sweep = settings.mode == RunMode.MULTIRUN
    if sweep:
        gc.collect()  # what the former job held: models, frames kept in memory; it is full of cycles
    try:
        _check(config)
        return body(config)
    except StoppedSweepError:
        raise
    except Exception as error:
        mistake = isinstance(error, (*USER_ERRORS, HydraException, OmegaConfBaseException))
        mistake = mistake or (isinstance(error, OSError) and error.errno in (*NO_ROOM, *NO_PATH))
        if everything or not (mistake or sweep):
            raise
        if not sweep:
            leave(command, one_line(error), 2)
        path, overrides = Path(settings.runtime.output_dir) / f"{settings.job.name}.log", settings.overrides.task
        text = failed_line(settings.job.num, list(map(str, overrides)), constant, one_line(error), path)
        shown = printable(text) if mistake else f"{traceback.format_exc()}{text}"
        with path.open("a") as file:
            file.write(f"{shown}\n")
        print(f"{command}: {shown}", file=sys.stderr, flush=True)
    # here, so that it does not keep alive what the job held
    raise FailedJobError(f"job {settings.job.num} in {path.parent}")


def _check(config: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ValueError(f"{', '.join(missing)} must be given: write {' '.join(f'{key}=...' for key in missing)}")
    OmegaConf.to_container(config, resolve=True)


def leave(command: str, text: str, code: int) -> NoReturn:
    """Say why on one line and exit."""
    print(f"{command}: {printable(text)[:_LONGEST]}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def one_line(error: BaseException) -> str:
    """The message of an error on one line, with its kind where the message alone says too little."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in NO_ROOM and error.strerror == os.strerror(error.errno):
        where = "" if error.filename is None else f" for {error.filename}"
        return f"{error.strerror}{where}: make room or choose another folder; files written before are whole and stay"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename is not None else error.strerror
    return text if isinstance(error, USER_ERRORS) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def config_folder() -> Path:
    """The folder `conf/`: inside the installed package, or at the root of a checkout.

    Raises:
        FileNotFoundError: neither is there, so the installation is broken.
    """
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no conf/ in {package} or {package.parents[1]}: install seqtrack-lit again")


def existing(path: str | os.PathLike[str], key: str, remedy: str = "") -> Path:
    """The path, with ~ expanded, if it exists.

    Args:
        path: of a file or a folder.
        key: of the configuration that names it.
        remedy: what to do otherwise, where that is more than to correct the key.

    Raises:
        FileNotFoundError: it does not; the message names the configuration key.
    """
    found = Path(path).expanduser()
    if reason := why_not_there(found):
        parent = next(folder for folder in [*found.absolute().parents] if there(folder))
        text = f"{key}={printable(str(path))[:300]}: {reason} (the path exists up to {parent})"
        raise FileNotFoundError(f"{text}; {remedy}" if remedy else text)
    return found


def inference_of(config: DictConfig) -> str | None:
    """The option of inference/ that the command line names; None where it names none.

    Raises:
        ValueError: the command line also sets the window or the update, otherwise than the option.
    """
    settings = HydraConfig.get()
    if not any(key_of(str(item)) == "inference" for item in settings.overrides.task):
        return None
    option = str(settings.runtime.choices["inference"])
    wanted: Any = OmegaConf.to_container(OmegaConf.load(config_folder() / "inference" / f"{option}.yaml"))
    for key in ("window", "update"):
        if key in wanted and wanted[key] != config.tracker[key]:
            raise ValueError(
                f"inference={option} means tracker.{key}={str(wanted[key]).lower()}, but tracker.{key}="
                f"{str(config.tracker[key]).lower()} is given, too: leave out one of them"
            )
    return option


def instantiate(config: Any, **keywords: Any) -> Any:
    """Build what `_target_` names, with plain lists and dicts as arguments.

    Raises:
        ValueError: a constructor refused its arguments; the message is the constructor's own, with the key.
    """
    try:
        return hydra.utils.instantiate(config, _convert_="all", **keywords)
    except InstantiationException as error:
        raise ValueError(_constructor_message(error)) from error


def without_start(model: DictConfig) -> DictConfig:
    """A model's configuration whose encoder starts at random: nothing is downloaded for what is filled or counted."""
    changed = model.copy()
    if changed.encoder.get("pretrained"):
        changed.encoder.pretrained = False
    return changed


def _constructor_message(error: InstantiationException) -> str:
    text = str(error)
    key = match.group(1) if (match := re.search(r"full_key: (\S+)", text)) else ""
    cause: BaseException = error
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    reason = " ".join(str(cause).split())
    if isinstance(cause, TypeError) and (wrong := re.search(r"unexpected keyword argument '(\w+)'", reason)):
        target = re.search(r"call to target '([\w.]+)'", text)
        taken = inspect.signature(hydra.utils.get_object(target.group(1))).parameters if target else ()
        allowed = [name for name in taken if name != "self"]
        full = f"{key}.{wrong.group(1)}" if key else wrong.group(1)
        return f"unknown key {full}; {target.group(1) if target else 'it'} takes: {', '.join(allowed)}"
    known = isinstance(cause, (*USER_ERRORS, TypeError)) or type(cause).__name__ == "MisconfigurationException"
    if cause is error or not known:  # Lightning has an error of its own for settings that do not fit
        reason = " ".join(text.split())
    return f"{reason} (in {key})" if key and key not in reason else reason


def _help(command: str, config_name: str, module: Any) -> str:
    """The command's docstring, then the groups of its configuration with their options; defaults are starred."""
    folder = config_folder()
    lines = [inspect.cleandoc(module.__doc__ or "") if module else "", "", "Groups (GROUP=OPTION; * is the default):"]
    root: Any = OmegaConf.to_container(OmegaConf.load(folder / f"{config_name}.yaml"))
    entries = [entry for entry in root.get("defaults", []) if isinstance(entry, dict)]
    for group, default in (pair for entry in entries for pair in entry.items()):
        group = group.removeprefix("optional ").removeprefix("override ").partition("@")[0].strip()
        names = options_of(folder, group)
        if names and not group.startswith(("hydra", "command")):  # those are no choices of a user
            lines.append(f"  {group:<12} {' '.join(f'*{name}' if name == default else name for name in names)}")
    lines += [
        "",
        "Keys are set as KEY=VALUE, several values with -m run one after the other: -m seed=0,1,2",
        f"`{command} --cfg job` prints the whole configuration, HYDRA_FULL_ERROR=1 every traceback.",
    ]
    return "\n".join(lines)
