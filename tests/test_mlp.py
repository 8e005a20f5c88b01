"""The MLP: what it computes, what it refuses, and that it can learn."""

import inspect
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from model.mlp import MLP, Activation


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(1)


def numpy_linear(images_NF, layer):
    return images_NF @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


@pytest.mark.parametrize(
    ("num_classes", "in_channels", "image_size", "batch_size"),
    [(10, 1, (28, 28), 4), (3, 3, (8, 5), 1), (2, 4, (1, 1), 0)],
)
def test_output_has_one_row_an_image_and_one_column_a_class(num_classes, in_channels, image_size, batch_size):
    model = MLP(num_classes, in_channels, image_size=image_size)

    output_NK = model(torch.zeros(batch_size, in_channels, *image_size))

    assert output_NK.shape == (batch_size, num_classes)


def test_forward_equals_the_same_layers_in_numpy(generator):
    model = MLP(3, 2, image_size=(4, 5), hidden_widths=(7, 6)).double()
    images_NCHW = torch.randn(5, 2, 4, 5, generator=generator, dtype=torch.float64)
    first, second, last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]

    output_NK = model(images_NCHW)

    hidden = np.maximum(numpy_linear(images_NCHW.numpy().reshape(5, -1), first), 0)
    hidden = np.maximum(numpy_linear(hidden, second), 0)
    # Sums of at most 40 products of numbers near 1, in float64.
    np.testing.assert_allclose(output_NK.detach().numpy(), numpy_linear(hidden, last), rtol=0, atol=1e-13)


def test_identity_activation_is_one_linear_map_of_the_pixels(generator):
    model = MLP(3, 1, image_size=(4, 4), hidden_widths=(32,), activation="Identity").double()
    a, b = torch.randn(2, 5, 1, 4, 4, generator=generator, dtype=torch.float64)

    between = model(0.3 * a + 0.7 * b)

    torch.testing.assert_close(between, 0.3 * model(a) + 0.7 * model(b), rtol=0, atol=1e-13)


def test_relu_is_not_a_linear_map_of_the_pixels(generator):
    model = MLP(3, 1, image_size=(4, 4), hidden_widths=(32,)).double()
    a, b = torch.randn(2, 5, 1, 4, 4, generator=generator, dtype=torch.float64)

    between = model(0.3 * a + 0.7 * b)

    assert (between - 0.3 * model(a) - 0.7 * model(b)).abs().max() > 1e-3


def test_without_hidden_widths_there_is_one_linear_layer():
    model = MLP(10, hidden_widths=())

    assert model.num_trainable_parameters == 784 * 10 + 10


def test_tutorial_pair_has_784_1024_10_parameters():
    model = MLP(10, hidden_widths=(1024,), activation="Identity")

    assert model.num_trainable_parameters == (784 + 1) * 1024 + (1024 + 1) * 10


@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_activation_of_the_list_is_the_one_of_torch(activation):
    model = MLP(2, activation=activation)

    assert [type(layer) for layer in model.layers][1] is getattr(nn, activation)


def test_keys_of_a_checkpoint_do_not_depend_on_dropout():
    assert MLP(2, dropout=0.5).state_dict().keys() == MLP(2).state_dict().keys()


def test_dropout_acts_in_training_only():
    model = MLP(10, dropout=0.5)
    images_NCHW = torch.ones(4, 1, 28, 28)

    training = model(images_NCHW), model(images_NCHW)
    model.eval()
    evaluation = model(images_NCHW), model(images_NCHW)

    assert not torch.equal(*training)
    assert torch.equal(*evaluation)


def test_one_seed_gives_one_model():
    torch.manual_seed(3)
    first = MLP(10)
    torch.manual_seed(3)
    second = MLP(10)
    torch.manual_seed(4)
    third = MLP(10)

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(third.parameters()))


def test_state_dict_carries_the_whole_model(generator):
    model, other = MLP(5), MLP(5)
    images_NCHW = torch.rand(3, 1, 28, 28, generator=generator)

    other.load_state_dict(model.state_dict())

    assert torch.equal(other(images_NCHW), model(images_NCHW))


@pytest.mark.parametrize("hidden_widths", [(), (64,), (64, 32)])
def test_it_learns_eight_samples_by_heart(generator, hidden_widths):
    torch.manual_seed(0)
    model = MLP(4, 3, image_size=(8, 8), hidden_widths=hidden_widths)
    images_NCHW, targets_N = torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = [parameter.detach().clone() for parameter in model.parameters()]

    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images_NCHW), targets_N).backward()
        optimizer.step()

    assert torch.equal(model(images_NCHW).argmax(dim=1), targets_N)
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_wrong_image_size_names_both_shapes():
    model = MLP(10)

    with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\).*\(2, 3, 32, 32\)"):
        model(torch.zeros(2, 3, 32, 32))


def test_a_transposed_image_is_refused_though_its_pixels_would_fit():
    model = MLP(10, image_size=(4, 6))

    with pytest.raises(ValueError, match=r"\(N, 1, 4, 6\)"):
        model(torch.zeros(2, 1, 6, 4))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_classes": 0}, "1 or more"),
        ({"num_classes": 2, "in_channels": 0}, "1 or more"),
        ({"num_classes": 2, "image_size": (28, 0)}, "1 or more"),
        ({"num_classes": 2, "image_size": (28,)}, "two numbers"),
        ({"num_classes": 2, "hidden_widths": (8, -1)}, "1 or more"),
        ({"num_classes": 2, "activation": "Relu"}, "'Relu' is none of ReLU"),
        ({"num_classes": 2, "activation": "Linear"}, "'Linear' is none of"),
        ({"num_classes": 2, "dropout": 1.5}, "between 0 and 1"),
        ({"num_classes": 2, "hidden_widths": (), "dropout": 0.5}, "would do nothing"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(arguments, text):
    with pytest.raises(ValueError, match=text):
        MLP(**arguments)


def test_lists_from_a_config_do_as_well_as_tuples():
    model = MLP(2, image_size=[4, 4], hidden_widths=[8])

    assert model(torch.zeros(1, 1, 4, 4)).shape == (1, 2)


def test_every_parameter_is_annotated():
    parameters = list(inspect.signature(MLP).parameters.values())

    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters)
