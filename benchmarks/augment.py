"""Augmentation image by image in the loader against whole batches: `OMP_NUM_THREADS=1 python -m benchmarks.augment`.

From pixels in memory to the network's input, on the CPU in one process, with torchvision's transforms in `transform`
or with operations of the same meaning in `batch_transform`. Both take turns; the ratio is what counts.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.utils.data import default_collate
from torchvision.transforms import v2

from base.base_batch_transform import BatchTransform, KeyedBatch
from base.keyed import KeyedDataset, SampleKey
from data_loader.batch_transforms import RandomCrop, RandomErasing, RandomHorizontalFlip
from data_loader.dataset import ImageTensors
from data_loader.mixing import CutMix, MixUp
from trainer.augment import Augmentation
from trainer.pixels import PixelsToInput
from utils.draws import draws_for, key_array

SIZE_PX, CLASSES, ROUNDS = 32, 10, 15
PAIRS = {
    "crop (zeros), flip": (
        [v2.RandomCrop(SIZE_PX, padding=4), v2.RandomHorizontalFlip()],
        [RandomCrop(None, padding=4), RandomHorizontalFlip()],
    ),
    "crop (reflect), flip": (
        [v2.RandomCrop(SIZE_PX, padding=4, padding_mode="reflect"), v2.RandomHorizontalFlip()],
        [RandomCrop(None, padding=4, padding_mode="reflect"), RandomHorizontalFlip()],
    ),
    "crop, flip, erasing": (
        [v2.RandomCrop(SIZE_PX, padding=4), v2.RandomHorizontalFlip(), v2.RandomErasing()],
        [RandomCrop(None, padding=4), RandomHorizontalFlip(), RandomErasing()],
    ),
}
EACH: list[BatchTransform] = [RandomCrop(None, padding=4), RandomHorizontalFlip(), CutMix(), RandomErasing(), MixUp()]


def in_turn_ms(*works: Callable[[], object]) -> list[float]:
    """The shortest time of each, in milliseconds: what else the machine does can only add to it."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for work, taken in zip(works, times, strict=True):
            started_s = time.perf_counter()
            work()
            taken.append((time.perf_counter() - started_s) * 1000)
    return [min(taken) for taken in times]


def by_image(data: KeyedDataset, keys: list[SampleKey], to_input: PixelsToInput) -> torch.Tensor:
    """The network's input where the data set's transform did everything."""
    return to_input(data.__getitems__(keys)[0])


def by_batch(data: KeyedDataset, keys: list[SampleKey], augmentation: Augmentation) -> torch.Tensor:
    """The network's input where the batch is augmented."""
    return augmentation.plan(KeyedBatch(data.__getitems__(keys), key_array(keys))).inputs()


def compare(batch_size: int, layout: torch.memory_format) -> None:
    """Prints a line for each pair, and one for each operation alone."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (2000, 3, SIZE_PX, SIZE_PX), generator=generator, dtype=torch.uint8)
    data = ImageTensors(pixels, [index % CLASSES for index in range(2000)], [str(k) for k in range(CLASSES)], name="x")
    keys: list[SampleKey] = [(0, index) for index in torch.randperm(2000, generator=generator)[:batch_size].tolist()]
    to_input = PixelsToInput((0.5,), (0.25,), torch.device("cpu"), layout)
    plain = KeyedDataset(data, default_collate, 0)
    for name, (transforms, operations) in PAIRS.items():
        transformed = KeyedDataset(data.with_transform(v2.Compose(transforms)), default_collate, 0)
        image_ms, batch_ms, nothing_ms = in_turn_ms(
            partial(by_image, transformed, keys, to_input),
            partial(by_batch, plain, keys, Augmentation(to_input, operations, 0, CLASSES)),
            partial(by_image, plain, keys, to_input),
        )
        print(
            f"{name:22} batch {batch_size:3}  by image {image_ms:7.2f} ms   by batch {batch_ms:6.2f} ms   "
            f"ratio {image_ms / batch_ms:5.1f}   (without augmentation {nothing_ms:.2f} ms)"
        )
    draws = draws_for(0, key_array(keys), 1)[0]
    for operation in EACH:
        images = to_input(pixels[:batch_size]) if operation.needs_floats else pixels[:batch_size]
        drawn_RN = torch.from_numpy(operation.draw(draws, (3, SIZE_PX, SIZE_PX)).astype(np.float32))
        draw_ms, apply_ms = in_turn_ms(
            partial(operation.draw, draws, (3, SIZE_PX, SIZE_PX)), partial(operation.apply, images, drawn_RN)
        )
        print(
            f"  {type(operation).__name__:20} batch {batch_size:3}  draw {draw_ms:5.2f} ms   apply {apply_ms:5.2f} ms"
        )


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, the shortest of {ROUNDS} rounds")
    for layout in (torch.contiguous_format, torch.channels_last):
        print(f"{layout}, images of 3x{SIZE_PX}x{SIZE_PX}")
        for batch_size in (128, 500):
            compare(batch_size, layout)
