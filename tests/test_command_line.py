"""Words and flags become overrides in one order; what is wrong with them is a ConfigError; paths are the shell's."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from utils.command_line import CustomArgs, Parser, parse_words
from utils.errors import ConfigError

FLAGS = [
    CustomArgs(["--lr", "--learning_rate"], float, "optimizer.args.lr"),
    CustomArgs(["--bs", "--batch_size"], int, "data_loader.args.batch_size"),
    CustomArgs(["--data"], str, "data_loader.args.data_dir"),
]
ROOT = Path("/somewhere/else")


def parsed(*words, root=ROOT):
    parser = Parser(prog="train.py")
    parser.add_argument("--weights", type=Path)
    return parse_words(parser, FLAGS, words, root)


def overrides(*words, root=ROOT):
    return parsed(*words, root=root)[1]


def test_the_shared_options_are_read_as_paths_and_words():
    args, changes = parsed("-c", "a/config.json", "-r", "saved/last.pth", "-d", "0,1")

    assert args.config == Path("a/config.json")
    assert args.resume == Path("saved/last.pth")
    assert changes == [(("device",), "0,1")]


def test_nothing_given_is_no_override():
    args, changes = parsed()

    assert (args.config, args.resume, args.device, changes) == (None, None, None, [])


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
    changes = overrides(f"{flag}={value}") if equals else overrides(flag, value)

    assert changes == [(path, read)]
    assert type(changes[0][1]) is type(read)


def test_flags_may_stand_between_words():
    changes = overrides("trainer.epochs=3", "--lr", "0.1", "metrics.0=accuracy", "-d", "cpu", "name=x")

    assert [path for path, _ in changes] == [
        ("trainer", "epochs"),
        ("metrics", 0),
        ("name",),
        ("optimizer", "args", "lr"),
        ("device",),
    ]


def test_words_come_in_their_order_then_flags_then_the_device_then_weights():
    changes = overrides(
        "--weights", "/w.pth", "-d", "cpu", "--lr", "0.1", "optimizer.args.lr=0.2", "device=0", "a=1", "a=2"
    )

    assert changes == [
        (("optimizer", "args", "lr"), 0.2),
        (("device",), 0),
        (("a",), 1),
        (("a",), 2),
        (("optimizer", "args", "lr"), 0.1),
        (("device",), "cpu"),
        (("weights_file",), "/w.pth"),
    ]


def test_the_last_of_two_equal_flags_counts():
    assert overrides("--lr", "0.1", "--lr", "0.3") == [(("optimizer", "args", "lr"), 0.3)]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "Infinity", "1e999"])
def test_a_flag_takes_no_number_that_a_config_could_not_hold(value):
    with pytest.raises(ConfigError, match=r"command line: optimizer\.args\.lr: -?(nan|inf) is not a finite number"):
        overrides(f"--lr={value}")


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
        parsed("--help")

    shown = capsys.readouterr().out
    assert left.value.code == 0
    for flag in FLAGS:
        assert all(name in shown for name in flag.flags)
        assert f"{flag.target}=VALUE" in shown


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

    assert overrides(*words) == [(path, str(tmp_path / "pictures"))]


@pytest.mark.parametrize("words", [["trainer.save_dir=out"], ["--weights", "out"]])
def test_in_the_projects_own_folder_a_path_stays_as_it_was_typed(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)

    assert [value for _, value in overrides(*words, root=tmp_path)] == ["out"]


def test_an_absolute_path_and_one_of_home_lead_where_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")

    changes = overrides("trainer.save_dir=/data/out", "data_loader.args.data_dir=~/pictures")

    assert [value for _, value in changes] == ["/data/out", "/home/ann/pictures"]


@pytest.mark.parametrize("word", ["name=runs", "arch.type=MLP", "a.directory=x", "trainer.monitor=off"])
def test_other_words_are_no_paths(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)

    assert overrides(word)[0][1] == word.partition("=")[2]


@pytest.mark.parametrize("value", ["null", "3", "true", '["a"]'])
def test_what_is_no_string_is_no_path(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)

    assert not isinstance(overrides(f"trainer.save_dir={value}")[0][1], str)
