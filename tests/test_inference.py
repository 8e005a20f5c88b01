"""Scores as they come, in evaluation mode, and what is said of sizes that the network cannot take."""

import pytest
import torch
from torch import nn

from trainer.inference import answers
from trainer.pixels import PixelsToInput

TO_INPUT = PixelsToInput((0.5,), (0.5,), torch.device("cpu"))


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_scores_are_those_of_evaluation_mode_and_come_batch_by_batch() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(0.9), nn.Linear(12, 4))
    images, taken = pixels(5, 3, 2, 2), []

    def batches():  # type: ignore[no-untyped-def]
        for start in (0, 2, 4):
            taken.append(start)
            part = images[start : start + 2]
            yield part, torch.arange(start, start + len(part))

    found = answers(network, batches(), TO_INPUT, (3, 2, 2))

    first = next(found)
    assert taken == [0]
    rest = list(found)
    assert torch.cat([answer.positions_N for answer in (first, *rest)]).tolist() == [0, 1, 2, 3, 4]
    norm, linear = network[1].eval(), network[3]
    expected = linear(norm(((images.float() / 255 - 0.5) / 0.5).flatten(1)))
    scores = torch.cat([answer.logits_NK for answer in (first, *rest)])  # type: ignore[misc]
    assert torch.allclose(scores, expected, atol=1e-5)


def test_another_size_that_does_not_fit_is_an_answer_and_a_broken_network_is_not() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    large, small = pixels(1, 3, 3, 3), pixels(2, 3, 2, 2)

    first, second = answers(network, [(large, torch.tensor([0])), (small, torch.tensor([1, 2]))], TO_INPUT, (3, 2, 2))

    assert first.logits_NK is None
    assert first.problem == "3x3 pixels reach the network, which was trained on 2x2 and cannot take them"
    assert second.logits_NK is not None
    with pytest.raises(RuntimeError):
        list(answers(network, [(large, torch.tensor([0]))], TO_INPUT, (3, 3, 3)))
