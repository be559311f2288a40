"""Command-line overrides: paths that Hydra's grammar rejects, and errors that say what is allowed.

Nothing here imports torch: wrong keys and options stop within a second.
"""

import difflib
import hashlib
import re
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqtrack_lit.files import there
from seqtrack_lit.runs.migrate import ADDED

# Parts of the configuration that take keys of the user's own; tracker.* are checked by their constructor.
_FREE = ("hydra", "paths", "tracker", "callbacks.extra")
# Hydra's own option letters that stand alone; everything with "=" and no leading dash is an override.
_KEY = re.compile(r"(?:Could not (?:override|append to|delete from) .*?'|Key ')([^']+)'")

# Last parts of the keys whose values are paths or names, whatever they look like.
_TEXT = (
    "out", "source", "run", "runs", "name", "root", "annotations", "checkpoint", "official_config", "init_from", "dir",
    "resume", "page", "save", "zip", "cache", "entity", "project", "results", "scores", "check", "show", "bench",
    "corrections",
)  # fmt: skip
# Ends like one of them and is a flag: whether activations are recomputed.
_NO_TEXT = "model.encoder.checkpoint"
# How a sweep is run, not what; a job's folder is not named by it.
OF_A_SWEEP = ("resume", "overwrite")
# Parts of seqtrack-train's configuration that name a service or a place: they are the reader's own, not a file's.
# init_from and model.encoder.pretrained stay: the result depends on them.
_OWN_GROUPS = ("logger", "local", "paths")
_OWN_KEYS = ("root", "annotations", "cache", "pool", "out", "dir")
_MOVED = {"launcher": "hydra/launcher", "slots": "hydra.launcher.devices"}
_LONGEST = 150  # letters of a folder's name

_PLUGINS = ("submitit_slurm", "submitit_local", "optuna")


def options_first(arguments: Sequence[str]) -> list[str]:
    """Options such as -m before the overrides: Hydra's parser rejects overrides on both sides of one."""
    # "/": the folder behind --config-path
    overrides = [item for item in arguments if item[:1] not in ("-", "/") and ("=" in item or item.startswith("~"))]
    return [*(item for item in arguments if item not in overrides), *overrides]


def constant_keys(arguments: Sequence[str]) -> list[str]:
    """Keys of the overrides that are the same in all jobs of a sweep; a job's folder is named by the others."""
    parsed = (_parse(item) for item in arguments if not item.startswith("-"))
    same = [str(item.key_or_group) for item in parsed if item is not None and not item.is_sweep_override()]
    return list(dict.fromkeys([*OF_A_SWEEP, *same]))


def job_folder(overrides: Iterable[str], constant: Container[str] = ()) -> str:
    """The folder of a sweep's job, by its overrides in alphabetical order: one name, on every system.

    What cannot stand in a name becomes `_`, with a few letters of a hash behind it, so that no two jobs share a folder.

    >>> job_folder(["seed=1", "model/encoder=mae_b16", "data=paper"], ["data"])
    'model.encoder-mae_b16__seed-1'
    """
    parts = []
    for item in overrides:
        parsed = _parse(item)
        if parsed is None or parsed.key_or_group in constant:
            continue
        value = parsed.get_value_string()
        if isinstance(parsed._value, QuotedString):
            value = parsed._value.text
        parts.append(f"{str(parsed.key_or_group).replace('/', '.')}-{_name(value)}")
    return _name("__".join(sorted(parts)) or "job")


def _name(text: str) -> str:
    changed = re.sub(r"[^\w.,+=@%\[\]-]", "_", text)
    if changed == text and len(text) <= _LONGEST:
        return text
    return f"{changed[: _LONGEST - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def is_sweep(argument: str) -> bool:
    """Whether an override gives several values, one for each job."""
    parsed = _parse(argument)
    return parsed is not None and parsed.is_sweep_override()


