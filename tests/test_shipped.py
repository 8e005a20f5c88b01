"""The network as it leaves: the same arithmetic as everywhere, and a comparison that notices what differs."""

import numpy as np
import pytest
import torch
from torch import nn

from trainer.pixels import PixelsToInput
from trainer.shipped import Shipped, compare, made_images
from utils.errors import ExportError

CPU = torch.device("cpu")


class Sums(nn.Module):
    """Two scores of an image: the sum of its values, and minus that."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        sums_N = images_NCHW.sum((1, 2, 3))
        return torch.stack((sums_N, -sums_N), 1)


def test_pixels_are_scaled_normalised_and_made_probabilities() -> None:
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    images_NCHW = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    shipped = Shipped(Sums(), PixelsToInput(mean, std, CPU), temperature=2.0)

    found_NK = shipped(images_NCHW).numpy()

    by_hand = (images_NCHW.numpy() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    sums_N = by_hand.sum((1, 2, 3))
    expected_NK = np.exp(np.stack((sums_N, -sums_N), 1) / 2)
    assert found_NK == pytest.approx(expected_NK / expected_NK.sum(1, keepdims=True), abs=1e-5)


def test_pixels_are_those_of_training_bit_for_bit() -> None:
    to_input = PixelsToInput([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], CPU)
    images_NCHW = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    shipped = Shipped(nn.Flatten(), to_input, gives_logits=True)

    assert torch.equal(shipped(images_NCHW), to_input(images_NCHW).flatten(1))


def test_floats_are_taken_as_they_are() -> None:
    images_NCHW = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(1))

    shipped = Shipped(nn.Flatten(), None, gives_logits=True)

    assert torch.equal(shipped(images_NCHW), images_NCHW.flatten(1))
    assert shipped.output == "logits"
    assert not shipped.state_dict()


def test_the_network_is_left_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))

    Shipped(network, None)

    assert not network[1].training


def answers(rows):
    """Gives those rows to images whose first pixel is the row's number."""
    table = torch.tensor(rows)
    return lambda images_NCHW: table[images_NCHW[:, 0, 0, 0].long()]


def numbered(count):
    return torch.arange(count, dtype=torch.float32).view(count, 1, 1, 1).expand(count, 1, 2, 2)


def test_equal_answers_agree_whatever_the_batches() -> None:
    rows, sizes = np.random.default_rng(0).dirichlet([1, 1, 1], 70).astype(np.float32).tolist(), []

    def watched(images_NCHW: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images_NCHW))
        return answers(rows)(images_NCHW)

    found = compare(numbered(70), answers(rows), watched)

    found.require()
    assert (found.num_images, found.num_different, found.num_ties, found.largest_difference) == (70, 0, 0, 0.0)
    assert sizes == [1, 32, 32, 5]


@pytest.mark.parametrize(
    ("right", "found", "match"),
    [
        ([[0.9, 0.1], [0.4, 0.6]], [[0.9, 0.1], [0.6, 0.4]], "another class for 1 of 2 images"),
        ([[0.9, 0.1], [0.4, 0.6]], [[0.9, 0.1], [0.3999, 0.6002]], "largest difference 0.0002"),
        ([[0.9, 0.1], [0.4, 0.6]], [[0.9, 0.1], [float("nan"), 0.6]], "nan"),
        ([[0.50001, 0.49999]], [[0.49999, 0.50001]], "another class for 1 of 1"),
        ([[0.9, 0.1]], [[0.9, 0.1, 0.0]], r"shape \(1, 3\)"),
    ],
)
def test_what_differs_is_refused(right, found, match: str) -> None:
    with pytest.raises(ExportError, match=match):
        compare(numbered(len(right)), answers(right), answers(found)).require()


def test_a_tie_is_told_and_no_difference() -> None:
    found = compare(numbered(1), answers([[0.5000001, 0.5]]), answers([[0.5, 0.5000001]]))

    found.require()
    assert found.num_ties == 1
    assert "1 ties within 1e-06 aside" in str(found)


def test_large_scores_may_differ_in_their_last_bits() -> None:
    compare(numbered(1), answers([[9000.0, 1.0]]), answers([[9000.01, 1.0]])).require()


@pytest.mark.parametrize("is_float", [False, True])
def test_made_images_are_the_same_each_time_and_differ_from_each_other(is_float: bool) -> None:
    images_NCHW = made_images((3, 9, 7), is_float=is_float)

    assert torch.equal(images_NCHW, made_images((3, 9, 7), is_float=is_float))
    assert images_NCHW.shape == (64, 3, 9, 7)
    assert images_NCHW.dtype == (torch.float32 if is_float else torch.uint8)
    assert len({image.numpy().tobytes() for image in images_NCHW}) == 64
    assert images_NCHW.min() == (-2 if is_float else 0)
    assert images_NCHW.max() == (2 if is_float else 255)
