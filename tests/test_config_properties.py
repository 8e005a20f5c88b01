"""Whatever a config or the command line says: it is taken, or a ConfigError says why not; and what is taken is built.

Random JSON goes into every slot. Where the checker is content, the constructors must be too.
"""

import contextlib
import copy
import json
import resource
import time
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base.base_trainer import TrainerOptions
from base.run_plan import TOP_LEVEL
from parse_config import NESTED, SECTIONS, ConfigParser
from utils.command_line import CustomArgs, Parser
from utils.config_plan import Plan
from utils.config_signature import parameters_of
from utils.config_tree import set_by_path
from utils.errors import ConfigError, UserError

# The same examples each time, and no time limit on one: a loaded machine must not fail a test.
QUIETLY = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FEWER = settings(QUIETLY, max_examples=30)
LIMIT_S = 20  # of processor time for one config; all take far less
FLAGS = [
    CustomArgs(["--lr"], float, "optimizer.args.lr"),
    CustomArgs(["--bs", "--batch_size"], int, "data_loader.args.batch_size"),
]

NUMBERS = [0, 1, -1, 2, 3, 5, 100, 10**6, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 10**300]
NUMBERS += [0.0, -0.0, 0.1, 0.5, 0.9, 1.0, 1.5, -0.1, 1e-320, 1e30, 1e308, -1e308]
TEXTS = [
    "",
    "a",
    "0.1",
    "true",
    "null",
    "nan",
    "mean",
    "sum",
    "none",
    "min",
    "max",
    "macro",
    "micro",
    "cos",
    "exp_range",
]
TEXTS += [
    "float32",
    "uint8",
    "has_mps",
    "_dynamo",
    "cuda",
    "../x",
    "/dev/null",
    "~nobody-of-that-name",
    "${name}",
    "${",
    "%s",
]
TEXTS += ["\0", "\n", "\u202e", "\u00e9", "__class__", "StepLR", "RandomHorizontalFlip", "os.system", "x" * 3000]
OBJECTS = [
    {},
    {"type": "StepLR", "args": {"step_size": 1}},
    {"type": "OneCycleLR", "args": {"max_lr": 0.1}},
    {"type": "RandomCrop", "args": {"size": 3}},
    {"type": "RandomCrop", "args": {"size": -3}},
    {"type": "Compose", "args": {"transforms": ["RandomHorizontalFlip"]}},
    {"type": "BatchSampler", "args": {"sampler": "random", "batch_size": 2}},
    {"type": "os.system"},
    {"type": 1},
    {"args": {}},
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.integers(-20, 20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(TEXTS),
    st.text(max_size=6),
    st.sampled_from(OBJECTS).map(copy.deepcopy),
)
VALUES = st.one_of(
    LEAVES,
    st.lists(st.sampled_from([0, 1, 2, 3, -1, 0.5, 0.9, 1.0]), max_size=5),
    st.recursive(
        LEAVES,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*TEXTS, "type", "args"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
)

NEEDED = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1]},
    "ExponentialLR": {"gamma": 0.5},
    "CosineAnnealingLR": {"T_max": 3},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 1.0},
    "ChainedScheduler": {"schedulers": ["ConstantLR"]},
    "SequentialLR": {"schedulers": ["ConstantLR", "LinearLR"], "milestones": [1]},
    "LinearCrossEntropyLoss": {"in_features": 4, "num_classes": 3},
    "CsvDataLoader": {"csv_file": "data/table.csv"},
    "ImageFolderDataLoader": {"data_dir": "data/pictures"},
    "MulticlassFBetaScore": {"beta": 1.0},
    "RandomCrop": {"size": 8},
    "Resize": {"size": 8},
    "RandomResizedCrop": {"size": 8},
    "CenterCrop": {"size": 8},
    "Normalize": {"mean": [0.5], "std": [0.5]},
    "RandomRotation": {"degrees": 5},
    "RandomAffine": {"degrees": 5},
    "GaussianBlur": {"kernel_size": 3},
    "Pad": {"padding": 1},
    "RandomApply": {"transforms": ["RandomHorizontalFlip"]},
    "Compose": {"transforms": ["RandomHorizontalFlip"]},
    "RandomChoice": {"transforms": ["RandomHorizontalFlip"]},
    "ToDtype": {"dtype": "float32"},
    "RandomPosterize": {"bits": 3},
    "BatchSampler": {"sampler": "random", "batch_size": 4},
    "SubsetRandomSampler": {"indices": [0, 1]},
    "WeightedRandomSampler": {"weights": [1, 2]},
}
SAMPLE = {
    "loss": [
        *("CrossEntropyLoss", "NLLLoss", "BCEWithLogitsLoss", "MultiMarginLoss", "HuberLoss", "PoissonNLLLoss"),
        *("CTCLoss", "LinearCrossEntropyLoss", "TripletMarginLoss", "cross_entropy", "nll_loss"),
    ],
    "metrics": [
        *("MulticlassAccuracy", "MulticlassAUROC", "MulticlassF1Score", "MulticlassFBetaScore", "MulticlassCohenKappa"),
        *("MulticlassConfusionMatrix", "MulticlassCalibrationError", "MulticlassJaccardIndex", "accuracy", "top_k_acc"),
    ],
    "transform": [
        *("RandomCrop", "Resize", "RandomResizedCrop", "CenterCrop", "Normalize", "RandomRotation", "RandomAffine"),
        *("GaussianBlur", "Pad", "RandomApply", "Compose", "RandomChoice", "ToDtype", "RandomPosterize", "ColorJitter"),
        *("RandAugment", "RandomErasing", "ElasticTransform", "TrivialAugmentWide", "GaussianNoise"),
    ],
    "sampler": ["BalancedSampler", "BatchSampler", "RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler"],
    "optimizer": SECTIONS["optimizer"].table.menu(),
    "lr_scheduler": SECTIONS["lr_scheduler"].table.menu(),
    "schedulers": [name for name in NESTED["schedulers"].table.menu() if name != "ReduceLROnPlateau"],  # needs a score
    "data_loader": SECTIONS["data_loader"].table.menu(),
    "trainer": ["Trainer"],
    "arch": ["MLP", "MnistModel", "VGG", "squeezenet1_1", "resnet18"],
}


