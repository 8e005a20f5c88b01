"""Every type that a config can name is taken with its own defaults written out: nothing that is right is refused.

The menus are walked, so that a type which a library adds later is tried without a change here. What a config cannot
say at all is listed below with the reason, and the lists are held against the menus.
"""

import enum
import inspect
import json
from pathlib import Path

import pytest
import torch

from parse_config import NESTED, SECTIONS, ConfigParser
from utils.config_signature import REQUIRED, parameters_of
from utils.config_table import Table
from utils.config_tree import ABSENT
from utils.errors import ConfigError

EVERY_SECTION = {**SECTIONS, **NESTED}
EVERY_TYPE = [(section, name) for section, known in EVERY_SECTION.items() for name in known.table.menu()]
TRANSFORMS = ("transform", "eval_transform", "transforms")

# Sensible values of arguments that have no default, by type; "*" is for any type that takes such an argument.
NEEDED = {
    "*": {"task": "multiclass", "data_dir": "data/pictures"},
    "CsvDataLoader": {"csv_file": "data/table.csv"},
    "LinearCrossEntropyLoss": {"in_features": 8, "num_classes": 3},
    "MulticlassFBetaScore": {"beta": 2.0},
    "MulticlassPrecisionAtFixedRecall": {"min_recall": 0.5},
    "PrecisionAtFixedRecall": {"min_recall": 0.5},
    "MulticlassRecallAtFixedPrecision": {"min_precision": 0.5},
    "RecallAtFixedPrecision": {"min_precision": 0.5},
    "MulticlassSensitivityAtSpecificity": {"min_specificity": 0.5},
    "SensitivityAtSpecificity": {"min_specificity": 0.5},
    "MulticlassSpecificityAtSensitivity": {"min_sensitivity": 0.5},
    "SpecificityAtSensitivity": {"min_sensitivity": 0.5},
    "ChainedScheduler": {"schedulers": ["ConstantLR", {"type": "ExponentialLR", "args": {"gamma": 0.9}}]},
    "CosineAnnealingLR": {"T_max": 3},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "ExponentialLR": {"gamma": 0.9},
    "MultiStepLR": {"milestones": [1, 2]},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 3},
    "SequentialLR": {"schedulers": ["LinearLR", {"type": "StepLR", "args": {"step_size": 2}}], "milestones": [1]},
    "StepLR": {"step_size": 2},
    "CenterCrop": {"size": 32},
    "FiveCrop": {"size": 32},
    "RandomCrop": {"size": 32},
    "TenCrop": {"size": 32},
    "Resize": {"size": [32, 48]},
    "RandomResizedCrop": {"size": [32, 32]},
    "Compose": {"transforms": ["RandomHorizontalFlip", {"type": "RandomCrop", "args": {"size": 8}}]},
    "RandomApply": {"transforms": ["RandomVerticalFlip"]},
    "RandomChoice": {"transforms": ["RandomVerticalFlip"]},
    "RandomOrder": {"transforms": ["RandomVerticalFlip"]},
    "ConvertBoundingBoxFormat": {"format": "XYXY"},
    "GaussianBlur": {"kernel_size": [3, 5]},
    "JPEG": {"quality": [50, 90]},
    "LinearTransformation": {"transformation_matrix": [[1.0, 0.0], [0.0, 1.0]], "mean_vector": [0.0, 0.0]},
    "Normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    "Pad": {"padding": [1, 2, 3, 4]},
    "RandomAdjustSharpness": {"sharpness_factor": 2.0},
    "RandomAffine": {"degrees": [-10.0, 10.0]},
    "RandomPosterize": {"bits": 4},
    "RandomResize": {"min_size": 24, "max_size": 40},
    "RandomRotation": {"degrees": 15},
    "RandomShortestSize": {"min_size": [24, 32]},
    "RandomSolarize": {"threshold": 128.0},
    "ScaleJitter": {"target_size": [32, 32]},
    "SetClampingMode": {"clamping_mode": "soft"},
    "ToDtype": {"dtype": "float32"},
    "UniformTemporalSubsample": {"num_samples": 2},
    "BatchSampler": {"sampler": "random", "batch_size": 4},
    "SubsetRandomSampler": {"indices": [0, 2, 1]},
    "WeightedRandomSampler": {"weights": [0.5, 1, 2]},
}

