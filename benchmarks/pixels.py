"""From JPEG files to the network's input, against the usual pipeline: `OMP_NUM_THREADS=1 python -m benchmarks.pixels`.

Draws photograph-like JPEGs of 500x375 (and PNGs of 32x32) into a temporary folder, or takes those of `--data-dir`,
and prepares all of them in turn: with torchvision on PIL images (Resize, CenterCrop, ToTensor, Normalize; the
"pytorch tutorial" way) and with this project's loader, by Pillow alone and with torchcodec. Ratios of pairs in one
run count; images a second depend on the machine.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1
from torchvision.transforms import v2

from data_loader import decode, jpeg
from data_loader.data_loaders import ImageFolderDataLoader
from data_loader.transforms import IMAGENET_MEAN, IMAGENET_STD, resize_and_crop
from trainer.pixels import PixelsToInput

BATCH_SIZE = 16
TO_INPUT = [v1.ToTensor(), v1.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))]
TRAIN = [v1.RandomResizedCrop(224), v1.RandomHorizontalFlip()]
# What to do: the usual way, ours.
TASKS: dict[str, tuple[list[Any], list[Any]]] = {
    "eval": ([v1.Resize(256), v1.CenterCrop(224)], resize_and_crop(224)),
    "train": (TRAIN, [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip()]),
    "small": ([v1.RandomCrop(32, 4), v1.RandomHorizontalFlip()], [v2.RandomCrop(32, 4), v2.RandomHorizontalFlip()]),
}


class PilFolder(Dataset[tuple[torch.Tensor, int]]):
    """What torchvision's ImageFolder does with its files."""

    def __init__(self, paths: list[str], transform: Callable[[Image.Image], torch.Tensor]):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with open(self.paths[index], "rb") as file:
            return self.transform(Image.open(file).convert("RGB")), 0


def draw_photographs(folder: Path, number: int, size: tuple[int, int], suffix: str) -> None:
    """Noise at many scales, weaker the finer, as in photographs; two classes. 500x375 at quality 90 is about 75 kB."""
    width, height = size
    chance = np.random.default_rng(0)
    for index in range(number):
        total_HWC = np.zeros((height, width, 3))
        for octave in range(1, 12):
            side = 2**octave
            grid = chance.normal(0, 1, (min(side, height), min(side * 4 // 3, width), 3))
            grey, colour = grid.mean(axis=2, keepdims=True) * 1.7, grid
            layer = (0.8 * grey + 0.2 * colour).astype(np.float32)
            planes = [Image.fromarray(layer[:, :, c]).resize(size, Image.Resampling.BICUBIC) for c in range(3)]
            total_HWC += np.stack([np.asarray(plane) for plane in planes], axis=2) * 0.78**octave
        pixels_HWC = (128 + 60 * total_HWC).clip(0, 255).astype(np.uint8)
        path = folder / "train" / "ab"[index % 2] / f"{index:04}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels_HWC).save(path, quality=90)


@contextmanager
def pillow_only() -> Iterator[None]:
    """Inside, nothing is decoded by torchcodec."""
    found = decode.find_torchcodec
    decode.find_torchcodec = lambda: None  # type: ignore[assignment]
    try:
        yield
    finally:
        decode.find_torchcodec = found


def seconds_of(loader: DataLoader, to_input: PixelsToInput | None) -> float:
    """Time for one pass; the processor's where all is done in this process, so that neighbours count less."""
    clock = time.perf_counter if loader.num_workers else time.process_time
    started_s = clock()
    for images_NCHW, _ in loader:
        if to_input is not None:
            to_input(images_NCHW)
    return clock() - started_s


def compare(name: str, data_dir: Path, num_workers: int, rounds: int, scaled: bool = False) -> None:
    """Prints one block: the usual way, ours with Pillow, ours with torchcodec."""
    usual, ours = TASKS[name]
    options: dict[str, Any] = {"transform": ours, "eval_transform": ours, "validation_split": 0}
    options |= {"batch_size": BATCH_SIZE, "num_workers": num_workers}
    loader = ImageFolderDataLoader(data_dir, **options)
    reduced = ImageFolderDataLoader(data_dir, scaled_decoding=True, **options) if scaled else loader
    paths = [loader.sample_name(position) for position in range(len(loader.indices))]
    plain = DataLoader(PilFolder(paths, v1.Compose(usual + TO_INPUT)), BATCH_SIZE, True, num_workers=num_workers)
    to_input = PixelsToInput(IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu"), torch.channels_last)
    rows: dict[str, list[float]] = {"usual": [], "ours, Pillow": [], f"ours, {jpeg.jpeg_decoder()}": []}
    if scaled:
        rows["ours, scaled_decoding"] = []
    for epoch in range(rounds + 1):
        loader.set_epoch(epoch)
        reduced.set_epoch(epoch)
        times = [seconds_of(plain, None)]
        with pillow_only():
            times.append(seconds_of(loader, to_input))
        times.append(seconds_of(loader, to_input))
        times += [seconds_of(reduced, to_input)] if scaled else []
        if epoch:  # the first round warms up
            for row, seconds in zip(rows.values(), times, strict=True):
                row.append(seconds)
    kilobytes = statistics.mean(Path(path).stat().st_size for path in paths) / 1000
    print(f"\n{name}, {len(paths)} files of {kilobytes:.0f} kB, {num_workers} workers, medians of {rounds} rounds")
    for row_name, row in rows.items():
        ratio = statistics.median(a / b for a, b in zip(rows["usual"], row, strict=True))
        print(f"  {row_name:28} {len(paths) / statistics.median(row):8.0f} images/s   ratio {ratio:.2f}")


def main() -> None:
    """Draws, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="photographs of your own, in a folder for each class")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {jpeg.decoder_name()}, one thread")
    with tempfile.TemporaryDirectory() as name:
        photographs, large, small = (Path(name) / kind for kind in ("photographs", "large", "small"))
        if args.data_dir is None:
            draw_photographs(photographs, 64, (500, 375), ".jpg")
        for task in ("eval", "train"):
            for num_workers in (0, 2):
                compare(task, args.data_dir or photographs, num_workers, args.rounds)
        draw_photographs(large, 16, (2048, 1536), ".jpg")
        for task in ("eval", "train"):
            compare(task, large, 0, args.rounds, scaled=True)
        draw_photographs(small, 512, (32, 32), ".png")
        for num_workers in (0, 2):
            compare("small", small, num_workers, args.rounds)


if __name__ == "__main__":
    main()