def quote_paths(arguments: Iterable[str], never_null: Container[str] = ()) -> list[str]:
    """Quote the values Hydra cannot read as they stand but that are plain text: `source=vidéo.mp4`, `a(1).mp4`,
    `epoch=3.ckpt`, names with a comma that exist as a file; and those it would take for numbers, where a path or name
    is asked for: `out=2025_01_15`, `name=true`. null stays null but for the keys in `never_null`.

    Broken lists and dictionaries (`box=[1,2`) stay as they are, so that Hydra names the mistake. With -m, values
    separated by commas are quoted one by one.
    """
    arguments = list(arguments)
    sweep = bool({"-m", "--multirun"} & set(arguments))
    return [_as_text(_quoted(argument, sweep), sweep, never_null) for argument in arguments]


def _as_text(argument: str, sweep: bool, never_null: Container[str]) -> str:
    """The override with its value, or each of its values, in quotes if its key wants text and Hydra reads none."""
    key, value = argument.partition("=")[::2]
    name = key_of(key)
    override = None if argument.startswith(("-", "~")) else _parse(argument)
    text = name != _NO_TEXT and (name.startswith("paths.") or name.rpartition(".")[2] in _TEXT)
    if override is None or not text:
        return argument
    read, begin, end = override._value, "", ""

    def strays(one: object) -> bool:
        if one is None:
            return read is None and (name in never_null or name.startswith("paths."))
        return isinstance(one, bool | int | float)

    parts: list[object] = [read]
    if isinstance(read, ChoiceSweep):
        parts = list(read.list) if sweep and read.simple_form else []
    elif isinstance(read, list):
        parts, value, begin, end = list(read), value.strip()[1:-1], "[", "]"
    texts = value.split(",") if len(parts) > 1 else [value] * len(parts)
    if len(texts) != len(parts) or not any(strays(one) for one in parts):
        return argument
    joined = ",".join(quoted(text.strip()) if strays(one) else text for one, text in zip(parts, texts, strict=True))
    return f"{key}={begin}{joined}{end}"


def _quoted(argument: str, sweep: bool) -> str:
    key, equals, value = argument.partition("=")
    if not equals or not value or argument.startswith(("-", "~")):
        return argument
    override = _parse(argument)
    if override is None and sweep and "," in value and not there(Path(value).expanduser()):
        single = [_quoted(f"{key}={item}", False).partition("=")[2] for item in value.split(",")]
        argument = f"{key}={','.join(single)}"
        override = _parse(argument)
    if override is not None and not (override.is_sweep_override() and there(Path(value).expanduser())):
        return argument
    if override is None and value.startswith(("[", "{", "'", '"')) and not there(Path(value)):
        return argument
    changed = f"{key}={quoted(value)}"
    return changed if _parse(changed) is not None else argument


def recorded(items: Sequence[str], *, source: str, folder: Path, without: Container[str]) -> list[str]:
    """Overrides that a file holds, once it is sure that each sets one key of ours to a plain value.

    A run's folder may come from somebody else, and an override can name code to be run. So: no new or deleted keys
    (+, ~), nothing of Hydra's own, no `_target_` or anything else with an underscore in front, no mappings,
    interpolations or sweeps, and of a group only an option of `conf/`. Unknown keys fail when they are composed.

    Args:
        items: the overrides.
        source: what holds them, for the message.
        folder: `conf/`.
        without: keys to leave out unread, as the command line itself gives them.

    Raises:
        ValueError: one line about the first that is not such an override.
    """
    groups = set(groups_of(folder))
    kept = []
    for item in items:
        parsed = _parse(item)
        if parsed is not None and parsed.key_or_group in without:
            continue
        if parsed is None or not _is_plain(parsed, groups, folder):
            raise ValueError(
                f"{source} holds the override {item!r}; only plain values of known keys are taken from a file, since "
                "others can run code: if you trust it, write it on the command line yourself"
            )
        kept.append(item)
    return kept


