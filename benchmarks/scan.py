"""How soon a large folder is known, and what it costs each worker: `python -m benchmarks.scan [--files 1000000]`.

Makes the folder in a temporary place: copies of one small PNG, by hard links where there are some, in 100 classes. The
starts of one round are measured one after the other, so that a busy machine is equally busy for all of them. Workers
only ask for paths, which is all that a list of paths can do to their memory.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder

from data_loader import index
from data_loader.folder import FileRules, read_parts

NUM_CLASSES, NUM_WORKERS, NUM_EPOCHS, ROUNDS = 100, 4, 5, 7


class Names(Dataset[int]):
    """Asks for paths and classes, and opens nothing."""

    def __init__(self, ask: Callable[[int], tuple[str, int]], num_samples: int):
        self.ask, self.num_samples = ask, num_samples

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, number: int) -> int:
        path, target = self.ask(number)
        return len(path) + target


def make_folder(folder: Path, num_files: int) -> None:
    """Class folders as those of ImageNet are called, with files named alike."""
    image = folder / "one.png"
    Image.new("RGB", (8, 8)).save(image)
    content = image.read_bytes()
    first = image
    for number in range(num_files):
        below = folder / "data" / f"n{number % NUM_CLASSES:08d}"
        path = below / f"{below.name}_{number:08d}.png"
        if number < NUM_CLASSES:
            below.mkdir(parents=True)
        try:
            os.link(first, path)
        except OSError:  # a file may have so many names, and then no more
            path.write_bytes(content)
            first = path


def seconds(read: Callable[[], Any]) -> tuple[float, float]:
    """Of one call, and how much of them the process computed or was in the system: other processes add less to that."""
    started_s, computed_s = time.perf_counter(), time.process_time()
    read()
    return time.perf_counter() - started_s, time.process_time() - computed_s


def memory_MB(pid: int) -> tuple[float, float]:
    """What a process has to itself (USS), and with its share of what it shares (PSS)."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    kB = {row[0]: int(row[1]) for row in rows}
    return (kB["Private_Clean:"] + kB["Private_Dirty:"]) / 1e3, kB["Pss:"] / 1e3


def memory_by_epoch(dataset: Names) -> list[tuple[float, float]]:
    """Means over the workers, at the end of each epoch."""
    # The sampler is torch's own random one; batches are large because nothing is made of them.
    loader = DataLoader(dataset, 1000, shuffle=True, num_workers=NUM_WORKERS, persistent_workers=True)
    found = []
    for _ in range(NUM_EPOCHS):
        for _ in loader:
            pass
        workers: Any = loader._iterator._workers  # type: ignore[union-attr]
        each = [memory_MB(worker.pid) for worker in workers]
        found.append((statistics.mean(uss for uss, _ in each), statistics.mean(pss for _, pss in each)))
    return found


def measure(data_dir: Path) -> None:
    """Prints both tables."""

    def start() -> Any:
        return read_parts(data_dir, FileRules(), training=True).train

    time.sleep(2.1)  # a folder that has just been changed is not relied upon
    first_s, first_cpu_s = seconds(start)
    rows = [(*seconds(start), *seconds(lambda: ImageFolder(data_dir))) for _ in range(ROUNDS)]
    second_s, second_cpu_s, theirs_s, theirs_cpu_s = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"first start, with a look at each file {first_s:8.3f} s, {first_cpu_s:8.3f} s of CPU")
    print(f"second start                          {second_s:8.3f} s, {second_cpu_s:8.3f} s of CPU")
    print(f"torchvision's ImageFolder             {theirs_s:8.3f} s, {theirs_cpu_s:8.3f} s of CPU")
    print(
        f"ImageFolder takes {theirs_s / second_s:.1f} times as long ({theirs_cpu_s / second_cpu_s:.1f} times the CPU)"
    )
    ours, theirs = start(), ImageFolder(data_dir).samples
    if [(path, int(target)) for path, target in zip(ours.paths, ours.targets, strict=True)] != theirs:
        raise SystemExit("the two do not hold the same samples")
    kinds = {
        "ours": Names(lambda at: (ours.paths[at], int(ours.targets[at])), len(ours)),
        "a list of tuples": Names(lambda at: theirs[at], len(theirs)),
    }
    print(f"memory of each of {NUM_WORKERS} workers after each epoch: of its own / with its share of the common, MB")
    for name, dataset in kinds.items():
        print(f"{name:18}", *(f"{uss:7.1f} /{pss:7.1f}" for uss, pss in memory_by_epoch(dataset)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    num_files = parser.parse_args().files
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores
    with tempfile.TemporaryDirectory() as place:
        index.INDEX_DIR = Path(place) / "index"
        make_folder(Path(place), num_files)
        print(f"{num_files:,} files in {NUM_CLASSES} folders")
        measure(Path(place) / "data")
