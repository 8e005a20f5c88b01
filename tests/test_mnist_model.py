"""MnistModel: the template's network, layer by layer, and its log-probabilities."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model.mnist_model import MnistModel


@pytest.mark.parametrize(("num_classes", "batch_size"), [(10, 4), (3, 1), (10, 0)])
def test_output_has_one_row_an_image_and_one_column_a_class(num_classes, batch_size):
    model = MnistModel(num_classes)

    assert model(torch.zeros(batch_size, 1, 28, 28)).shape == (batch_size, num_classes)


def test_it_has_the_templates_parameters():
    model = MnistModel()

    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes == {
        "conv1.weight": (10, 1, 5, 5),
        "conv1.bias": (10,),
        "conv2.weight": (20, 10, 5, 5),
        "conv2.bias": (20,),
        "fc1.weight": (50, 320),
        "fc1.bias": (50,),
        "fc2.weight": (10, 50),
        "fc2.bias": (10,),
    }
    assert model.num_trainable_parameters == 21_840


def test_forward_equals_the_layers_written_one_after_the_other():
    torch.manual_seed(0)
    model = MnistModel().eval()
    images_NCHW = torch.rand(3, 1, 28, 28)

    output_NK = model(images_NCHW)

    chain = nn.Sequential(
        model.conv1, nn.MaxPool2d(2), nn.ReLU(), model.conv2, nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        model.fc1, nn.ReLU(), model.fc2, nn.LogSoftmax(dim=1),
    )  # fmt: skip
    assert torch.equal(output_NK, chain(images_NCHW))


def test_output_is_log_probabilities():
    torch.manual_seed(0)
    output_NK = MnistModel()(torch.rand(5, 1, 28, 28))

    # Sums of ten float32 near 0.1.
    torch.testing.assert_close(output_NK.exp().sum(dim=1), torch.ones(5), rtol=0, atol=1e-6)
    assert (output_NK <= 0).all()


def test_nll_loss_on_it_is_cross_entropy():
    torch.manual_seed(0)
    output_NK, targets_N = MnistModel()(torch.rand(5, 1, 28, 28)), torch.arange(5)

    torch.testing.assert_close(
        F.nll_loss(output_NK, targets_N), F.cross_entropy(output_NK, targets_N), rtol=0, atol=1e-6
    )


def test_dropout_acts_in_training_only_and_takes_whole_channels():
    torch.manual_seed(0)
    model = MnistModel()
    images_NCHW, seen = torch.rand(2, 1, 28, 28), []
    model.conv2_drop.register_forward_hook(lambda module, given, output: seen.append(output))

    training = model(images_NCHW), model(images_NCHW)
    model.eval()
    evaluation = model(images_NCHW), model(images_NCHW)

    assert not torch.equal(*training)
    assert torch.equal(*evaluation)
    zeros_in_channel = (seen[0] == 0).flatten(2).float().mean(dim=2)
    assert set(zeros_in_channel.flatten().tolist()) == {0.0, 1.0}


def test_one_seed_gives_one_model_and_a_state_dict_carries_it():
    torch.manual_seed(3)
    first = MnistModel().eval()
    torch.manual_seed(3)
    second = MnistModel().eval()
    loaded = MnistModel().eval()
    images_NCHW = torch.rand(2, 1, 28, 28)

    loaded.load_state_dict(first.state_dict())

    assert torch.equal(first(images_NCHW), second(images_NCHW))
    assert torch.equal(first(images_NCHW), loaded(images_NCHW))


def test_it_learns_eight_samples_by_heart():
    torch.manual_seed(0)
    model = MnistModel(4)
    images_NCHW, targets_N = torch.randn(8, 1, 28, 28), torch.arange(8) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = [parameter.detach().clone() for parameter in model.parameters()]

    for _ in range(120):
        optimizer.zero_grad()
        F.nll_loss(model(images_NCHW), targets_N).backward()
        optimizer.step()

    assert torch.equal(model.eval()(images_NCHW).argmax(dim=1), targets_N)
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 32, 32), (2, 28, 28)])
def test_other_images_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\), received \(2, "):
        MnistModel()(torch.zeros(shape))


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes must be 1 or more, received 0"):
        MnistModel(0)
