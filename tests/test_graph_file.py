"""Networks as files: each of the menu as ONNX and as pt2, with the same answers, and nothing of this machine."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from model.mlp import MLP
from model.mnist_model import MnistModel
from model.quick_net import QuickNet
from model.vgg import VGG
from trainer.pixels import PixelsToInput
from trainer.shipped import Shipped, compare, made_images
from trainer.views import Views
from utils.errors import ExportError
from utils.graph_file import INPUT, OPSET, json_text, onnx_answers, onnx_bytes, program_answers, program_bytes, traced

HERE = str(Path(__file__).resolve().parents[1])
HOSTILE = ["a/b", 'say "cheese"', "고양이", "<script>alert(1)</script>", "\\", "new\nline", "\udc80", ""]
METADATA = {"classes": json_text(HOSTILE), "other": json_text({"mean": [0.5], "x": None})}
NETWORKS = {
    "VGG": (lambda: VGG(8, [4, "M", 8, "M"], batch_norm=True, classifier_width=8, pool_size=2), (3, 16, 16)),
    "VGG, another grid": (lambda: VGG(8, [4, "M"], classifier_width=0, pool_size=3), (3, 12, 18)),
    "MLP": (lambda: MLP(8, 1, image_size=(6, 7), hidden_widths=[5], activation="Mish"), (1, 6, 7)),
    "QuickNet": (lambda: QuickNet(8, widths=(4, 8)), (3, 10, 10)),
    "QuickNet, six views": (lambda: Views(QuickNet(8, widths=(4,)), "flip_and_shift"), (3, 8, 8)),
    "MnistModel": (lambda: MnistModel(8), (1, 28, 28)),
    "torchvision's resnet18": (lambda: models.resnet18(num_classes=8), (3, 32, 32)),
}


def shipped(name: str) -> tuple[Shipped, torch.Tensor]:
    """A network of the list with weights and statistics that are not those of its beginning, and images for it."""
    build, shape_CHW = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = build()
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.running_mean, -0.2, 0.2)
                nn.init.uniform_(part.running_var, 0.5, 2)
    pixels = PixelsToInput([0.45], [0.22], torch.device("cpu"))
    return Shipped(network, pixels), made_images(shape_CHW, is_float=False)


def program_of(module: Shipped, images_NCHW: torch.Tensor) -> torch.export.ExportedProgram:
    return traced(module, torch.zeros(2, *images_NCHW.shape[1:], dtype=images_NCHW.dtype))


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_answers_the_same_as_a_program(name: str) -> None:
    module, images_NCHW = shipped(name)

    data = program_bytes(program_of(module, images_NCHW), METADATA)

    answers, found = program_answers(data, list(METADATA))
    compare(images_NCHW, module, answers).require()
    assert json.loads(found["classes"]) == HOSTILE
    assert HERE.encode() not in data
    assert json.loads(json.dumps(HOSTILE)) == HOSTILE


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_answers_the_same_in_onnx(name: str) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    module, images_NCHW = shipped(name)

    data = onnx_bytes(program_of(module, images_NCHW), METADATA, "probabilities")

    answers, found = onnx_answers(data)
    agreement = compare(images_NCHW, module, answers)
    agreement.require()
    assert agreement.largest_difference < 1e-5
    assert json.loads(found["classes"]) == HOSTILE
    assert HERE.encode() not in data
    assert b"site-packages" not in data
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert [one.version for one in model.opset_import if one.domain == ""] == [OPSET]
    assert model.ir_version == 8  # ONNX Runtime 1.15 reads no newer one
    [given], [gives] = model.graph.input, model.graph.output
    sides = [side.dim_param or side.dim_value for side in given.type.tensor_type.shape.dim]
    assert (given.name, given.type.tensor_type.elem_type) == (INPUT, onnx.TensorProto.UINT8)
    assert sides == ["batch", *images_NCHW.shape[1:]]
    assert gives.name == "probabilities"


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_the_same_network_gives_the_same_bytes(kind: str) -> None:
    if kind == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    files = []
    for _ in range(2):
        program = program_of(*shipped("MLP"))
        files.append(onnx_bytes(program, METADATA, "p") if kind == "onnx" else program_bytes(program, METADATA))

    assert files[0] == files[1]


class TwoAtATime(nn.Module):
    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW.reshape(2, -1)[:, :8]


class Branches(nn.Module):
    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        flat_ND = images_NCHW.flatten(1)
        return flat_ND if flat_ND.sum() > 0 else -flat_ND


class Singular(nn.Module):
    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(images_NCHW.flatten(2))


@pytest.mark.parametrize("network", [TwoAtATime(), Branches()])
def test_what_cannot_be_traced_is_one_line(network: nn.Module, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match=r"torch\.export cannot trace the network: ") as error:
        traced(network.eval(), torch.zeros(2, 3, 4, 4))

    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_an_operator_that_onnx_does_not_have_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript")
    program = traced(Singular().eval(), torch.zeros(2, 3, 4, 4))

    with pytest.raises(ExportError, match=r"ONNX cannot express .*_linalg_svd.*; --format pt2 can") as error:
        onnx_bytes(program, {}, "p")

    assert "\n" not in str(error.value)
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")


def test_weights_that_one_onnx_file_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.graph_file._MAX_PROTOBUF_BYTES", 100)

    with pytest.raises(ExportError, match="at most 2 GB"):
        onnx_bytes(program_of(*shipped("MLP")), {}, "p")


def test_a_graph_that_onnx_runtime_does_not_take_is_one_line() -> None:
    pytest.importorskip("onnxruntime")

    with pytest.raises(ExportError, match="ONNX Runtime does not take the graph"):
        onnx_answers(b"no graph")


def test_json_keeps_every_name() -> None:
    text = json_text(HOSTILE)

    assert json.loads(text.encode("utf-8").decode("utf-8")) == HOSTILE
    assert "고양이" in text
