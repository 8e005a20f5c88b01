"""From checked plans of a config to the objects of this room. Called by parse_config.py."""

import dataclasses

import torch
from torch import nn

from model.loss import WITH_WEIGHTS, Criterion
from model.metric import MeanOverSamples, MetricSet, TorchMetric
from model.pretrained import build_torchvision
from utils.config_plan import Plan
from utils.config_signature import is_library, parameters_of
from utils.config_tree import dotted
from utils.errors import ConfigError


def build_model(plan: Plan, *, pretrained: bool) -> nn.Module:
    """A model of ours, of a class or a function, or one of torchvision's builders with its head fitted.

    Args:
        plan: of the `arch` section.
        pretrained: the builder's `weights` are fetched, where the config asks for some.
    """
    if isinstance(plan.target, type):
        return plan.build()
    if not is_library(plan.target):
        return plan.build(make=plan.target)
    weights = plan.args.get("weights") if pretrained else None
    plan = dataclasses.replace(plan, args={**plan.args, "weights": weights})
    return plan.build(make=lambda **settings: build_torchvision(plan.target, **settings))


def build_criterion(plan: Plan) -> Criterion:
    """The loss of a plan.

    Raises:
        ConfigError: it does not give the mean over a batch, so that no mean over a data set could be told.
    """
    weight = plan.args.get("weight")
    if weight is not None and (plan.target in WITH_WEIGHTS or is_library(plan.target)):
        args = {**plan.args, "weight": torch.as_tensor(weight, dtype=torch.float32)}
        plan = dataclasses.replace(plan, target=WITH_WEIGHTS.get(plan.target, plan.target), args=args)
    criterion = Criterion(plan.build())
    try:
        criterion.weight(torch.zeros(1, dtype=torch.int64))
    except ValueError as error:
        raise ConfigError(str(error), dotted(plan.path)) from None
    return criterion


def build_metrics(plans: list[tuple[str, Plan]], num_classes: int) -> tuple[MetricSet, list[str]]:
    """The metrics, and lines on each whose `k` or `top_k` asks for more classes than there are and was cut to those."""
    accumulators: list[MeanOverSamples | TorchMetric] = []
    notes = []
    for name, plan in plans:
        if plan.target in WITH_WEIGHTS and plan.args.get("weight") is not None:
            raise ConfigError("a metric is a mean over images; weights are for the loss", dotted((*plan.path, "args")))
        parameters = parameters_of(plan.target)
        for key in ("k", "top_k"):
            wanted = plan.args.get(key, parameters[key].default if key in parameters else None)
            if isinstance(wanted, int) and wanted > num_classes:
                notes.append(f"metric {name}: {key} {wanted} cut to the {num_classes} classes that there are")
                plan = dataclasses.replace(plan, args={**plan.args, key: num_classes})
        if plan.args.get("num_classes", num_classes) != num_classes:
            message = f"{plan.args['num_classes']}, yet the data has {num_classes} classes; leave it out"
            raise ConfigError(message, dotted((*plan.path, "args", "num_classes")), "data_loader")
        built = plan.build(num_classes=num_classes)
        adapter = TorchMetric if isinstance(plan.target, type) else MeanOverSamples
        accumulators.append(adapter(built, name))
    return MetricSet(accumulators), notes
