"""Weights out of anybody's file: state dicts in their usual places, safetensors whole and broken; what `-r` says."""

import json
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from utils.checkpoint import load_checkpoint
from utils.errors import CheckpointError
from utils.safetensors_file import safetensors_bytes, safetensors_parts
from utils.weights_file import load_weights_file


def layer():
    torch.manual_seed(0)
    return nn.Linear(3, 2).state_dict()


def write(path, state):
    save_file(state, path)
    return path


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
def test_a_state_dict_is_found_where_programs_put_it(tmp_path, key):
    torch.save(layer() if key is None else {"epoch": 3, key: layer()}, tmp_path / "w.pth")

    weights, classes = load_weights_file(tmp_path / "w.pth")

    assert classes is None
    assert weights.keys() == layer().keys()
    assert all(torch.equal(weights[name], value) for name, value in layer().items())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_are_known_by_their_content_whatever_their_name(tmp_path, name, dtype):
    state = {key: value.to(dtype) for key, value in layer().items()}

    weights, classes = load_weights_file(write(tmp_path / name, state))

    assert classes is None
    assert all(torch.equal(weights[key], value) and weights[key].dtype == dtype for key, value in state.items())


def test_a_file_of_torch_that_is_called_safetensors_is_refused_in_one_line(tmp_path):
    torch.save(layer(), tmp_path / "w.safetensors")

    with pytest.raises(CheckpointError, match=r"w\.safetensors: truncated or damaged safetensors \(.+\)$"):
        load_weights_file(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [{1: torch.ones(1)}, {"state_dict": {}}, {"model": {"w": 1}}])
def test_what_has_no_names_and_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")

    with pytest.raises(CheckpointError, match=r"w\.pth: holds no state dict"):
        load_weights_file(tmp_path / "w.pth")


def test_every_truncated_safetensors_is_one_line_that_names_the_file(tmp_path):
    whole = write(tmp_path / "whole.safetensors", layer()).read_bytes()
    path = tmp_path / "cut.safetensors"

    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as caught:
            load_weights_file(path)
        assert str(caught.value).startswith(f"{path}: truncated or damaged safetensors (")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_header_that_tells_nonsense_is_refused(tmp_path, name):
    headers = [
        {"w": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
        {"w": 5},
    ]
    for header in headers:
        text = json.dumps(header).encode()
        (tmp_path / name).write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))

        with pytest.raises(CheckpointError, match=r"w\.\w+: truncated or damaged safetensors"):
            load_weights_file(tmp_path / name)


@settings(
    derandomize=True, max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3))
def test_flipped_bytes_give_an_error_of_ours_or_tensors_and_nothing_else(tmp_path, flips):
    content = bytearray(write(tmp_path / "whole.safetensors", layer()).read_bytes())
    for position, value in flips:
        content[position % len(content)] = value
    (tmp_path / "flipped.safetensors").write_bytes(content)

    try:
        weights, _ = load_weights_file(tmp_path / "flipped.safetensors")
    except CheckpointError:
        return
    assert all(isinstance(value, torch.Tensor) for value in weights.values())


def test_files_that_are_not_there_or_hold_nothing_say_so_whatever_their_name(tmp_path):
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "pointer.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    os.mkdir(tmp_path / "folder.safetensors")

    for name, said in {
        "none": "no such file or directory",
        "empty": "is empty",
        "pointer": "a Git LFS pointer",
        "folder": "is a folder",
    }.items():
        with pytest.raises(CheckpointError, match=said):
            load_weights_file(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_weights_given_to_continue_from_are_told_where_they_belong(tmp_path, name):
    path = tmp_path / name
    if name == "w.pth":
        torch.save(layer(), path)
    else:
        write(path, layer())

    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)

    said = f"{path}: holds weights only, not a checkpoint of this project (use it with --weights, not with -r)"
    assert str(caught.value) == said


def test_a_plain_checkpoint_of_the_template_given_to_continue_from_is_told_of_the_converter(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"arch": "Net", "epoch": 3, "state_dict": layer(), "optimizer": {}}, path)

    with pytest.raises(CheckpointError, match=r"\n  If pytorch-template wrote it: python -m tools\.convert .*old\.pth"):
        load_checkpoint(path)


def test_safetensors_tell_class_names_that_export_wrote(tmp_path):
    tensors = {"w": torch.arange(3.0), "shared": torch.zeros(2)}
    tensors["also shared"] = tensors["shared"]
    names = ["a/b", "고양이", "<script>"]
    file = tmp_path / "net.safetensors"
    file.write_bytes(safetensors_bytes(tensors, {"format": "pt", "classes": json.dumps(names)}))

    state, classes = load_weights_file(file)

    assert classes == names
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("text", ["5", "[1, 2]", "no json", "[" * 100_000])
def test_somebody_elses_entry_of_that_name_is_no_list_of_classes(text, tmp_path):
    file = tmp_path / "net.safetensors"
    file.write_bytes(safetensors_bytes({"w": torch.zeros(2)}, {"classes": text}))

    assert load_weights_file(file)[1] is None


def test_safetensors_of_the_same_content_are_the_same_bytes():
    texts = dict.fromkeys("abcdefgh", "x")

    files = {safetensors_bytes({"w": torch.zeros(2)}, texts) for _ in range(5)}

    assert len(files) == 1
    tensors, found = safetensors_parts(files.pop())
    assert found == texts
    assert torch.equal(tensors["w"], torch.zeros(2))