# What cannot be described, by section and type, with the reason; and a part of the message that says so.
NOT_TAKEN = {
    **{
        (section, "LinearTransformation"): ("takes two tensors, one a matrix; only flat lists become tensors", "says: ")
        for section in TRANSFORMS
    },
    ("schedulers", "ReduceLROnPlateau"): (
        "watches a score, which no scheduler around it passes on",
        "does not support",
    ),
}

# Defaults that a config cannot write, with the reason.
_A_CLASS = "the default is a class, and there is no section for layers"
_BUILDER = "the builder of the model passes its own value, whatever the class behind it has as default"
NOT_WRITTEN = {
    ("maxvit_t", "activation_layer"): _A_CLASS,
    **{(f"shufflenet_v2_x{width}", "inverted_residual"): _A_CLASS for width in ("0_5", "1_0", "1_5", "2_0")},
    **{(f"swin_{size}", "downsample_layer"): _A_CLASS for size in ("t", "s", "b", "v2_t", "v2_s", "v2_b")},
    **{(f"vit_{size}", "norm_layer"): _A_CLASS for size in ("b_16", "b_32", "l_16", "l_32", "h_14")},
    **{(f"efficientnet_{size}", "norm_layer"): _BUILDER for size in ("b5", "b6", "b7", "v2_s", "v2_m", "v2_l")},
    **{(f"swin_{size}", "stochastic_depth_prob"): _BUILDER for size in ("t", "s", "b", "v2_t", "v2_s", "v2_b")},
    **{(f"resnext{size}", "groups"): _BUILDER for size in ("50_32x4d", "101_32x8d", "101_64x4d")},
    **{(f"resnext{size}", "width_per_group"): _BUILDER for size in ("50_32x4d", "101_32x8d", "101_64x4d")},
    **{(f"wide_resnet{size}_2", "width_per_group"): _BUILDER for size in (50, 101)},
}


