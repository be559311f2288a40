"""Checkpoints: recognised by content, read without running what is in them, turned into a model.

- official: `SEQTRACK_ep0500.pth.tar` of microsoft/VideoX; the weights under `net`, foreign objects beside them.
- lightning: ours; `state_dict` with prefix `net.`, `ema` without, and under `seqtrack` plain constructor arguments
  with the number of their format.
- state_dict: names and tensors alone (.pt, .safetensors), by our names or the official ones.

A model is built without memory first; only if its shapes agree with the tensors does it get any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seqtrack_lit.checks import shown
from seqtrack_lit.files import replacing
from seqtrack_lit.models.cached_encoder import CachedEncoder
from seqtrack_lit.models.description import FORMAT, Description, build_model, check_sizes, read_description
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.official import OfficialConfig, describe
from seqtrack_lit.models.official_names import fitting, to_official, to_ours
from seqtrack_lit.models.quantised import Storage, save_compact
from seqtrack_lit.models.safe_read import kind_of, read_contents
from seqtrack_lit.models.seqtrack import SeqTrack

Kind = Literal["official", "lightning", "state_dict"]


@dataclass(frozen=True)
class Checkpoint:
    """Weights as a file holds them.

    Args:
        source: kind and path, for messages.
        kind: which of the three kinds of file.
        official: whether the tensors have the official names.
        state: the tensors.
        description: plain constructor arguments of tokenizer, model and tracker; None where the file has none.
    """

    source: str
    kind: Kind
    official: bool
    state: dict[str, Tensor]
    description: Description | None


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its weights, and arguments for its tracker.

    Args:
        model: the model, on the CPU in float32.
        tracker: plain keyword arguments of tracking.seqtrack.SeqTrackTracker but the model.
        source: kind and path of the file.
        description: plain constructor arguments the model was built from.
    """

    model: SeqTrack
    tracker: dict[str, object] = field(repr=False)
    source: str
    description: Description = field(repr=False)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file of weights of any kind; nothing in it is run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of weights, or not of a tracker.
    """
    contents = read_contents(path)
    root = contents.root
    if not isinstance(root, Mapping):
        raise ValueError(f"{path}: a checkpoint holds named values, this one holds {kind_of(root)}")
    if "net" in root:
        state = contents.tensors(root["net"], "net")
        return Checkpoint(f"official checkpoint {path}", "official", True, _unprefixed(state), None)
    if "seqtrack" in root:
        name = "ema" if root.get("ema") else "state_dict"
        state = _unprefixed(contents.tensors(root.get(name), name))
        return Checkpoint(f"checkpoint {path}", "lightning", False, state, read_description(root["seqtrack"], path))
    bare = root.get("state_dict", root.get("model", root))  # MAE's files keep theirs under "model"
    state = _unprefixed(contents.tensors(bare, "the file"))
    official = "encoder.body.pos_embed" in state
    if not official and "decoder.embedding.weight" not in state:
        raise ValueError(
            f"{path} holds {len(state)} tensors ({', '.join(list(state)[:3])}, ...), but not those of a SeqTrack "
            "tracker; pretrained encoder weights alone are given to training as model.encoder.pretrained=FILE"
        )
    return Checkpoint(f"state dict {path}", "state_dict", official, state, None)


def load_model(path: str | Path, *, official_config: str | Path | None = None) -> LoadedModel:
    """A model with the weights of a file, built by the description in the file or by an official configuration.

    Args:
        path: a checkpoint of any of the three kinds.
        official_config: official YAML, for weights without a description; the published models need none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a tracker's checkpoint, or its model is not known.
    """
    checkpoint = read_checkpoint(path)
    description = checkpoint.description
    if description is not None and official_config is not None:
        raise ValueError(f"{checkpoint.source} describes itself; official_config is for official ones, leave it out")
    if description is None:
        config = None
        if official_config is not None:
            config = OfficialConfig.read(official_config)
            checkpoint = replace(checkpoint, source=f"{checkpoint.source} with official_config {official_config}")
        if not checkpoint.official:  # a dense head serves training only
            plain = {key: tensor for key, tensor in checkpoint.state.items() if not key.startswith("dense.")}
            checkpoint = replace(checkpoint, state=plain)
        state = checkpoint.state if checkpoint.official else _official_names(checkpoint)
        description = describe(state, source=checkpoint.source, config=config)
        if not checkpoint.official and config is None:
            description = description._replace(tracker={})
    built = _built(description, checkpoint)
    return LoadedModel(built.eval(), dict(description.tracker), checkpoint.source, description)


def load_weights(model: SeqTrack, path: str | Path) -> str:
    """Fill a model that exists already, to train on from a checkpoint of any kind; returns its source.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a tracker's checkpoint, or of another model; the message says which published model fits. Or its
            templates see other tokens than the model's.
    """
    checkpoint = read_checkpoint(path)
    _check_attention(model, checkpoint)
    fill(model, checkpoint)
    return checkpoint.source


def _check_attention(model: SeqTrack, checkpoint: Checkpoint) -> None:
    """Refuse weights that learned with other tokens in sight: names and shapes are equal, so nothing else shows it."""
    if checkpoint.description is None and not checkpoint.official:
        return
    encoder = {} if checkpoint.description is None else checkpoint.description.model.get("encoder")
    theirs = isinstance(encoder, Mapping) and str(encoder.get("_target_")).endswith(f".{CachedEncoder.__name__}")
    ours = isinstance(model.encoder, CachedEncoder)
    if theirs != ours:
        sight = {True: "only themselves (ablation=cached)", False: "the search region too"}
        raise ValueError(
            f"{checkpoint.source}: its templates see {sight[theirs]}, those of this model {sight[ours]}; "
            f"{'leave ablation=cached out' if ours else 'add ablation=cached'}, or train without init_from"
        )


def fill(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the weights of a checkpoint: every tensor is used once, none is missing, every shape is equal.

    Raises:
        ValueError: the checkpoint is of another model; both shapes and, where one fits, a published model are named.
    """
    own = model.state_dict()
    state = _matched(own, checkpoint)
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(state[key])


