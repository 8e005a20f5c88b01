"""Other people's weights: find the layer that gives the class scores, fit it, and load the rest.

Called where models are built from the config, for torchvision's builders and for files of weights. Nothing here
is special to one family of models; what is learned about a model, it is asked by its modules.
"""

from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any

from torch import nn
from torchvision.models import get_model_weights

from model.fit import missing_counters, plain_names, require_fit, shape_of
from utils.errors import DataError, some


def find_head(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer that gives the class scores, with its dotted name.

    It is the last Linear or Conv2d in the order in which modules were registered: right for every
    classifier of torchvision (SqueezeNet ends in a Conv2d, auxiliary heads are registered before the main one)
    and for any model that builds its layers in the order in which it uses them.

    Raises:
        ValueError: the model has no such layer inside it.
    """
    for name, module in reversed(list(model.named_modules())):
        if name and isinstance(module, nn.Linear | nn.Conv2d):
            return name, module
    raise ValueError(f"{type(model).__name__} has no Linear or Conv2d layer that could give class scores")


def fit_head(model: nn.Module, num_classes: int) -> bool:
    """Gives the model `num_classes` outputs, by a fresh last layer where it has another number.

    The auxiliary heads of GoogLeNet and Inception are fitted too. A fresh layer has torch's default
    initialisation and is where, and of which dtype, the old one was.

    Returns:
        Whether a layer was replaced; a head that fits keeps its weights.

    Raises:
        ValueError: fewer than one class, or no head to be found.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, received {num_classes}")
    replaced = False
    for name, head in _all_heads(model).items():
        if _num_outputs(head) == num_classes:
            continue
        parent_name, _, own_name = name.rpartition(".")
        setattr(model.get_submodule(parent_name), own_name, _like(head, num_classes))
        replaced = True
    if replaced and isinstance(getattr(model, "num_classes", None), int):
        # Some models of torchvision keep the number as an attribute.
        model.num_classes = num_classes  # type: ignore[assignment]
    return replaced


def build_torchvision(
    builder: Callable[..., nn.Module], *, weights: str | None, num_classes: int, **arguments: Any
) -> nn.Module:
    """A model of torchvision with `num_classes` outputs, new or with downloaded weights.

    Args:
        builder: a function such as `torchvision.models.resnet18`.
        weights: None for a new model, "DEFAULT", or a name such as "IMAGENET1K_V1".
        num_classes: K; downloaded weights keep their head only where it has K outputs already.
        **arguments: passed on to the builder.

    Raises:
        ValueError: the builder has no weights of that name.
        DataError: the weights could not be fetched, or what came is damaged.
    """
    if weights is None:
        return builder(weights=None, num_classes=num_classes, **arguments)
    known = get_model_weights(builder).__members__
    if weights not in known:
        raise ValueError(f"{builder.__name__} has no weights '{weights}'; it has {', '.join(known)}")
    try:
        model = builder(weights=weights, **arguments)
    except (OSError, HTTPException) as error:
        raise DataError(_not_fetched(builder, known[weights], error)) from error
    except RuntimeError as error:
        if "invalid hash value" not in str(error):
            raise
        raise DataError(_not_fetched(builder, known[weights], error)) from error
    fit_head(model, num_classes)
    return model


def load_weights(model: nn.Module, state_dict: Mapping[str, Any], *, refit_head: bool) -> list[str]:
    """Copies a state dict into the model, to train on from there.

    Everything must fit, save for the head: that one stays as it was initialised if `refit_head` says so or
    if the file's has another shape, as it does for other classes. Either all is copied or nothing. The prefixes
    that DistributedDataParallel and torch.compile put before names are taken off.

    Args:
        model: changed in place, on the device where it is.
        state_dict: names to tensors on any device.
        refit_head: the classes differ even where their number does not.

    Returns:
        Lines for the log: what was loaded and what was left fresh.

    Raises:
        CheckpointError: a report of what is missing, too much, or of another shape.
        ValueError: the model has no head.
    """
    own = model.state_dict()
    given = plain_names(state_dict, own)
    heads = _all_heads(model)
    head_keys = {key for key in [*own, *given] if key.rpartition(".")[0] in heads}
    head_differs = any(shape_of(own[key]) != shape_of(given[key]) for key in head_keys if key in own and key in given)
    fresh = head_keys if refit_head or head_differs else set()
    uncounted = missing_counters(own, given)
    require_fit(type(model).__name__, own, given, excused=fresh)

    loaded = [key for key in own if key in given and key not in fresh]
    # Through the model's own state dict, as it carries the versions that some layers of torchvision ask for.
    own.update({key: given[key] for key in loaded})
    model.load_state_dict(own)
    lines = [f"loaded {len(loaded)} of {len(own)} tensors of {type(model).__name__}"]
    if fresh:
        reason = "as asked" if refit_head else "the weights have another number of classes or inputs there"
        lines.append(f"left fresh: {some(sorted(heads))} ({reason})")
    if uncounted:
        lines.append(f"left at 0: {len(uncounted)} batch counters that the weights do not have")
    return lines


def _all_heads(model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """The head and those of auxiliary classifiers (`aux1`, `aux2`, `AuxLogits`), which serve in training only."""
    name, head = find_head(model)
    heads = {name: head}
    for child_name, child in model.named_children():
        if child_name.lower().startswith("aux"):
            name, head = find_head(nn.ModuleDict({child_name: child}))
            heads[name] = head
    return heads


def _num_outputs(head: nn.Linear | nn.Conv2d) -> int:
    return head.out_features if isinstance(head, nn.Linear) else head.out_channels


def _like(head: nn.Linear | nn.Conv2d, num_outputs: int) -> nn.Linear | nn.Conv2d:
    """A fresh layer that differs from `head` in its number of outputs only."""
    has_bias = head.bias is not None
    place: dict[str, Any] = {"device": head.weight.device, "dtype": head.weight.dtype}
    fresh: nn.Linear | nn.Conv2d
    if isinstance(head, nn.Linear):
        fresh = nn.Linear(head.in_features, num_outputs, bias=has_bias, **place)
    else:
        fresh = nn.Conv2d(
            head.in_channels,
            num_outputs,
            head.kernel_size,  # type: ignore[arg-type]
            stride=head.stride,  # type: ignore[arg-type]
            padding=head.padding,  # type: ignore[arg-type]
            dilation=head.dilation,  # type: ignore[arg-type]
            groups=head.groups,
            bias=has_bias,
            padding_mode=head.padding_mode,
            **place,
        )
    return fresh.train(head.training)


def _not_fetched(builder: Callable[..., nn.Module], weights: Any, error: Exception) -> str:
    return (
        f"the weights {weights.name} of {builder.__name__} could not be fetched from {weights.url} ({error}); "
        "weights=null trains from scratch, and a file of weights fetched elsewhere can be given instead"
    )
