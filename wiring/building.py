"""From a checked config to all that a run is made of, tried on the first images; nothing is written."""

import os
from dataclasses import dataclass

import torch
from torch import nn

from base.base_data_loader import BaseDataLoader
from base.base_model import count_trainable, is_made_for_images
from base.base_trainer import Learner
from base.class_balance import weigh_classes
from base.continuation import precision_before, require_continuable, require_same_data
from base.scores import checked_monitor, score_names
from logger.summary import data_in_words
from model.check import check_batch_of_one, check_judges, check_mixed_targets, check_model, choose_layout
from model.pretrained import load_weights
from parse_config import ConfigParser
from trainer.augment import augmentation_of
from trainer.groups import parameter_groups
from trainer.pixels import PixelsToInput, initial_images
from utils.command_line import ROOT
from utils.config_tree import get_by_path
from utils.device import choose_devices, describe, make_deterministic
from utils.errors import ConfigError
from utils.hardware import Precision, choose_precision, use_fast_kernels
from utils.optimizers import fused_if_possible
from utils.seed import seed_everything, seed_for
from utils.weights_file import load_weights_file


@dataclass
class Built:
    """What a run is made of, ready to start; nothing is written yet."""

    loaders: tuple[BaseDataLoader, BaseDataLoader | None]
    learner: Learner
    devices: list[torch.device]
    layout: torch.memory_format
    precision: Precision
    facts: dict[str, str]
    notes: list[str]
    remarks: list[str]
    data_changes: list[str]


def build(config: ConfigParser) -> Built:
    """Everything that training needs, tried on the first images."""
    options, seed = config.trainer_options, config["seed"]
    require_continuable(config)
    if config["deterministic"]:
        make_deterministic()
    devices, notes = choose_devices(config["device"], config["n_gpu"], by_command_line=config.args.device is not None)

    seed_everything(seed)
    train_loader: BaseDataLoader = config.init_obj("data_loader", seed=seed, training=True)
    valid_loader = train_loader.split_validation()
    changes = require_same_data(config, train_loader)
    model, gflops, facts, remarks = build_model(config, train_loader)
    if config.checkpoint is None and config["weights_file"] is None and is_made_for_images(model):
        model.initialize_from(initial_images(train_loader))
    layout = choose_layout(model, train_loader.first_image(), options.channels_last)
    precision = choose_precision(
        options.precision,
        devices[0],
        batch_gflops=gflops * train_loader.images_per_batch,
        before=precision_before(config),
    )
    use_fast_kernels(devices[0], asked=options.precision, deterministic=config["deterministic"])
    # Before the optimizer is built: some keep a state that lies where the parameters were then.
    model.to(device=devices[0], memory_format=layout)  # type: ignore[call-overload]
    learner, metric_notes = build_learner(config, model, len(train_loader.classes), valid_loader is not None)
    rehearse(learner, train_loader, devices[0])
    checked_monitor(options, score_names(learner.train_metrics.names, has_validation=valid_loader is not None))
    facts |= {"device": describe(devices[0]), "precision": str(precision)}
    facts |= {"data": data_in_words(train_loader, valid_loader)}
    notes = [*notes, *getattr(train_loader, "notes", [])]
    remarks = [*metric_notes, *remarks]
    return Built((train_loader, valid_loader), learner, devices, layout, precision, facts, notes, remarks, changes)


def build_model(
    config: ConfigParser, train_loader: BaseDataLoader
) -> tuple[nn.Module, float, dict[str, str], list[str]]:
    """The network, fitted to the data, perhaps with weights to start from; its GFLOPs an image; what to say of it."""
    image_CHW, num_classes = train_loader.first_image(), len(train_loader.classes)
    batches, epochs = config.trainer_options.len_epoch or len(train_loader), config.trainer_options.epochs
    steps = -(-batches // config.trainer_options.accumulate_steps) if config.interval == "step" else 1
    class_weights, remarks = weigh_classes(config, train_loader)
    config.offer(
        num_classes=num_classes,
        in_channels=image_CHW.shape[0],
        image_size=list(image_CHW.shape[1:]),
        epochs=epochs,
        max_lr=config.learning_rate,
        steps_per_epoch=steps,
        **class_weights,
    )
    remarks += config.remarks_on_schedule(epochs * steps)
    torch.manual_seed(seed_for(config["seed"], "model"))
    model = config.init_model(pretrained=config.checkpoint is None)
    gflops = check_model(model, image_CHW, num_classes)
    size = "x".join(str(side) for side in image_CHW.shape)
    facts = {
        "model": f"{type(model).__name__}, {count_trainable(model):,} trainable parameters, "
        f"{gflops:.3g} GFLOPs an image of {size}"
    }
    if config["weights_file"] is not None and config.checkpoint is None:
        path = ROOT / os.path.expanduser(config["weights_file"])
        if not path.is_file():
            raise ConfigError(f"{path}: no such file", "weights_file")
        weights, classes = load_weights_file(path)
        lines = load_weights(model, weights, refit_head=classes is not None and classes != train_loader.classes)
        facts["weights"] = f"{path}: {'; '.join(lines)}"
    return model, gflops, facts, remarks


def build_learner(
    config: ConfigParser, model: nn.Module, num_classes: int, has_validation: bool
) -> tuple[Learner, list[str]]:
    """What training changes or asks, and notes for the log."""
    groups = get_by_path(config.config, ("optimizer", "groups"), None) or ()
    plan, params = config.plans["optimizer"], [p for p in model.parameters() if p.requires_grad]
    written = {**plan.args, **{key: value for group in groups for key, value in group.items()}}
    fused = fused_if_possible(plan.target, written, params)
    optimizer = config.init_obj("optimizer", params=parameter_groups(model, groups), **fused)
    schedule = config.init_schedule(optimizer, has_validation=has_validation)
    (train_metrics, notes), (valid_metrics, _) = config.init_metrics(num_classes), config.init_metrics(num_classes)
    learner = Learner(model, config.init_criterion(), train_metrics, valid_metrics, optimizer, schedule)
    return learner, notes


def rehearse(learner: Learner, train_loader: BaseDataLoader, device: torch.device) -> None:
    """Shows the first images to transforms, model, loss and metrics before anything is written.

    Raises:
        UserError: one of them cannot work with what it gets.
    """
    num_classes = len(train_loader.classes)
    # Not as many images as classes: a loss that is made for other targets would take one for the other.
    batch = train_loader.first_batch(size=3 if num_classes == 2 else 2)
    for part in (learner.criterion, learner.valid_metrics):
        part.to(device)
    augmentation = augmentation_of(train_loader, PixelsToInput(train_loader.mean, train_loader.std, device))
    planned = augmentation.plan(batch)
    blank = torch.zeros(planned.inputs().shape, device=device)
    check_judges(learner.model, blank, batch[1].to(device), learner.criterion, learner.valid_metrics)
    if augmentation.mixes:
        check_mixed_targets(learner.criterion, planned.targets)
    if train_loader.last_batch_size == 1:
        check_batch_of_one(learner.model, blank[:1])
