"""A trained network out of its checkpoint: test.py, predict.py and export.py all open it here.

The file brings network, weights, class names and preprocessing; the images come from whoever asks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from base.continuation import precision_before
from model.check import check_model, choose_layout
from parse_config import ConfigParser
from trainer.compute import network_for
from trainer.pixels import PixelsToInput
from trainer.views import Kind, seen
from utils.device import choose_devices
from utils.errors import CheckpointError, ConfigError
from utils.hardware import Precision, choose_precision, use_fast_kernels
from utils.network_input import temperature_of


@dataclass(frozen=True)
class Trained:
    """A network with its trained weights on its device, and what belongs to it.

    Args:
        config: that the checkpoint came with, and what the command line changed in it.
        checkpoint: see `load_checkpoint`.
        model: in its training mode still; `network` and `to_input` are what is asked for scores.
        devices: the first holds the model.
        layout: of images and weights in memory.
        precision: that was chosen.
        notes: lines for the log on the choice of a device.
    """

    config: ConfigParser
    checkpoint: dict[str, Any]
    model: nn.Module
    devices: list[torch.device]
    layout: torch.memory_format
    precision: Precision
    notes: list[str]

    @property
    def classes(self) -> list[str]:
        """Names in the order of the network's scores."""
        return self.checkpoint["classes"]

    @property
    def temperature(self) -> float:
        """By which scores are divided before they become probabilities; 1 where the checkpoint was not calibrated.

        Raises:
            CheckpointError: it holds something else than a number above 0.
        """
        return temperature_of(self.checkpoint)

    def network(self, views: Kind | None = None) -> nn.Module:
        """Gives logits_NK of normalised images_NCHW, as validation computed them.

        Args:
            views: what is looked at of each image; `trainer.test_time_views` by default.
        """
        options = self.config.trainer_options
        network = network_for(self.model, self.devices, self.precision.name, options.compile)
        return seen(network, options.test_time_views if views is None else views)

    def to_input(self) -> PixelsToInput:
        """Makes the network's input of images_NCHW as the evaluation transforms give them."""
        pixels = self.checkpoint["input"]
        return PixelsToInput(pixels["mean"], pixels["std"], self.devices[0], self.layout)


def checkpoint_of(config: ConfigParser) -> dict[str, Any]:
    """What the file that -r names holds.

    Raises:
        ConfigError: none was named, or the command line asks for another network.
    """
    if config.checkpoint is None or config.resume is None:
        raise ConfigError("command line: give the trained checkpoint with -r, such as -r saved/models/best.pth")
    config.require_same_model(training=False)
    return dict(config.checkpoint)


def open_trained(config: ConfigParser, image_CHW: torch.Tensor) -> Trained:
    """Builds the network of a checkpoint and fills in its weights.

    Args:
        config: of the checkpoint.
        image_CHW: any image as the evaluation transforms give it; only its shape and type count.

    Raises:
        UserError: the image is not what the network takes, or the weights do not fit.
    """
    checkpoint, options = checkpoint_of(config), config.trainer_options
    devices, notes = choose_devices(config["device"], config["n_gpu"], by_command_line=config.args.device is not None)
    model = config.init_model(pretrained=False)
    check_model(model, image_CHW, len(checkpoint["classes"]))
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{config.resume}: its weights do not fit its own config: {reason}") from None
    layout = choose_layout(model, image_CHW, options.channels_last)
    # As in training: the scores of a checkpoint on this machine are those that its validation had.
    precision = choose_precision(options.precision, devices[0], before=precision_before(config))
    use_fast_kernels(devices[0], asked=options.precision, deterministic=config["deterministic"])
    model.to(device=devices[0], memory_format=layout)  # type: ignore[call-overload]
    return Trained(config, checkpoint, model, devices, layout, precision, notes)
