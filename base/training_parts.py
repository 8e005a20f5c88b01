"""What a trainer is made of: the `trainer` section of the config, the objects that learn, and where it all goes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, with_config
from torch import nn
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from logger.recorder import Recorder
from utils.stop import StopRequest


@with_config(ConfigDict(extra="forbid"))
class CompileOptions(TypedDict, total=False):
    """What `torch.compile` is told; the modes that record CUDA graphs overwrite scores that are still needed."""

    mode: Literal["default", "max-autotune-no-cudagraphs"]
    backend: str
    fullgraph: bool


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class LookaheadOptions:
    """The `trainer.lookahead` of a config.

    Args:
        every: steps of the optimizer between two meetings of slow and fast weights.
        decay: share of the slow weights that is kept at a meeting, at the end of the run.
        power: the share grows with (step / steps of the run) ** power; 0 keeps it the same all the time.
    """

    every: Annotated[int, Ge(1)] = 5
    decay: Annotated[float, Ge(0), Le(1)] = 0.774
    power: Annotated[float, Ge(0)] = 3.0


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class EmaOptions:
    """The `trainer.ema` of a config.

    Args:
        decay: share of the average that each step leaves.
        warmup: less at first, min(decay, (1 + steps) / (10 + steps)), so that the first weights are soon forgotten.
    """

    decay: Annotated[float, Ge(0), Lt(1)] = 0.999
    warmup: bool = True


@dataclass(frozen=True)
class TrainerOptions:
    """The `trainer` section of a config.

    Args:
        epochs: how many in all, those of a continued run included.
        save_dir: models/ and log/ come below it.
        save_period: keep a checkpoint-epoch<N>.pth every so many epochs; last.pth and best.pth are always kept.
        keep_checkpoints: how many of those to keep; null keeps all.
        verbosity: of the screen: 0 warnings, 1 progress, 2 details.
        monitor: "min NAME", "max NAME" or "off"; NAME is a score such as val_loss, val_accuracy, train_loss.
        min_delta: an improvement must be larger than this.
        early_stop: epochs in a row without improvement after which to stop; null or 0 never stops early.
        tensorboard: write events.
        len_epoch: batches that count as an epoch; null is one pass over the training images.
        accumulate_steps: batches whose gradients make one step of the optimizer.
        max_grad_norm: gradients are scaled down to this 2-norm where they are longer; null leaves them.
        save_every_steps, save_every_minutes: write last.pth within epochs too, so often.
        max_minutes: end after so many minutes, with a checkpoint to continue from.
        lookahead: pull the weights back to slow copies of them every few steps; null does not.
        ema: judge, save and test a moving average of the weights; null does not.
        test_time_views: what validation and test look at: each image, that and its mirror image, or shifted ones too.
        precision: of matrix products and convolutions; "auto" is bf16 where that is known to be faster, else fp32.
        channels_last: how images and weights lie in memory; "auto" where the network can take it.
        compile: by torch.compile, or its options.
    """

    epochs: Annotated[int, Ge(1)]
    save_dir: Path = Path("saved")
    save_period: Annotated[int, Ge(1)] = 1
    keep_checkpoints: Annotated[int, Ge(1)] | None = 3
    verbosity: Literal[0, 1, 2] = 2
    monitor: str = "min val_loss"
    min_delta: Annotated[float, Ge(0)] = 0.0
    early_stop: Annotated[int, Ge(0)] | None = None
    tensorboard: bool = True
    len_epoch: Annotated[int, Ge(1)] | None = None
    accumulate_steps: Annotated[int, Ge(1)] = 1
    max_grad_norm: Annotated[float, Gt(0)] | None = None
    save_every_steps: Annotated[int, Ge(1)] | None = None
    save_every_minutes: Annotated[float, Gt(0)] | None = None
    max_minutes: Annotated[float, Gt(0)] | None = None
    lookahead: LookaheadOptions | None = None
    ema: EmaOptions | None = None
    test_time_views: Literal["none", "flip", "flip_and_shift"] = "none"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: Literal["auto"] | bool = "auto"
    compile: bool | CompileOptions = False


@dataclass
class Learner:
    """The objects that training changes or asks.

    Args:
        model: its state is saved without any wrapper around it.
        criterion: see model/loss.py.
        train_metrics, valid_metrics: two MetricSets of the same names.
        optimizer: over the model's trainable parameters.
        schedule: see trainer/schedule.py.
    """

    model: nn.Module
    criterion: Any
    train_metrics: Any
    valid_metrics: Any
    optimizer: torch.optim.Optimizer
    schedule: Any


@dataclass(frozen=True)
class RunContext:
    """Where and under which name training happens.

    Args:
        recorder: of the run.
        devices: the first holds the model; more than one share each batch.
        seed: the run's.
        layout: of images and weights in memory.
        precision: that was chosen; never "auto".
        stop: who asks the run to end.
        passport: plain data that every checkpoint carries, so that the file alone is enough to test and predict:
            the config, class names, preprocessing, versions.
    """

    recorder: Recorder
    devices: list[torch.device]
    seed: int
    layout: torch.memory_format = torch.contiguous_format
    precision: str = "fp32"
    stop: StopRequest = field(default_factory=StopRequest)
    passport: dict[str, Any] = field(default_factory=dict)
