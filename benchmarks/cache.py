"""What the cache of decoded pixels is worth: `OMP_NUM_THREADS=1 python -m benchmarks.cache`.

Photographs of 500x375 are drawn into a folder that is thrown away, and passed through tutorial 2's pipeline (Resize
256, CenterCrop 224, to tensor, Normalize) in turn: by torchvision with PIL, by the loader without a cache,
in the epoch that fills the cache, and in a later one. The ratios within a round are what counts. The trainer normalises
uint8 batches in one piece; that is measured with them, but for the rows that say otherwise.
"""

import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

from data_loader.data_loaders import ImageFolderDataLoader
from data_loader.transforms import IMAGENET_MEAN, IMAGENET_STD, resize_and_crop
from utils import cache_folder

NUM_IMAGES, BATCH_SIZE, ROUNDS = 256, 32, 3
PIPELINE = [v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
MEAN, STD = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))


def draw_photographs(folder: Path) -> None:
    """JPEGs with large and small structure, which compress as photographs do."""
    rng = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        path = folder / "ab"[number % 2] / f"{number:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        noise_HWC = rng.normal(0, 12, (375, 500, 3))
        Image.fromarray((np.asarray(coarse) + noise_HWC).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def epoch_s(loader: Iterable[Any], *, normalises: bool) -> float:
    """Seconds of one pass; `normalises` makes floats of uint8 batches."""
    began_s = time.perf_counter()
    for images_NCHW, _ in loader:
        if normalises:
            images_NCHW.float().sub_(255 * MEAN).mul_(1 / (255 * STD))
    return time.perf_counter() - began_s


def round_of(data_dir: Path, num_workers: int) -> dict[str, float]:
    """Seconds of an epoch each way."""
    args = {"batch_size": BATCH_SIZE, "num_workers": num_workers}
    plain = DataLoader(
        datasets.ImageFolder(str(data_dir), v2.Compose([*PIPELINE, v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])), **args
    )
    result = {"tutorial 2 (PIL)": epoch_s(plain, normalises=False)}
    options = {**args, "validation_split": 0, "transform": resize_and_crop(224), "eval_transform": resize_and_crop(224)}
    for mode in ("off", "disk", "ram"):
        loader = ImageFolderDataLoader(data_dir, cache=mode, **options)
        result[f"{mode}, first epoch"] = epoch_s(loader, normalises=True)
        result[f"{mode}, later epoch"] = epoch_s(loader, normalises=True)
        result[f"{mode}, later, not normalised"] = epoch_s(loader, normalises=False)
    loader = ImageFolderDataLoader(data_dir, cache="disk", **options)
    result["disk, a later run"] = epoch_s(loader, normalises=True)
    result["disk, get_batch alone"] = get_batch_s(loader.samples)
    return result


def get_batch_s(samples: Any) -> float:
    """Seconds to fetch all images in batches, without torch's loader; checksums were looked at before."""
    for index in range(NUM_IMAGES):
        samples[index]
    batches = [some.tolist() for some in torch.randperm(NUM_IMAGES).split(BATCH_SIZE)]
    began_s = time.perf_counter()
    if any(samples.get_batch(indices) is None for indices in batches):
        raise RuntimeError("the cache is not full")
    return time.perf_counter() - began_s


def measure(folder: Path) -> None:
    """Prints images a second, and how many times tutorial 2's that is."""
    draw_photographs(folder)
    for num_workers in (0, 2):
        rounds = []
        for number in range(ROUNDS):
            cache_folder.CACHE_DIR = folder.parent / f"cache{num_workers}{number}"
            rounds.append(round_of(folder, num_workers))
        print(f"num_workers {num_workers}, {NUM_IMAGES} images, medians of {ROUNDS} rounds")
        for name in rounds[0]:
            seconds = statistics.median(one[name] for one in rounds)
            ratio = statistics.median(one["tutorial 2 (PIL)"] / one[name] for one in rounds)
            print(f"  {name:28} {NUM_IMAGES / seconds:9.0f} images/s   {ratio:6.2f} times tutorial 2")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "pictures").mkdir()
        measure(Path(place) / "pictures")