def loader(**args):
    return {"data_loader": {"type": "ImageFolderDataLoader", "args": {"data_dir": "data/pictures", **args}}}


def whole(**sections):
    return {
        "name": "random",
        "arch": {"type": "MLP", "args": {"hidden_widths": [8]}},
        **loader(batch_size=4),
        "optimizer": {"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}},
        "loss": "cross_entropy",
        "metrics": ["accuracy", {"type": "top_k_acc", "args": {"k": 2}}],
        "lr_scheduler": {"type": "StepLR", "args": {"step_size": 2}},
        "trainer": {"epochs": 3, "save_dir": "saved"},
    } | sections


def spec_in(section, spec):
    if section == "transform":
        return whole(**loader(transform=[spec]))
    if section in ("sampler", "collate_fn"):
        return whole(**loader(**{section: spec}))
    if section == "schedulers":
        return whole(
            lr_scheduler={"type": "SequentialLR", "args": {"schedulers": [spec, "ConstantLR"], "milestones": [2]}}
        )
    if section == "metrics":
        return whole(metrics=[spec])
    if section == "trainer":
        return whole(trainer={"epochs": 3, **(spec if isinstance(spec, dict) else {"type": spec})})
    return whole(**{section: spec})


@contextlib.contextmanager
def plainly(limit_kb=1_000_000):
    """Lets a UserError end the block, which must be one that a user can read; and it must be quick and small."""
    before_kb, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        yield
    except UserError as error:
        said = str(error)
        assert said.strip()
        assert len(said) < 100_000
        assert not any(
            word in said for word in ("Traceback", "pydantic", "0x7f", "NoneType: None", "object has no attribute")
        )
    assert time.process_time() - start < LIMIT_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < limit_kb


def checked(config):
    """The parser where the config is taken, else None."""
    before = copy.deepcopy(config)
    parser = None
    with plainly():
        parser = ConfigParser(config)
    assert config == before  # what was given is not changed
    return parser


def build(parser):
    """Everything that a config describes, as far as that is cheap, on real objects instead of stand-ins."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice on odd values
        optimizer = parser.init_obj("optimizer", params=[torch.nn.Parameter(torch.ones(3, 4))])
        parser.offer(epochs=parser.trainer_options.epochs, max_lr=parser.learning_rate, steps_per_epoch=10)
        if "lr_scheduler" in parser.plans:
            parser.init_obj("lr_scheduler", optimizer=optimizer)
        parser.plans["loss"].build()
        for _, plan in parser.metric_plans:
            if not is_large(plan.args):
                plan.build(num_classes=max(100, plan.args.get("top_k") or 0))
        for value in parser.plans["data_loader"].args.values():
            for plan in value if isinstance(value, list) else [value]:
                if isinstance(plan, Plan):
                    plan.build()
        arch = parser.plans["arch"]
        if not is_large(arch.args) and arch.args.get("weights") is None:
            arch.build(num_classes=3, in_channels=3, image_size=[32, 32])


def is_large(value):
    """Whether something of that size would be built: right, but not in a test."""
    if isinstance(value, dict | list | tuple):
        return any(map(is_large, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int | float) and abs(value) > 300


def taken_is_built(config):
    parser = checked(config)
    if parser is not None:
        build(parser)
    return parser


# --- every slot ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [*TOP_LEVEL, "_base_", "zzz"])
@FEWER
@given(value=VALUES)
def test_any_value_at_the_top_level_is_taken_or_refused(key, value):
    taken_is_built(whole(**{key: value}))


@pytest.mark.parametrize("key", [*TrainerOptions.__dataclass_fields__, "type", "args", "zzz"])
@FEWER
@given(value=VALUES)
def test_any_value_of_an_option_of_training_is_taken_or_refused(key, value):
    taken_is_built(whole(trainer={"epochs": 3, "save_dir": "saved", key: value}))


@pytest.mark.parametrize("section", [*SAMPLE, "collate_fn"])
@FEWER
@given(spec=VALUES)
def test_any_value_for_a_whole_section_is_taken_or_refused(section, spec):
    taken_is_built(spec_in(section, spec))


@pytest.mark.parametrize("section", [*SAMPLE, "collate_fn"])
@FEWER
@given(data=st.data())
def test_any_arguments_and_keys_of_a_type_are_taken_or_refused(section, data):
    name = data.draw(st.sampled_from({**SECTIONS, **NESTED}[section].table.menu()))
    keys = st.sampled_from(["type", "args", "name", "interval", "arg", "types", ""])
    spec = {"type": name, **data.draw(st.dictionaries(keys, VALUES, max_size=2))}

    checked(spec_in(section, spec))


ARGUMENTS = [
    (section, name, key)
    for section, names in SAMPLE.items()
    for name in names
    for key in parameters_of({**SECTIONS, **NESTED}[section].table.find(name))
]


@pytest.mark.parametrize("section", SAMPLE)
@settings(QUIETLY, max_examples=120)
@given(data=st.data())
def test_any_value_of_an_argument_is_refused_or_the_constructor_takes_it(section, data):
    _, name, key = data.draw(st.sampled_from([argument for argument in ARGUMENTS if argument[0] == section]))
    value = data.draw(VALUES)

    parser = checked(spec_in(section, {"type": name, "args": {**NEEDED.get(name, {}), key: value}}))

    if parser is not None:
        build(parser)


@pytest.mark.parametrize("section", SAMPLE)
@QUIETLY
@given(data=st.data())
def test_any_values_of_several_arguments_are_refused_or_the_constructor_takes_them(section, data):
    """Values that fit alone may not fit together, such as momentum 0 with nesterov."""
    name = data.draw(st.sampled_from(SAMPLE[section]))
    keys = [argument[2] for argument in ARGUMENTS if argument[:2] == (section, name)]
    plain = st.sampled_from(
        [0, 1, 2, 3, 0.0, 0.5, 1.0, -1, True, False, None, "none", "max", [1, 2], [0.9, 0.99], [0.5] * 3]
    )
    args = data.draw(st.dictionaries(st.sampled_from(keys), plain, max_size=4))

    parser = checked(spec_in(section, {"type": name, "args": {**NEEDED.get(name, {}), **args}}))

    if parser is not None:
        build(parser)


@QUIETLY
@given(data=st.data())
def test_any_value_anywhere_in_a_config_is_taken_or_refused(data):
    paths = [path for path in paths_of(whole()) if path]
    config = whole()
    for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3)):
        with contextlib.suppress(ConfigError):  # an earlier value left no such place
            config = set_by_path(config, path, data.draw(VALUES))

    taken_is_built(config)


@QUIETLY
@given(config=st.dictionaries(st.sampled_from([*TOP_LEVEL, "zzz"]) | st.text(max_size=4), VALUES, max_size=8))
def test_any_object_at_all_is_taken_or_refused(config):
    checked(config)


@QUIETLY
@given(data=st.data())
def test_any_value_at_any_depth_of_nested_objects_is_taken_or_refused(data):
    transforms = data.draw(
        st.recursive(
            LEAVES,
            lambda inner: st.builds(
                lambda name, items: {"type": name, "args": {"transforms": items}},
                st.sampled_from(["Compose", "RandomApply", "RandomChoice", "RandomOrder", "StepLR"]),
                st.lists(inner, max_size=3) | inner,
            ),
            max_leaves=6,
        )
    )

    taken_is_built(whole(**loader(transform=transforms)))


@QUIETLY
@given(value=VALUES, key=st.sampled_from(["name", "metrics", "trainer", "arch", "optimizer"]))
def test_a_file_with_any_value_is_read_or_refused(value, key, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(json.dumps(whole(**{key: value})), encoding="utf-8")

    with plainly():
        ConfigParser.from_args(Parser(prog="train.py").read(FLAGS, ["-c", str(file)]))


def paths_of(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_of(item, (*path, key))


# --- the command line ----------------------------------------------------------------------------------------------

KEYS = [".".join(map(str, path)) for path in paths_of(whole()) if path]
KEYS += [
    "metrics.9",
    "metrics.-1",
    "metrics.x",
    "loss.args.label_smoothing",
    "loss.type",
    "optimizer",
    "a..b",
    ".",
    "",
    "$schema",
]
KEYS += [
    "optimizer.args.lr.x",
    "name.x",
    "_base_",
    "x" * 2000,
    "\u00e9",
    "a.b.c.d.e.f.g",
    "${name}",
    "0",
    "0.0",
    "a." * 40,
]
RIGHT_SIDES = st.one_of(
    VALUES.map(json.dumps),
    st.sampled_from(
        [*TEXTS, "NaN", "Infinity", "[", "{", '"', "[1,", "{'a': 1}", "1e999", "9" * 5000, "01", "True", "None", "// a"]
    ),
    st.text(max_size=8),
)
WORDS = st.one_of(
    st.builds("{}={}".format, st.sampled_from(KEYS), RIGHT_SIDES),
    st.text(max_size=10),
    st.sampled_from(
        [
            *(
                "--lr",
                "--lr=0.1",
                "--lr=nan",
                "--lr=x",
                "--lr=1e400",
                "--bs",
                "--bs=-1",
                "--batch_size=2",
                "--bs=1.5",
                "--bs=9" * 3,
            ),
            *(
                "-d",
                "-d=cpu",
                "--device=cpu",
                "--allow",
                "--allow=os",
                "--allow=",
                "--allow=a.b",
                "--weights",
                "--",
                "---",
                "-",
            ),
            *(
                "--resume=",
                "-r",
                "--config=",
                "--nothing",
                "-x",
                "--l",
                "--conf",
                "-1",
                "a=1",
                "=",
                "==",
                "=1",
                "a=",
                "@file",
                "--lr=-0",
            ),
        ]
    ),
)


@settings(QUIETLY, max_examples=200)
@given(words=st.lists(WORDS, max_size=4))
def test_any_words_on_the_command_line_are_taken_or_refused(words, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "words.json"
    file.write_text(json.dumps(whole()), encoding="utf-8")

    with plainly():
        ConfigParser.from_args(Parser(prog="train.py").read(FLAGS, ["-c", str(file), *words]))


@QUIETLY
@given(key=st.sampled_from(KEYS), value=RIGHT_SIDES)
def test_one_word_is_taken_and_built_or_refused(key, value, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "word.json"
    file.write_text(json.dumps(whole()), encoding="utf-8")

    parser = None
    with plainly():
        parser = ConfigParser.from_args(Parser(prog="train.py").read(FLAGS, ["-c", str(file), f"{key}={value}"]))
    if parser is not None:
        build(parser)


# --- what a constructor refuses on real memory only -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "name", "key", "value"),
    [
        ("metrics", "MulticlassAUROC", "thresholds", -1),
        ("metrics", "MulticlassCohenKappa", "num_classes", -1),
        ("metrics", "MulticlassF1Score", "num_classes", -(2**63)),
        ("arch", "resnet18", "num_classes", -5),
        ("arch", "squeezenet1_1", "num_classes", -1),
    ],
)
def test_a_negative_size_is_refused_although_nothing_is_allocated(section, name, key, value):
    with pytest.raises(ConfigError, match=rf"{key}: {name} says: "):
        ConfigParser(spec_in(section, {"type": name, "args": {key: value}}))


# --- that the tests above can fail ---------------------------------------------------------------------------------


def test_the_config_that_all_start_from_is_taken_and_built():
    build(ConfigParser(whole()))


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, names in SAMPLE.items() for name in names])
def test_each_type_of_the_sample_is_taken_so_that_its_arguments_are_reached(section, name):
    alone = {"max_lr": 0.1, "total_steps": 9} if (section, name) == ("schedulers", "OneCycleLR") else {}

    build(ConfigParser(spec_in(section, {"type": name, "args": NEEDED.get(name, {}) | alone})))


def test_what_a_user_could_not_read_is_noticed():
    for said in ("", "Traceback (most recent call last)", "'NoneType' object has no attribute 'x'", "x" * 200_000):
        with pytest.raises(AssertionError), plainly():
            raise ConfigError(said)
    with pytest.raises(TypeError), plainly():
        raise TypeError