def spec_in(section, spec):
    """A whole config with a spec where it belongs: `{"type", "args"}`, or a bare name."""
    loader = {"type": "ImageFolderDataLoader", "args": {"data_dir": "data/pictures", "batch_size": 4}}
    config = {
        "name": "defaults",
        "arch": {"type": "MLP", "args": {"hidden_widths": [8]}},
        "data_loader": loader,
        "optimizer": {"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}},
        "loss": "cross_entropy",
        "metrics": ["accuracy"],
        "trainer": {"epochs": 3},
    }
    if section in ("transform", "eval_transform", "batch_transform"):
        loader["args"][section] = [spec]
    elif section == "transforms":
        loader["args"]["transform"] = [{"type": "Compose", "args": {"transforms": [spec]}}]
    elif section in ("sampler", "collate_fn"):
        loader["args"][section] = spec
    elif section == "schedulers":
        config["lr_scheduler"] = {"type": "ChainedScheduler", "args": {"schedulers": [spec]}}
    elif section == "metrics":
        config["metrics"] = [spec]
    elif section == "trainer":
        config["trainer"] |= {"type": spec} if isinstance(spec, str) else spec
    else:
        config[section] = spec
    return config


def as_json(value):
    """A default the way a config writes it; TypeError where it cannot."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, torch.dtype):
        value = str(value).removeprefix("torch.")
    if isinstance(value, Path):
        value = str(value)
    return json.loads(json.dumps(value, allow_nan=False))


def defaults_of(section, name):
    """Every argument that a config may write for a type, with its default; sensible values for those without one."""
    known = EVERY_SECTION[section]
    target = known.table.find(name)
    leave_out = known.given | known.offered
    if inspect.isfunction(target):
        leave_out |= set(list(parameters_of(target))[: len(known.table.function_takes)])
    written = {}
    for key, parameter in parameters_of(target).items():
        if key not in leave_out and (name, key) not in NOT_WRITTEN and parameter.default not in (REQUIRED, ABSENT):
            written[key] = as_json(parameter.default)
        elif parameter.default is REQUIRED and key in NEEDED["*"]:
            written[key] = NEEDED["*"][key]
    return {**written, **NEEDED.get(name, {})}


def refusal(config):
    """What the checker says against a config; an empty text where it takes it."""
    try:
        ConfigParser(config)
    except ConfigError as error:
        return str(error)
    return ""


def needed_by(section, name):
    """Only what the type cannot do without."""
    parameters = parameters_of(EVERY_SECTION[section].table.find(name))
    values = NEEDED["*"] | NEEDED.get(name, {})
    # Nothing is filled in for an object inside another.
    alone = {"max_lr", "total_steps"} if (section, name) == ("schedulers", "OneCycleLR") else set()
    required = {key for key, parameter in parameters.items() if parameter.default is REQUIRED} | alone
    return {key: values[key] for key in parameters if key in required and key in values}


@pytest.mark.parametrize(("section", "name"), EVERY_TYPE, ids=[f"{section}-{name}" for section, name in EVERY_TYPE])
def test_a_type_is_taken_with_its_defaults_written_out_and_with_nothing_but_what_it_needs(section, name):
    needed = needed_by(section, name)

    said = [
        refusal(spec_in(section, {"type": name, "args": defaults_of(section, name)})),
        refusal(spec_in(section, {"type": name, "args": needed} if needed else name)),
    ]

    if (section, name) in NOT_TAKEN:
        assert all(NOT_TAKEN[section, name][1] in text for text in said)
    else:
        assert said == ["", ""]


def test_the_menus_hold_what_the_libraries_have():
    """Else a menu that lost half of its types would pass all of the above."""
    sizes = {section: len(known.table.menu()) for section, known in EVERY_SECTION.items()}

    assert sizes["arch"] >= 80
    assert sizes["optimizer"] >= 12
    assert sizes["lr_scheduler"] == sizes["schedulers"] >= 12
    assert sizes["loss"] >= 20
    assert sizes["metrics"] >= 40
    assert all(sizes[section] >= 50 for section in TRANSFORMS)
    assert sizes["data_loader"] == 6
    assert sizes["sampler"] == 9
    assert sizes["batch_transform"] == 5
    assert set(sizes) == {
        *("arch", "data_loader", "optimizer", "loss", "metrics", "lr_scheduler", "trainer"),
        *(*TRANSFORMS, "batch_transform", "sampler", "collate_fn", "schedulers"),
    }


def test_the_lists_name_only_types_of_the_menus_and_arguments_that_they_have():
    parameters = {name: parameters_of(EVERY_SECTION[section].table.find(name)) for section, name in EVERY_TYPE}
    named = [(name, key) for name, values in NEEDED.items() if name != "*" for key in values]

    unknown = [pair for pair in (*named, *NOT_WRITTEN) if pair[1] not in parameters.get(pair[0], {})]

    assert unknown == []
    assert set(NOT_TAKEN) <= set(EVERY_TYPE)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *(("efficientnet_v2_s", "norm_layer"), ("swin_t", "stochastic_depth_prob"), ("resnext50_32x4d", "groups")),
        *(("resnext50_32x4d", "width_per_group"), ("wide_resnet50_2", "width_per_group")),
    ],
)
def test_what_is_listed_as_not_written_is_refused_with_a_reason(name, key):
    default = as_json(parameters_of(SECTIONS["arch"].table.find(name))[key].default)

    said = refusal(spec_in("arch", {"type": name, "args": {key: default}}))

    assert f"arch.args.{key}: {name} says: " in said


def test_a_default_that_is_no_json_is_noticed():
    with pytest.raises(TypeError):
        as_json(parameters_of(SECTIONS["arch"].table.find("vit_b_16"))["norm_layer"].default)


def test_a_type_that_is_neither_taken_nor_listed_is_noticed(monkeypatch):
    """The way in which the test over all types fails, when a library adds something that JSON cannot say."""
    monkeypatch.delitem(NEEDED, "StepLR")

    said = refusal(spec_in("lr_scheduler", {"type": "StepLR", "args": defaults_of("lr_scheduler", "StepLR")}))

    assert "StepLR needs 'step_size'" in said


@pytest.mark.parametrize("section", [*SECTIONS, *NESTED])
def test_a_menu_is_of_one_kind(section):
    table = EVERY_SECTION[section].table

    assert isinstance(table, Table)
    assert all(callable(table.find(name)) for name in table.menu())
