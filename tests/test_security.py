"""What a stranger sends runs no code, ends in a line or opens as what it is, and neither hangs nor fills the memory.

SECURITY.md says what is promised; these are the files against which it is held. Each is opened in a process of its
own (tests/opened_aside.py), all of them after one start of Python.
"""

import json

import pytest
import torch

import train
from tests import hostile
from tests.opened_aside import results_of

MAX_GROWTH_MB = 600
MAX_LINES = 6

BY_OPENER = {
    "load_checkpoint": {**hostile.CODE_FILES, **hostile.SHAPES},
    "load_weights_file": {**hostile.CODE_FILES, **hostile.SHAPES},
    "train -r": hostile.CODE_FILES,
    "decode_image": hostile.IMAGES,
    "file_problem": hostile.IMAGES,
    "folder, error": hostile.IMAGES,
    "folder, skip": hostile.IMAGES,
    "ConfigParser": hostile.CONFIGS,
    "convert": hostile.CODE_FILES,
    "careless": {name: hostile.CODE_FILES[name] for name in [*hostile.CODE, "legacy format", "bare pickle 0"]},
}
CHANGED = {"nothing": dict, **hostile.CHANGED_CONFIGS, **hostile.CHANGED_PARTS}
READ_BY_TEST = ("nothing", "run", "classes", "input", "model", "offered")
CHANGED_CASES = [("train -r", name) for name in CHANGED]
CHANGED_CASES += [("test -r", name) for name in CHANGED if name.startswith(READ_BY_TEST)]


