"""A section is checked with everything inside it; all problems are told, each by its own path."""

import sys
import traceback
from pathlib import Path

import pytest
import torch
from torch import optim
from torchvision.transforms import v2

from parse_config import NESTED, SECTIONS
from utils.config_check import Checker, Section
from utils.config_file import parse_json_text, parse_override
from utils.config_layers import LayeredConfig
from utils.config_plan import Plan
from utils.config_table import Table
from utils.config_tree import dotted
from utils.errors import ConfigError, DataError

ROOT = Path("/project")
EVERY_SECTION = {**SECTIONS, **{key: NESTED[key] for key in ("transform", "sampler", "collate_fn")}}


def plan(spec, section="optimizer", root=ROOT):
    """The plan of a section, and a line of each problem: its path and the message."""
    checker = Checker(LayeredConfig({section: spec}), NESTED, root)

    found = checker.plan(spec, (section,), EVERY_SECTION.get(section) or NESTED[section])

    return found, [f"{dotted(problem.path)}: {problem.message}" for problem in checker.config.problems]


def layered(text, *words, base="{}"):
    """A config that was read from base.json, config.json and words of the command line."""
    config = LayeredConfig()
    for document in (parse_json_text(base, "base.json"), parse_json_text(text, "config.json")):
        config.lay(document.data, document)
    for word in words:
        config.set(*parse_override(word), word)
    return config


def lines_of(config, section):
    """What a user is shown of each problem of one section."""
    Checker(config, NESTED, ROOT).plan(config.data[section], (section,), SECTIONS[section])
    return [config.text(problem) for problem in config.problems]


# --- a section ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["SGD", {"type": "SGD"}, {"type": "SGD", "args": None}, {"type": "SGD", "args": {}}])
def test_a_bare_name_and_a_type_without_arguments_are_the_same(spec):
    found, problems = plan(spec)

    assert problems == []
    assert found == Plan(("optimizer",), optim.SGD, {})


@pytest.mark.parametrize(
    "spec", [None, True, 0, 1.5, [], ["SGD"], {}, {"type": None}, {"type": 5}, {"type": ["SGD"]}, {"args": {}}]
)
@pytest.mark.parametrize("label", EVERY_SECTION)
def test_what_is_no_name_is_refused(label, spec):
    found, problems = plan(spec, label)

    assert found is None
    assert problems == [f'{label}: expected {{"type": NAME, "args": {{...}}}} or a name, got {spec!r}']


@pytest.mark.parametrize("name", ["os.system", "__import__", "Module", "\u0405GD", "SGD\n", "", "S" * 100_000])
@pytest.mark.parametrize("label", EVERY_SECTION)
def test_a_name_outside_the_table_is_one_short_problem(label, name):
    found, problems = plan({"type": name}, label)

    assert found is None
    assert len(problems) == 1
    assert problems[0].startswith(f"{label}.type: '{name[:80]}' is not a")
    assert len(problems[0]) < 250


@pytest.mark.parametrize(("name", "offers"), [("my_optimizers.Lion", True), ("Lion", False)])
def test_a_dotted_name_outside_the_table_is_told_how_a_package_is_allowed(name, offers):
    _, problems = plan(name)

    assert problems[0].startswith(f"optimizer: '{name}' is not an optimizer.")
    assert problems[0].endswith("A package of your own must be allowed: --allow PACKAGE") == offers


@pytest.mark.parametrize(
    ("label", "name"),
    [
        *(("transform", name) for name in ("ToTensor", "PILToTensor", "MixUp", "Lambda", "torchvision.x.ToTensor")),
        *(("metrics", name) for name in ("BinaryAccuracy", "MultilabelAUROC")),
        ("optimizer", "LBFGS"),
    ],
)
def test_a_type_that_makes_no_sense_here_is_refused_with_the_reason(label, name):
    found, problems = plan(name, label)

    assert found is None
    assert len(problems) == 1
    assert problems[0].startswith(f"{label}: '{name}' makes no sense here: ")
    assert len(problems[0]) > 60


@pytest.mark.parametrize("args", [[], False, 0, "", "lr=1", [1], 5])
def test_arguments_that_are_no_object_are_refused_also_where_they_are_empty(args):
    found, problems = plan({"type": "SGD", "args": args})

    assert found is None
    assert problems == [f"optimizer.args: expected an object, got {args!r}"]


def test_a_function_of_a_room_is_planned_without_the_parameters_that_it_is_called_with():
    found, problems = plan({"type": "top_k_acc", "args": {"k": 2}}, "metrics")
    _, refused = plan({"type": "top_k_acc", "args": {"output_NK": 1}}, "metrics")

    assert problems == []
    assert found.build()(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([1])) == 1.0
    assert refused == ["metrics.args.output_NK: is passed by the program; remove it from the config"]


