"""A config in which every section is there, for the tests of what reads whole configs."""

import json

from utils.config_file import parse_json_text
from utils.config_layers import LayeredConfig


def whole(**sections):
    """A config in which every section is there; sections replace those of that name."""
    return {
        "name": "digits",
        "seed": 7,
        "arch": {"type": "MLP", "args": {"hidden_widths": [8]}},
        "data_loader": {"type": "MnistDataLoader", "args": {"data_dir": "data", "batch_size": 4, "transform": []}},
        "optimizer": {"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}},
        "loss": {"type": "cross_entropy", "args": {"label_smoothing": 0.1}},
        "metrics": ["accuracy", {"type": "top_k_acc", "args": {"k": 2}, "name": "top2"}],
        "lr_scheduler": {"type": "StepLR", "args": {"step_size": 2}, "interval": "epoch"},
        "trainer": {"epochs": 3, "save_dir": "saved", "monitor": "min val_loss"},
    } | sections


def unseeded(**sections):
    """The same without a seed where none is given: it is filled in."""
    return {key: value for key, value in whole(**sections).items() if key != "seed" or key in sections}


def in_file(config):
    """The config as it comes out of a file config.json."""
    document, layers = parse_json_text(json.dumps(config, indent=1), "config.json"), LayeredConfig()
    layers.lay(document.data, document)
    return layers
