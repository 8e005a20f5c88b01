"""Words and flags become overrides in one order; what is wrong with them is a ConfigError; paths are the shell's."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import utils.command_line
from utils.command_line import Command, CustomArgs, Override, Parser
from utils.errors import ConfigError

FLAGS = [
    CustomArgs(["--lr", "--learning_rate"], float, "optimizer.args.lr"),
    CustomArgs(["--bs", "--batch_size"], int, "data_loader.args.batch_size"),
    CustomArgs(["--data"], str, "data_loader.args.data_dir"),
    CustomArgs(["--metric"], str, "metrics.0"),
]
ROOT = Path(__file__).resolve().parents[1]


def read(*words):
    parser = Parser(prog="train.py")
    parser.add_argument("--weights", type=Path)
    return parser.read(FLAGS, words)


def overrides(*words):
    return read("-r", "last.pth", *words).overrides


def changes(*words):
    return [(one.path, one.value) for one in overrides(*words)]


def test_the_shared_options_are_read_as_paths_and_words():
    command = read("-r", "saved/last.pth", "-d", "0,1", "--allow", "my_pkg", "--print-config", "--allow", "other")

    assert isinstance(command, Command)
    assert command.args.resume == Path("saved/last.pth")
    assert command.args.allow == ["my_pkg", "other"]
    assert (command.args.print_config, command.args.print_origins, command.args.schema) == (True, False, False)
    assert command.overrides == [Override(("device",), "0,1", "-d 0,1")]


def test_nothing_more_given_is_no_override():
    command = read("-r", "last.pth")

    assert (command.args.config, command.args.device, command.args.allow) == (None, None, [])
    assert (command.documents, command.overrides) == ([], [])


def test_neither_config_nor_checkpoint_is_refused_except_to_print_the_schema():
    with pytest.raises(ConfigError) as caught:
        read("trainer.epochs=3")

    assert str(caught.value) == (
        "command line: give -c CONFIG to start a run, or -r CHECKPOINT to continue or test one"
    )
    assert read("--schema").args.schema


def test_the_config_and_its_bases_are_read_bases_first(tmp_path):
    (tmp_path / "base.json").write_text('{"seed": 1}')
    (tmp_path / "config.json").write_text('{"_base_": "base.json", "seed": 2}')

    command = read("-c", str(tmp_path / "config.json"))

    assert command.args.config == tmp_path / "config.json"
    assert [(document.source, document.data) for document in command.documents] == [
        (str(tmp_path / "base.json"), {"seed": 1}),
        (str(tmp_path / "config.json"), {"seed": 2}),
    ]


def test_a_mistake_in_the_config_is_told_with_its_place(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"seed": 1 "name": "x"}')

    with pytest.raises(ConfigError) as caught:
        read("-c", str(path))

    assert str(caught.value).splitlines()[0] == f"{path}:1:11: not valid JSON: expecting ',' delimiter"


def test_a_config_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read("-c", str(tmp_path / "config.json"))

    assert str(caught.value) == f"{tmp_path / 'config.json'}: no such file"


def test_the_words_are_kept_as_they_were_typed(monkeypatch):
    words = ["-r", "last.pth", "a=1", "--lr", "0.1"]
    monkeypatch.setattr(sys, "argv", ["train.py", *words, "-d", "cpu"])

    assert read(*words).words == words
    assert Parser().read(FLAGS).words == [*words, "-d", "cpu"]


@pytest.mark.parametrize(
    ("flag", "value", "path", "read"),
    [
        ("--lr", "0.01", ("optimizer", "args", "lr"), 0.01),
        ("--learning_rate", "1e-3", ("optimizer", "args", "lr"), 0.001),
        ("--lr", "-1", ("optimizer", "args", "lr"), -1.0),
        ("--bs", "64", ("data_loader", "args", "batch_size"), 64),
        ("--batch_size", "8", ("data_loader", "args", "batch_size"), 8),
    ],
)
@pytest.mark.parametrize("equals", [False, True])
def test_a_short_flag_sets_its_key_with_its_type(flag, value, path, read, equals):
    [(found, value)] = changes(f"{flag}={value}") if equals else changes(flag, value)

    assert (found, value) == (path, read)
    assert type(value) is type(read)


def test_flags_may_stand_between_words():
    found = changes("trainer.epochs=3", "--lr", "0.1", "metrics.0=accuracy", "-d", "cpu", "name=x")

    assert [path for path, _ in found] == [
        ("trainer", "epochs"),
        ("metrics", 0),
        ("name",),
        ("optimizer", "args", "lr"),
        ("device",),
    ]


def test_words_come_in_their_order_then_flags_then_the_device_then_weights():
    found = overrides(
        "--weights", "/w.pth", "-d", "cpu", "--lr", "0.1", "optimizer.args.lr=0.2", "device=0", "a=1", "a=2"
    )

    assert found == [
        (("optimizer", "args", "lr"), 0.2, "optimizer.args.lr=0.2"),
        (("device",), 0, "device=0"),
        (("a",), 1, "a=1"),
        (("a",), 2, "a=2"),
        (("optimizer", "args", "lr"), 0.1, "--lr 0.1"),
        (("device",), "cpu", "-d cpu"),
        (("weights_file",), "/w.pth", "--weights /w.pth"),
    ]


def test_a_flag_may_set_an_item_of_a_list():
    assert changes("--metric", "f1") == [(("metrics", 0), "f1")]


def test_the_last_of_two_equal_flags_counts():
    assert changes("--lr", "0.1", "--lr", "0.3") == [(("optimizer", "args", "lr"), 0.3)]


@pytest.mark.parametrize(
    ("value", "shown"), [("nan", "nan"), ("inf", "inf"), ("-inf", "-inf"), ("Infinity", "inf"), ("1e999", "inf")]
)
def test_a_flag_takes_no_number_that_a_config_could_not_hold(value, shown):
    with pytest.raises(ConfigError) as caught:
        overrides(f"--lr={value}")

    assert str(caught.value) == f"command line: --lr {shown}: not a finite number"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lrr", "1"], r"--lrr: no such option\. Did you mean '--lr'"),
        (["--l", "0.1"], r"--l: no such option\. Did you mean '--lr'"),
        (["--learning-rate=1"], r"no such option\. Did you mean '--learning_rate'"),
        (["--conf", "x"], r"--conf: no such option\. Did you mean '--config'"),
        (["-x"], r"-x: no such option\.$"),
        (["--lr", "abc"], "invalid float value: 'abc'"),
        (["--lr"], "expected one argument"),
        (["--bs", "1.5"], "invalid int value: '1.5'"),
        (["-c"], "expected one argument"),
        (["lonely"], r"lonely: expecting key=value, as in optimizer\.args\.lr=0\.01"),
        (["=1"], "expecting key=value"),
        (["a..b=1"], "expecting key=value"),
        (['a={"b"'], "not valid JSON"),
        (["a=NaN"], "not a finite number"),
    ],
)
def test_what_is_wrong_is_one_config_error_that_names_the_word(words, said):
    with pytest.raises(ConfigError, match=r"^command line") as caught:
        overrides(*words)

    assert caught.match(said)


def test_help_lists_every_flag_with_its_key(capsys):
    with pytest.raises(SystemExit) as left:
        read("--help")

    shown = " ".join(capsys.readouterr().out.split())
    assert left.value.code == 0
    for flag in FLAGS:
        assert all(f"{name} {flag.type.__name__.upper()}" in shown for name in flag.flags)
        assert f"the same as {flag.target}=VALUE" in shown


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.sampled_from(["-c", "-r", "-d", "--lr", "--bs", "--", "a=1", "-", "--lr=1", "-cx", "%s", "{}"])
        | st.text(max_size=6),
        max_size=5,
    )
)
@example(["--", "--lr", "1"])
@example(["a\0b=1"])
@example(["\ud800=1"])
@example(["a=\ud800"])
@example(["-c", "a\0b"])
@example(["-c", "."])
def test_no_words_raise_anything_but_a_config_error(capsys, words):
    wants_help = any(word.startswith("-") and "h" in word for word in words)

    with contextlib.suppress(ConfigError, *([SystemExit] if wants_help else [])):
        overrides(*words)


# --- paths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["data_loader.args.data_dir=pictures"], ("data_loader", "args", "data_dir")),
        (["data_loader.args.csv_file=pictures"], ("data_loader", "args", "csv_file")),
        (["trainer.save_dir=pictures"], ("trainer", "save_dir")),
        (["weights_file=pictures"], ("weights_file",)),
        (["--data", "pictures"], ("data_loader", "args", "data_dir")),
        (["--weights", "pictures"], ("weights_file",)),
    ],
)
def test_a_path_on_the_command_line_is_relative_to_the_current_folder(tmp_path, monkeypatch, words, path):
    monkeypatch.chdir(tmp_path)

    assert changes(*words) == [(path, str(tmp_path / "pictures"))]


@pytest.mark.parametrize("words", [["trainer.save_dir=out"], ["--weights", "out"]])
def test_in_the_projects_own_folder_a_path_stays_as_it_was_typed(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(utils.command_line, "ROOT", tmp_path)

    assert [value for _, value in changes(*words)] == ["out"]


def test_the_projects_own_folder_is_where_its_scripts_are():
    assert utils.command_line.ROOT == ROOT
    assert (ROOT / "train.py").is_file()


def test_a_path_inside_an_object_is_relative_to_the_current_folder_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    found = changes('data_loader={"type": "x", "args": {"data_dir": "in", "name": "in", "csv_file": null}}')

    args = {"data_dir": str(tmp_path / "in"), "name": "in", "csv_file": None}
    assert found == [(("data_loader",), {"type": "x", "args": args})]


def test_the_text_of_an_override_stays_as_it_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    found = overrides("trainer.save_dir=out", "--weights", "w.pth")

    assert [one.text for one in found] == ["trainer.save_dir=out", "--weights w.pth"]


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("/data/out", "/data/out"),
        ("~/pictures", "/home/ann/pictures"),
        ("~nobody-of-this-name/x", "{here}/~nobody-of-this-name/x"),
    ],
)
def test_an_absolute_path_and_one_of_home_lead_where_they_say(tmp_path, monkeypatch, typed, path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")

    assert changes(f"trainer.save_dir={typed}") == [(("trainer", "save_dir"), path.format(here=tmp_path))]


@pytest.mark.parametrize("word", ["name=runs", "arch.type=MLP", "a.directory=x", "trainer.monitor=off"])
def test_other_words_are_no_paths(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)

    assert changes(word)[0][1] == word.partition("=")[2]


@pytest.mark.parametrize("value", ["null", "3", "true", '["a"]'])
def test_what_is_no_string_is_no_path(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)

    assert changes(f"trainer.save_dir={value}") == [(("trainer", "save_dir"), json.loads(value))]


# --- quick -------------------------------------------------------------------------------------------------------


def test_reading_the_command_line_loads_no_slow_module(tmp_path):
    (tmp_path / "base.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"_base_": "base.json"}')
    code = (
        "import sys; from utils.command_line import Parser; Parser().read([], sys.argv[1:]); "
        "print({'torch', 'torchvision', 'numpy', 'pandas', 'pydantic', 'dataclasses'} & set(sys.modules))"
    )

    result = subprocess.run(
        [sys.executable, "-c", code, "-c", str(tmp_path / "config.json"), "a=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout == "set()\n"