def names_a_place(override: str) -> bool:
    """Whether it names a service, a launcher or a place on a machine, such as `logger=wandb` and `paths.data=/data`."""
    parts = re.split("[./]", key_of(override))
    return parts[0] in _OWN_GROUPS or parts[-1] in _OWN_KEYS


def _is_plain(override: Override, groups: Container[str], folder: Path) -> bool:
    key, value = str(override.key_or_group), override._value
    parts = re.split("[./]", key)
    if override.type is not OverrideType.CHANGE or override.package is not None or parts[0] == "hydra":
        return False
    if any(not part or part.startswith("_") for part in parts):
        return False
    if key in groups:
        return value is None or (isinstance(value, str) and value in options_of(folder, key))
    return all(_is_leaf(item) for item in (value if isinstance(value, list) else [value]))


def _is_leaf(value: object) -> bool:
    """A number, a flag, null, or a text without an interpolation."""
    if isinstance(value, QuotedString):
        value = value.text
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and "${" not in value)


def quoted(text: object) -> str:
    """The text in quotes, as one value for Hydra whatever it contains."""
    return QuotedString(text=str(text), quote=Quote.single).with_quotes()


def _parse(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except (HydraException, ValueError):  # Python's: a number of thousands of digits
        return None


def going_on_in(folder: Path) -> list[str]:
    """Overrides of seqtrack-train that go on in this folder, which may be of one job of a sweep.

    An experiment may make a sweep of it, hence the mode.
    """
    return ["resume=auto", f"hydra.run.dir={quoted(folder)}", "hydra.mode=RUN"]


def explain(error: Exception, *, folder: Path, config_name: str, arguments: Sequence[str]) -> str:
    """One line for a mistake in the configuration: the key, the value, what is allowed, the nearest name."""
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: write key=value, with quotes around odd text: 'key=\"a, b\"'"
    if isinstance(error, MissingConfigException):
        return _explain_option(error, folder, overrides)
    text = " ".join(str(error).split())
    if match := _KEY.search(text):
        parents = re.search(r"full_key: (\S+)", text)  # OmegaConf prints the key with its parents separately
        return _explain_key((parents or match).group(1), folder, config_name, overrides)
    if "multirun" in text:
        shown = next((item for item in overrides if (parsed := _parse(item)) and parsed.is_sweep_override()), "")
        return f"{shown}: several values need -m (one run each); write a list as [a,b] and text with a comma as 'a,b'"
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return f"{text} ({' '.join(str(cause).split())})"
    return text


def _explain_option(error: MissingConfigException, folder: Path, overrides: Sequence[str]) -> str:
    missing = str(error.missing_cfg_file or "")
    group, _, option = missing.rpartition("/")
    if group in ("hydra/launcher", "hydra/sweeper") and option in _PLUGINS:
        return f"{group}={option} is not installed: pip install '.[sweep]'"
    options = list(error.options or options_of(folder, group))
    if not group or not options:
        return " ".join(str(error).split())
    value = next((item.partition("=")[2] for item in overrides if key_of(item) == group), option)
    return f"{group}={value}: no such option; allowed: {', '.join(options)}{_nearest(option, options)}"


def key_of(override: str) -> str:
    """The key or group an override is about, without +, ~ and package."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _explain_key(key: str, folder: Path, config_name: str, overrides: Sequence[str]) -> str:
    """Name an unknown key beside the keys of its parent in the composed configuration."""
    parsed = (_parse(item) for item in overrides)
    value = next((item.get_value_string() for item in parsed if item and item.key_or_group == key), None)
    shown = key if value is None else f"{key}={value}"
    if key in _MOVED:
        return f"unknown key {shown}; write {_MOVED[key]}={value}"
    groups = groups_of(folder)
    config = _compose(folder, config_name, [item for item in overrides if key_of(item) in groups])
    parent, _, name = key.rpartition(".")
    node = (OmegaConf.select(config, parent) if parent else config) if config is not None else None
    if parent and not isinstance(node, DictConfig):  # the parent is unknown as well: speak of that
        return f"unknown key {shown}: there is no {parent}{_nearest(parent, _all_keys(config))}"
    names = [str(item) for item in node if not str(item).startswith("_")] if isinstance(node, DictConfig) else []
    implied = list(ADDED) if config_name == "train" else []
    names += [item.rpartition(".")[2] for item in implied if item.rpartition(".")[0] == parent and parent]
    names = list(dict.fromkeys(names))
    if not parent:
        names += [item for item in groups if item not in names and "/" not in item and item != "hydra"]
    known = [*_all_keys(config), *implied]
    near = _nearest(name, names, prefix=f"{parent}." if parent else "") or _same_name(name, known)
    where = f"keys of {parent}" if parent else "keys"
    return f"unknown key {shown}; {where}: {', '.join(sorted(names))}{near}"


def with_implied(arguments: Iterable[str]) -> list[str]:
    """Overrides of seqtrack-train; keys that `conf/` leaves to their constructor are added."""
    plain = ((item, item[:1] not in "+~-" and key_of(item) in ADDED) for item in arguments)
    return [f"++{item}" if implied else item for item, implied in plain]


def check_added(arguments: Sequence[str], *, folder: Path, config_name: str) -> None:
    """Refuse keys added with + that nothing reads: unknown ones at the top, or among plain settings.

    Below a `_target_` the constructor judges, and `_FREE` parts may hold anything.

    Raises:
        ValueError: one line about the first such key.
    """
    known = {*groups_of(folder), *ADDED}
    added = [item for item in arguments if item.startswith("+") and key_of(item) not in known]
    if not added or {"--config-path", "-cp", "--config-name", "-cn"} & set(arguments):
        return
    groups = groups_of(folder)
    chosen = [item for item in arguments if not item.startswith("-")]
    config = _compose(folder, config_name, [item for item in chosen if key_of(item) in groups])
    for item in added:
        key = key_of(item)
        parents = [key[:i] for i, letter in enumerate(key) if letter == "."]
        if config is None or any(part in _FREE for part in (key, *parents)) or (parents and "_target_" in item):
            continue
        above = [OmegaConf.select(config, parent, throw_on_missing=False) for parent in parents]
        if any(isinstance(node, DictConfig) and "_target_" in node for node in above):
            continue
        if key not in _all_keys(config):
            raise ValueError(_explain_key(key, folder, config_name, chosen))


def _compose(folder: Path, config_name: str, overrides: list[str]) -> DictConfig | None:
    for tried in (overrides, []):  # the group choices first: the keys of a model depend on the model
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(folder), version_base="1.3"):
                return compose(config_name, tried)
        except (HydraException, OmegaConfBaseException):
            continue
    return None


def _all_keys(config: DictConfig | None) -> list[str]:
    """Every key with its parents, interpolations and missing values unopened."""
    plain = OmegaConf.to_container(config, resolve=False) if config is not None else {}

    def walk(node: Any, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        return [key for name, child in node.items() for key in (f"{prefix}{name}", *walk(child, f"{prefix}{name}."))]

    return walk(plain, "")


def _same_name(name: str, keys: Iterable[str]) -> str:
    """`lr` may live deeper: optimizer.lr."""
    found = [key for key in keys if key.rpartition(".")[2] == name][:3]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _nearest(name: str, names: Sequence[str], prefix: str = "") -> str:
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {prefix}{found[0]}?" if found else ""


def groups_of(folder: Path) -> list[str]:
    """The configuration groups: every folder of `conf/`, as `model` or `model/encoder`."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir())


def options_of(folder: Path, group: str) -> list[str]:
    """The options of one group, in alphabetical order."""
    return sorted(path.stem for path in (folder / group).glob("*.yaml"))
