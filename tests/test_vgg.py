"""VGG: its layers against the paper's table and torchvision's, its initialisation, and what it refuses."""

import inspect
import math

import pytest
import torch
from torch import nn
from torchvision.models import vgg as torchvision_vgg

from model.vgg import VGG

# The list of the second tutorial, written out.
TUTORIAL_LAYERS = [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]
TINY_LAYERS = [8, "M", 16, "M"]
COLUMNS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}


def tiny(num_classes=4, **arguments):
    return VGG(num_classes, TINY_LAYERS, **{"classifier_width": 32, "pool_size": 2, **arguments})


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("size", "batch_size"), [((32, 32), 2), ((4, 4), 1), ((5, 37), 3), ((64, 4), 2)], ids=str)
def test_output_has_one_row_an_image_for_any_size(size, batch_size):
    model = tiny()

    assert model(torch.zeros(batch_size, 3, *size)).shape == (batch_size, 4)


@pytest.mark.parametrize("name", COLUMNS)
def test_features_have_as_many_parameters_as_torchvisions(name):
    with torch.device("meta"):  # millions of numbers are counted, not made
        reference = torchvision_vgg.make_layers(torchvision_vgg.cfgs[COLUMNS[name]])

        model = VGG(2, name, classifier_width=0, pool_size=1)

    assert count(model.features) == count(reference)
    assert [type(layer) for layer in model.features] == [type(layer) for layer in reference]


def test_features_give_what_torchvisions_give_from_its_weights():
    torch.manual_seed(0)
    reference = torchvision_vgg.make_layers(torchvision_vgg.cfgs["A"])
    model = VGG(2, "vgg11", classifier_width=0, pool_size=1)
    images_NCHW = torch.rand(1, 3, 32, 32)

    model.features.load_state_dict(reference.state_dict())

    assert torch.equal(model.features(images_NCHW), reference(images_NCHW))


def test_batch_norm_takes_the_place_of_the_bias():
    with torch.device("meta"):
        reference = torchvision_vgg.make_layers(torchvision_vgg.cfgs["A"], batch_norm=True)
        model = VGG(2, "vgg11", batch_norm=True, classifier_width=0, pool_size=1)

    biases = sum(layer.bias.numel() for layer in reference if isinstance(layer, nn.Conv2d))
    assert count(model.features) == count(reference) - biases
    assert [type(layer) for layer in model.features] == [type(layer) for layer in reference]


def test_tutorial_list_is_vgg11_and_has_its_parameters():
    with torch.device("meta"):
        by_list, by_name = VGG(10, TUTORIAL_LAYERS), VGG(10)

    convolutions = [(3, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 512), (512, 512)]
    expected = sum((9 * fan_in + 1) * width for fan_in, width in convolutions)
    expected += (512 * 7 * 7 + 1) * 1024 + (1024 + 1) * 10
    assert by_list.num_trainable_parameters == by_name.num_trainable_parameters == expected
    assert str(by_list) == str(by_name)


def test_the_classifier_takes_the_channels_of_the_last_convolution():
    model = VGG(5, [8, 24, "M"], classifier_width=0, pool_size=3)

    assert model.classifier[-1].in_features == 24 * 9
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


def test_width_zero_leaves_one_linear_layer():
    linear = [layer for layer in tiny(classifier_width=0).modules() if isinstance(layer, nn.Linear)]

    assert len(linear) == 1


def test_classifier_is_the_tutorials():
    types = [type(layer) for layer in tiny().classifier]

    assert types == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]


def test_grid_of_the_pool_is_the_plain_average_where_it_divides_the_features():
    torch.manual_seed(0)
    model = tiny(dropout=0.0).double()
    images_NCHW = torch.rand(2, 3, 16, 16, dtype=torch.float64)  # features are 4x4, the grid 2x2

    output_NK = model(images_NCHW)

    cells = model.features(images_NCHW).reshape(2, 16, 2, 2, 2, 2).mean(dim=(3, 5))
    torch.testing.assert_close(output_NK, model.classifier(cells.flatten(1)), rtol=0, atol=1e-14)