def test_a_key_beside_type_and_args_is_refused_with_the_nearest_and_all_there_are():
    _, problems = plan({"type": "StepLR", "args": {"step_size": 1}, "intervall": "step", "arg": 1}, "lr_scheduler")

    assert problems == [
        "lr_scheduler.intervall: unknown key. Did you mean 'interval'? It takes: type, args, interval.",
        "lr_scheduler.arg: unknown key. Did you mean 'args'? It takes: type, args, interval.",
    ]


@pytest.mark.parametrize(
    ("spec", "path"), [({"type": "AdamWW"}, "optimizer.type"), ("AdamWW", "optimizer")], ids=["in full", "in short"]
)
def test_a_misspelt_type_is_told_with_the_nearest_where_it_is_written(spec, path):
    _, problems = plan(spec)

    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: 'AdamWW' is not an optimizer. Did you mean 'AdamW'")


def test_only_arguments_that_are_right_come_into_the_plan():
    found, problems = plan({"type": "SGD", "args": {"lr": "0.1", "momentum": 0.5, "weight": 1}})

    assert [line.partition(":")[0] for line in problems] == ["optimizer.args.lr", "optimizer.args.weight"]
    assert found.args == {"momentum": 0.5}


def test_a_problem_of_plain_data_says_nothing_of_where_the_type_is_from():
    _, problems = plan({"type": "SGD", "args": {"lr": "0.1"}})

    assert problems == ['optimizer.args.lr: should be a valid number, got "0.1"']


# --- objects inside arguments ------------------------------------------------------------------------------------


def test_objects_inside_arguments_are_planned_at_any_depth():
    spec = {
        "type": "Compose",
        "args": {"transforms": [{"type": "RandomApply", "args": {"transforms": ["RandomHorizontalFlip"], "p": 0.25}}]},
    }

    found, problems = plan(spec, "transform")
    built = found.build()

    assert problems == []
    assert isinstance(built, v2.Compose)
    assert isinstance(built.transforms[0], v2.RandomApply)
    assert built.transforms[0].p == 0.25
    assert isinstance(built.transforms[0].transforms[0], v2.RandomHorizontalFlip)


def test_a_problem_inside_arguments_is_told_by_its_whole_path():
    inner = [
        {"type": "RandomCrop", "args": {"sise": 3}},
        "NoSuch",
        {"type": "ToTensor"},
        {"type": "RandomErasing", "x": 1},
        "RandomCrop",
    ]

    _, problems = plan({"type": "Compose", "args": {"transforms": inner}}, "transform")

    assert [problem.partition(":")[0] for problem in problems] == [
        "transform.args.transforms.0.args.sise",
        "transform.args.transforms.1",
        "transform.args.transforms.2.type",
        "transform.args.transforms.3.x",
        "transform.args.transforms.4.args",
    ]


@pytest.mark.parametrize(
    ("transforms", "is_whole"),
    [
        (["RandomHorizontalFlip"], True),
        ([], True),
        (["NoSuch"], False),
        (["RandomHorizontalFlip", {"type": "NoSuch"}], False),
        ([None], False),
        (5, False),
    ],
)
def test_a_plan_knows_whether_something_inside_it_could_not_be_planned(transforms, is_whole):
    found, problems = plan({"type": "Compose", "args": {"transforms": transforms}}, "transform")

    assert found.is_whole == is_whole
    assert (problems == []) == is_whole


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"transform": "RandomHorizontalFlip"}, "transform: expected a list, got 'RandomHorizontalFlip'"),
        ({"transform": {"type": "RandomHorizontalFlip"}}, "transform: expected a list, got {'type'"),
        ({"transform": [None]}, "transform.0: expected {"),
        ({"transform": [["RandomHorizontalFlip"]]}, "transform.0: expected {"),
        ({"transform": 5}, "transform: expected a list, got 5"),
        ({"sampler": ["balanced"]}, "sampler: expected one object, not a list, got ['balanced']"),
        ({"sampler": 5}, "sampler: expected {"),
        ({"collate_fn": ["pad_to_largest"]}, "collate_fn: expected one object, not a list"),
        ({"collate_fn": None}, "collate_fn: must not be null"),
    ],
)
def test_a_list_where_one_object_is_wanted_is_refused_and_the_other_way_round(args, said):
    _, problems = plan({"type": "MnistDataLoader", "args": args}, "data_loader")

    assert len(problems) == 1
    assert problems[0].startswith(f"data_loader.args.{said}")


