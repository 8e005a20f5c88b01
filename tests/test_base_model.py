"""What a model of one's own gets from its base."""

import pytest
import torch
from torch import nn

from base.base_model import BaseModel, count_trainable


class Tiny(BaseModel):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.last = nn.Linear(3, 2, bias=False)

    def forward(self, images_NCHW):
        return self.last(self.norm(self.first(images_NCHW.flatten(1))))


def test_a_model_without_forward_cannot_be_made():
    class Nothing(BaseModel):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()


def test_the_base_itself_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        BaseModel()


def test_trainable_parameters_are_counted_by_hand():
    # 4 * 3 + 3 of the first layer, 3 + 3 of the norm (its running statistics are no parameters), 3 * 2 of the last.
    assert Tiny().num_trainable_parameters == 15 + 6 + 6


def test_frozen_parameters_do_not_count():
    model = Tiny()

    model.first.requires_grad_(False)

    assert model.num_trainable_parameters == 6 + 6
    assert count_trainable(model) == 6 + 6


def test_a_parameter_that_two_layers_share_counts_once():
    model = Tiny()

    model.norm.weight = model.norm.bias

    assert model.num_trainable_parameters == 15 + 3 + 6


def test_any_module_can_be_counted_and_an_empty_one_has_none():
    assert count_trainable(nn.Conv2d(3, 8, 5)) == 8 * 3 * 5 * 5 + 8
    assert count_trainable(nn.Identity()) == 0


def test_printing_a_model_tells_its_layers_and_how_many_numbers_training_may_change():
    model = Tiny()
    model.wide = nn.Linear(1000, 10, bias=False)

    text = repr(model)

    assert "trainable parameters: 10,027" in text
    assert "(first): Linear(in_features=4, out_features=3" in text


def test_a_model_is_a_module_with_a_state():
    first, second = Tiny(), Tiny()
    images_NCHW = torch.rand(5, 1, 2, 2)

    second.load_state_dict(first.state_dict())

    assert torch.equal(first.eval()(images_NCHW), second.eval()(images_NCHW))
