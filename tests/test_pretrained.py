"""Finding, fitting and loading: over one model of each torchvision family, nothing downloaded."""

from functools import partial
from http.client import RemoteDisconnected
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from model.mlp import MLP
from model.mnist_model import MnistModel
from model.pretrained import build_torchvision, find_head, fit_head, load_weights
from model.vgg import VGG
from utils.errors import CheckpointError, DataError
from utils.weights_file import load_weights_file

# One builder of each class of torchvision, with the name of its last layer.
HEADS = {
    "alexnet": "classifier.6",
    "convnext_tiny": "classifier.2",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier.1",
    "googlenet": "fc",
    "inception_v3": "fc",
    "maxvit_t": "classifier.5",
    "mnasnet0_5": "classifier.1",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "regnet_x_400mf": "fc",
    "resnet18": "fc",
    "shufflenet_v2_x0_5": "fc",
    "squeezenet1_1": "classifier.1",
    "swin_t": "head",
    "vgg11": "classifier.6",
    "vit_b_32": "heads.head",
}
# Without init_weights these two warn, with it they draw for many seconds.
ARGUMENTS = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}


def build_on_meta(name, num_classes=7, **arguments):
    """The model's shapes without its numbers; RegNet computes its widths with tensors and cannot do without."""
    device = "cpu" if name.startswith("regnet") else "meta"
    with torch.device(device):
        model = getattr(models, name)(weights=None, num_classes=num_classes, **ARGUMENTS.get(name, {}), **arguments)
    return model.to("meta").eval()


def output_shape(model, name):
    side = {"inception_v3": 299}.get(name, 224)
    return tuple(model(torch.zeros(2, 3, side, side, device="meta")).shape)


def tiny():
    return VGG(3, [4, "M", 6], classifier_width=5, pool_size=2, batch_norm=True)


def values_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", HEADS)
def test_head_of_every_family_is_found_and_fitted(name):
    model = build_on_meta(name)

    head_name, head = find_head(model)
    replaced = fit_head(model, 11)

    assert head_name == HEADS[name]
    assert (head.out_features if isinstance(head, nn.Linear) else head.out_channels) == 7
    assert replaced
    assert type(find_head(model)[1]) is type(head)
    assert output_shape(model, name) == (2, 11)


@pytest.mark.parametrize(
    "model", [MLP(3), MLP(3, hidden_widths=()), MnistModel(3), tiny()], ids=lambda m: type(m).__name__
)
def test_head_of_our_own_models_is_found(model):
    _, head = find_head(model)

    assert isinstance(head, nn.Linear)
    assert head.out_features == 3


def test_a_model_without_layers_has_no_head():
    with pytest.raises(ValueError, match="Sequential has no Linear or Conv2d"):
        find_head(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize(("num_classes", "expected"), [(3, []), (9, ["classifier.3.weight", "classifier.3.bias"])])
def test_only_a_head_that_does_not_fit_is_replaced(num_classes, expected):
    model = tiny()
    before = values_of(model)

    replaced = fit_head(model, num_classes)

    changed = [name for name, value in model.state_dict().items() if not torch.equal(before[name], value)]
    assert changed == expected
    assert replaced == bool(expected)
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, num_classes)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (nn.Linear, {"bias": False, "dtype": torch.float64}),
        (nn.Conv2d, {"kernel_size": (1, 3), "stride": 2, "padding": (0, 1), "padding_mode": "reflect"}),
        (nn.Conv2d, {"kernel_size": 2, "dilation": (1, 2), "groups": 2, "bias": False, "dtype": torch.bfloat16}),
    ],
)
def test_a_fresh_head_differs_in_its_outputs_only(kind, arguments):
    model = nn.Sequential(nn.Linear(1, 1), kind(4, 2, **arguments)).eval()

    fit_head(model, 6)

    expected = kind(4, 6, **arguments)
    assert str(model[1]) == str(expected)
    assert model[1].weight.dtype == expected.weight.dtype
    assert not model[1].training


def test_a_fresh_head_starts_as_torch_starts_such_a_layer():
    model = nn.Sequential(nn.Linear(50, 3))

    torch.manual_seed(0)
    fit_head(model, 8)

    torch.manual_seed(0)
    expected = nn.Linear(50, 8)
    assert torch.equal(model[0].weight, expected.weight)
    assert torch.equal(model[0].bias, expected.bias)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_fitted_too(name):
    model = build_on_meta(name, aux_logits=True).train()

    fit_head(model, 11)

    side = {"inception_v3": 299}.get(name, 224)
    outputs = model(torch.zeros(2, 3, side, side, device="meta"))
    assert {tuple(output.shape) for output in outputs} == {(2, 11)}


def test_an_auxiliary_head_that_is_a_single_layer_is_fitted():
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "aux": nn.Linear(4, 3), "head": nn.Linear(4, 3)})

    fit_head(model, 5)

    assert [layer.out_features for layer in model.values()] == [4, 5, 5]


