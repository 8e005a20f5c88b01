"""A batch with keys is a pair like any other, and what is not said of a batch transform leaves everything as it is."""

import numpy as np
import torch

from base.base_batch_transform import BatchTransform, KeyedBatch
from utils.draws import key_array


class Nothing(BatchTransform):
    def draw(self, draws, shape_CHW):
        return np.zeros((0, len(draws.keys_N3)))

    def apply(self, images_NCHW, drawn_RN):
        return images_NCHW


def test_a_keyed_batch_unpacks_as_a_pair_and_knows_its_keys():
    batch = KeyedBatch((torch.zeros(2, 3, 4, 4), torch.tensor([1, 0])), key_array([(0, 5), (0, 2)]))

    images_NCHW, targets_N = batch

    assert images_NCHW is batch[0]
    assert targets_N.tolist() == [1, 0]
    assert batch.keys_N3.tolist() == [[0, 5, 0], [0, 2, 0]]


def test_by_default_neither_the_size_nor_the_targets_change():
    targets_NK = torch.eye(2)

    assert Nothing().shape_after((3, 8, 6)) == (3, 8, 6)
    assert Nothing().mix(targets_NK, torch.zeros(0, 2)) is targets_NK
    assert not Nothing.needs_floats
    assert not Nothing.mixes
