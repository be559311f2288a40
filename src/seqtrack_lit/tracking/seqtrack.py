"""SeqTrack as a tracker: crop, predict four tokens, map the box back, renew templates (paper section 3.5).

Official: lib/test/tracker/seqtrack.py. In fp32 the tokens, boxes and update decisions are the official ones.

Letters: T templates, S search size, P past boxes.
"""

import copy
import inspect
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from seqtrack_lit.boxes import clip_xywh, difference, iou_rows, moved
from seqtrack_lit.checks import flag, number, one_of, path_part, shown, whole
from seqtrack_lit.crops import Crop, Image, Padding
from seqtrack_lit.models.checkpoint import load_model
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.inference_decoder import InferenceDecoder
from seqtrack_lit.models.prepacked import PrepackedNetwork, computes_int8, onednn_works
from seqtrack_lit.models.seqtrack import Forced, Prediction, SeqTrack
from seqtrack_lit.models.two_stage_encoder import TwoStageEncoder
from seqtrack_lit.tracking.cascade import Cascade
from seqtrack_lit.tracking.cuda_graph import CapturedGeneration
from seqtrack_lit.tracking.device import Precision, device_of, precision_of
from seqtrack_lit.tracking.template_update import Rule, TemplateUpdate
from seqtrack_lit.tracking.tracker import Estimate, check_first_box, check_image, not_started
from seqtrack_lit.weights import SMALL

BoxXywh = tuple[float, float, float, float]
_SAME = 0.5  # IoU from which the network's own box of the first frame is of the target