def test_a_model_that_remembers_its_number_of_classes_is_told():
    model = build_on_meta("vit_b_32")

    fit_head(model, 11)

    assert model.num_classes == 11


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes must be 1 or more, received 0"):
        fit_head(tiny(), 0)


def test_without_weights_the_builder_makes_the_classes_itself(monkeypatch):
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *args, **kwargs: pytest.fail("fetched"))

    model = build_torchvision(models.mobilenet_v3_small, weights=None, num_classes=5, dropout=0.4)

    assert find_head(model)[1].out_features == 5
    assert model.classifier[2].p == 0.4


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
@pytest.mark.parametrize("num_classes", [5, 1000])
def test_named_weights_are_loaded_and_their_head_is_kept_where_it_fits(monkeypatch, weights, num_classes):
    stored = models.squeezenet1_1(weights=None, num_classes=1000).state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *args, **kwargs: stored)

    model = build_torchvision(models.squeezenet1_1, weights=weights, num_classes=num_classes)

    loaded = model.state_dict()
    fits = num_classes == 1000
    assert loaded["classifier.1.weight"].shape == (num_classes, 512, 1, 1)
    assert all(torch.equal(loaded[name], stored[name]) for name in stored if fits or "classifier" not in name)


@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known"),
        OSError("No space left on device"),
        RemoteDisconnected("closed"),
        RuntimeError('invalid hash value (expected "b8a52dc0", got "0")'),
    ],
    ids=lambda error: type(error).__name__,
)
def test_weights_that_cannot_be_fetched_say_from_where_and_what_would_do(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)

    with pytest.raises(DataError) as caught:
        build_torchvision(models.squeezenet1_1, weights="DEFAULT", num_classes=5)

    url = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    for part in ("IMAGENET1K_V1 of squeezenet1_1", url, str(error), "weights=null", "file of weights"):
        assert part in str(caught.value)


def test_other_runtime_errors_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *args, **kwargs: {})

    with pytest.raises(RuntimeError, match="Missing key"):
        build_torchvision(models.squeezenet1_1, weights="DEFAULT", num_classes=5)


def test_unknown_weights_are_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="resnet50 has no weights 'V3'; it has IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"):
        build_torchvision(models.resnet50, weights="V3", num_classes=5)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_weights_of_the_same_model_are_all_loaded(prefix):
    source, model = tiny(), tiny()
    source(torch.rand(4, 3, 8, 8))  # moves the running statistics
    state_dict = {prefix + name: value for name, value in source.state_dict().items()}

    lines = load_weights(model, state_dict, refit_head=False)

    expected = source.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert lines == [f"loaded {len(expected)} of {len(expected)} tensors of VGG"]


def test_a_module_that_is_called_module_keeps_its_name():
    source, model = [nn.ModuleDict({"module": nn.Linear(2, 2), "head": nn.Linear(2, 3)}) for _ in range(2)]

    load_weights(model, source.state_dict(), refit_head=False)

    assert torch.equal(model["module"].weight, source["module"].weight)


def test_head_of_another_number_of_classes_stays_fresh_and_is_named():
    source, model = tiny(), tiny()
    fit_head(source, 5)
    before = values_of(model)

    lines = load_weights(model, source.state_dict(), refit_head=False)

    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith("classifier.3"))
    assert all(
        torch.equal(after[name], value)
        for name, value in source.state_dict().items()
        if not name.startswith("classifier.3")
    )
    assert any("left fresh: classifier.3" in line for line in lines)


def test_head_of_equal_size_stays_fresh_where_that_is_asked_for():
    source, model = tiny(), tiny()
    before = values_of(model)

    lines = load_weights(model, source.state_dict(), refit_head=True)

    after = model.state_dict()
    assert torch.equal(after["classifier.3.weight"], before["classifier.3.weight"])
    assert torch.equal(after["classifier.0.weight"], source.state_dict()["classifier.0.weight"])
    assert lines[1] == "left fresh: classifier.3 (as asked)"


def test_weights_without_a_head_will_do_where_it_is_to_be_fresh():
    source, model = tiny(), tiny()
    body = {name: value for name, value in source.state_dict().items() if not name.startswith("classifier.3")}

    load_weights(model, body, refit_head=True)

    assert torch.equal(model.features[0].weight, source.features[0].weight)