@pytest.mark.parametrize("args", [{"transform": None}, {"transform": []}, {"sampler": None}, {"eval_transform": None}])
def test_null_and_an_empty_list_stand_for_nothing_where_that_makes_sense(args):
    found, problems = plan({"type": "MnistDataLoader", "args": args}, "data_loader")

    assert problems == []
    assert found.args["data_dir"] == ROOT / "data"
    assert all(found.args[key] == value for key, value in args.items())


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("pictures", "/project/pictures"),
        ("/data/x", "/data/x"),
        ("~/x", "/home/ann/x"),
        ("~nobody_here/x", "/project/~nobody_here/x"),
        ("", "/project"),
    ],
)
def test_a_path_is_relative_to_the_project_also_where_it_is_a_default(monkeypatch, written, path):
    monkeypatch.setenv("HOME", "/home/ann")

    found, _ = plan({"type": "MnistDataLoader", "args": {"data_dir": written}}, "data_loader")
    silent, _ = plan({"type": "MnistDataLoader"}, "data_loader")

    assert found.args["data_dir"] == Path(path)
    assert silent.args["data_dir"] == Path("/project/data")


# --- who wrote it ------------------------------------------------------------------------------------------------


def test_a_problem_in_a_file_is_shown_with_its_line():
    config = layered('{\n    "optimizer": {"type": "SGD", "args": {"momentun": 0.9}}\n}')

    [lines] = lines_of(config, "optimizer")

    assert lines.split("\n") == [
        "config.json:2:43: optimizer.args.momentun: SGD has no 'momentun'. Did you mean 'momentum'? It takes: lr, "
        "momentum, dampening, weight_decay, nesterov, maximize, foreach, differentiable, fused.",
        '     2 |     "optimizer": {"type": "SGD", "args": {"momentun": 0.9}}',
        "       |                                           ^^^^^^^^^^",
    ]


def test_an_unknown_key_of_a_word_is_no_key_of_the_file():
    config = layered('{"lr_scheduler": {"type": "StepLR", "args": {"step_size": 1}}}', "lr_scheduler.intervall=step")

    [line] = lines_of(config, "lr_scheduler")

    assert line == (
        "command line: lr_scheduler.intervall=step: there is no 'intervall' in lr_scheduler. Did you mean 'interval'? "
        "It takes: type, args, interval."
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (False, "config.json:1:2: optimzer: unknown key. Did you mean 'optimizer'?\n     1 | {\"optimzer\": 1}\n"),
        (True, "command line: optimzer=1: there is no 'optimzer' in the config. Did you mean 'optimizer'?"),
    ],
    ids=["file", "word"],
)
def test_at_the_top_level_a_near_name_is_enough(word, said):
    config = layered("{}", "optimzer=1") if word else layered('{"optimzer": 1}')

    Checker(config, NESTED, ROOT).unknown_key(("optimzer",), ["name", "optimizer"])

    [problem] = config.problems
    assert config.text(problem).startswith(said)
    assert "It takes" not in problem.message


def test_at_the_top_level_without_a_near_name_all_keys_are_listed():
    config = layered('{"colour": 1}')

    Checker(config, NESTED, ROOT).unknown_key(("colour",), ["name", "optimizer"])

    assert [problem.message for problem in config.problems] == ["unknown key. It takes: name, optimizer."]


ADAM = '{"optimizer": {\n"type": "Adam",\n"args": {"betas": [0.9, 0.99], "lr": 0.1}\n}}'


def test_arguments_of_another_type_are_told_where_the_new_type_is_from():
    config = layered(ADAM, "optimizer.type=SGD")

    [lines] = lines_of(config, "optimizer")

    assert lines.startswith("config.json:3:10: optimizer.args.betas: SGD has no 'betas'.")
    assert lines.split("\n")[0].endswith("fused. (The type is from the command line: optimizer.type=SGD.)")


def test_a_wrong_argument_over_a_base_is_told_where_the_type_is_from():
    config = layered('{"optimizer": {"args": {"momentum": 1}}}', base=ADAM)

    [lines] = lines_of(config, "optimizer")

    assert lines.startswith("config.json:1:25: optimizer.args.momentum: Adam has no 'momentum'.")
    assert lines.split("\n")[0].endswith("(The type is from base.json:2:1.)")


@pytest.mark.parametrize(
    ("base", "text", "words"),
    [
        ("{}", ADAM.replace("betas", "beta"), ()),
        ("{}", ADAM, ("optimizer.args.beta=1",)),
        (ADAM.replace("betas", "beta"), '{"optimizer": {"args": {"eps": 0.1}}}', ()),
        (ADAM, '{"optimizer": {"type": "SGD", "args": {"beta": 1}}}', ()),
    ],
    ids=["one file", "a word on a file", "a base", "a section replaced"],
)
def test_who_could_see_the_type_is_not_told_where_it_is_from(base, text, words):
    lines = lines_of(layered(text, *words, base=base), "optimizer")

    assert len(lines) == 1
    assert "beta'" in lines[0]
    assert "The type is from" not in lines[0]


