"""How long a run is, in samples, and what follows from it: steps, epochs, batch per device, accumulation."""

from dataclasses import dataclass

from seqtrack_lit.checks import whole


@dataclass(frozen=True)
class TrainingLength:
    """The length of a training in samples, independent of the machine.

    Args:
        samples: samples of the whole training.
        epoch_samples: samples between two validations.
        global_batch: samples of one optimizer step, over all devices and accumulated batches.
        devices: processes that train together.
        device_batch: samples a device takes at once; None: global_batch / devices, nothing accumulated.

    Epochs are whole: `samples` is rounded to a whole number of them, an epoch down to whole optimizer steps.

    Raises:
        ValueError: a value out of range, or batches that do not divide.
    """

    samples: int
    epoch_samples: int
    global_batch: int
    devices: int = 1
    device_batch: int | None = None

    def __post_init__(self) -> None:
        whole("train", 1, samples=self.samples, epoch_samples=self.epoch_samples)
        whole("train", 1, global_batch=self.global_batch, devices=self.devices)
        if self.device_batch is not None:
            whole("train", 1, device_batch=self.device_batch)
        parts = self.devices * (self.device_batch or 1)
        if self.global_batch % parts:
            each = "" if self.device_batch is None else f" x train.device_batch = {self.device_batch}"
            lower = max(parts, self.global_batch // parts * parts)
            raise ValueError(
                f"train.global_batch = {self.global_batch} is no multiple of {self.devices} device(s){each}; "
                f"the nearest are {lower} and {lower + parts}"
            )
        if self.samples < self.global_batch:
            raise ValueError(
                f"train.samples = {self.samples} is less than one batch (train.global_batch = {self.global_batch})"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps between two validations."""
        return max(1, min(self.samples, self.epoch_samples) // self.global_batch)

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return max(1, round(self.samples / self.samples_per_epoch))

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    @property
    def samples_per_epoch(self) -> int:
        """Samples that will really be drawn between two validations."""
        return self.steps_per_epoch * self.global_batch

    @property
    def total(self) -> int:
        """Samples that will really be drawn."""
        return self.steps * self.global_batch

    @property
    def batch(self) -> int:
        """Samples a device takes at once."""
        return self.device_batch or self.global_batch // self.devices

    @property
    def accumulate(self) -> int:
        """Batches whose gradients are summed before a step."""
        return self.global_batch // (self.devices * self.batch)

    def __str__(self) -> str:
        return (
            f"{self.total:,} samples = {self.epochs:,} epochs x {self.steps_per_epoch:,} steps x batch "
            f"{self.global_batch} ({self.devices} device(s) x {self.batch} x {self.accumulate} accumulated)"
        )