class SeqTrackTracker:
    """Follows one target with a SeqTrack model.

    Args:
        model: the network; its number of templates, sizes and past boxes are taken as they are. Put into evaluation
            mode; copied for another device or precision, never changed.
        name: name of the tracker, also of its results folder.
        search_factor: side of the search region / sqrt(w * h) of the previous box.
        template_factor: side of the template region / sqrt(w * h) of the target.
        window: Hann window: multiply the probabilities of the position tokens by it.
        update: how dynamic templates are renewed, see TemplateUpdate; with one template they never are.
        update_interval: frames between two possible updates.
        update_threshold: mean token probability in [0, 1] above which an update happens (official 0.6 is 0.015).
        clip_margin: pixels of the box that stay inside the image, and its smallest width and height.
        padding: "official" repeats the official code's lost last column, see crops.cut_window.
        device: where the model runs.
        dtype: precision of the network; the Hann window and boxes in pixels keep float64. "auto": bfloat16 where the
            device computes in it, else float32; "int8": as float32, but for the encoder's matrices; on CPUs only.
        cascade: mean token probability from which the tokens around the target alone decide, see cascade.Cascade; 1:
            never, which is the paper.
        expectation: bins on each side of a token whose mean is the coordinate, see `SeqTrack.generate`; 0: the paper.
        offset: share of what the network's own box of the first frame lacks that is added to all boxes; 0: the paper.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        model: SeqTrack,
        *,
        name: str = "seqtrack",
        search_factor: float = 4.0,
        template_factor: float = 4.0,
        window: bool = True,
        update: Rule = "likelihood",
        update_interval: int = 25,
        update_threshold: float = 0.015,
        clip_margin: float = 10.0,
        padding: Padding = "exact",
        device: str | torch.device = "cpu",
        dtype: Precision | torch.dtype = "float32",
        cascade: float = 1.0,
        expectation: int = 0,
        offset: float = 0.0,
    ) -> None:
        check_settings({key: value for key, value in locals().items() if key not in ("self", "model", "device")})
        self.name = name
        self.search_factor, self.template_factor = search_factor, template_factor
        self.clip_margin, self.padding = float(clip_margin), padding
        self.rule = TemplateUpdate(update, update_interval, update_threshold)
        self.device = device_of(device)
        self.dtype, self.layout = precision_of(dtype, self.device)
        parameter = next(model.parameters())
        if parameter.device != self.device or parameter.dtype != self.dtype:
            model = copy.deepcopy(model).to(self.device, self.dtype)
        self.model = model
        self.hann_window = model.tokenizer.hann_window().to(self.device) if window else None
        self._decoder = InferenceDecoder(model.decoder, model.memory_position)
        cuda = self.device.type == "cuda"
        self.expectation, self.offset = expectation, offset
        reading: dict[str, Any] = {
            "hann_window": self.hann_window,
            "decoder": self._decoder,
            "expectation": expectation,
        }
        self._captured = CapturedGeneration(model, **reading) if cuda else None
        self._prepacked = None if cuda else PrepackedNetwork(model, self.layout)
        self.cascade = Cascade(cascade, model) if cascade < 1 else None
        self._prepared: tuple[Tensor, Tensor] | None = None  # templates, and what the encoder prepared of them
        self.box: BoxXywh = (0.0, 0.0, 0.0, 0.0)
        self.frame = -1  # until init
        self.stored: Mapping[str, object] = {}  # the checkpoint's settings, before anything replaced them

    @property
    def settings(self) -> dict[str, object]:
        """What results depend on beside the weights, as plain values."""
        return {
            "search_factor": self.search_factor,
            "template_factor": self.template_factor,
            "window": self.hann_window is not None,
            "update": self.rule.rule,
            "update_interval": self.rule.interval,
            "update_threshold": self.rule.threshold,
            "clip_margin": self.clip_margin,
            "padding": self.padding,
            "dtype": self.layout or str(self.dtype).removeprefix("torch."),
            **({} if self.cascade is None else {"cascade": self.cascade.threshold}),
            **({"expectation": self.expectation} if self.expectation else {}),
            **({"offset": self.offset} if self.offset else {}),
        }

    def init(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> None:
        """Take the target from the first frame; the box (xywh, pixels) is used as given, neither rounded nor clipped.

        Raises:
            ValueError: no RGB uint8 image, or a box no tracker can start on, see tracker.check_first_box.
        """
        check_image(image)
        check_first_box(box_xywh, image)
        self.model.eval()
        self._decoder.refresh()  # the model may have been trained since
        if self._prepacked is not None:
            self._prepacked.refresh()
        x, y, w, h = (float(v) for v in np.asarray(box_xywh))
        self.box, self.frame, self.likelihood = (x, y, w, h), 0, 1.0
        template, box = self._template(self._crop(self.template_crop(), image))
        self.templates = template.repeat(1, self.model.templates, 1, 1, 1)  # 1 T 3 h w
        self.template_boxes = box.repeat(1, self.model.templates, 1)  # 1 T 4
        self.history: deque[BoxXywh] = deque([self.box] * self.model.past, maxlen=self.model.past)
        self._lack = np.zeros(4)
        if self.offset:
            crop, own = self.predict(image)
            given, found = np.array(self.box), np.array(self.to_image(crop, own.boxes[0].cpu()))
            inside = np.allclose(clip_xywh(self.box, image.shape[1], image.shape[0], self.clip_margin), given)
            if inside and iou_rows(found[None], given[None])[0] > _SAME:
                self._lack = self.offset * difference(found, given)

    def update(self, image: Image) -> Estimate:
        """The target's place in the next frame: box xywh in pixels, mean probability of its four tokens.

        Raises:
            ValueError: before init, no RGB uint8 image, or an output of the network is NaN or infinite.
        """
        check_image(image)
        if self.frame < 0:
            raise not_started()
        crop = self.search_crop()
        prediction = self.predict_near(image, crop)
        if prediction is None:
            _, prediction = self.predict(image)
        box, likelihoods = prediction.boxes[0].cpu(), prediction.likelihoods[0].cpu()  # one wait for both
        return self.advance(image, crop, box, likelihoods)

    def advance(
        self, image: Image, crop: Crop, box_cxcywh: Float[Tensor, "4"], likelihoods: Float[Tensor, "4"]
    ) -> Estimate:
        """`move`, and `renew` where it is due."""
        estimate = self.move(image, crop, box_cxcywh, likelihoods)
        if estimate.updated:
            self.renew(self._crop(self.template_crop(), image))
        return estimate

    def move(
        self, image: Image, crop: Crop, box_cxcywh: Float[Tensor, "4"], likelihoods: Float[Tensor, "4"]
    ) -> Estimate:
        """Take a box predicted in a crop of this image as the present one; `updated` says that `renew` is due.

        Raises:
            ValueError: the box or a likelihood is NaN or infinite.
        """
        if not (box_cxcywh.isfinite().all() and likelihoods.isfinite().all()):
            raise ValueError(
                f"the network's output for frame {self.frame + 1} is not finite: its weights are damaged, or "
                f"tracker.dtype={str(self.dtype).removeprefix('torch.')} overflows; take another checkpoint or float32"
            )
        height, width = image.shape[:2]
        self.box = clip_xywh(self.to_image(crop, box_cxcywh), width, height, self.clip_margin)
        self.frame += 1
        self.likelihood = float(likelihoods.mean())
        self.history.append(self.box)
        updated = self.model.templates > 1 and self.rule.is_due(self.frame, likelihoods)
        return Estimate(np.asarray(self.box), self.likelihood, updated)

    def to_image(self, crop: Crop, box_cxcywh: Float[Tensor, "4"]) -> BoxXywh:
        """A predicted box (on the CPU) in the pixels of the image, moved by what the first one lacked."""
        box = crop.to_image(box_cxcywh).numpy()  # float32 fractions to float64 pixels as the official code does it
        x, y, w, h = (moved(box, self._lack) if self._lack.any() else box).tolist()
        return x, y, w, h

    def renew(self, pixels: UInt8[Tensor, "1 3 h w"]) -> None:
        """Take the pixels of `template_crop` as the newest template."""
        # first in, first out behind the first template, which stays
        template, box = self._template(pixels)
        self.templates = torch.cat([self.templates[:, :1], self.templates[:, 2:], template], dim=1)
        self.template_boxes = torch.cat([self.template_boxes[:, :1], self.template_boxes[:, 2:], box], dim=1)

    def predict(
        self, image: Image, *, attention: bool = False, distributions: bool = False, forced: Forced = ()
    ) -> tuple[Crop, Prediction]:
        """The box in the search region around the present one, which stays; see `SeqTrack.generate` for the rest."""
        if self.frame < 0:
            raise not_started()
        crop = self.search_crop()
        past = self.past_tokens(crop) if self.model.past else None
        prediction = self.generate(
            self.prepared,
            self._crop(crop, image),
            past,
            attention=attention,
            distributions=distributions,
            forced=forced,
        )
        return crop, prediction

    @torch.inference_mode()
    def predict_in(self, image: Image, crops: Sequence[Crop], *, window: bool) -> Prediction:
        """The boxes in several regions of one image, with the Hann window or without."""
        network, count = self._network, len(crops)
        prepared = self.prepared
        pixels = torch.cat([normalise(self._crop(crop, image)) for crop in crops]).to(self.dtype)
        return network.generate_from(
            network.search_features(prepared.expand(count, *prepared.shape[1:]), pixels),
            hann_window=self.hann_window if window else None,
            past=torch.cat([self.past_tokens(crop) for crop in crops]) if self.model.past else None,
            decoder=self._decoder,
            expectation=self.expectation,
        )

    @torch.inference_mode()
    def predict_near(self, image: Image, crop: Crop) -> Prediction | None:
        """By the tokens around the present box alone; None without a cascade, and where that is not likely."""
        if self.cascade is None or self.likelihood < self.cascade.threshold:
            return None
        size = self.box[2] * crop.scale, self.box[3] * crop.scale
        pixels = self._crop(crop, image)
        return self.cascade(
            self._network, self.prepared, self._decoder, pixels, size, self.hann_window, self.expectation
        )

    @property
    def prepared(self) -> Float[Tensor, "1 ..."]:
        """The part of the network that depends on the templates alone, computed when they have changed."""
        if self._prepared is None or self._prepared[0] is not self.templates:
            with torch.inference_mode():
                self._prepared = self.templates, self._network.prepare_templates(self.templates, self.template_boxes)
        return self._prepared[1]

    @torch.inference_mode()
    def generate(
        self,
        prepared: Float[Tensor, "B ..."],
        pixels: UInt8[Tensor, "B 3 S S"],
        past: Int64[Tensor, "B P 4"] | None,
        *,
        attention: bool = False,
        distributions: bool = False,
        forced: Forced = (),
    ) -> Prediction:
        """Boxes of a batch of targets; all tensors lie on the device. See `SeqTrack.generate` for the rest."""
        if self._captured is not None and not (attention or distributions or forced):
            found = self._captured(prepared, pixels, past)
            tokens, boxes, likelihoods = (part.clone() for part in (found.tokens, found.boxes, found.likelihoods))
            return Prediction(tokens, boxes, likelihoods)
        network = self._network
        return network.generate_from(
            network.search_features(prepared, normalise(pixels).to(self.dtype)),
            hann_window=self.hann_window,
            past=past,
            decoder=self._decoder,
            expectation=self.expectation,
            attention=attention,
            distributions=distributions,
            forced=forced,
        )

    @property
    def _network(self) -> SeqTrack:
        """The model, on a CPU prepacked, unless autocast (validation in bf16) converts matrices by itself."""
        if self._prepacked is None or torch.is_autocast_enabled("cpu"):
            return self.model
        return self._prepacked.network

    def release(self) -> None:
        """Free the weights that tracking does not read (of the small tracker 50 MB); `model` computes nothing then."""
        if self._prepacked is not None:
            self._prepacked.release()

    @torch.inference_mode()
    def search_pixels(self, image: Image) -> Float[Tensor, "1 3 S S"]:
        """The search region around the present box, as the network takes it."""
        return normalise(self._crop(self.search_crop(), image)).to(self.dtype)

    def search_crop(self) -> Crop:
        """The search region around the present box."""
        return Crop.around(self.box, factor=self.search_factor, size=self.model.search_size)

    def past_tokens(self, crop: Crop) -> Int64[Tensor, "1 P 4"]:
        """The last P boxes as tokens in the coordinates of this search region, oldest first."""
        boxes = np.array(self.history, np.float64).reshape(-1, 4)
        # "S", the inverse of `to_image`: a box that stays where it is stays the same tokens
        return self.model.tokenizer.encode(torch.from_numpy(crop.to_crop(boxes, "S"))[None].float()).to(self.device)

    def template_crop(self) -> Crop:
        """The template region around the present box."""
        return Crop.around(self.box, factor=self.template_factor, size=self.model.template_size)

    @torch.inference_mode()
    def _template(self, pixels: UInt8[Tensor, "1 3 h w"]) -> tuple[Float[Tensor, "1 1 3 h w"], Float[Tensor, "1 1 4"]]:
        """The pixels of `template_crop` as one template, and the present box in it (cxcywh, fractions)."""
        box = torch.from_numpy(self.template_crop().to_crop(np.array([self.box]), "S"))  # 1 4
        # normalised on the device: uint8 travels, a quarter of the bytes
        return normalise(pixels).to(self.dtype)[:, None], box.float()[None].to(self.device)

    def _crop(self, crop: Crop, image: Image) -> UInt8[Tensor, "1 3 size size"]:
        """The pixels of a region on the device."""
        return torch.from_numpy(crop.cut(image, padding=self.padding)).to(self.device).permute(2, 0, 1)[None]


def load_seqtrack(
    path: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    official_config: str | Path | None = None,
    quick: bool = False,
    **overrides: object,
) -> SeqTrackTracker:
    """The paper's tracker from a checkpoint: ours, the official `SEQTRACK_ep0500.pth.tar` or a bare state dict.

    `long_term.load_tracker` is for own videos.

    Args:
        path: the checkpoint; None: the small tracker that comes with the package.
        device: where to run; None takes the GPU when there is one.
        official_config: official YAML of an official checkpoint that is not one of the four published models.
        quick: for own videos: int8 on a CPU that has instructions for it, of a network for which that was measured.
        overrides: arguments of SeqTrackTracker that replace the checkpoint's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint that can be read, or a wrong value.
    """
    check_settings(overrides)
    path = SMALL if path is None else path
    where = device_of(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_model(path, official_config=official_config)
    small = quick and isinstance(loaded.model.encoder, TwoStageEncoder) and where.type == "cpu"
    int8 = small and computes_int8() and onednn_works(torch.float32, "int8")
    settings: dict[str, Any] = {**loaded.tracker, **({"dtype": "int8"} if int8 else {}), **overrides}
    try:
        check_settings(settings)
    except ValueError as error:
        raise ValueError(f"{path}: its description of the tracker: {error}") from None
    tracker = SeqTrackTracker(loaded.model.to(where), device=where, **settings)
    tracker.stored = loaded.tracker
    return tracker


def check_settings(settings: Mapping[str, Any]) -> None:
    """Settings of a tracker, some or all of the arguments of SeqTrackTracker by name: known ones, of their type.

    Raises:
        ValueError: names the key as the configuration spells it (tracker.<name>).
    """
    known = [name for name in inspect.signature(SeqTrackTracker).parameters if name not in ("model", "device")]
    for key in settings:
        if key not in known:
            raise ValueError(f"tracker.{shown(key)[1:-1]}: there is no such setting; allowed: {', '.join(known)}")
    if "name" in settings:
        path_part("tracker.name", settings["name"])
    for key, high in {"search_factor": 100.0, "template_factor": 100.0, "clip_margin": 1000.0}.items():
        number("tracker", high=high, above=True, **({key: settings[key]} if key in settings else {}))
    one_of("tracker", get_args(Padding), padding=settings.get("padding", "exact"))
    flag("tracker", window=settings.get("window", True))
    TemplateUpdate(
        **{name: settings[f"update_{name}"] for name in ("interval", "threshold") if f"update_{name}" in settings}
    )
    TemplateUpdate(settings.get("update", "none"))
    precision_of(settings.get("dtype", "float32"), torch.device("cpu"))
    number("tracker", high=1, cascade=settings.get("cascade", 1.0), offset=settings.get("offset", 0.0))
    whole("tracker", 0, 10**6, expectation=settings.get("expectation", 0))