def test_weights_without_a_head_are_refused_where_it_is_to_be_loaded():
    model = tiny()
    body = {name: value for name, value in model.state_dict().items() if not name.startswith("classifier.3")}

    with pytest.raises(CheckpointError, match=r"fit VGG: 2 missing \(classifier.3.weight, classifier.3.bias\)$"):
        load_weights(model, body, refit_head=False)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"features.0.weight": torch.zeros(9, 3, 3, 3)},
            "1 of another shape (features.0.weight is 9x3x3x3, this model has 4x3x3x3)",
        ),
        ({"features.0.weight": [1.0]}, "1 of another shape (features.0.weight is a list, this model has 4x3x3x3)"),
        ({"extra.weight": torch.zeros(5, 12), "extra": torch.tensor(1.0)}, "2 unexpected (extra.weight, extra)"),
        (
            {"extra": torch.zeros(1), "features.0.weight": torch.tensor(1.0)},
            "1 unexpected (extra), 1 of another shape (features.0.weight is one number, this model has 4x3x3x3)",
        ),
    ],
)
@pytest.mark.parametrize("refit_head", [False, True])
def test_what_does_not_fit_is_named_with_both_shapes_and_nothing_is_loaded(change, text, refit_head):
    model, state_dict = tiny(), {**tiny().state_dict(), **change}
    before = values_of(model)

    with pytest.raises(CheckpointError) as caught:
        load_weights(model, state_dict, refit_head=refit_head)

    assert str(caught.value) == f"the weights do not fit VGG: {text}"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_file_of_something_else_is_refused():
    with pytest.raises(CheckpointError) as caught:
        load_weights(tiny(), {"epoch": 3, "optimizer": {}}, refit_head=True)

    # Two convolutions without bias, four of each batch norm, a hidden layer's two; head and counters may miss.
    first = "features.0.weight, features.1.weight, features.1.bias and 9 more"
    assert str(caught.value) == f"the weights do not fit VGG: 12 missing ({first}), 2 unexpected (epoch, optimizer)"


def test_a_report_is_short_however_much_does_not_fit():
    stranger = {f"{'very' * 100}{number}": torch.zeros(1) for number in range(1000)}
    large = {name: torch.zeros(1, *value.shape) for name, value in tiny().state_dict().items() if "bias" in name}

    with pytest.raises(CheckpointError) as caught:
        load_weights(tiny(), stranger | large, refit_head=False)

    message = str(caught.value)
    assert "1000 unexpected (" in message
    assert "features.1.bias is 1x4, this model has 4, features.5.bias is 1x6, this model has 6 and 1 more" in message
    assert len(message) < 900


def test_batch_norms_without_counters_are_loaded_and_said():
    source, model = tiny(), tiny()
    old = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}

    lines = load_weights(model, old, refit_head=False)

    assert torch.equal(model.features[0].weight, source.features[0].weight)
    assert lines[-1] == "left at 0: 2 batch counters that the weights do not have"


def test_layers_that_ask_for_a_version_are_loaded_from_plain_weights():
    torch.manual_seed(0)
    source, model = [models.mnasnet0_5(weights=None, num_classes=4) for _ in range(2)]

    load_weights(model, dict(source.state_dict()), refit_head=False)

    assert torch.equal(model.layers[0].weight, source.layers[0].weight)


def test_auxiliary_heads_stay_fresh_with_the_head():
    with torch.device("meta"):
        source, model = [
            models.googlenet(weights=None, num_classes=k, init_weights=False, aux_logits=True) for k in (5, 3)
        ]

    lines = load_weights(model, source.state_dict(), refit_head=False)

    assert "left fresh: aux1.fc2, aux2.fc2, fc" in lines[1]


# --- out of files of others --------------------------------------------------------------------------------------


def resnet_like(source):
    """A ResNet-18 of torchvision for 3 classes, in a process of its own seed, and what its head was."""
    torch.manual_seed(99)
    model = models.resnet18(weights=None, num_classes=3)
    return model, values_of(model.fc), {name: value for name, value in source.items() if not name.startswith("fc.")}


def write_weights(path, state_dict):
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state_dict.items()}, path)
    else:
        torch.save({"state_dict": state_dict} if path.stem == "wrapped" else state_dict, path)


@pytest.mark.parametrize("filename", ["resnet18.pth", "wrapped.pth", "resnet18.safetensors"])
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_weights_of_1000_classes_go_into_a_network_of_3_with_a_fresh_head(tmp_path, library, filename):
    make = models.resnet18
    if library == "timm":
        make = partial(pytest.importorskip("timm", reason="timm is not installed").create_model, "resnet18")
    torch.manual_seed(5)
    stored = make(num_classes=1000).state_dict()
    write_weights(tmp_path / filename, stored)
    model, head, body = resnet_like(stored)

    weights, classes = load_weights_file(tmp_path / filename)
    lines = load_weights(model, weights, refit_head=False)

    loaded = model.state_dict()
    assert classes is None
    assert all(torch.equal(loaded[name], value) for name, value in body.items())
    assert all(torch.equal(value, head[name]) for name, value in model.fc.state_dict().items())
    assert lines == [
        f"loaded {len(body)} of {len(loaded)} tensors of ResNet",
        "left fresh: fc (the weights have another number of classes or inputs there)",
    ]