def test_features_of_the_grids_size_are_taken_as_they_are():
    model = tiny().eval()
    images_NCHW = torch.rand(2, 3, 8, 8)  # features are 2x2, as is the grid

    output_NK = model(images_NCHW)

    pooled = nn.functional.adaptive_avg_pool2d(model.features(images_NCHW), 2)
    assert torch.equal(output_NK, model.classifier(pooled.flatten(1)))


def test_weights_start_with_the_spread_that_is_promised():
    torch.manual_seed(0)
    model = VGG(100, [64, 128], classifier_width=256, pool_size=2)

    conv, (first, last) = model.features[2], (model.classifier[0], model.classifier[-1])
    # The spread of 25,600 draws, the fewest here, is known to 0.45 %: the tolerances are six of that and more.
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert last.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert all(not layer.bias.any() for layer in (conv, first, last))


def test_one_seed_gives_one_model():
    torch.manual_seed(3)
    first = tiny()
    torch.manual_seed(3)
    second = tiny()

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_state_dict_carries_the_whole_model(batch_norm):
    model, other = tiny(batch_norm=batch_norm), tiny(batch_norm=batch_norm)
    images_NCHW = torch.rand(3, 3, 16, 16)
    model(images_NCHW)  # moves the running statistics, where there are any

    other.load_state_dict(model.state_dict())

    assert torch.equal(other.eval()(images_NCHW), model.eval()(images_NCHW))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("classifier_width", [0, 32])
def test_it_learns_eight_samples_by_heart(batch_norm, classifier_width):
    torch.manual_seed(0)
    model = tiny(batch_norm=batch_norm, classifier_width=classifier_width)
    images_NCHW, targets_N = torch.randn(8, 3, 16, 16), torch.arange(8) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = [parameter.detach().clone() for parameter in model.parameters()]

    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images_NCHW), targets_N).backward()
        optimizer.step()

    assert torch.equal(model.eval()(images_NCHW).argmax(dim=1), targets_N)
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_too_small_an_image_names_its_size_and_the_minimum():
    model = VGG(2, [4, "M", 4, "M", 4, "M"], classifier_width=0, pool_size=1)

    with pytest.raises(ValueError, match=r"7x9 px are too small.*8x8 px is the minimum"):
        model(torch.zeros(1, 3, 7, 9))


def test_the_minimum_itself_is_enough():
    model = VGG(2, [4, "M", 4, "M", 4, "M"], classifier_width=0, pool_size=1)

    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 2)


def test_grey_images_for_a_colour_model_are_refused_by_shape():
    with pytest.raises(ValueError, match=r"3 channels.*\(2, 1, 16, 16\).*in_channels"):
        tiny()(torch.zeros(2, 1, 16, 16))


def test_grey_images_are_taken_where_asked_for():
    assert tiny(in_channels=1)(torch.zeros(2, 1, 16, 16)).shape == (2, 4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"layers": []}, "no convolution"),
        ({"layers": ["M", "M"]}, "no convolution"),
        ({"layers": [64, 0]}, "holds 0"),
        ({"layers": [64, -8, "M"]}, "holds -8"),
        ({"layers": [64, "m"]}, "holds 'm'"),
        ({"layers": [64.0]}, "holds 64.0"),
        ({"layers": [True]}, "holds True"),
        ({"layers": "vgg12"}, "'vgg12' is none of vgg11, vgg13, vgg16, vgg19"),
        ({"num_classes": 0}, "num_classes"),
        ({"in_channels": 0}, "in_channels"),
        ({"pool_size": 0}, "pool_size"),
        ({"classifier_width": -1}, "classifier_width 0 or more"),
        ({"dropout": -0.1}, "between 0 and 1"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(arguments, text):
    with pytest.raises(ValueError, match=text):
        VGG(**{"num_classes": 2, "layers": [4], "classifier_width": 0, **arguments})


def test_every_parameter_is_annotated():
    parameters = list(inspect.signature(VGG).parameters.values())

    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters)