def _matched(own: Mapping[str, Tensor], checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a checkpoint for a model of which only names and shapes are read; raises as `fill`."""
    state, source = checkpoint.state, checkpoint.source
    if checkpoint.official:
        state = to_ours(state, own, source)
    fit = fitting(checkpoint.state)
    for key, tensor in own.items():
        if key not in state:
            raise ValueError(f"{source}: key {key} {tuple(tensor.shape)} is missing{fit}")
        if state[key].shape != tensor.shape:
            raise ValueError(
                f"{source}: key {key} has shape {tuple(state[key].shape)}, the model needs {tuple(tensor.shape)}{fit}"
            )
        if not state[key].is_floating_point():
            raise ValueError(f"{source}: key {key} holds numbers of type {state[key].dtype}, weights are floating")
    unused = sorted(set(state) - set(own))
    if unused:
        raise ValueError(f"{source}: the model has no place for {', '.join(unused[:5])}{fit}")
    return state


def _built(description: Description, checkpoint: Checkpoint) -> SeqTrack:
    """The model of a description with the weights of its file."""
    source = checkpoint.source
    check_sizes(description, checkpoint.state, source)
    try:
        with torch.device("meta"), _NoStart():
            outline = build_model(description.tokenizer, description.model)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    except Exception as error:  # a foreign description can fail in any way
        reason = shown(" ".join(str(error).split()), 200)
        raise ValueError(
            f"{source}: the model of its description cannot be built ({type(error).__name__}: {reason})"
        ) from error
    state, own = _matched(outline.state_dict(), checkpoint), outline.state_dict()
    if {name for name, _ in outline.named_buffers()} - set(own):  # computed when it is built: no file holds these
        model = build_model(description.tokenizer, description.model)
        fill(model, checkpoint)
        return model
    # not to_empty, whose empty_like of a meta tensor makes torch import its compiler: 150 MB, a second
    outline.load_state_dict({key: state[key].to(one.dtype).contiguous() for key, one in own.items()}, assign=True)
    return outline


class _NoStart(TorchFunctionMode):
    """Leaves out the random weights that models start from: on "meta", torch would import its compiler for them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", "") == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def export_official(model: SeqTrack, path: str | Path, *, epoch: int = 500) -> None:
    """Write a model as an official checkpoint, which the official code and torch.load(weights_only=True) read.

    The official configuration file must describe the same model; a training-only dense head is left out.

    Raises:
        ValueError: the official code has no such model.
    """
    encoder, decoder = model.encoder, model.decoder
    hindrances = {
        f"model.encoder is a {type(encoder).__name__}, not a plain ViT": type(encoder) is not ViTEncoder,
        "model.encoder.joint=false": not encoder.joint,
        "model.decoder.bidirectional=true": decoder.bidirectional and decoder.parallel is None,
        f"model.decoder.parallel={decoder.parallel}": decoder.parallel is not None,
        f"model.decoder.past={decoder.past}": decoder.past > 0,
        "model.map_equal_widths=true": model.apply_linear and encoder.width == decoder.width,
    }
    stopped = [name for name, hinders in hindrances.items() if hinders]
    if stopped:
        raise ValueError(f"the official code has no such model: {'; '.join(stopped)}")
    state = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("dense.")}
    content = {
        "epoch": epoch,
        "actor_type": "SeqTrackActor",
        "net_type": "SEQTRACK",
        "net": to_official(state),
        "net_info": None,
        "constructor": None,
    }
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def export_compact(
    checkpoint: str | Path, path: str | Path, *, average: Sequence[str | Path] = (), storage: Storage = "int8"
) -> None:
    """Write a checkpoint of ours as a small safetensors file that `load_model` reads; see models/quantised.py.

    The average of the weights where there is one; the training-only dense head stays, which is small.

    Args:
        checkpoint: of which model and tracker are described in the file.
        path: the file to write.
        average: further checkpoints of the same model; the mean of all weights is written (Wortsman et al. 2022, "Model
            soups": better than each where all were trained from one start).
        storage: of the matrices.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: a checkpoint that does not describe itself, or one of another model.
    """
    read = read_checkpoint(checkpoint)
    if read.description is None:
        raise ValueError(f"{read.source} has no description of its model; give a checkpoint that training wrote")
    encoder = read.description.model.get("encoder")
    model = {
        **read.description.model,
        **({"encoder": {**encoder, "pretrained": False}} if isinstance(encoder, Mapping) else {}),
    }
    states = [read.state]
    for other in map(read_checkpoint, average):
        if {name: tensor.shape for name, tensor in other.state.items()} != {k: v.shape for k, v in read.state.items()}:
            raise ValueError(f"{other.source} is of another model than {read.source}: their weights have no mean")
        states.append(other.state)
    mean = {name: sum(state[name].double() for state in states) / len(states) for name in read.state}
    description = {"format": FORMAT, **read.description._asdict(), "model": model}
    state = {name: cast(Tensor, mean[name]).to(tensor.dtype) for name, tensor in read.state.items()}
    save_compact(path, state, storage=storage, description=description)


def _official_names(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """A bare state dict by our names under the official ones, to see which model it is."""
    state = checkpoint.state
    try:
        official = to_official(state)
        height, width = state["linear.weight"].shape
        if height == width:
            raise RuntimeError(f"encoder and decoder have the same width {width}: is model.map_equal_widths set?")
    except (KeyError, RuntimeError, IndexError, ValueError) as error:
        raise ValueError(
            f"{checkpoint.source} has no description, and its tensors fit no official model ({error}); give the "
            "checkpoint that training wrote (.ckpt)"
        ) from error
    return official


def _unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefix that all of them share: `net.` of our training, `module.` of data parallelism."""
    for prefix in ("net.", "module."):
        if state and all(key.startswith(prefix) for key in state):
            return {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state
