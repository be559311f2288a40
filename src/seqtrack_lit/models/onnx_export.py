"""A SeqTrack as two ONNX graphs, for programs without torch: a template to its tokens, a search crop to a box.

    template.onnx   crop [1 h w 3] uint8, box [1 4]     ->  tokens [1 M C]
    search.onnx     crop [1 S S 3] uint8, templates [1 TM C] (, past [1 P 4])  ->  box, tokens, likelihoods [1 4] each

Crops are RGB as `Crop.cut` gives them; normalisation, the four steps of the decoder over its key/value cache, the Hann
window and the tracker's `expectation` are inside. Boxes are cxcywh, fractions of the crop. Each file holds, as JSON
under `seqtrack`, what a program needs to know beside: sizes, number of templates and the tracker's settings.
docs/export.md has such a program.

Letters: T templates, M tokens of one, C width, S side of the search crop, P past boxes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn

from seqtrack_lit.files import write_atomic
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.inference_decoder import InferenceDecoder
from seqtrack_lit.models.seqtrack import SeqTrack

OPSET = 18


class TemplateGraph(nn.Module):
    """A template crop, and the target in it for encoders that read boxes, to its tokens."""

    def __init__(self, model: SeqTrack) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, crop: UInt8[Tensor, "1 h w 3"], box: Float[Tensor, "1 4"]) -> Float[Tensor, "1 M C"]:
        """See the head of this file."""
        return self.encoder.prepare_templates(normalise(crop.permute(0, 3, 1, 2))[:, None], box[:, None])


class SearchGraph(nn.Module):
    """A search crop and the templates' tokens to a box: encoder, four steps of the decoder, window."""

    def __init__(self, model: SeqTrack, hann_window: Float64[Tensor, "bins"] | None, expectation: int = 0) -> None:
        super().__init__()
        self.model = model
        self.window, self.expectation = hann_window, expectation
        self.decoder = InferenceDecoder(model.decoder, model.memory_position, project=True)

    def forward(
        self,
        crop: UInt8[Tensor, "1 S S 3"],
        templates: Float[Tensor, "1 TM C"],
        past: Float[Tensor, "1 P 4"] | None = None,
    ) -> tuple[Float[Tensor, "1 4"], Int64[Tensor, "1 4"], Float[Tensor, "1 4"]]:
        """See the head of this file."""
        features = self.model.search_features(templates, normalise(crop.permute(0, 3, 1, 2)))
        tokens = None if past is None else self.model.tokenizer.encode(past)
        found = self.model.generate_from(
            features, hann_window=self.window, past=tokens, decoder=self.decoder, expectation=self.expectation
        )
        return found.boxes, found.tokens, found.likelihoods


def export_onnx(model: SeqTrack, folder: Path, settings: Mapping[str, object]) -> list[Path]:
    """Write `template.onnx` and `search.onnx` (float32; batch 1) into a folder.

    Args:
        model: the network, in float32 on the CPU.
        folder: made where it does not exist.
        settings: of the tracker, plain values (`SeqTrackTracker.settings`).

    Raises:
        ValueError: the extra `export` is not installed.
    """
    model = model.eval()
    size, side = model.template_size, model.search_size
    template = {"crop": torch.zeros(1, size, size, 3, dtype=torch.uint8), "box": torch.full((1, 4), 0.5)}
    with torch.no_grad():
        tokens = TemplateGraph(model)(*template.values())
    search = {
        "crop": torch.zeros(1, side, side, 3, dtype=torch.uint8),
        "templates": torch.cat([tokens] * model.templates, dim=1),
    }
    if model.past:
        search["past"] = torch.full((1, model.past, 4), 0.5)
    window = model.tokenizer.hann_window() if settings["window"] else None
    expectation = cast(int, settings.get("expectation", 0))
    facts = json.dumps(
        {
            "templates": model.templates, "template_size": size, "search_size": side, "past": model.past,
            "bins": model.tokenizer.bins, "order": model.tokenizer.order, "tracker": dict(settings),
        }
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, graph, inputs, outputs in (
        ("template.onnx", TemplateGraph(model), template, ["tokens"]),
        ("search.onnx", SearchGraph(model, window, expectation), search, ["box", "tokens", "likelihoods"]),
    ):
        write_atomic(folder / name, _to_onnx(graph, inputs, outputs, facts))
        written.append(folder / name)
    return written


def _to_onnx(graph: nn.Module, inputs: dict[str, Tensor], outputs: list[str], facts: str) -> bytes:
    """A module as the bytes of an ONNX file."""
    try:
        import onnx
        import onnxscript  # noqa: F401  torch asks for it
    except ModuleNotFoundError as error:
        raise ValueError(f"to=onnx needs {error.name}: pip install 'seqtrack-lit[export]'") from None
    with torch.no_grad():
        program = torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    written = program.model_proto
    onnx.helper.set_model_props(written, {"seqtrack": facts})
    onnx.checker.check_model(written)
    return cast(bytes, written.SerializeToString())
