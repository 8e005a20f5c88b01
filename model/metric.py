"""How scores are judged: functions on one batch, and accumulators that are exact over a whole data set.

A metric is a sum and a count: the mean of batch means is wrong as soon as the last batch is short. A function
named in the config's `metrics` is wrapped in `MeanOverSamples`, a metric of torchmetrics in `TorchMetric`; the
trainer holds them in a `MetricSet` and need not know which is which. Nothing here waits for the device before
`compute`. Whether higher is better is not known here.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from torchmetrics import Metric  # its import takes a second, and only the annotation needs it


def accuracy(output_NK: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    """Fraction of the batch whose highest score is the target's, 0 to 1; of equal scores the first class wins.

    Raises:
        ValueError: the targets are not one class index for each sample.
    """
    _require_class_indices(output_NK, target_N)
    return _mean(output_NK.argmax(dim=1) == target_N)


def top_k_acc(output_NK: torch.Tensor, target_N: torch.Tensor, k: int = 3) -> torch.Tensor:
    """Fraction of the batch whose target is among the `k` highest scores, 0 to 1.

    With `k` at or above the number of classes it is 1, so that one config serves 2 classes and 1000.

    Raises:
        ValueError: `k` is below 1, or the targets are not one class index for each sample.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more, received {k}")
    _require_class_indices(output_NK, target_N)
    top_Nk = output_NK.topk(min(k, output_NK.shape[1]), dim=1).indices
    return _mean((top_Nk == target_N[:, None]).any(dim=1))


