"""QuickNet: what its first layer does to patches, how its convolutions begin, and what it refuses."""

import numpy as np
import pytest
import torch

from model.quick_net import QuickNet


def images(count=200, size=12):
    """Neighbouring pixels and channels of which are alike, as in photographs."""
    noise = torch.randn(count, 3, size + 2, size + 2, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1)
    return 2 * smooth + smooth.mean(1, keepdim=True)


def test_whitened_patches_are_independent_and_of_deviation_one():
    model, images_NCHW = QuickNet(4), images()
    model.initialize_from(images_NCHW)

    answers_NDHW = model.whitening(images_NCHW).detach()

    answers_MD = answers_NDHW.movedim(1, -1).reshape(-1, 24).numpy()
    second_moments_DD = answers_MD[:, :12].T @ answers_MD[:, :12] / len(answers_MD)
    np.testing.assert_allclose(second_moments_DD, np.eye(12), atol=0.05)  # a little less where there is hardly any
    np.testing.assert_array_equal(answers_MD[:, 12:], -answers_MD[:, :12])


def test_the_whitening_is_the_same_for_the_same_images_and_follows_numpy():
    images_NCHW = images(20)
    model, again = QuickNet(4), QuickNet(4)
    model.initialize_from(images_NCHW)
    again.initialize_from(images_NCHW)

    windows = np.lib.stride_tricks.sliding_window_view(images_NCHW.double().numpy(), (2, 2), axis=(2, 3))
    patches_MD = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    variances_D, vectors_DD = np.linalg.eigh(patches_MD.T @ patches_MD / len(patches_MD))
    expected = vectors_DD[:, -1] / np.sqrt(variances_D[-1] + 5e-4)
    found = model.whitening.weight[0].detach().numpy().reshape(-1)

    assert torch.equal(model.whitening.weight, again.whitening.weight)
    np.testing.assert_allclose(found, expected * np.sign(expected[np.abs(expected).argmax()]), rtol=1e-4, atol=1e-6)


def test_convolutions_begin_by_passing_on_what_they_see():
    layer = QuickNet(4).blocks[1][0]  # 64 inputs, 256 outputs
    images_NCHW = torch.randn(2, 64, 5, 5)

    assert torch.equal(layer(images_NCHW)[:, :64], images_NCHW)


def test_the_first_layer_and_the_scales_of_the_norms_are_not_learned():
    model = QuickNet(4, widths=(8, 16))

    model(torch.randn(2, 3, 12, 12)).sum().backward()

    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    norms = {f"blocks.{block}.{layer}.weight" for block in (0, 1) for layer in (2, 5)}
    assert without == {"whitening.weight"} | norms


@pytest.mark.parametrize(("size", "widths"), [((5, 5), (8, 8)), ((9, 40), (4, 4, 4)), ((32, 32), (8, 8, 8))])
def test_output_has_one_row_an_image_for_any_size(size, widths):
    assert QuickNet(7, 1, widths=widths)(torch.zeros(3, 1, *size)).shape == (3, 7)


def test_what_it_cannot_take_is_told():
    with pytest.raises(ValueError, match="must be 1 or more"):
        QuickNet(10, widths=())
    with pytest.raises(ValueError, match="must be 1 or more"):
        QuickNet(10, widths=(64, 0))
    with pytest.raises(ValueError, match="is built for 3 channels, received 1"):
        QuickNet(10)(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="too small for this QuickNet; 9 px is the least"):
        QuickNet(10)(torch.zeros(1, 3, 8, 32))