@pytest.fixture(scope="module")
def good(tmp_path_factory, shapes_dir):
    """A config that trains in no time, and a checkpoint that it made."""
    folder = tmp_path_factory.mktemp("good")
    config = {
        "name": "small",
        "seed": 7,
        "device": "cpu",
        "n_gpu": 0,
        "arch": {"type": "MLP", "args": {"hidden_widths": [4]}},
        "data_loader": {"type": "ImageFolderDataLoader", "args": {"data_dir": str(shapes_dir), "batch_size": 36}},
        "optimizer": {"type": "SGD", "args": {"lr": 0.05, "momentum": 0.9}},
        "loss": "cross_entropy",
        "metrics": ["accuracy"],
        "lr_scheduler": {"type": "StepLR", "args": {"step_size": 1}},
        "trainer": {"epochs": 2, "save_dir": str(folder / "saved"), "tensorboard": False, "verbosity": 0},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    train.main(["-c", str(folder / "config.json"), "trainer.epochs=1"])
    state = torch.load(next((folder / "saved/models/small").glob("*/last.pth")), weights_only=True)
    state["config"]["trainer"]["epochs"] = 2
    return config, state


@pytest.fixture(scope="module")
def results(tmp_path_factory, good):
    """(opener, name) -> the folder of the file, and how it went."""
    top = tmp_path_factory.mktemp("hostile")
    config, state = good
    jobs = {}
    for opener, files in BY_OPENER.items():
        for name, make in files.items():
            folder = top / f"{len(jobs)}" / "pictures" / "a"
            folder.mkdir(parents=True)
            if opener.startswith("folder"):
                for other in ("a", "b"):
                    (folder.parent / other).mkdir(exist_ok=True)
                    for number in range(2):
                        (folder.parent / other / f"good{number}.png").write_bytes(hostile.good_image())
            path = make(folder, config) if opener == "ConfigParser" else make(folder)
            jobs[opener, name] = (folder, path)
    for opener, name in CHANGED_CASES:
        folder = top / f"{len(jobs)}"
        folder.mkdir()
        jobs[opener, name] = (folder, hostile.changed(state, CHANGED[name], folder / "x.pth"))
    # Pillow would call Ghostscript by its name.
    (top / "bin").mkdir()
    for name in ("gs", "gswin64c", "gswin32c"):
        (top / "bin" / name).write_text(f"#!/bin/sh\ntouch '{top / 'bin' / hostile.CANARY}'\n", encoding="utf-8")
        (top / "bin" / name).chmod(0o755)
    went = results_of(
        [(opener, path) for (opener, _), (_, path) in jobs.items()], {"PATH": f"{top / 'bin'}:/usr/bin:/bin"}, top
    )
    return {key: (folder, result) for (key, (folder, _)), result in zip(jobs.items(), went, strict=True)}


NO_IMAGES = ("a pipe", "a link to /dev/zero", "a link to /etc/passwd", "PostScript", "SVG", "pickle", "HTML")
# file_problem gives the reason as an answer, and "skip" goes on without the file.
WITHOUT_IMAGE = {"decode_image": "refused", "file_problem": "opened"}
WITHOUT_IMAGE |= {"folder, error": "refused", "folder, skip": "opened"}


def cases(pairs):
    """Parameters for (opener, name)."""
    return [pytest.param(*pair, id=": ".join(pair)) for pair in pairs]


def opened_by(*openers):
    return cases([(opener, name) for opener in openers for name in BY_OPENER[opener]])


def assert_harmless(folder, result):
    """Opened, or refused in a few lines; nothing ran and little memory was taken."""
    assert list(folder.rglob(hostile.CANARY)) == []
    assert result["outcome"] in ("opened", "refused"), result
    assert len(result["message"].splitlines()) <= MAX_LINES
    assert result["growth_MB"] < MAX_GROWTH_MB


@pytest.mark.parametrize(("opener", "name"), opened_by("careless"))
def test_the_code_in_these_files_would_run_if_they_were_opened_without_care(opener, name, results):
    folder, _ = results[opener, name]

    assert (folder / hostile.CANARY).exists()


def test_nothing_else_left_a_mark_anywhere(results):
    careless = {folder for (opener, _), (folder, _) in results.items() if opener == "careless"}

    top = next(iter(careless)).parents[2]
    marks = list(top.rglob(hostile.CANARY))

    assert len(marks) >= len(careless)
    assert [mark for mark in marks if mark.parent not in careless] == []


@pytest.mark.parametrize("opener", ["load_checkpoint", "load_weights_file", "train -r"])
@pytest.mark.parametrize("name", [*hostile.CODE, *hostile.NAMED])
def test_a_checkpoint_with_code_is_refused_by_the_name_of_the_code(opener, name, results):
    folder, result = results[opener, name]

    assert_harmless(folder, result)
    assert result["kind"] == "CheckpointError"
    assert f"refers to '{name.replace('subprocess', 'commands')}'" in result["message"]  # its name in Python 2


@pytest.mark.parametrize(("opener", "name"), opened_by("load_checkpoint"))
def test_a_hostile_checkpoint_is_refused(opener, name, results):
    folder, result = results[opener, name]

    assert_harmless(folder, result)
    assert result["outcome"] == ("opened" if name == "nothing wrong" else "refused")
    assert "weights_only" not in result["message"]


@pytest.mark.parametrize(("opener", "name"), opened_by("load_weights_file"))
def test_a_hostile_file_of_weights_is_refused_unless_its_weights_are_whole(opener, name, results):
    folder, result = results[opener, name]

    assert_harmless(folder, result)
    if name in hostile.CODE_FILES or name.startswith(("safetensors", "40 MB", "larger", "negative", "offset")):
        assert result["kind"] == "CheckpointError"


@pytest.mark.parametrize(("opener", "name"), opened_by("train -r", "convert"))
def test_neither_training_nor_converting_begins_from_a_checkpoint_with_code(opener, name, results):
    folder, result = results[opener, name]

    assert_harmless(folder, result)
    assert result["kind"] == "CheckpointError"


@pytest.mark.parametrize(("opener", "name"), cases(CHANGED_CASES))
def test_a_checkpoint_with_changed_parts_and_a_right_digest_gives_no_traceback(opener, name, results):
    folder, result = results[opener, name]

    assert_harmless(folder, result)
    if name == "nothing":
        assert result["outcome"] == "opened"
    if " as a" in name or name.startswith("run:"):
        assert result["outcome"] == "refused"


@pytest.mark.parametrize(("opener", "name"), opened_by("ConfigParser"))
def test_a_hostile_config_is_refused(opener, name, results):
    folder, result = results[opener, name]

    assert_harmless(folder, result)
    assert result["outcome"] == "refused"


@pytest.mark.parametrize(("opener", "name"), opened_by("decode_image", "file_problem", "folder, error", "folder, skip"))
def test_a_hostile_image_is_decoded_or_refused_in_a_line(opener, name, results):
    folder, result = results[opener, name]

    assert_harmless(folder, result)
    assert result["kind"] in ("DataError", "")
    if name in NO_IMAGES:
        assert result["outcome"] == WITHOUT_IMAGE[opener]
    assert "validation_split" not in result["message"]  # the folder itself is in order
    assert "root:" not in result["message"]  # of /etc/passwd


def test_the_corpus_is_as_large_as_is_promised():
    assert len(hostile.CODE_FILES) + len(hostile.SHAPES) >= 14
    assert len(hostile.CONFIGS) >= 12
    assert len(hostile.IMAGES) >= 12
