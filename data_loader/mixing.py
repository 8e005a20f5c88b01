"""Operations that mix the images of a batch, for `data_loader.args.batch_transform`: MixUp and CutMix.

Each image is mixed with the one before it in the batch (the first with the last), as in torchvision.transforms.v2; the
order of a batch is random already. The shares are drawn image by image, where torchvision draws one for the batch: so
an image's share does not depend on the batch that it is in, and only its partner does.
"""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Gt

from base.base_batch_transform import BatchTransform, ShapeCHW
from data_loader.batch_transforms import Probability, inside
from utils.draws import Draws

Alpha = Annotated[float, Gt(0)]


class MixUp(BatchTransform):
    """The weighted mean of two normalised images, and of their classes with the same weights.

    Args:
        alpha: the image's own share is drawn from Beta(alpha, alpha); small values leave most images nearly alone.
        p: probability, image by image, that it is mixed at all.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412; `MixUp` of
    torchvision.transforms.v2.
    """

    needs_floats = True
    mixes = True

    def __init__(self, alpha: Alpha = 1.0, p: Probability = 1.0):
        self.share, self.p = SymmetricBeta(alpha), p

    def draw(self, draws: Draws, shape_CHW: ShapeCHW) -> np.ndarray:
        """The image's own share, 1 where it stays as it is."""
        chance_N, share_N = draws.uniform(2)
        return np.where(chance_N < self.p, self.share(share_N), 1.0)[None]

    def apply(self, images_NCHW: torch.Tensor, drawn_RN: torch.Tensor) -> torch.Tensor:
        """Mixes each image with the one before it."""
        own = drawn_RN.view(-1, 1, 1, 1)
        return images_NCHW * own + before(images_NCHW) * (1 - own)

    def mix(self, targets_NK: torch.Tensor, drawn_RN: torch.Tensor) -> torch.Tensor:
        """The same mean of the targets."""
        return _shared(targets_NK, drawn_RN[0])


class CutMix(BatchTransform):
    """A rectangle of the image is replaced by that of another, and its class by the other's in that part of the area.

    Args:
        alpha: the part of the area that the image keeps is drawn from Beta(alpha, alpha). Its rectangle lies around a
            random point and is cut off at the border; what counts for the classes is what is left of it.
        p: probability, image by image, that it is mixed at all.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", arXiv 1905.04899; `CutMix` of
    torchvision.transforms.v2.
    """

    mixes = True

    def __init__(self, alpha: Alpha = 1.0, p: Probability = 1.0):
        self.share, self.p = SymmetricBeta(alpha), p

    def draw(self, draws: Draws, shape_CHW: ShapeCHW) -> np.ndarray:
        """Rows from and to, columns from and to, and the share of the area that is left."""
        _, height, width = shape_CHW
        chance_N, share_N, down_N, right_N = draws.uniform(4)
        half_side_N = 0.5 * np.sqrt(1 - self.share(share_N)) * (chance_N < self.p)
        edges = []
        for side, place_N in ((height, down_N), (width, right_N)):
            middle_N, reach_N = np.floor(place_N * side), np.floor(half_side_N * side)
            edges += [np.clip(middle_N - reach_N, 0, side), np.clip(middle_N + reach_N, 0, side)]
        top_N, bottom_N, left_N, right_edge_N = edges
        own_N = 1 - (bottom_N - top_N) * (right_edge_N - left_N) / (height * width)
        return np.stack([*edges, own_N])

    def apply(self, images_NCHW: torch.Tensor, drawn_RN: torch.Tensor) -> torch.Tensor:
        """Puts the rectangles in."""
        return torch.where(inside(images_NCHW, drawn_RN), before(images_NCHW), images_NCHW)

    def mix(self, targets_NK: torch.Tensor, drawn_RN: torch.Tensor) -> torch.Tensor:
        """By what is left of the areas."""
        return _shared(targets_NK, drawn_RN[4])


class SymmetricBeta:
    """Turns uniform numbers into numbers of Beta(alpha, alpha), by the inverse of its distribution function.

    One number in, one out, where the usual methods draw until they are content. The inverse is read from a table. Where
    alpha is below 1 and the density has no bound, the table is in t = share**alpha, in which it has one.

    Args:
        alpha: above 0; 1 is the uniform distribution.
    """

    POINTS = 4097

    def __init__(self, alpha: float):
        # Half of the distribution is enough: the other half mirrors it.
        self.power = min(alpha, 1)
        self.t = np.linspace(0, 0.5**self.power, self.POINTS)
        share = self.t ** (1 / self.power)
        # Times 4, so that it is 1 in the middle for any alpha.
        density = (4 * share * (1 - share) if alpha > 1 else 1 - share) ** (alpha - 1)
        pieces = (density[1:] + density[:-1]) / 2 * np.diff(self.t)
        below = np.concatenate([[0.0], np.cumsum(pieces)])
        self.below = below / (2 * below[-1])

    def __call__(self, uniform_N: np.ndarray) -> np.ndarray:
        """float64 (N,), of uniform numbers in [0, 1)."""
        from_the_end_N = np.minimum(uniform_N, 1 - uniform_N)
        share_N = np.interp(from_the_end_N, self.below, self.t) ** (1 / self.power)
        return np.where(uniform_N < 0.5, share_N, 1 - share_N)


def before(batch: torch.Tensor) -> torch.Tensor:
    """For each sample of a batch the one before it; for the first the last."""
    return batch.roll(1, 0)


def _shared(targets_NK: torch.Tensor, own_N: torch.Tensor) -> torch.Tensor:
    return targets_NK * own_N[:, None] + before(targets_NK) * (1 - own_N[:, None])
