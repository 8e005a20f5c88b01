"""The two kinds of image data: files that are opened when asked for, and tensors that are in memory already.

Both know their classes without opening anything, give uint8 pixels to their transform, and can be looked at through
other transforms or in part. Which files belong where is decided in folder.py, table.py and data_loaders.py.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch

from data_loader.decode import Reduction, decode_image
from data_loader.paths import PathList
from data_loader.scaled import reduction_before

Transform = Callable[[torch.Tensor], torch.Tensor]


class ImageData:
    """Samples (image_CHW, class index) with names for them.

    Args:
        targets: class index of each sample.
        classes: class names in the order of their indices.
    """

    def __init__(self, targets: Sequence[int] | torch.Tensor, classes: list[str]):
        self.targets = torch.as_tensor(targets, dtype=torch.int64)
        self.classes = classes
        self.transform: Transform | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.pixels(index)
        return (self.transform(image) if self.transform else image), int(self.targets[index])

    def pixels(self, index: int) -> torch.Tensor:
        """The image as uint8 (C, H, W), before any transform."""
        raise NotImplementedError

    def sample_name(self, index: int) -> str:
        """What a person would call the sample: its file's path, or its number."""
        return str(index)

    def with_transform(self, transform: Transform | None) -> Self:
        """The same samples seen through another transform; nothing is copied."""
        view = copy.copy(self)
        view.transform = transform
        return view

    def subset(self, indices: torch.Tensor) -> Self:
        """Some of the samples, in the order given."""
        view = copy.copy(self)
        view.targets = self.targets[indices]
        return view


class ImageFiles(ImageData):
    """Image files, opened when asked for.

    Args:
        paths: one a sample; kept as a `PathList`, which workers share.
        targets: class index of each.
        classes: class names.
        channels: 3 for RGB, 1 for grey.
        skips_bad: pass over a file that cannot be read, instead of stopping.
        num_left_out: files that are not among these because they were found bad.
        scaled_decoding: decode large JPEGs no larger than the first transform needs (scaled.py).
    """

    reduction: Reduction | None = None

    def __init__(
        self,
        paths: Sequence[str],
        targets: Sequence[int] | torch.Tensor,
        classes: list[str],
        *,
        channels: int = 3,
        skips_bad: bool = False,
        num_left_out: int = 0,
        scaled_decoding: bool = False,
    ):
        super().__init__(targets, classes)
        self.paths = paths if isinstance(paths, PathList) else PathList.of(paths)
        self.channels = channels
        self.skips_bad, self.num_left_out = skips_bad, num_left_out
        self.scaled_decoding = scaled_decoding

    def with_transform(self, transform: Transform | None) -> Self:
        """The same files, decoded as that transform allows."""
        view = super().with_transform(transform)
        view.reduction = reduction_before(transform) if self.scaled_decoding else None
        return view

    def pixels(self, index: int) -> torch.Tensor:
        """Decodes the file; raises DataError, naming it, where that cannot be done."""
        return decode_image(self.paths[index], self.channels, self.reduction)

    def sample_name(self, index: int) -> str:
        """The file's path."""
        return self.paths[index]

    def subset(self, indices: torch.Tensor) -> Self:
        """Some of the files."""
        view = super().subset(indices)
        view.paths = self.paths.chosen(indices)
        view.num_left_out = 0  # in which part they would be, nobody knows
        return view


class ImageTensors(ImageData):
    """Images that fit in memory: a batch without transforms is one index operation.

    Args:
        images_NCHW: uint8.
        targets: class index of each.
        classes: class names.
        name: of the part, for the names of samples ("test/17").
    """

    def __init__(self, images_NCHW: torch.Tensor, targets: Sequence[int], classes: list[str], *, name: str):
        super().__init__(targets, classes)
        self.images_NCHW = images_NCHW
        self.name = name
        self.numbers = torch.arange(len(images_NCHW))

    def pixels(self, index: int) -> torch.Tensor:
        """A view of the one image."""
        return self.images_NCHW[index]

    def get_batch(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """A whole batch at once; None where a transform must see each image by itself."""
        if self.transform is not None:
            return None
        # A third of the time of torch.tensor; and index_select copies whole images, where [...] goes pixel by pixel.
        chosen = torch.from_numpy(np.array(indices, dtype=np.int64))
        return self.images_NCHW.index_select(0, chosen), self.targets.index_select(0, chosen)

    def sample_name(self, index: int) -> str:
        """The part's name and the number in it, which a subset keeps."""
        return f"{self.name}/{int(self.numbers[index])}"

    def subset(self, indices: torch.Tensor) -> Self:
        """Some of the images (copied)."""
        view = super().subset(indices)
        view.images_NCHW, view.numbers = self.images_NCHW[indices], self.numbers[indices]
        return view