class Accumulator(Protocol):
    """What the trainer asks of a metric, wherever it comes from."""

    name: str

    def to(self, device: torch.device | str) -> None:
        """Moves what was summed."""

    def update(self, output_NK: torch.Tensor, target_N: torch.Tensor) -> None:
        """Adds one batch of any size, without waiting for the device."""

    def compute(self) -> float:
        """The value over everything added since the last reset; nan over nothing."""

    def reset(self) -> None:
        """Forgets everything added."""

    def state_dict(self) -> dict[str, Any]:
        """What was added, as plain data."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""


class MeanOverSamples:
    """The mean of a batch-mean function over all samples, whatever the sizes of the batches.

    `total` (a scalar tensor) and `num_samples` are all it holds: added up over several processes they give the
    metric over all of them.

    Args:
        function: `(output_NK, target_N)` to the mean over the batch: a scalar tensor or a float.
        name: under which the value is reported.

    >>> mean = MeanOverSamples(accuracy, "accuracy")
    >>> mean.update(torch.eye(3), torch.tensor([0, 1, 2]))
    >>> mean.update(torch.eye(3)[:1], torch.tensor([2]))
    >>> mean.compute()
    0.75
    """

    total: torch.Tensor
    num_samples: int

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor | float], name: str) -> None:
        self.function = function
        self.name = name
        self.reset()

    def to(self, device: torch.device | str) -> None:
        """Moves the sum; needed only where it is read before the first batch, as `update` follows the output."""
        self.total = self.total.to(device, dtype=_sum_dtype(torch.device(device)))

    def update(self, output_NK: torch.Tensor, target_N: torch.Tensor) -> None:
        """Adds one batch; an empty one changes nothing.

        Raises:
            ValueError: the function gave more than one number.
        """
        batch_size = len(output_NK)
        if batch_size == 0:
            return
        with torch.no_grad():
            value = self.function(output_NK, target_N)
        if isinstance(value, torch.Tensor):
            if value.numel() != 1:
                raise ValueError(f"metric '{self.name}' gave {value.numel()} numbers for a batch; one is needed")
            if value.device.type == "cpu":  # there a number is as exact, and each operation on tensors costs more
                value = value.item()
            else:
                value = value.detach().reshape(()).to(_sum_dtype(value.device))
            if self.num_samples == 0 and isinstance(value, torch.Tensor):
                self.total = torch.zeros((), dtype=value.dtype, device=value.device)
        self.total = self.total + value * batch_size
        self.num_samples += batch_size

    def compute(self) -> float:
        """The mean, nan of nothing. This is where the device is waited for."""
        return self.total.item() / self.num_samples if self.num_samples else math.nan

    def reset(self) -> None:
        self.total = torch.zeros((), dtype=torch.float64)
        self.num_samples = 0

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "num_samples": self.num_samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total, self.num_samples = state["total"].to(self.total.device), state["num_samples"]


class TorchMetric:
    """A metric of torchmetrics that gives one float and has a name of the caller's choice.

    Args:
        metric: accumulates by itself and, where torch.distributed runs, over all ranks in `compute`.
        name: under which the value is reported.
    """

    def __init__(self, metric: "Metric", name: str) -> None:
        self.metric = metric
        self.name = name

    def to(self, device: torch.device | str) -> None:
        """Moves the metric's state; it must be where the outputs are before the first update."""
        self.metric.to(device)

    def update(self, output_NK: torch.Tensor, target_N: torch.Tensor) -> None:
        """Adds one batch; an empty one changes nothing."""
        if len(output_NK) > 0:
            # Given raw scores, torchmetrics would decide batch by batch whether they are probabilities already.
            self.metric.update(output_NK.detach().softmax(1), target_N)

    def compute(self) -> float:
        """The value over everything added, nan over nothing.

        Raises:
            ValueError: the metric gives more than one number.
        """
        # A rank without samples must still take part in the exchange, or the others wait for it.
        if not self.metric.update_called and not _is_distributed():
            return math.nan
        value = self.metric.compute()
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"metric '{self.name}' gives a {type(value).__name__}; one number is needed")
        if value.numel() != 1:
            raise ValueError(
                f"metric '{self.name}' gives {value.numel()} numbers, a per-class result; give average='macro'"
            )
        return value.item()

    def reset(self) -> None:
        self.metric.reset()

    def state_dict(self) -> dict[str, Any]:
        values = {
            name: [one.clone() for one in value] if isinstance(value, list) else value.clone()
            for name, value in self.metric.metric_state.items()
        }
        return {"values": values, "num_updates": self.metric.update_count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state["values"].items():
            values = [one.to(self.metric.device) for one in value] if isinstance(value, list) else None
            setattr(self.metric, name, value.to(self.metric.device) if values is None else values)
        self.metric._update_count = state["num_updates"]
        self.metric._computed = None


class MetricSet:
    """Several accumulators that are fed together; the order given is the order reported.

    Raises:
        ValueError: two of them have one name.
    """

    def __init__(self, accumulators: Iterable[Accumulator]) -> None:
        self.accumulators = list(accumulators)
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubled:
            raise ValueError(f"two metrics are called '{doubled[0]}'; each needs a name of its own")

    @property
    def names(self) -> list[str]:
        return [accumulator.name for accumulator in self.accumulators]

    def to(self, device: torch.device | str) -> "MetricSet":
        """Moves all of them and gives back the set."""
        for accumulator in self.accumulators:
            accumulator.to(device)
        return self

    def update(self, output_NK: torch.Tensor, target_N: torch.Tensor) -> None:
        for accumulator in self.accumulators:
            accumulator.update(output_NK, target_N)

    def compute(self) -> dict[str, float]:
        """Each name with its value over everything added since the last reset."""
        return {accumulator.name: accumulator.compute() for accumulator in self.accumulators}

    def reset(self) -> None:
        for accumulator in self.accumulators:
            accumulator.reset()

    def state_dict(self) -> dict[str, Any]:
        """By name, for a checkpoint within an epoch."""
        return {accumulator.name: accumulator.state_dict() for accumulator in self.accumulators}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for accumulator in self.accumulators:
            accumulator.load_state_dict(state[accumulator.name])


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _sum_dtype(device: torch.device) -> torch.dtype:
    """float64, except on MPS, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def _mean(is_right_N: torch.Tensor) -> torch.Tensor:
    """Mean of booleans with so many digits that times N it is a whole number again; float32 loses it at 1/3."""
    return is_right_N.to(_sum_dtype(is_right_N.device)).mean()


def _require_class_indices(output_NK: torch.Tensor, target_N: torch.Tensor) -> None:
    """Other shapes would broadcast against the scores into a plausible wrong number."""
    if output_NK.ndim != 2 or target_N.shape != output_NK.shape[:1]:
        raise ValueError(
            f"scores (N, K) and targets (N,) are needed, received {tuple(output_NK.shape)} and "
            f"{tuple(target_N.shape)}; mixed targets (N, K) become classes by argmax(dim=1)"
        )
