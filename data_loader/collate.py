"""Functions that make a batch of a list of samples, for `data_loader.args.collate_fn`. One of your own takes
`samples`, a list of (image_CHW, class index), and returns (images_NCHW, targets_N)."""

import torch
from torch.nn.functional import pad


def pad_to_largest(samples: list[tuple[torch.Tensor, int]], fill: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Batches images of different sizes: each is padded with `fill` on the right and below to the largest one."""
    height = max(image.shape[1] for image, _ in samples)
    width = max(image.shape[2] for image, _ in samples)
    images = [pad(image, (0, width - image.shape[2], 0, height - image.shape[1]), value=fill) for image, _ in samples]
    return torch.stack(images), torch.tensor([target for _, target in samples])