# --- one's own code ----------------------------------------------------------------------------------------------


@pytest.fixture
def own_room(tmp_path, monkeypatch):
    """`own_room("code")`: a package own_room with that code in own_room/mine.py, forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(code):
        (tmp_path / "own_room").mkdir()
        (tmp_path / "own_room/__init__.py").write_text("")
        (tmp_path / "own_room/mine.py").write_text(code)

    yield write
    for name in ("own_room", "own_room.mine"):
        sys.modules.pop(name, None)


def divide_by_nothing():
    return 1 / 0


def test_what_ones_own_code_raises_keeps_its_traceback_and_is_told_the_line():
    checker = Checker(layered('{\n  "loss": "mine"\n}'), NESTED, ROOT)

    with pytest.raises(ZeroDivisionError) as caught, checker.noting(("loss",)):
        divide_by_nothing()

    assert caught.value.__notes__ == ["This came of loss at config.json:2:3"]
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "divide_by_nothing"


def test_the_note_names_a_word_of_the_command_line():
    checker = Checker(layered('{"loss": "x"}', "loss=mine"), NESTED, ROOT)

    with pytest.raises(ZeroDivisionError) as caught, checker.noting(("loss",)):
        divide_by_nothing()

    assert caught.value.__notes__ == ["This came of loss at the command line: loss=mine"]


def test_one_place_is_noted_once_and_each_place_around_it_too():
    checker = Checker(layered('{"loss": {"type": "mine"}}'), NESTED, ROOT)

    around, inside, again = (
        checker.noting(("loss",)),
        checker.noting(("loss", "type")),
        checker.noting(("loss", "type")),
    )
    with pytest.raises(ZeroDivisionError) as caught, around, inside, again:
        divide_by_nothing()

    assert caught.value.__notes__ == [
        "This came of loss.type at config.json:1:11",
        "This came of loss at config.json:1:2",
    ]


@pytest.mark.parametrize("error", [ConfigError("x", "loss"), DataError("x"), KeyboardInterrupt()])
def test_what_is_no_mistake_in_code_gets_no_note(error):
    checker = Checker(layered('{"loss": "mine"}'), NESTED, ROOT)

    with pytest.raises(type(error)) as caught, checker.noting(("loss",)):
        raise error

    assert caught.value is error
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def mine(output, target): return 0\n1 / 0", ZeroDivisionError),
        ("import no_such_package_anywhere", ModuleNotFoundError),
        ("def mine(output, target, width: NoSuchName = 3): return 0", NameError),
        ("def mine(output, target, width: 'NoSuchName' = 3): return 0", NameError),
    ],
    ids=["fails", "imports what is not there", "annotation", "annotation as text"],
)
def test_a_broken_file_of_ones_own_is_no_problem_of_the_config(own_room, code, error):
    own_room(code)
    table = Table("a loss", ("own_room",), None, ("own_room",), function_takes=("output", "target"))
    checker = Checker(layered('{\n"loss": "mine"\n}'), {}, ROOT)

    with pytest.raises(error) as caught:
        checker.plan("mine", ("loss",), Section(table))

    assert checker.config.problems == []
    assert caught.value.__notes__ == ["This came of loss at config.json:2:1"]


def test_a_class_of_ones_own_of_another_kind_is_told_what_it_lacks(own_room):
    own_room("class Net:\n    pass\n")
    section = Section(Table("a model", ("own_room",), "torch.nn:Module", ("own_room",)))
    checker = Checker(layered('{"arch": "Net"}'), {}, ROOT)

    found = checker.plan("Net", ("arch",), section)

    assert found is None
    assert [problem.message for problem in checker.config.problems] == [
        "class Net of own_room.mine is not a subclass of Module, so it is not a model"
    ]


def test_a_package_that_was_allowed_can_be_named(own_room):
    own_room("from torch import nn\nclass Net(nn.Linear): pass\n")
    section = Section(Table("a model", ("model",), "torch.nn:Module", ("model",)))
    spec = {"type": "own_room.mine.Net", "args": {"in_features": 2, "out_features": 3}}

    refused = Checker(LayeredConfig({"arch": spec}), {}, ROOT).plan(spec, ("arch",), section)
    taken = Checker(LayeredConfig({"arch": spec}), {}, ROOT, ["own_room"]).plan(spec, ("arch",), section)

    assert refused is None
    assert taken.build().weight.shape == (3, 2)
