"""A network as it leaves this project: pixels in, probabilities out, nothing else needed; and whether it still agrees.

export.py traces a `Shipped` into a file and holds the file, read back, against the network that it was made from.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from trainer.pixels import PixelsToInput
from utils.errors import ExportError
from utils.seed import generator_for

Answers = Callable[[torch.Tensor], torch.Tensor]
_IMAGES_AT_ONCE = 32
# float32 adds in another order there. Probabilities move by about 1e-7 for small networks, 1e-6 for deep ones.
_LARGEST_DIFFERENCE = 1e-4
_TIE = 1e-6


class Shipped(nn.Module):
    """Scaling, normalising, the network and softmax as one module.

    Args:
        network: gives logits_NK of normalised images_NCHW; is left in evaluation mode.
        pixels: scales and normalises uint8 images; None where images arrive as finished floats.
        temperature: that the scores are divided by; above 0.
        gives_logits: the scores instead of probabilities, divided by the temperature too.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, network: nn.Module, pixels: PixelsToInput | None, *, temperature: float = 1.0, gives_logits: bool = False
    ):
        super().__init__()
        self.network = network
        self.takes_bytes, self.temperature, self.gives_logits = pixels is not None, temperature, gives_logits
        if pixels is not None:
            self.register_buffer("shift", pixels.shift.clone())
            self.register_buffer("scale", pixels.scale.clone())
        self.eval()

    @property
    def output(self) -> str:
        """Name of what it gives."""
        return "logits" if self.gives_logits else "probabilities"

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """float32 (N, K): probabilities, or scores."""
        if self.takes_bytes:
            images_NCHW = (images_NCHW.to(torch.float32) - self.shift) * self.scale
        return self.finished(self.network(images_NCHW))

    def finished(self, logits_NK: torch.Tensor) -> torch.Tensor:
        """What becomes of the network's scores."""
        if self.temperature != 1:
            logits_NK = logits_NK / self.temperature
        return logits_NK if self.gives_logits else logits_NK.softmax(1)


@dataclass(frozen=True)
class Agreement:
    """How two ways to compute the same answers compare.

    Args:
        num_images: how many were shown to both.
        num_different: of those, how many got another class, ties left out.
        num_ties: of those, how many got another class that the first way rates as high, to 1e-6.
        largest_difference: of any two answers; NaN where one is none.
        limit: that the difference may reach.
    """

    num_images: int
    num_different: int
    num_ties: int
    largest_difference: float
    limit: float

    def __str__(self) -> str:
        ties = f" ({self.num_ties} ties within {_TIE:g} aside)" if self.num_ties else ""
        return f"top-1 equal on all{ties}, largest difference {self.largest_difference:.1e}"

    def require(self) -> None:
        """Refuses what does not answer as the network does.

        Raises:
            ExportError: with the numbers.
        """
        if self.num_different or not self.largest_difference <= self.limit:
            raise ExportError(
                f"the file would not answer as the network does: another class for {self.num_different} of "
                f"{self.num_images} images, largest difference {self.largest_difference:.2g} where {self.limit:.2g} is "
                f"allowed. Nothing was written"
            )


@torch.inference_mode()
def compare(images_NCHW: torch.Tensor, network: Answers, file: Answers) -> Agreement:
    """Shows the same images to both, in batches of several sizes, one image among them.

    Args:
        images_NCHW: as the evaluation transforms give them.
        network: gives the answers that are right.
        file: gives those that are in question.
    """
    pairs = [(network(part).float(), file(part).float()) for part in _batches(images_NCHW)]
    right_NK, found_NK = (torch.cat(side).double().numpy() for side in zip(*pairs, strict=True))
    if right_NK.shape != found_NK.shape:
        raise ExportError(f"the file would give answers of shape {found_NK.shape}, the network gives {right_NK.shape}")
    # Probabilities are at most 1; scores may be large, and their last bits with them.
    size = max(1.0, float(np.abs(right_NK).max()))
    rows_N, first_N, second_N = np.arange(len(right_NK)), right_NK.argmax(1), found_NK.argmax(1)
    margin_N = right_NK[rows_N, first_N] - right_NK[rows_N, second_N]
    is_other_N, is_tie_N = first_N != second_N, margin_N <= _TIE * size
    return Agreement(
        num_images=len(right_NK),
        num_different=int((is_other_N & ~is_tie_N).sum()),
        num_ties=int((is_other_N & is_tie_N).sum()),
        largest_difference=float(np.abs(right_NK - found_NK).max()),
        limit=_LARGEST_DIFFERENCE * size,
    )


def made_images(shape_CHW: tuple[int, int, int], *, is_float: bool, count: int = 64) -> torch.Tensor:
    """Images_NCHW where there are no real ones, always the same: half noise, half soft patches, a black, a white.

    Args:
        shape_CHW: of one image.
        is_float: finished floats around 0 in place of uint8 pixels.
        count: how many, 4 or more.
    """
    generator = generator_for(0, "export")
    noise_NCHW = torch.rand(count // 2, *shape_CHW, generator=generator)
    patches = torch.rand(count - count // 2, shape_CHW[0], 4, 4, generator=generator)
    soft_NCHW = F.interpolate(patches, shape_CHW[1:], mode="bilinear", align_corners=False)
    soft_NCHW[0], soft_NCHW[1] = 0, 1
    images_NCHW = torch.cat((noise_NCHW, soft_NCHW))
    return 4 * images_NCHW - 2 if is_float else (255 * images_NCHW).round().to(torch.uint8)


def _batches(images_NCHW: torch.Tensor) -> Iterator[torch.Tensor]:
    """The first image alone, then as many at once as fit a small machine; the last batch is as long as it is."""
    yield images_NCHW[:1]
    if len(images_NCHW) > 1:
        yield from images_NCHW[1:].split(_IMAGES_AT_ONCE)
