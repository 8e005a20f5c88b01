"""What exactness and safety cost: `OMP_NUM_THREADS=1 python -m benchmarks.reliability`.

Each number is held against a plain way to do the same, in turn, in one process; processor time where no disk is used.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torchvision.transforms import v2

from base.background_saver import BackgroundSaver
from base.keyed import KeyedDataset
from data_loader.data_loaders import ImageFolderDataLoader
from data_loader.dataset import ImageFiles
from data_loader.shapes import ShapesSettings, draw_shapes_folder
from model.vgg import VGG
from trainer.finite import FiniteGuard, gradient_norm
from utils.checkpoint import save_checkpoint
from utils.stop import StopRequest

ROUNDS = 9


def medians(ways: dict[str, Callable[[], None]], clock: Callable[[], float], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of each way, run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first round warms up
        for name, way in ways.items():
            os.sync()  # what one way left for the disk to do is not to slow down the next
            began_s = clock()
            way()
            seconds[name].append(clock() - began_s)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def keyed_randomness(folder: Path) -> None:
    """The augmentation of a photograph's size, with and without a seed of its own for each sample."""
    paths = sorted(map(str, folder.glob("train/*/*.png")))[:64]
    transform = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ColorJitter(0.2, 0.2)])
    images = ImageFiles(paths, [0] * len(paths), ["a"]).with_transform(transform)
    keyed, keys = KeyedDataset(images, lambda samples: samples, 0), [(1, index) for index in range(len(paths))]
    ways = {"plain": lambda: [images[index] for index in range(len(paths))], "keyed": lambda: keyed.__getitems__(keys)}
    took = medians(ways, time.process_time, 25)  # type: ignore[arg-type]
    each_us = 1e6 * took["plain"] / len(paths)
    print(f"keyed randomness       {took['keyed'] / took['plain'] - 1:+.1%} of {each_us:.0f} us a sample")


def saving() -> None:
    """A state of 300 MB, on the disk of the project."""
    state = {"model": {f"layer{index}": torch.randn(1000, 2500) for index in range(30)}}
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        plain, ours, forced = (Path(folder) / name for name in ("plain.pth", "ours.pth", "forced.pth"))

        def save_and_force() -> None:
            with open(forced, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())

        ways = {
            "torch.save": lambda: torch.save(state, plain),
            "torch.save, fsync": save_and_force,
            "ours": lambda: save_checkpoint(ours, state),
        }
        took = medians(ways, time.perf_counter, 5)
        used = medians({name: ways[name] for name in ("torch.save", "ours")}, time.process_time, 3)
    saver = BackgroundSaver()
    wait = medians({"copy": lambda: saver.start(state, lambda state, check: None)}, time.perf_counter, 5)
    print(
        f"a checkpoint of 300 MB {took['ours']:.2f} s; torch.save {took['torch.save']:.2f} s "
        f"({took['ours'] / took['torch.save']:.1f} times, {used['ours'] / used['torch.save']:.1f} times the processor "
        f"time), with fsync {took['torch.save, fsync']:.2f} s"
    )
    print(f"training waits for it  {wait['copy']:.2f} s; see benchmarks/checkpoint.py for the share of an epoch")


def checks() -> None:
    """Looking at loss, gradient and signals, within a step of the demo's network."""
    model = VGG(8, [16, "M", 32, "M", 64, "M", 128, "M"], batch_norm=True, classifier_width=128, pool_size=4)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters)
    images_NCHW, targets_N = torch.randn(32, 3, 64, 64), torch.arange(32) % 8
    guard, stop = FiniteGuard(torch.device("cpu"), lambda facts, what: what), StopRequest()

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images_NCHW), targets_N)
        loss.backward()
        optimizer.step()

    step()
    loss = nn.functional.cross_entropy(model(images_NCHW), targets_N).detach()
    nn.functional.cross_entropy(model(images_NCHW), targets_N).backward()

    def look() -> None:
        for _ in range(20):
            guard.look([loss], gradient_norm(parameters, None), {})
            if stop.reason is not None:
                raise RuntimeError

    took = medians({"step": step, "look": look}, time.process_time)
    print(f"stop and finite checks {took['look'] / 20 / took['step']:.2%} of a step of {took['step'] * 1000:.0f} ms")


def skipping(folder: Path) -> None:
    """The first batch of an epoch, and the first one after a resume behind 99 of 100 batches."""
    loader = ImageFolderDataLoader(folder, transform=[], eval_transform=[], batch_size=20, seed=0)
    opened: list[int] = []
    pixels = ImageFiles.pixels

    def counting(self: ImageFiles, index: int) -> torch.Tensor:
        opened.append(index)
        return pixels(self, index)

    ImageFiles.pixels = counting  # type: ignore[method-assign]

    def first_after(batches: int) -> Callable[[], None]:
        def way() -> None:
            loader.set_epoch(1, batches)
            next(iter(loader))

        return way

    behind = len(loader) - 1
    took = medians({"first": first_after(0), "behind": first_after(behind)}, time.process_time)
    each = len(opened) / 2 / (ROUNDS + 1)
    print(
        f"resume behind {behind} batches: {each:.0f} pictures opened, {took['behind'] * 1000:.1f} ms; "
        f"the first batch {took['first'] * 1000:.1f} ms"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "shapes"
        draw_shapes_folder(tree, ShapesSettings(num_classes=4, train_per_class=500, image_size_px=224))
        keyed_randomness(tree)
        saving()
        checks()
        skipping(tree)
